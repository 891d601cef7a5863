"""The router's side of an application: its queue, its workers, and the line of requests that wait.

A request is published to the workers' shared queue only while fewer are unfinished than the workers take, plus what
lies ready for them (`pace`); the rest waits in the line here, where cancelling is trivial. Which request belongs to
which stream is the router's own record: nothing is freed or answered on the word of shared memory.
"""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections.abc import Callable
from typing import Any, Protocol

from bridge import config
from bridge.core import FULL, RING, publish
from bridge.errors import PeerLost, RemoteProtocolError
from bridge.ipc import handshake
from bridge.ipc.doorbell import Doorbell
from bridge.ipc.link import Link
from bridge.ipc.message import HEADER
from bridge.ipc.port import ROUTER, Geometry
from bridge.ipc.segment import Segment, SegmentPool
from bridge.ipc.stream import Event, State
from bridge.router.disk import Disk
from bridge.router.pace import Pace
from bridge.router.turns import Turns
from bridge.router.waiters import Waiters
from bridge.router.worker_port import WorkerPort

MAX_LINE = 16384  #: requests that may wait for a worker; 503 above
SLOTS = 16384  #: tracking words: requests that may be published at once
HEADS = 1 << 16  #: number of the first segment that holds heads
WAITERS = 64  #: threads (WSGI) or workers (ASGI) that an application may have at least
MOST_WAITERS = 65535  #: what a queue has room for
_STREAM = ~RING
MOST_AT_ONCE = 4096  #: requests of one worker


class Waiting(Protocol):
    """What the application needs from one exchange."""

    stream: int
    port: WorkerPort | None
    due: float

    def message(self) -> bytes | None:
        """The REQUEST message, its stream left 0, or None when shared memory for it is lacking now."""

    def memory_needed(self) -> int:
        """Bytes that `message` lacks."""

    def worker_lost(self, state: int) -> bool:
        """Its worker is gone; True = it has not begun and may be published again."""

    def refuse(self, status: int) -> None:
        """Answer in the application's place and let go of everything."""

    def decide(self) -> None:
        """It is known now what the application is."""


