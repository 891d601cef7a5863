"""How long a restart waits."""

from __future__ import annotations

from bridge.worker.backoff import BackOff


def test_early_deaths_wait_longer_and_longer() -> None:
    """Each early death doubles the wait, up to the longest one."""
    back_off = BackOff(first=0.5, most=3.0)
    assert not back_off.trouble
    assert [back_off.died(0.0) for _ in range(5)] == [0.5, 1.0, 2.0, 3.0, 3.0]
    assert back_off.trouble


def test_a_grown_process_is_replaced_at_once() -> None:
    """A death after a long life costs nothing and forgets the early ones."""
    back_off = BackOff(first=0.5, grown=5.0)
    back_off.died(0.0)
    back_off.died(0.0)
    assert back_off.died(5.0) == 0.0
    assert back_off.died(0.0) == 0.5


def test_free_deaths_and_recovery() -> None:
    """The first early deaths may be free, and a process that is well ends the counting."""
    back_off = BackOff(first=1.0, free=2)
    assert [back_off.died(0.0) for _ in range(3)] == [0.0, 0.0, 1.0]
    back_off.recovered()
    assert back_off.died(0.0) == 0.0


def test_counting_never_overflows() -> None:
    """A process that dies for ever waits the longest time for ever."""
    back_off = BackOff(first=0.5, most=30.0)
    assert {back_off.died(0.0) for _ in range(2000)} >= {30.0}
