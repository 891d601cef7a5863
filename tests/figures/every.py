"""All figures, in the order in which they are shown."""

from __future__ import annotations

from tests.figures.figure import Figure
from tests.figures.overload import OVERLOAD

FIGURES: tuple[Figure, ...] = (OVERLOAD,)
