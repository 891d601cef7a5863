"""Twice as many requests as the workers can end, from clients that do not wait for long."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path

from tests.figures.applications import SLOW
from tests.figures.figure import Figure, Goal, Result
from tests.figures.open_load import impatient
from tests.figures.serving import server, serving

CAPACITY = 1 / SLOW  #: requests a second
TIMES = 2  #: so much of it is asked for
PATIENCE = 0.2  #: seconds after which a client gives up
SEED = 1  #: of the moments at which requests come
LEAST_ANSWERED = 0.8  #: of the capacity …
MOST_WASTED = 0.05  #: … and of the runs, on an idle machine
#: The same in the short form, also on a busy one, where clients and threads oversleep; first in, first out reaches a
#: fourth of the capacity, and wastes three of four runs.
LEAST_ALONE, MOST_ALONE = 0.5, 0.25
SERVERS = (
    ("bridge", "wsgi"),
    ("gunicorn-sync", "wsgi"),
    ("gunicorn-gthread", "wsgi"),
    ("granian", "wsgi"),
    ("bridge", "asgi"),
    ("granian", "asgi"),
    ("uvicorn", "asgi"),
)


@dataclass(frozen=True, slots=True)
class Measured:
    """What one server has done, by its own clock: that of its clients."""

    answered: int  #: requests whose client still waited
    runs: int  #: of the application
    seconds: float

    @property
    def of_capacity(self) -> float:
        """Answers as a part of those that would have been possible."""
        return self.answered / self.seconds / CAPACITY

    @property
    def wasted(self) -> float:
        """The part of the runs whose answer nobody waited for."""
        return max(0.0, 1 - self.answered / self.runs) if self.runs else 1.0


def measure(name: str, interface: str, warming: float, seconds: float) -> Measured:
    """Put one server under that load."""
    with tempfile.NamedTemporaryFile(prefix="bridge-figures-") as told:
        with serving(server(name, interface), f"slow_{interface}", 1, told.name) as address:
            begun, outcomes = impatient(address, TIMES * CAPACITY, warming + seconds, PATIENCE, SEED)
        answered = sum(
            outcome.status == 200 and warming <= outcome.came + outcome.seconds < warming + seconds
            for outcome in outcomes
        )
        moments = [int(line.split()[1]) / 1e9 - begun for line in Path(told.name).read_text().splitlines()]
        runs = sum(warming <= moment < warming + seconds for moment in moments)
    return Measured(answered, runs, seconds)


def figure(short: bool) -> Result:
    """Measure Bridge, and in the long form the others."""
    warming, seconds = (1.0, 4.0) if short else (3.0, 20.0)
    found = {
        (name, interface): measure(name, interface, warming, seconds)
        for name, interface in (SERVERS[:1] if short else SERVERS)
    }
    least, most = (LEAST_ALONE, MOST_ALONE) if short else (LEAST_ANSWERED, MOST_WASTED)
    goals = []
    for (name, interface), each in found.items():
        if name == "bridge":
            ours = f"Bridge, {interface.upper()}"
            text = f"{ours}: at least {least:.0%} of the capacity ends as answers that a client waited for"
            goals.append(Goal(text, f"{each.of_capacity:.1%}", each.of_capacity >= least))
            text = f"{ours}: fewer than {most:.0%} of the runs are for clients that had gone"
            goals.append(Goal(text, f"{each.wasted:.1%}", each.wasted < most))
    return Result(
        ["server", "answered in time, of the capacity", "runs for clients that had gone"],
        [
            [f"{name} ({interface.upper()})", f"{each.of_capacity:.0%}", f"{each.wasted:.0%} of {each.runs}"]
            for (name, interface), each in found.items()
        ],
        goals,
    )


OVERLOAD = Figure(
    "overload",
    "Overload",
    f"An application of {SLOW * 1000:.0f} ms per request on one thread, or one loop, gets {TIMES} times as many"
    f" requests as it can end, each on its own connection, from clients that give up after {PATIENCE * 1000:.0f} ms."
    f" Default settings, one worker each; seed {SEED}.",
    figure,
)
