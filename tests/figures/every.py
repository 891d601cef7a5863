"""All figures, in the order in which they are shown."""

from __future__ import annotations

from tests.figures.balance import BALANCE
from tests.figures.disconnect import DISCONNECT
from tests.figures.figure import Figure
from tests.figures.hostile import HOSTILE
from tests.figures.kills import KILLS
from tests.figures.memory import MEMORY
from tests.figures.overload import OVERLOAD
from tests.figures.races import RACES

FIGURES: tuple[Figure, ...] = (RACES, KILLS, DISCONNECT, OVERLOAD, BALANCE, HOSTILE, MEMORY)
