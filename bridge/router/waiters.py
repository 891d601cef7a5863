"""Who sleeps on an application's queue: the bell behind each of its sleeping bits.

Every thread of a WSGI worker is a waiter with a bell of its own. An ASGI worker wakes for everything in one loop: once
it has said what it is, it is one waiter, and its bell is that of its port.
"""

from __future__ import annotations

from bridge.core import Queue
from bridge.ipc.doorbell import Doorbell


class Waiters:
    """The waiters of one queue.

    Args:
        queue: the application's.
        count: its sleeping bits.
    """

    __slots__ = ("_bells", "_queue")

    def __init__(self, queue: Queue, count: int) -> None:
        self._queue = queue
        self._bells: list[Doorbell | None] = [None] * count

    def take(self, count: int) -> dict[int, Doorbell]:
        """The numbers and new bells of `count` waiters; fewer when so many are not free.

        Raises:
            OSError: there are no descriptors left; nothing is taken.
        """
        taken: dict[int, Doorbell] = {}
        try:
            for waiter, bell in enumerate(self._bells):
                if bell is None and len(taken) < count:
                    taken[waiter] = Doorbell()
        except OSError:
            for bell in taken.values():
                bell.close()
            raise
        for waiter, bell in taken.items():
            self._bells[waiter] = bell
            self._queue.rouse(waiter)  # its predecessor's bit: nobody is to ring who is still booting
        return taken

    def join(self, waiters: dict[int, Doorbell], bell: Doorbell) -> None:
        """Make one waiter of those that `take` has given: the first, with this bell."""
        first, *others = waiters
        for waiter in others:
            self._bells[waiter] = None
            waiters.pop(waiter).close()
        if waiters[first] is not bell:
            waiters[first].close()
            waiters[first] = self._bells[first] = bell
            bell.ring()  # the other one may have been rung

    def give_back(self, waiters: dict[int, Doorbell]) -> None:
        """They are dead: what `take` has given, as `join` has left it."""
        for waiter, bell in waiters.items():
            self._bells[waiter] = None
            bell.close()

    def ring(self, ring: int) -> None:
        """Ring waiter `ring` - 1 of the queue, or whoever else sleeps if that one has died; 0 = nobody."""
        for _ in self._bells:  # no more often: any worker could go on setting the bits of the dead
            if not 0 < ring <= len(self._bells):
                return
            bell = self._bells[ring - 1]
            if bell is not None:
                bell.ring()
                return
            ring = self._queue.wake()

    def ring_all(self) -> None:
        """Ring everybody: a process that has died may have owed a ring to any of them."""
        for bell in self._bells:
            if bell is not None:
                bell.ring()
