"""Which measurements are made, in which order, and how long they will take. Nothing is started here."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatch

from tests.bench.rows import ROWS, Row
from tests.bench.servers import SERVERS, Server

STARTING = 0.8  #: seconds that a server takes to start, be checked and stop, about
WARMING = 1  #: seconds of load before a server is measured
AROUND = 0.1  #: seconds beside each measurement
OPENING = 4  #: seconds that it takes to open what is then idle
SLICE = 0.3  #: seconds of load of a slice …
WHOLE_SLICE = 1  #: … or of one by wrk, which knows no fractions


@dataclass(frozen=True)
class Step:
    """A server is started once and measured with each number of connections in turn."""

    round: int
    row: Row
    server: Server
    workers: int
    connections: tuple[int, ...]

    def seconds(self, measurement: int) -> float:
        """How long it takes, about."""
        once = OPENING if self.row.idle else measurement + AROUND
        return STARTING + WARMING + len(self.connections) * once


@dataclass(frozen=True)
class Choice:
    """What the command line asks for; patterns as for file names."""

    rounds: int
    seconds: int  #: wrk knows no fractions
    slices: int = 0  #: instead of rounds: how often each server is loaded while all of a row are up; 0 = not so
    rows: Sequence[str] = ("*",)
    servers: Sequence[str] = ("*",)
    workers: Sequence[int] = (1,)
    connections: Sequence[int] = ()  #: none = the row's own


def chosen(name: str, patterns: Sequence[str]) -> bool:
    """Whether one of the patterns fits."""
    return any(fnmatch(name, pattern) for pattern in patterns)


def plan(choice: Choice) -> Iterator[Step]:
    """All steps. Each round turns the order of the servers round, so that a machine that changes is fair to all.

    A server that has a router is measured once, with one worker: router and worker are its two processes.
    """
    for number in range(choice.rounds):
        for row in ROWS:
            if not chosen(row.name, choice.rows):
                continue
            connections = (row.connections,) if row.idle else tuple(choice.connections) or (row.connections,)
            steps = [
                Step(number, row, server, 1 if server.router else workers, connections)
                for workers in choice.workers
                for server in SERVERS
                if server.interface == row.interface and chosen(server.name, choice.servers)
                if workers == choice.workers[0] or not server.router
            ]
            yield from steps if number % 2 == 0 else reversed(steps)


@dataclass(frozen=True)
class Group:
    """Servers of one row that are up at the same time, and loaded in turn."""

    steps: tuple[Step, ...]
    connections: int
    slices: int

    @property
    def seconds(self) -> float:
        """Of load in one slice."""
        return SLICE if self.steps[0].row.message else WHOLE_SLICE

    @property
    def duration(self) -> float:
        """How many seconds all of it takes, about."""
        return len(self.steps) * (STARTING + WARMING + self.slices * (self.seconds + AROUND))


def groups(choice: Choice) -> Iterator[Group]:
    """What is measured in slices: everything that `plan` has in a round, but for what is idle."""
    steps = list(plan(replace(choice, rounds=1)))
    for row in ROWS:
        several = tuple(step for step in steps if step.row is row and not row.idle)
        for connections in several[0].connections if several else ():
            yield Group(several, connections, choice.slices)
