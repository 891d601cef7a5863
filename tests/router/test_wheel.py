"""bridge.router.wheel: deadlines without a timer for each."""

from __future__ import annotations

from bridge.router.wheel import NEVER, Wheel
from tests.clocked import Clock


class Item:
    """Notes when it expired."""

    def __init__(self, clock: Clock, deadline: float = NEVER) -> None:
        self.clock = clock
        self.deadline = deadline
        self.slot_due = NEVER
        self.expired_at: list[float] = []

    def expired(self) -> None:
        """Note it."""
        self.expired_at.append(self.clock.now)


def _wheel() -> tuple[Clock, Wheel]:
    clock = Clock()
    return clock, Wheel(clock, clock.call_later, 0.5)


def test_expires_within_a_tick_and_never_early() -> None:
    """Each deadline is noticed at most one tick late."""
    clock, wheel = _wheel()
    items = [Item(clock, clock.now + 0.13 * number) for number in range(1, 60)]
    for item in items:
        wheel.put(item)
    clock.advance(60)
    for item in items:
        assert len(item.expired_at) == 1
        assert item.deadline <= item.expired_at[0] <= item.deadline + 0.5
        assert item.slot_due == NEVER
    assert len(wheel) == 0
    assert not clock.timers


def test_a_later_deadline_needs_no_call() -> None:
    """An item that moved its deadline by itself is looked at, put in again, and expires once."""
    clock, wheel = _wheel()
    item = Item(clock, clock.now + 1)
    wheel.put(item)
    item.deadline = clock.now + 10
    clock.advance(9.9)
    assert item.expired_at == []
    clock.advance(1)
    assert len(item.expired_at) == 1


def test_an_earlier_deadline_moves_the_item() -> None:
    """`put` again with an earlier deadline leaves one entry, and wakes earlier."""
    clock, wheel = _wheel()
    item = Item(clock, clock.now + 100)
    wheel.put(item)
    item.deadline = clock.now + 2
    assert item.deadline < item.slot_due
    wheel.put(item)
    assert len(wheel) == 1
    clock.advance(2.5)
    assert len(item.expired_at) == 1
    clock.advance(200)
    assert len(item.expired_at) == 1


def test_never_drops_out() -> None:
    """An item without a deadline leaves the wheel when its slot comes, silently."""
    clock, wheel = _wheel()
    item = Item(clock, clock.now + 1)
    wheel.put(item)
    item.deadline = NEVER
    clock.advance(5)
    assert item.expired_at == []
    assert item.slot_due == NEVER
    assert not clock.timers


def test_removed_items_are_forgotten_at_once() -> None:
    """The wheel keeps no reference to what was removed: connections come and go by the thousand."""
    clock, wheel = _wheel()
    item = Item(clock, clock.now + 100)
    wheel.put(item)
    wheel.remove(item)
    wheel.remove(item)
    assert len(wheel) == 0
    clock.advance(200)
    assert item.expired_at == []


def test_sleeps_until_the_next_used_slot() -> None:
    """A thousand deadlines in one slot are one timer, and the timer is that slot's."""
    clock, wheel = _wheel()
    for _ in range(1000):
        wheel.put(Item(clock, clock.now + 30))
    assert clock.started == 1
    assert [timer.when for timer in clock.timers] == [clock.now + 30.5]


def test_expired_may_put_again() -> None:
    """An item may set itself a new deadline from within `expired`."""
    clock, wheel = _wheel()

    class Again(Item):
        def expired(self) -> None:
            super().expired()
            if len(self.expired_at) < 3:
                self.deadline = self.clock.now + 1
                wheel.put(self)

    item = Again(clock, clock.now + 1)
    wheel.put(item)
    clock.advance(20)
    assert len(item.expired_at) == 3
    assert not clock.timers


def test_an_early_timer_is_no_expiry() -> None:
    """A loop may fire a timer a little early; nothing expires before the clock says so."""
    clock, wheel = _wheel()
    item = Item(clock, clock.now + 1)
    wheel.put(item)
    timer = clock.timers.pop()
    clock.now = timer.when - 0.001
    timer.callback()
    assert item.expired_at == []
    clock.advance(0.01)
    assert len(item.expired_at) == 1
