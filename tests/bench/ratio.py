"""PURE. What part of another server's CPU time one needs, from slices that both had in turn, and how sure that is.

A machine that is slower for seconds at a time, as shared ones are, is so for neighbouring slices of both: so pairs are
drawn again and again, to see how far chance moves the result. And it is so for several pairs on end: so it is blocks of
pairs that are drawn, or the range would be too narrow (the circular block bootstrap).

Means are compared, not medians. Where each processor slows down for itself, a third of the time, most slices of a
server with one process have nothing of that, and most of one with two processes some: medians would differ where means
do not.
"""

from __future__ import annotations

from random import Random
from typing import NamedTuple

from tests.bench.figures import Case

DRAWS = 2000
SURE = 0.95  #: part of the draws that lies within the range
BLOCK = 20  #: pairs on end that are drawn together
FEWEST = 5 * BLOCK  #: slices of which a range says something


class Range(NamedTuple):
    """A ratio, and between what bounds it lies."""

    ratio: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.ratio:.3f} ({self.low:.3f} to {self.high:.3f})"


def compare(ours: Case, theirs: Case) -> Range | None:
    """CPU time of one as a part of another's; None = they have had too few slices together."""
    together = zip(ours.rounds, theirs.rounds, strict=False)  # who was interrupted has one more of the one
    pairs = [(one.cpu_us, other.cpu_us) for one, other in together]
    if len(pairs) < FEWEST:
        return None
    chance = Random(len(pairs))  # the same run has the same range, however often it is shown
    drawn = sorted(_ratio(_draw(pairs, chance)) for _ in range(DRAWS))
    edge = round(DRAWS * (1 - SURE) / 2)
    return Range(_ratio(pairs), drawn[edge], drawn[-1 - edge])


def _draw(pairs: list[tuple[float, float]], chance: Random) -> list[tuple[float, float]]:
    round_about = pairs + pairs[:BLOCK]
    starts = (chance.randrange(len(pairs)) for _ in range(0, len(pairs), BLOCK))
    return [pair for start in starts for pair in round_about[start : start + BLOCK]]


def _ratio(pairs: list[tuple[float, float]]) -> float:
    return sum(ours for ours, _ in pairs) / sum(theirs for _, theirs in pairs)