class Application:
    """One application of the router.

    Args:
        settings: what the operator configured.
        memory: geometry and limits of shared memory.
        version: release, for the handshake.
        on_cut: called with (worker id, reason) when a worker broke the protocol and must be ended.
        attached: called with a worker's id when it takes requests.
        http: limits of bodies that are kept for WSGI.

    Attributes:
        interface: "asgi" or "wsgi"; None as long as no worker has said it.
    """

    def __init__(
        self,
        settings: config.Application,
        memory: config.Memory,
        version: str,
        on_cut: Callable[[int, str], None],
        attached: Callable[[int], None],
        http: config.Http | None = None,
    ) -> None:
        self.settings = settings
        self.http = http or config.Http()
        self.interface: str | None = None if settings.protocol == "auto" else settings.protocol
        self.disk = Disk(self.http.body_temp_path)
        self.memory = memory
        self.version = version
        self.log = logging.getLogger("bridge")
        self.loop = asyncio.get_running_loop()
        self._on_cut = on_cut
        self._attached = attached
        # Four times what it should have: while workers are replaced there are two generations of them, or three.
        self._threads = 1 if settings.protocol == "asgi" else settings.threads
        waiters = min(max(WAITERS, 4 * settings.processes * self._threads), MOST_WAITERS)
        self.geometry = Geometry(
            item_size=memory.item_size,
            queue=memory.queue,
            slots=SLOTS,
            waiters=waiters,
            chunk_size=memory.chunk_size,
            chunks=memory.chunks,
            window=memory.window,
        )
        self._block, _ = handshake.create_application_block(self.geometry, memfd=memory.memfd)
        self.queue, self.tracking = handshake.open_application_block(self._block, self.geometry, ROUTER, create=True)
        self.room = self.queue.room - HEADER.size  #: payload bytes that fit a queue item
        self.pool = SegmentPool(
            memory.chunk_size, memory.chunks, memory.limit, ROUTER, memfd=memory.memfd, announce=self._announce
        )
        # Heads that fit no queue item have memory of their own: bodies, which wait for workers while they hold theirs,
        # could otherwise keep the very requests from the workers that would let them go on.
        self.heads = SegmentPool(
            memory.chunk_size,
            memory.chunks,
            memory.limit // 8,
            ROUTER,
            memfd=memory.memfd,
            announce=self._announce,
            first=HEADS,
        )
        self.workers: dict[int, WorkerPort] = {}
        self.exchanges: dict[int, Any] = {}
        self.turns = Turns(self.loop, self.workers, self.exchanges)
        self.stir = self.turns.stir
        self.wake = self.turns.wake
        self._line: dict[Any, None] = {}  # an ordered set: first in, first out, and any of them may leave
        self._slots = list(range(SLOTS - 1, -1, -1))
        self._waiters = Waiters(self.queue, waiters)
        self.ring = self._waiters.ring
        self._pace = Pace(time.monotonic)
        self._room = 0  # published requests that the workers' limits allow
        self.cancelled = 0  # requests whose client left before their end
        self.errors = 0  # answers in the application's place
        self._pumping = False
        self._broken = False  # it could not be started, says main
        self._overdue: asyncio.TimerHandle | None = None
        self.largest_head = memory.chunk_size * memory.chunks  # bytes; a head has to fit into one segment

    # Requests

    def admit(self, exchange: Waiting) -> None:
        """Take a new request: publish it, let it wait, or refuse it with 503."""
        exchange.due = self.loop.time() + self.settings.queue_timeout
        if self._overdue is None:
            self._overdue = self.loop.call_at(exchange.due, self._expire)
        if not self._line and len(self.exchanges) < self._room and self._publish(exchange):
            return
        if len(self._line) >= MAX_LINE or (self._broken and not self._room):
            exchange.refuse(503)
            return
        self._line[exchange] = None

    def set_broken(self, *, broken: bool) -> None:
        """Main says whether the last start has failed: then nobody waits for a worker as long as there is none."""
        self._broken = broken
        if broken and not self._room:
            published = [each for each in self.exchanges.values() if self.tracking.state(each.stream) == State.QUEUED]
            for exchange in [*self._line, *published]:
                self._line.pop(exchange, None)
                exchange.refuse(503)

    def withdraw(self, exchange: Waiting) -> None:
        """A request that waits in the line is admitted again later."""
        self._line.pop(exchange, None)

    def leave(self, exchange: Waiting) -> None:
        """A request that waits in the line is not wanted any more."""
        self._line.pop(exchange, None)
        self.heads.forget(self)
        self.pump()

    def finished(self, exchange: Waiting) -> None:
        """The stream is over and the worker done with it: its number may be used again."""
        stream = exchange.stream
        if self.exchanges.pop(stream, None) is not None:
            self._slots.append(stream & 0xFFFFFFFF)
            if self._line:
                if self._pace.ended():
                    self._count()
                self.pump()

    @property
    def waiting(self) -> int:
        """Requests in the line."""
        return len(self._line)

    def pump(self) -> None:
        """Publish what waits, as far as limits and memory allow."""
        if self._pumping:
            return  # called from within `_publish`, by memory that the request gave back: the loop below goes on
        self._pumping = True
        try:
            while self._line and len(self.exchanges) < self._room:
                exchange = next(iter(self._line))
                if not self._publish(exchange):
                    return
                self._line.pop(exchange, None)
        finally:
            self._pumping = False

    memory_ready = pump

    def _publish(self, exchange: Waiting) -> bool:
        message = exchange.message()
        if message is None:
            self.heads.wait(self, exchange.memory_needed())
            return False
        slots = self._slots
        while slots:
            slot = slots.pop()
            result = publish(self.queue, self.tracking, slot, message)
            if result >= 0:
                break
            if result == FULL:
                slots.append(slot)
                return False
            # A word that is not final when its stream is over was overwritten by a worker: the slot is given up.
            self.log.error("a worker of %r has overwritten a tracking word", self.settings.name)
        else:
            return False
        stream = exchange.stream = result & _STREAM
        self.exchanges[stream] = exchange
        if result != stream:
            self.ring((result & RING) >> 16)
        if self.turns.dozing:
            self.stir()
        else:
            self.turns.news = True
        return True

    def _expire(self) -> None:
        """Refuse what no worker has taken in time: in the line, and published to workers that do not look."""
        self._overdue = None
        now = self.loop.time()
        late: list[Waiting] = []
        soonest: list[float] = []
        for exchanges in (self._line, self.exchanges.values()):
            for exchange in exchanges:  # in the order in which they came
                if exchange.due > now:
                    soonest.append(exchange.due)
                    break
                if not exchange.stream or self.tracking.state(exchange.stream) == State.QUEUED:
                    late.append(exchange)
        for exchange in late:
            self._line.pop(exchange, None)
            exchange.refuse(503)
        if soonest and self._overdue is None:
            # Not for each of them alone: a little late is early enough.
            at = max(min(soonest), now + self.settings.queue_timeout / 32)
            self._overdue = self.loop.call_at(at, self._expire)

    # Workers

    def introduce(self, number: int, pid: int, link: Link) -> None:
        """Offer shared memory to a new worker; it answers when its application is ready."""
        if number in self.workers:
            self.lose(self.workers[number])  # main gives a number again only when its process has ended
        memory = self.memory
        waiters: dict[int, Doorbell] = {}
        try:
            segment = Segment.create(number, memory.chunk_size, memory.chunks, ROUTER, memfd=memory.memfd)
            port, block = handshake.create_port(self.geometry, ROUTER, memfd=memory.memfd)
            port.join(link, Doorbell(), Doorbell(), segment)
            waiters = self._waiters.take(self._threads)
            if len(waiters) < self._threads:
                raise OSError(f"no room for the threads of another worker of {self.settings.name!r}")
        except OSError as error:
            link.close()
            self._waiters.give_back(waiters)
            self.log.error("worker %d (pid %d) cannot be taken in: %s", number, pid, error)
            self._on_cut(number, "it could not be taken in")
            return
        fds = (self._block, block, port.peer_bell.fileno(), port.bell.fileno(), segment.fd)
        bells = tuple(bell.fileno() for bell in waiters.values())
        worker = WorkerPort(number, pid, port, waiters, self)
        self.workers[number] = worker
        try:
            handshake.offer(link, self.version, self.geometry, (number, list(waiters)), fds + bells)
            for known in (*self.pool.segments, *self.heads.segments):
                link.send({"type": "segment", "segment": known.number}, [known.fd])
        except PeerLost:
            self.lose(worker)
            return
        finally:
            os.close(block)
        worker.start()

    def _announce(self, segment: Segment) -> None:
        for worker in list(self.workers.values()):
            try:
                worker.port.link.send({"type": "segment", "segment": segment.number}, [segment.fd])
            except PeerLost:
                self.loop.call_soon(self.lose, worker)

    def ready(self, port: WorkerPort, limit: int, interface: str) -> None:
        """The worker takes up to `limit` requests at once from now on; 0 = it drains and takes no more."""
        port.interface = interface
        if limit > 0 and interface != self.interface:
            self.interface = interface
            for exchange in list(self._line):
                exchange.decide()
        if interface == "asgi":
            self._waiters.join(port.waiters, port.port.peer_bell)
        port.limit = max(0, min(limit, MOST_AT_ONCE))
        port.consumers = port.limit if interface == "wsgi" else 1
        if not port.limit:
            port.leaving = sum(self.tracking.owner(stream) == port.number for stream in self.exchanges)
        self._count()
        if port.limit:
            self._attached(port.number)
        self.ring(self.queue.wake())
        self.pump()

    def _count(self) -> None:
        limits = [worker.limit for worker in self.workers.values() if worker.limit]
        ahead = max(self._pace.ahead, len(limits)) if limits else 0
        # What still runs in workers that leave takes no room from the others.
        leaving = sum(worker.leaving for worker in self.workers.values()) if limits else 0
        self._room = min(SLOTS // 2, sum(limits) + ahead + leaving)
        self.queue.set_ready(max(1, sum(worker.consumers for worker in self.workers.values() if worker.limit)))

    def gone(self, number: int, pid: int) -> None:
        """Main has seen this worker's end; a process that it left behind may still hold its link open."""
        port = self.workers.get(number)
        if port is not None and port.pid == pid:
            self.lose(port)
        elif port is None:
            self._recover(number, None)  # it was cut off, and has gone on claiming until it was ended

    def cut(self, port: WorkerPort, reason: str) -> None:
        """The worker broke the protocol: it is cut off, and main is asked to end it."""
        if self.workers.get(port.number) is port:
            self.log.error("worker %d (pid %d) is cut off: %s", port.number, port.pid, reason)
            self._on_cut(port.number, reason)
            self.lose(port, drain=False)

    def lose(self, port: WorkerPort, *, drain: bool = True) -> None:
        """The worker is gone: end what it was running, publish again what it had not begun."""
        if self.workers.get(port.number) is not port:
            return
        if drain:
            port.drain_all()
        del self.workers[port.number]
        self._waiters.give_back(port.waiters)
        port.stop()
        self._count()
        self._recover(port.number, port)

    def _recover(self, number: int, port: WorkerPort | None) -> None:
        held = dict(self.tracking.recover(number))
        for message in self._popped(number):
            stream = HEADER.unpack_from(message)[0]
            if stream in self.exchanges and self.tracking.state(stream) == State.QUEUED:
                self.tracking.move(stream, Event.CANCEL)
                held[stream] = State.QUEUED
        for stream, exchange in list(self.exchanges.items()):
            lost = stream in held or (port is not None and exchange.port is port)
            if lost and exchange.worker_lost(held.get(stream, State.RUNNING)):
                self.admit(exchange)
        self._waiters.ring_all()  # the dead may have owed a ring to any of them
        self.pump()

    def _popped(self, number: int) -> list[bytes]:
        try:
            return [message for message in self.queue.recover(number) if len(message) >= HEADER.size]
        except RemoteProtocolError as error:
            self.log.error("queue of %r: %s", self.settings.name, error)
            return []

    def close(self) -> None:
        """Let go of every worker and all memory."""
        for port in list(self.workers.values()):
            self.lose(port, drain=False)
        if self._overdue is not None:
            self._overdue.cancel()
        self.pool.close()
        self.heads.close()
        self.disk.close()
        os.close(self._block)
