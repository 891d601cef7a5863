"""bridge.router.ceiling: how many requests are published to loops that do not take them at once."""

from __future__ import annotations

from math import inf

import pytest

from bridge.router.ceiling import HOLD, Ceiling, Seen

NOBODY: frozenset[int] = frozenset()
AHEAD, MOST = 2, 1002
CALM = Seen(now=100.0, unclaimed=NOBODY, begun=500, ahead=AHEAD, most=MOST, wait=True, differ=False)


def late(*, differ: bool, begun: int = 1, ahead: int = AHEAD) -> tuple[Ceiling, Seen]:
    """One that has seen requests left to wait, and what it has seen."""
    ceiling = Ceiling()
    seen = CALM._replace(unclaimed=frozenset(range(100)), begun=begun, ahead=ahead, differ=differ)
    for _ in range(2):
        assert ceiling.look(seen)
    return ceiling, seen


@pytest.mark.parametrize("differ", [False, True])
def test_loops_that_take_everything(*, differ: bool) -> None:
    """What is not claimed at one look and is at the next does not wait for long: there is no ceiling."""
    ceiling = Ceiling()
    assert not ceiling.look(CALM._replace(differ=differ))
    for stream in range(1, 100, 2):
        assert ceiling.look(CALM._replace(unclaimed=frozenset((stream, stream + 1)), differ=differ))
        assert ceiling.requests == inf


@pytest.mark.parametrize("differ", [False, True])
def test_a_loop_that_computes(*, differ: bool) -> None:
    """What is there at two looks waits for too long: no more than it has begun, and what lies ready."""
    ceiling = Ceiling()
    ceiling.look(CALM._replace(unclaimed=frozenset(range(1, 100)), begun=1, differ=differ))
    assert ceiling.look(CALM._replace(unclaimed=frozenset(range(50, 200)), begun=1, differ=differ))
    assert ceiling.requests == 1 + AHEAD


def test_a_loop_that_waits_again() -> None:
    """The ceiling rises as long as nothing waits under it, until it is none."""
    ceiling, _ = late(differ=False)
    looks = 0
    while ceiling.look(CALM._replace(wait=False)):
        looks += 1
    assert 10 < looks < 40
    assert ceiling.requests == inf


def test_where_the_order_matters_no_more_is_published_than_is_taken() -> None:
    """While something lies ready, and while nobody waits, the ceiling stays, and nobody needs to look for that."""
    ceiling, seen = late(differ=True)
    for look in range(50):
        assert ceiling.look(seen._replace(unclaimed=frozenset((look, look + 50))))
    assert not ceiling.look(seen._replace(unclaimed=NOBODY, wait=False))
    assert ceiling.requests == 1 + AHEAD


def test_where_workers_lack_requests_more_and_more_are_published() -> None:
    """However low the ceiling was, a thousand that only wait need no half second to get under way."""
    ceiling, seen = late(differ=True, begun=0, ahead=1)
    looks = 0
    while ceiling.requests < inf:
        assert not ceiling.look(seen._replace(unclaimed=NOBODY))
        looks += 1
    assert looks <= 10


@pytest.mark.parametrize("wait", [False, True])
def test_it_does_not_happen_again(*, wait: bool) -> None:
    """When nothing was left to wait for long enough, nothing is expected to be."""
    ceiling, seen = late(differ=True)
    seen = seen._replace(unclaimed=frozenset((1000,)), wait=wait)
    assert ceiling.look(seen._replace(now=CALM.now + HOLD - 0.1))
    assert ceiling.requests == 1 + AHEAD
    ceiling.look(seen._replace(now=CALM.now + HOLD, unclaimed=NOBODY))
    assert ceiling.requests == inf
