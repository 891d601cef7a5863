"""Who waits too long, and what runs too long: one look at all requests of an application, now and then.

No request has a timer, and one that is answered soon is looked at by nobody. While there are requests a timer looks for
those whose deadline is over; while some of them wait another one lets the application decide about their order. What a
request has done is not noted down as it does it: it is compared with what it had done at the last look.
"""

from __future__ import annotations

import asyncio
from math import inf
from typing import Any, Protocol

from bridge import config
from bridge.router.line import Line

LOOK = 0.05  #: seconds between two looks at the line
PARTS = 16  #: a deadline is noticed about so many parts of it too late, never too early …
SOONEST, LATEST = 0.01, 1.0  #: … but no sooner and no later than so many seconds


class Owner(Protocol):
    """The application whose requests they are."""

    loop: asyncio.AbstractEventLoop
    exchanges: dict[int, Any]
    line: Line[Any]

    def look_at_waiting(self, now: float) -> bool:
        """Decide about the order of the line, and how much of it is published; True = to be asked again soon."""

    def is_queued(self, stream: int) -> bool:
        """Whether no worker has claimed it, as far as shared memory tells."""

    def expire(self, request: Any) -> None:
        """No worker has taken it in time."""


class Deadlines:
    """See the head of the file.

    Args:
        owner: the application.
        queue: seconds that a request may wait for a worker.
        limits: of the application; `timeout` and `run_timeout` are meant.

    Attributes:
        awake: a timer is on its way that looks at all requests; else `wake` is to be called when one comes.
        looking: the same for who waits, and `look`.
    """

    __slots__ = ("_interval", "_look", "_owner", "_run", "_runs", "_silence", "_timer", "awake", "looking")

    def __init__(self, owner: Owner, queue: float, limits: config.Limits) -> None:
        self.awake = False
        self.looking = False
        self._owner = owner
        self._run = limits.run_timeout or inf
        self._silence = limits.timeout or inf
        self._interval = min(max(min(queue, self._run, self._silence) / PARTS, SOONEST), LATEST)
        self._timer: asyncio.TimerHandle | None = None
        self._look: asyncio.TimerHandle | None = None
        #: What runs, if that is limited: when it was first seen, what it had done, when that was seen first.
        self._runs: dict[Any, tuple[float, Any, float]] = {}

    def wake(self) -> None:
        """A request has come."""
        self.awake = True
        self._timer = self._owner.loop.call_later(self._interval, self._sweep)

    def look(self) -> None:
        """A request waits."""
        self.looking = True
        self._look = self._owner.loop.call_later(LOOK, self._look_at_waiting)

    def close(self) -> None:
        """Look no more."""
        for timer in (self._timer, self._look):
            if timer is not None:
                timer.cancel()

    def forget(self, request: Any) -> None:
        """What it has done does not count: it is published once more."""
        self._runs.pop(request, None)

    def _sweep(self) -> None:
        owner = self._owner
        try:
            self._look_at_all(owner.loop.time())
        finally:
            # Also after an error of ours, which the loop logs: without a next look nobody's deadline would be met.
            self.awake = False
            if owner.line.requests or owner.exchanges:
                self.wake()
                if not self.looking:
                    self.look()

    def _look_at_all(self, now: float) -> None:
        owner = self._owner
        for request in owner.line.overdue(now):
            owner.line.requests.pop(request, None)
            owner.expire(request)
        for exchange in list(owner.exchanges.values()):
            # Published to workers that do not look; who is running has met this deadline.
            if exchange.due <= now and owner.is_queued(exchange.stream):
                owner.expire(exchange)
        if self._run < inf or self._silence < inf:
            self._look_at_runs(now)

    def _look_at_runs(self, now: float) -> None:
        owner = self._owner
        before, self._runs = self._runs, {}
        for exchange in list(owner.exchanges.values()):
            if exchange not in before and owner.is_queued(exchange.stream):
                continue
            done = exchange.sign_of_life()
            begun, was_done, since = before.get(exchange, (now, None, now))
            if done != was_done or exchange.waits_for_client():
                since = now
            if now - begun >= self._run or now - since >= self._silence:
                exchange.time_out()
            else:
                self._runs[exchange] = (begun, done, since)

    def _look_at_waiting(self) -> None:
        self.looking = False
        if self._owner.look_at_waiting(self._owner.loop.time()):
            self.look()
