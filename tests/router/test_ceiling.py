"""bridge.router.ceiling: how many requests are published to loops that do not take them at once."""

from __future__ import annotations

from math import inf

from bridge.router.ceiling import Ceiling

NOBODY: frozenset[int] = frozenset()
AHEAD, MOST = 2, 1002


def test_loops_that_take_everything() -> None:
    """What is not claimed at one look and is at the next does not wait for long: there is no ceiling."""
    ceiling = Ceiling()
    assert not ceiling.look(NOBODY, 500, AHEAD, MOST)
    for stream in range(1, 100, 2):
        assert ceiling.look(frozenset((stream, stream + 1)), 500, AHEAD, MOST)
        assert ceiling.requests == inf


def test_a_loop_that_computes() -> None:
    """What is there at two looks waits for too long: no more than it has begun, and what lies ready."""
    ceiling = Ceiling()
    ceiling.look(frozenset(range(1, 100)), 1, AHEAD, MOST)
    assert ceiling.look(frozenset(range(50, 200)), 1, AHEAD, MOST)
    assert ceiling.requests == 1 + AHEAD


def test_a_loop_that_waits_again() -> None:
    """The ceiling rises as long as nothing waits under it, until it is none."""
    ceiling = Ceiling()
    for _ in range(2):
        ceiling.look(frozenset((1, 2)), 1, AHEAD, MOST)
    looks = 0
    while ceiling.look(NOBODY, 1, AHEAD, MOST):
        looks += 1
    assert 10 < looks < 40
    assert ceiling.requests == inf
