"""The router's side of an application: its queue, its workers, and how requests get from the one to the others.

Which request is published when is decided in `admission`. Which one belongs to which stream is the router's own record:
nothing is freed or answered on the word of shared memory.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable

from bridge import config
from bridge.core import FULL, RING, publish
from bridge.errors import PeerLost, RemoteProtocolError
from bridge.ipc import handshake
from bridge.ipc.link import Link
from bridge.ipc.message import HEADER
from bridge.ipc.pool import SegmentPool
from bridge.ipc.port import ROUTER, Geometry
from bridge.ipc.record import LONGEST
from bridge.ipc.segment import Segment
from bridge.ipc.stream import Event, State
from bridge.router.admission import Admission, Waiting
from bridge.router.ceiling import Ceiling, Seen
from bridge.router.disk import Disk
from bridge.router.generation import Generation
from bridge.router.joining import make_port
from bridge.router.turns import Turns
from bridge.router.worker_port import WorkerPort

SLOTS = 16384  #: tracking words beside those of WebSockets: a number has 16 bits
HEADS = 1 << 16  #: number of the first segment that holds heads
WAITERS = 64  #: threads (WSGI) or workers (ASGI) that an application may have at least
MOST_WAITERS = 65535  #: what a queue has room for
_STREAM = ~RING
MOST_AT_ONCE = 4096  #: requests of one worker
REMAINS = 5.0  #: seconds that a worker which has left the router has for its end
RETRY = 1.0  #: seconds


class Application(Admission):
    """One application of the router.

    Args:
        settings: what the operator configured.
        memory: geometry and limits of shared memory.
        version: release, for the handshake.
        on_cut: called with (worker id, reason) when a worker broke the protocol and must be ended.
        attached: called with a worker's process id when it takes requests.
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
        super().__init__(settings, asyncio.get_running_loop())
        self.http = http or config.Http()
        self.interface: str | None = None if settings.protocol == "auto" else settings.protocol
        self.disk = Disk(self.http.body_temp_path)
        self.memory = memory
        self.version = version
        self._on_cut = on_cut
        self._attached = attached
        # Four times what it should have: while workers are replaced there are two generations of them, or three.
        self._threads = 1 if settings.protocol == "asgi" else settings.threads
        waiters = min(max(WAITERS, 4 * settings.processes * self._threads), MOST_WAITERS)
        self.geometry = Geometry(
            item_size=memory.item_size,
            queue=memory.queue,
            slots=SLOTS + settings.limits.websockets,
            waiters=waiters,
            chunk_size=memory.chunk_size,
            chunks=memory.chunks,
            window=memory.window,
            junk=memory.junk_fill,
        )
        self._damaged = False  # this generation is given up at the end of this round of the loop
        self._begin_generation(Generation(self.geometry, memfd=memory.memfd))
        self.room = self.queue.room - HEADER.size  #: payload bytes that fit a queue item
        self.pool = SegmentPool(
            memory.chunk_size,
            memory.chunks,
            memory.limit,
            ROUTER,
            memfd=memory.memfd,
            announce=self._announce,
            junk=memory.junk_fill,
        )
        # Heads that fit no queue item have memory of their own, which bodies cannot use up. What finds none there
        # travels over the worker's link, when there is one.
        self.heads = SegmentPool(
            memory.chunk_size,
            memory.chunks,
            memory.limit // 8,
            ROUTER,
            memfd=memory.memfd,
            announce=self._announce,
            first=HEADS,
            junk=memory.junk_fill,
        )
        self.workers: dict[int, WorkerPort] = {}
        self.turns = Turns(self.loop, self.workers, self.exchanges, self.tunnels)
        self.stir = self.turns.stir
        self.wake = self.turns.wake
        self._remains: dict[int, int] = {}  # number and process of who has left, and main has not seen their end
        # A window, and what many tasks may send at the same time when they have all seen some of it free.
        window = max(memory.window, self.http.websocket.window)
        self.most_unacknowledged = 2 * window + memory.chunk_size + 64 * memory.item_size
        self._ceiling = Ceiling()
        self._most = 0  # `_room`, if there were no ceiling
        self._ahead = 0  # requests that lie ready
        self.largest_head = LONGEST - HEADER.size  # bytes, of requests and of responses

    def _begin_generation(self, generation: Generation) -> None:
        self._generation = generation
        self.queue, self.tracking = generation.queue, generation.tracking
        self._slots = generation.slots
        self._waiters = generation.waiters
        self.ring = generation.waiters.ring

    # Requests

    def is_queued(self, stream: int) -> bool:
        """Whether no worker has claimed it, as far as shared memory tells."""
        return self.tracking.state(stream) == State.QUEUED

    def _publish(self, exchange: Waiting) -> bool:
        message = exchange.message()
        slots = self._slots
        if slots:
            slot = slots.pop()
            try:
                result = publish(self.queue, self.tracking, slot, message)
            except RemoteProtocolError as error:
                self.damaged(str(error))
                return False
            if result < 0:
                if result == FULL:
                    slots.append(slot)
                else:
                    self.damaged("the tracking word of a request that is over is not final")
                return False
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

    # Workers

    def introduce(self, number: int, pid: int, link: Link) -> None:
        """Offer shared memory to a new worker; it answers when its application is ready."""
        if number in self.workers:
            self.lose(self.workers[number])  # main gives a number again only when its process has ended
        try:
            port, block, waiters = make_port(number, link, self.geometry, self.memory, self._waiters, self._threads)
        except OSError as error:
            self.log.error("worker %d (pid %d) cannot be taken in: %s", number, pid, error)
            self._on_cut(number, "it could not be taken in")
            return
        fds = (self._generation.block, block, port.peer_bell.descriptor, port.bell.descriptor, port.segment.fd)
        bells = tuple(bell.descriptor for bell in waiters.values())
        worker = WorkerPort(number, pid, port, waiters, self)
        self.workers[number] = worker
        try:
            handshake.offer(link, self.version, self.geometry, (number, list(waiters)), fds + bells)
            for known in (*self.pool.segments, *self.heads.segments):
                worker.announce(known)
        except PeerLost:
            self.lose(worker)
            return
        finally:
            os.close(block)
        worker.start()

    def _announce(self, segment: Segment) -> None:
        for worker in list(self.workers.values()):
            try:
                worker.announce(segment)
            except PeerLost:
                self.loop.call_soon(self.lose, worker)

    def segment(self, number: int) -> Segment | None:
        """The segment of requests with that number."""
        pool, index = (self.heads, number - HEADS) if number >= HEADS else (self.pool, number)
        return pool.segments[index] if index < len(pool.segments) else None

    def ready(self, port: WorkerPort, limit: int, interface: str) -> None:
        """The worker takes up to `limit` requests at once from now on; 0 = it drains and takes no more."""
        port.interface = interface
        if limit > 0 and interface != self.interface:
            self.interface = interface
            self._ceiling = Ceiling()  # what loops have not taken says nothing about threads
            for exchange in list(self._requests):
                exchange.decide()
        if interface == "asgi":
            self._waiters.join(port.waiters, port.port.peer_bell)
        port.limit = max(0, min(limit, MOST_AT_ONCE))
        port.consumers = port.limit if interface == "wsgi" else 1
        if not port.limit:
            port.leaving = sum(self.tracking.owner(stream) == port.number for stream in self.exchanges)
        self._count()
        if port.limit:
            self._attached(port.pid)
        self.ring(self.queue.wake())
        self.pump()

    def left_with(self, port: WorkerPort) -> None:
        """A request that a worker was running when it began to drain is over, and the room for it goes with it."""
        port.leaving -= 1
        self._count()

    def _count(self) -> None:
        limits = [worker.limit for worker in self.workers.values() if worker.limit]
        # What lies ready is overtaken by nobody: where some are to be, it is as little as keeps the workers busy.
        ready = 1 if self.expected else len(limits)
        ahead = self._ahead = max(self.pace.ahead, ready) if limits else 0
        # What still runs in workers that leave takes no room from the others.
        leaving = sum(worker.leaving for worker in self.workers.values()) if limits else 0
        self._most = min(SLOTS // 2, sum(limits) + ahead + leaving)
        self._room = int(min(self._most, self._ceiling.requests))
        self.queue.set_ready(max(1, sum(worker.consumers for worker in self.workers.values() if worker.limit)))

    def _look_at_published(self) -> bool:
        if self.interface != "asgi":
            return False  # a thread takes one, and takes it when it can
        unclaimed: frozenset[int] = frozenset()
        if self.queue.length():
            unclaimed = frozenset(filter(self.is_queued, self.exchanges))
        seen = Seen(
            self.loop.time(),
            unclaimed,
            len(self.exchanges) - len(unclaimed),
            self._ahead,
            self._most,
            wait=bool(self._requests),
            differ=bool(self.expected),
        )
        again = self._ceiling.look(seen)
        self._count()
        self.pump()
        return again

    def gone(self, number: int, pid: int) -> None:
        """Main has seen this worker's end; a process that it left behind may still hold its link open."""
        port = self.workers.get(number)
        self._remains.pop(number, None)
        if port is not None and port.pid == pid:
            self.lose(port)
        elif port is None:
            self._recover(number, None)  # it was cut off, and has gone on claiming until it was ended

    def hung_up(self, port: WorkerPort) -> None:
        """The worker has closed its link: it is dying, or is of no use any more."""
        self.lose(port)
        if port.limit:
            self._remains[port.number] = port.pid
            self.loop.call_later(REMAINS, self._end_remains, port.number, port.pid)  # not the port: its memory goes now
            self.look()  # it may have found the shared memory damaged

    def _end_remains(self, number: int, pid: int) -> None:
        if self._remains.get(number) == pid:
            del self._remains[number]
            self.log.error("worker %d (pid %d) has left the router and lives on: it is ended", number, pid)
            self._on_cut(number, "it has left the router")

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
        self._part(port)
        self._count()
        self._recover(port.number, port)

    def _part(self, port: WorkerPort) -> None:
        del self.workers[port.number]
        self._waiters.give_back(port.waiters)
        port.stop()

    def _recover(self, number: int, port: WorkerPort | None) -> None:
        held = dict(self.tracking.recover(number))
        for message in self._popped(number):
            stream = HEADER.unpack_from(message)[0]
            if stream in self.exchanges and self.tracking.state(stream) == State.QUEUED:
                self.tracking.move(stream, Event.CANCEL)
                held[stream] = State.QUEUED
        again: list[Waiting] = []
        for stream, exchange in list(self.exchanges.items()):
            # Who has answered is known; whatever a word says of that, others do not lose by it.
            lost = stream in held if exchange.port is None else exchange.port is port
            if lost and exchange.worker_lost(held.get(stream, State.RUNNING)):
                again.append(exchange)
        for tunnel in self.tunnels.of(port):
            tunnel.worker_lost()
        self._readmit(again)
        self._waiters.ring_all()  # the dead may have owed a ring to any of them
        self.pump()

    def _popped(self, number: int) -> list[bytes]:
        try:
            return [message for message in self.queue.recover(number) if len(message) >= HEADER.size]
        except RemoteProtocolError as error:
            self.damaged(str(error))
            return []

    # Damage

    def look(self) -> None:
        """See whether the shared memory can be what the workers have made of it; called every second."""
        watch = self._generation.watch
        reason = watch.look(self.loop.time(), self.exchanges, self.workers)
        if reason:
            self.damaged(reason)
        elif watch.stands:
            self._waiters.ring_all()  # somebody may have cleared the sleeping bits of others

    def damaged(self, reason: str) -> None:
        """The memory that the workers share holds what no process of ours writes; any of them may have done it."""
        if not self._damaged:
            self._damaged = True
            self.log.error(
                "the shared memory of %r is given up, and its workers are ended: %s", self.settings.name, reason
            )
            self.loop.call_soon(self._renew, reason)

    def _renew(self, reason: str) -> None:
        """Go on in a new generation: what had not begun is published there, what had gets a 502."""
        try:
            generation = Generation(self.geometry, memfd=self.memory.memfd)
        except OSError as error:
            self.log.error("no shared memory for %r: %s", self.settings.name, error)
            self.loop.call_later(RETRY, self._renew, reason)
            return
        self._room = 0
        self._pumping = True  # nothing is published until all is as it will be
        for port in list(self.workers.values()):
            port.drain_all()  # its own queue is no part of this
        states = {stream: self.tracking.state(stream) for stream in self.exchanges}
        for port in list(self.workers.values()):
            self._part(port)
            self._on_cut(port.number, reason)
        for number, pid in list(self._remains.items()):
            self._end_remains(number, pid)  # it has seen the damage before us
        published, tunnels = dict(self.exchanges), list(self.tunnels.values())
        self.exchanges.clear()
        self.tunnels.clear()
        self._generation.close()
        self._begin_generation(generation)
        again = [exchange for stream, exchange in published.items() if exchange.worker_lost(states[stream])]
        for tunnel in tunnels:
            tunnel.worker_lost()
        self._readmit(again)
        self._damaged = self._pumping = False
        self._count()
        self.pump()

    def close(self) -> None:
        """Let go of every worker and all memory."""
        for port in list(self.workers.values()):
            self.lose(port, drain=False)
        self._deadlines.close()
        self.pool.close()
        self.heads.close()
        self.disk.close()
        self._generation.close()
