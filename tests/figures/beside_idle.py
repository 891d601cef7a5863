"""PURE. Which requests waited although a worker had nothing to do: what a line for all workers is there to prevent."""

from __future__ import annotations

from bisect import bisect
from collections.abc import Sequence
from math import inf
from typing import NamedTuple


class Run(NamedTuple):
    """One request, as its client saw it."""

    sent: float  #: seconds
    ended: float
    took: float  #: seconds that the application needed for it
    worker: bytes  #: who has run it, one at a time


def gaps(runs: Sequence[Run]) -> list[tuple[float, float]]:
    """When the one worker of these runs had nothing to do, in order."""
    found = []
    idle_from = -inf
    for begun, ended in sorted((run.ended - run.took, run.ended) for run in runs):
        if idle_from < begun:
            found.append((idle_from, begun))
        idle_from = max(idle_from, ended)
    return [*found, (idle_from, inf)]


def beside_idle(runs: Sequence[Run], workers: int, least: float) -> list[bool]:
    """Of each request, whether it waited for at least so many seconds while one of the workers had nothing to do.

    Args:
        runs: all that were run, in any order.
        workers: how many there are; one that has run nothing was idle all the time.
        least: seconds; what a client sees of a run is not exact.
    """
    idle = [gaps([run for run in runs if run.worker == worker]) for worker in sorted({run.worker for run in runs})]
    idle += [[(-inf, inf)]] * (workers - len(idle))
    return [any(_overlaps(each, run.sent, run.ended - run.took, least) for each in idle) for run in runs]


def _overlaps(idle: Sequence[tuple[float, float]], start: float, end: float, least: float) -> bool:
    first = bisect(idle, start, key=lambda gap: gap[1])
    for gap in idle[first:]:
        if gap[0] >= end:
            return False
        if min(gap[1], end) - max(gap[0], start) >= least:
            return True
    return False
