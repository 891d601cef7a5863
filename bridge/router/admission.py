"""Which of an application's requests are published, and when.

A request is published to the workers' shared queue only while fewer are unfinished than the workers take, plus what
lies ready for them (`pace`). The rest waits in the line, where cancelling is trivial, and the order can be chosen
(`line`). How a request is published, and how many the workers take, is for `application` to say.
"""

from __future__ import annotations

import asyncio
import logging
import time
from typing import Any, Protocol

from bridge import config
from bridge.router.deadlines import Deadlines
from bridge.router.expected import LONG, Expected
from bridge.router.line import Line
from bridge.router.pace import Pace
from bridge.router.tally import Tally
from bridge.router.tunnels import Open, Tunnels
from bridge.router.worker_port import WorkerPort


class Waiting(Protocol):
    """What the application needs from one exchange."""

    stream: int
    port: WorkerPort | None
    due: float  #: when it is refused if no worker has taken it; 0 = it was not admitted yet
    begun: float  #: when it was published, or has come
    expected: float  #: see `line.Waiting`

    @property
    def gone(self) -> bool:
        """Whether nobody waits for the answer any more."""

    def purpose(self) -> bytes:
        """What it asks for."""

    def message(self) -> bytes:
        """The REQUEST message, its stream left 0."""

    def worker_lost(self, state: int) -> bool:
        """Its worker is gone; True = it has not begun and may be published again."""

    def refuse(self, status: int) -> None:
        """Answer in the application's place and let go of everything."""

    def decide(self) -> None:
        """It is known now what the application is."""


