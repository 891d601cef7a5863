"""One coarse wheel of deadlines instead of a timer per request.

Whoever has a deadline writes it into its own `deadline`; it need not tell the wheel when the new deadline is later
than the one it was put in with, because the wheel looks again when that slot comes. So a connection that serves a
thousand requests a second touches the wheel once in a while only:

    self.deadline = deadline
    if deadline < self.slot_due:
        wheel.put(self)

The wheel sleeps until its next used slot and not at all when it is empty. A deadline is noticed at most one tick too
late and never too early.
"""

from __future__ import annotations

from collections.abc import Callable
from math import inf
from typing import Final, Protocol

NEVER: Final = inf  #: the deadline of whoever has none


class Timed(Protocol):
    """Something that has a deadline."""

    deadline: float  #: seconds of the wheel's clock, NEVER = none
    slot_due: float  #: written by the wheel: when it will look at `deadline`; NEVER = not in the wheel

    def expired(self) -> None:
        """The deadline is over. It is out of the wheel; set a new `deadline` and `put` it to go on."""
        ...


class Handle(Protocol):
    """A timer that can be cancelled."""

    def cancel(self) -> None:
        """Do not call."""
        ...


class Wheel:
    """See the head of the file.

    Args:
        clock: seconds, monotonic.
        call_later: starts a timer: seconds, callback.
        tick: seconds of one slot.
    """

    __slots__ = ("_call_later", "_slots", "_tick", "_timer", "_timer_slot", "clock")

    def __init__(
        self, clock: Callable[[], float], call_later: Callable[[float, Callable[[], None]], Handle], tick: float = 0.5
    ) -> None:
        self.clock = clock
        self._call_later = call_later
        self._tick = tick
        self._slots: dict[int, set[Timed]] = {}
        self._timer: Handle | None = None
        self._timer_slot = 0

    def put(self, item: Timed) -> None:
        """Have `item` looked at when its `deadline` comes; NEVER takes it out."""
        self.remove(item)
        if item.deadline == NEVER:
            return
        slot = int(item.deadline / self._tick) + 1
        item.slot_due = slot * self._tick
        items = self._slots.get(slot)
        if items is not None:
            items.add(item)
            return
        self._slots[slot] = {item}
        if self._timer is None or slot < self._timer_slot:
            self._sleep(slot)

    def remove(self, item: Timed) -> None:
        """Forget `item`; nothing happens when it is not in the wheel."""
        if item.slot_due != NEVER:
            slot = round(item.slot_due / self._tick)
            item.slot_due = NEVER
            items = self._slots.get(slot)
            if items is not None:
                items.discard(item)

    def __len__(self) -> int:
        return sum(map(len, self._slots.values()))

    def _sleep(self, slot: int) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer_slot = slot
        self._timer = self._call_later(max(slot * self._tick - self.clock(), 0.0), self._turn)

    def _turn(self) -> None:
        # The timer of a loop may fire a little early: what is not due by the clock waits for another turn.
        self._timer = None
        now = self.clock()
        for slot in sorted(slot for slot in self._slots if slot * self._tick <= now):
            for item in self._slots.pop(slot):
                if item.slot_due == slot * self._tick:
                    self._look(item, now)
        if self._slots and (self._timer is None or self._timer_slot > min(self._slots)):
            self._sleep(min(self._slots))

    def _look(self, item: Timed, now: float) -> None:
        item.slot_due = NEVER
        if item.deadline <= now:
            item.expired()
        elif item.deadline != NEVER:
            self.put(item)
