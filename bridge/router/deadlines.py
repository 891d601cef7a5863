"""Who waits too long, and what runs too long: one look at all requests of an application, now and then.

No request has a timer, and one that is answered soon is looked at by nobody. While there are requests a timer looks for
those whose deadline is over. A faster one lets the application decide about the order of those that wait, and see
whether some do in front of its workers: once behind those that come, and again while there is something to decide. What
a request has done is not noted down as it does it: it is compared with what it had done at the last look.
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
        looking: the faster timer is on its way; else `look` is to be called when a request comes.
    """

    __slots__ = ("_awake", "_interval", "_look", "_owner", "_run", "_runs", "_silence", "_timer", "looking")

    def __init__(self, owner: Owner, queue: float, limits: config.Limits) -> None:
        self._awake = False  # the slower timer is on its way
        self.looking = False
        self._owner = owner
        self._run = limits.run_timeout or inf
        self._silence = limits.timeout or inf
        self._interval = min(max(min(queue, self._run, self._silence) / PARTS, SOONEST), LATEST)
        self._timer: asyncio.TimerHandle | None = None
        self._look: asyncio.TimerHandle | None = None
        #: What runs, if that is limited: when it was first seen, what it had done, when that was seen first.
        self._runs: dict[Any, tuple[float, Any, float]] = {}

    def look(self) -> None:
        """A request has come."""
        self.looking = True
        if not self._awake:
            self._wake()
        self._look = self._owner.loop.call_later(LOOK, self._look_at_waiting)

    def _wake(self) -> None:
        self._awake = True
        self._timer = self._owner.loop.call_later(self._interval, self._sweep)

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
            self._awake = False
            if owner.line.requests or owner.exchanges:
                self._wake()

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
        owner = self._owner
        if owner.look_at_waiting(owner.loop.time()):
            self.look()
        elif owner.exchanges and not self._awake:
            self._wake()
