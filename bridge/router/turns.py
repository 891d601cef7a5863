"""When the router looks at what its workers have sent, and when it lets itself be rung.

A ring costs the worker a system call and both sides a switch, so the router keeps its sleeping bits clear while it is
busy anyway: a request that is published, or a bell, begins a series of turns. Each turn follows behind the
callbacks of one round of the loop, takes one batch from every worker, and is followed by another while anything was
found or published and a worker still owes an answer or has a tunnel. Only then are the sleeping bits set; what a worker
sent in between is found by the look that `doze` takes after setting the bit.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sized
from typing import Protocol


class Sender(Protocol):
    """One worker's end of the news: `router.worker_port.WorkerPort`."""

    def take_batch(self) -> int:
        """Handle one batch of messages; returns how many there were."""

    def doze(self) -> bool:
        """Ask to be rung; False = there is something to take already."""

    def rouse(self) -> None:
        """Ask not to be rung any more."""


class Turns:
    """The series of turns of one application's router side.

    Args:
        loop: runs the turns.
        senders: the workers by number, as they come and go.
        owed: the requests that workers have yet to end.
        tunnels: as long as there are any, workers speak when they like.
    """

    __slots__ = ("_call_soon", "_owed", "_senders", "_tunnels", "_turn", "dozing", "news")

    def __init__(
        self, loop: asyncio.AbstractEventLoop, senders: Mapping[int, Sender], owed: Sized, tunnels: Sized
    ) -> None:
        self.dozing = True  #: no turn is due: every sleeping bit is set
        self.news = False  #: something was published since the last turn
        self._owed = owed
        self._tunnels = tunnels
        self._call_soon = loop.call_soon
        self._senders = senders
        self._turn = self.turn

    def stir(self) -> None:
        """Something is happening: take turns until nothing does."""
        self.news = True
        if self.dozing:
            self.dozing = False
            for sender in self._senders.values():
                sender.rouse()
            self._call_soon(self._turn)

    def wake(self) -> None:
        """A worker has rung: look at once."""
        if self.dozing:
            self.dozing = False
            for sender in self._senders.values():
                sender.rouse()
            self.turn()

    def turn(self) -> None:
        """Take one batch from every worker; then another turn, or sleep."""
        found = 0
        again = True
        try:
            for sender in list(self._senders.values()):
                found += sender.take_batch()
            busy = (found or self.news) and (self._owed or self._tunnels)
            self.news = False
            again = bool(busy) or not self._sleep()
        finally:
            # Also after an error of ours, which the loop logs: without a next turn no worker would be heard any more.
            if again:
                self._call_soon(self._turn)

    def _sleep(self) -> bool:
        for sender in list(self._senders.values()):
            if not sender.doze():
                return False
        self.dozing = True
        return True
