"""bridge.router.pace: how much lies ready for the workers."""

from __future__ import annotations

import pytest

from bridge.router.pace import EVERY, MOST, Pace


class Clock:
    """A clock that stands still until it is moved."""

    now = 100.0

    def __call__(self) -> float:
        return self.now


def after(pace: Pace, clock: Clock, seconds: float) -> list[bool]:
    """What `ended` says while `EVERY` requests end, each of which took this long."""
    said = []
    for _ in range(EVERY):
        clock.now += seconds
        said.append(pace.ended())
    return said


@pytest.mark.parametrize(("seconds", "ahead"), [(1.0, 1), (0.002, 1), (0.0002, 10), (0.00002, MOST), (0.0, MOST)])
def test_ahead_is_what_ends_in_two_milliseconds(seconds: float, ahead: int) -> None:
    """Slow requests have one ready, fast ones many, and never more than the bound."""
    clock = Clock()
    pace = Pace(clock)
    after(pace, clock, seconds)
    assert abs(pace.ahead - ahead) <= 1


def test_a_change_is_said_once() -> None:
    """Only the request that changes the number says so."""
    clock = Clock()
    pace = Pace(clock)
    assert after(pace, clock, 0.00002) == [False] * (EVERY - 1) + [True]
    assert not any(after(pace, clock, 0.00002))
    assert any(after(pace, clock, 1.0))
    assert pace.ahead == 1
