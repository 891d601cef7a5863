"""bridge.worker.appetite: how many requests a loop claims at once."""

from __future__ import annotations

import pytest

from bridge.worker.appetite import AHEAD, Appetite

MOST = 64


class Loop:
    """One that takes `each` seconds to begin a request."""

    def __init__(self) -> None:
        self.now = 100.0
        self.appetite = Appetite(lambda: self.now, MOST)

    def turn(self, each: float, waiting: int = MOST) -> int:
        """Claim and begin; returns how many."""
        count = min(waiting, self.appetite.requests)
        self.appetite.claimed(count)
        self.now += each * count
        self.appetite.turned()
        return count


@pytest.mark.parametrize(("each", "most"), [(0.00001, MOST), (0.0001, 10), (0.001, 1), (0.1, 1), (0.0, MOST)])
def test_as_many_as_begin_soon(each: float, most: int) -> None:
    """After a while it knows; the first turn takes one, for nothing is known of it."""
    loop = Loop()
    assert loop.turn(each) == 1
    for _ in range(60):
        loop.turn(each)
    assert abs(loop.appetite.requests - most) <= 1


def test_a_long_one_among_short_ones() -> None:
    """One request that holds the loop up is enough to take one at a time for the next ones."""
    loop = Loop()
    for _ in range(60):
        loop.turn(AHEAD / MOST)
    assert loop.appetite.requests > MOST // 2
    loop.turn(0.1, 1)
    assert [loop.turn(AHEAD / MOST) for _ in range(5)] == [1] * 5