class Admission:
    """The half of an application that has to do with requests; see the head of the file.

    Args:
        settings: what the operator configured.
        loop: tells the time.
    """

    _slots: list[int]  # numbers of streams that are free

    def __init__(self, settings: config.Application, loop: asyncio.AbstractEventLoop) -> None:
        self.settings = settings
        self.loop = loop
        self.log = logging.getLogger("bridge")
        self.exchanges: dict[int, Any] = {}  #: those that are published and not over, by stream
        self.line: Line[Waiting] = Line(settings.queue_timeout)
        self.expected = Expected()
        self.pace = Pace(time.monotonic)
        self.tally = Tally(settings.name)
        self.tunnels = Tunnels(settings.limits.websockets)  #: no requests any more
        self._requests = self.line.requests
        self._ended = 0  # requests, at the last look
        self._deadlines = Deadlines(self, settings.queue_timeout, settings.limits)
        self._room = 0  # published requests that the workers' limits allow
        self._pumping = False
        self._broken = False  # it could not be started, says main

    def admit(self, exchange: Waiting) -> None:
        """Take a new request: publish it, let it wait, or refuse it with 503."""
        exchange.begun = now = self.loop.time()
        exchange.due = now + self.settings.queue_timeout
        if not self._deadlines.looking:
            self._deadlines.look()
        if not self._requests and len(self.exchanges) < self._room and self._publish(exchange):
            return
        if self._broken and not self._room:
            exchange.refuse(503)
            return
        exchange.expected = min(self.expected.of(exchange.purpose()), self.line.patience) if self.expected else 0.0
        if len(self._requests) >= self.settings.limits.queue_length:
            self._turn_away(exchange)
        else:
            self._requests[exchange] = None

    def _turn_away(self, exchange: Waiting) -> None:
        """The line is full: there is no place for the one who would be served last."""
        self.tally.turned_away += 1
        if self.line.newest_first:
            oldest, _ = self._requests.popitem(last=False)
            self._requests[exchange] = None
            exchange = oldest
        exchange.refuse(503)

    def expire(self, exchange: Waiting) -> None:
        """No worker has taken it in time."""
        self.tally.expired += 1
        exchange.refuse(503)

    def set_broken(self, *, broken: bool) -> None:
        """Main says whether the last start has failed: then nobody waits for a worker as long as there is none."""
        self._broken = broken
        if broken and not self._room:
            published = [each for each in self.exchanges.values() if self.is_queued(each.stream)]
            for exchange in [*self._requests, *published]:
                self._requests.pop(exchange, None)
                exchange.refuse(503)

    def withdraw(self, exchange: Waiting) -> None:
        """A request that waits in the line is admitted again later."""
        self._requests.pop(exchange, None)

    def leave(self, exchange: Waiting) -> None:
        """A request that waits in the line is not wanted any more."""
        self._requests.pop(exchange, None)
        self.pump()

    def left(self, exchange: Waiting, *, answered: bool) -> None:
        """The client of a request has left before its end; `answered`: part of the answer is out."""
        self.tally.cancelled += 1
        if exchange.due and not answered:
            self.tally.unserved += 1
            self.line.left(exchange, self.loop.time())

    def look_at_waiting(self, now: float) -> bool:
        """Decide about the order of the line, and how much of it is published; True = to be asked again soon."""
        before, self._ended = self._ended, self.pace.total
        self.line.look(now, self._ended - before)
        again = self._look_at_published()
        return bool(self._requests) or again

    def report(self) -> None:
        """Say in the log what was refused and why, if there is something to be said; called every second."""
        now = self.loop.time()
        line = self.tally.line(now, self.waiting, self.line.waited(now), stands=self.line.newest_first)
        if line:
            self.log.warning(line)
        if line := self.tunnels.line(now):
            self.log.warning("%r: %s", self.settings.name, line)

    def take_back(self, exchange: Waiting) -> None:
        """The worker that had a request is gone, and it is to be published once more: as if nobody had had it."""
        self.finished(exchange)
        self._deadlines.forget(exchange)
        exchange.stream = 0
        exchange.expected = 0.0  # it has waited before

    def finished(self, exchange: Waiting) -> None:
        """The stream is over and the worker done with it: its number may be used again."""
        stream = exchange.stream
        if self.exchanges.pop(stream, None) is not None:
            self._slots.append(stream & 0xFFFFFFFF)
            if self._requests:
                self._learn(exchange)
                if self.pace.ended():
                    self._count()
                self.pump()

    def _learn(self, exchange: Waiting) -> None:
        """Note how long it ran, if that was long, or others are known to."""
        seconds = self.loop.time() - exchange.begun
        before = bool(self.expected)
        if (seconds >= LONG or before) and not exchange.gone:
            self.expected.ran(exchange.purpose(), seconds)
            if bool(self.expected) != before:
                self._count()

    def switched(self, tunnel: Open) -> None:
        """The request of this stream has become a tunnel: there is room for another one."""
        del self.exchanges[tunnel.stream]
        self.tunnels.open(tunnel)
        self.pump()

    def tunnel_over(self, tunnel: Open) -> None:
        """The tunnel has ended and the worker is done with it: as `finished`."""
        if self.tunnels.pop(tunnel.stream, None) is not None:
            self._slots.append(tunnel.stream & 0xFFFFFFFF)

    @property
    def waiting(self) -> int:
        """Requests in the line."""
        return len(self._requests)

    def pump(self) -> None:
        """Publish what waits, as far as limits and memory allow."""
        if self._pumping:
            return  # called from within `_publish`, by memory that the request gave back: the loop below goes on
        self._pumping = True
        try:
            requests, line = self._requests, self.line
            while requests and len(self.exchanges) < self._room:
                exchange = line.next(differ=bool(self.expected))
                exchange.begun = self.loop.time()
                if not self._publish(exchange):
                    line.put_back(exchange)
                    return
        finally:
            self._pumping = False

    def _readmit(self, exchanges: list[Waiting]) -> None:
        """Let requests that were published before be next, with the deadlines that they have."""
        for exchange in exchanges if self.line.newest_first else reversed(exchanges):
            if self._broken and not self._room:
                exchange.refuse(503)
            else:
                self.line.put_back(exchange)
        if self._requests and not self._deadlines.looking:
            self._deadlines.look()

    def is_queued(self, stream: int) -> bool:
        """Whether no worker has claimed it, as far as shared memory tells."""
        raise NotImplementedError

    def _publish(self, exchange: Waiting) -> bool:
        """Hand a request to the workers; False = there is no room for it now."""
        raise NotImplementedError

    def _look_at_published(self) -> bool:
        """Whether workers claim what is published to them; True = to be asked again soon."""
        raise NotImplementedError

    def _count(self) -> None:
        """Work `_room` out."""
        raise NotImplementedError
