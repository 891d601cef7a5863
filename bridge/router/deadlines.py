"""Who waits too long: one look at all requests of an application, now and then.

No request has a timer, and one that is answered in time is looked at by nobody. While there are requests a timer looks
for those whose deadline is over; while some of them wait in the line another one lets that decide about its order.
"""

from __future__ import annotations

import asyncio
from typing import Any, Protocol

from bridge.router.line import Line
from bridge.router.pace import Pace

LOOK = 0.05  #: seconds between two looks at the line
PARTS = 32  #: a deadline may be noticed so many parts of it too late …
SOONEST, LATEST = 0.01, 1.0  #: … but no sooner and no later than so many seconds


class Owner(Protocol):
    """The application whose requests they are."""

    loop: asyncio.AbstractEventLoop
    exchanges: dict[int, Any]
    line: Line[Any]
    pace: Pace

    def is_queued(self, stream: int) -> bool:
        """Whether no worker has claimed it, as far as shared memory tells."""

    def expire(self, request: Any) -> None:
        """No worker has taken it in time."""


class Deadlines:
    """See the head of the file.

    Args:
        owner: the application.
        timeout: seconds that a request may wait for a worker.

    Attributes:
        awake: a timer is on its way that looks at all requests; else `wake` is to be called when one comes.
        looking: the same for the line, and `look`.
    """

    __slots__ = ("_ended", "_interval", "_look", "_owner", "_timer", "awake", "looking")

    def __init__(self, owner: Owner, timeout: float) -> None:
        self.awake = False
        self.looking = False
        self._owner = owner
        self._interval = min(max(timeout / PARTS, SOONEST), LATEST)
        self._timer: asyncio.TimerHandle | None = None
        self._look: asyncio.TimerHandle | None = None
        self._ended = 0

    def wake(self) -> None:
        """A request has come."""
        self.awake = True
        self._timer = self._owner.loop.call_later(self._interval, self._sweep)

    def look(self) -> None:
        """A request waits in the line."""
        self.looking = True
        self._look = self._owner.loop.call_later(LOOK, self._look_at_line)

    def close(self) -> None:
        """Look no more."""
        for timer in (self._timer, self._look):
            if timer is not None:
                timer.cancel()

    def _sweep(self) -> None:
        owner = self._owner
        now = owner.loop.time()
        requests = owner.line.requests
        while requests:
            oldest = next(iter(requests))
            if oldest.due > now:
                break
            del requests[oldest]
            owner.expire(oldest)
        for exchange in list(owner.exchanges.values()):
            # Published to workers that do not look; who is running has met this deadline.
            if exchange.due <= now and owner.is_queued(exchange.stream):
                owner.expire(exchange)
        self.awake = False
        if requests or owner.exchanges:
            self.wake()

    def _look_at_line(self) -> None:
        owner = self._owner
        self.looking = False
        before, self._ended = self._ended, owner.pace.total
        owner.line.look(owner.loop.time(), self._ended - before)
        if owner.line.requests:
            self.look()
