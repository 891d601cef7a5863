"""A router's side in this process, for the threads of a WSGI worker: real queues, bells, segments and a link."""

from __future__ import annotations

import os
import select
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

from bridge.core import COUNT, STARVED
from bridge.errors import PeerLost
from bridge.ipc import handshake
from bridge.ipc.dispatcher import deliver, dispatch
from bridge.ipc.doorbell import Doorbell
from bridge.ipc.link import Link
from bridge.ipc.message import BODY, DATA, DESCRIPTOR, FILE, HEADER, LAST, RECORD, REQUEST, RESPONSE, UNKNOWN, WINDOW
from bridge.ipc.port import ROUTER, Geometry
from bridge.ipc.record import fragments, is_record
from bridge.ipc.segment import Segment, map_memory
from bridge.ipc.stream import Event
from bridge.worker.seat import Seat
from bridge.worker.thread_router import ThreadRouter
from bridge.worker.thread_stream import ThreadStream
from tests.ipc.rings import heard

NORMAL = Geometry(item_size=1024, queue=256, slots=512, waiters=8, chunk_size=16384, chunks=64, window=1 << 18)
TINY = Geometry(item_size=128, queue=4, slots=16, waiters=8, chunk_size=64, chunks=16, window=512)
PATIENCE = 20.0
WORKER = 7
HEAD = b"127.0.0.1\x001\x00127.0.0.1\x0080\nGET / HTTP/1.1\r\nHost: t\r\n\r\n"
REQUESTS = 1 << 16  #: number of the segment of request bodies


@dataclass
class Message:
    """One message of the worker."""

    stream: int
    kind: int
    flags: int
    size: int
    number: int
    head: int
    payload: bytes  #: inline bytes and those of the descriptors


class RouterSide:
    """A router that does what the test says, and a worker's side that has joined it.

    While the `with` block runs, a thread plays the worker's main thread.

    Args:
        geometry: of the shared memory.
        threads: of the worker.
        version: release of the router.
        join: False = the worker's side is another's, who gets `theirs`.
    """

    def __init__(self, geometry: Geometry = NORMAL, threads: int = 1, *, version: str = "1", join: bool = True) -> None:
        self.geometry = geometry
        self.link, self.theirs = Link.pair()
        self.block, _ = handshake.create_application_block(geometry, memfd=True)
        self.queue, self.tracking = handshake.open_application_block(self.block, geometry, ROUTER, create=True)
        self._memory = map_memory(self.block, geometry.application_queue_bytes)
        self.port, block = handshake.create_port(geometry, ROUTER, memfd=True)
        self.segment = Segment.create(WORKER, geometry.chunk_size, geometry.chunks, ROUTER)
        self.requests = Segment.create(REQUESTS, geometry.chunk_size, geometry.chunks, ROUTER)
        self.port.join(self.link, heard(Doorbell()), Doorbell(), self.segment)
        self.bells = [heard(Doorbell()) for _ in range(threads)]
        fds = (self.block, block, self.port.peer_bell.descriptor, self.port.bell.descriptor, self.segment.fd)
        bells = tuple(bell.descriptor for bell in self.bells)
        handshake.offer(self.link, version, geometry, (WORKER, list(range(threads))), fds + bells)
        os.close(block)
        self.failed = threading.Event()
        self.seats: list[Seat] = []
        self.router: ThreadRouter
        if join:
            attachment = handshake.receive_offer(self.theirs, "1")
            assert attachment
            self.router = ThreadRouter(attachment, self.failed.set)
            self.router.open(threads)
            assert self.attached()
        self._free = list(range(geometry.slots))
        self._got: list[Message] = []
        self.files: list[int] = []  #: that have come with messages
        self._stop = heard(Doorbell())
        self._main = threading.Thread(target=self._play_main) if join else None

    def __enter__(self) -> Self:
        if self._main:
            self._main.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, _: BaseException | None, __: TracebackType | None) -> None:
        if self._main:
            self._stop.ring()
            self._main.join(PATIENCE)
            if self.router.alive:
                self.router.end()
        for seat in self.seats:
            seat.close()
        self.port.close()
        self.requests.close()
        for bell in (*self.bells, self._stop):
            bell.close()
        os.close(self.block)

    def _play_main(self) -> None:
        waiting = select.poll()
        for source in (self._stop, self.router.port.bell, self.router.port.link):
            waiting.register(source.fileno(), select.POLLIN)
        while True:
            ready = {fd for fd, _ in waiting.poll()}
            if self._stop.fileno() in ready:
                return
            if self.router.port.bell.fileno() in ready:
                self.router.on_bell()
            if self.router.port.link.fileno() in ready:
                self.router.on_link()
            if self.router.failed:
                self.router.end()
                self.failed.set()
                return

    # What the router does

    def attached(self) -> bool:
        """Whether the worker has said that it is ready."""
        received = self.link.receive()
        assert received in (None, (handshake.attached(len(self.bells), "wsgi"), []))
        return received is not None

    def arm(self) -> int:
        """A new stream."""
        return self.tracking.arm(self._free.pop(0))

    def publish(self, head: bytes = HEAD, body: bytes = b"", flags: int = LAST, size: int = UNKNOWN) -> int:
        """Publish a request, with its body inline as far as that fits, else in chunks; returns its stream."""
        stream = self.arm()
        room = self.queue.room - HEADER.size
        pieces, inline = b"", head + body
        count = 0
        if len(inline) > room:
            inline = head if len(head) + 4 * DESCRIPTOR.size <= room else b""
            for data in (body,) if inline else (head, body):
                start = 0
                while start < len(data):
                    first, got = self.requests.claim(len(data) - start, 1)
                    assert got
                    run = data[start : start + got]
                    self.requests.write(first, run)
                    pieces += DESCRIPTOR.pack(REQUESTS, first, len(run))
                    count += 1
                    start += len(run)
        message = HEADER.pack(stream, REQUEST, flags, count, len(inline), size, 0, len(head)) + pieces + inline
        ring = self.queue.push(message)
        assert ring >= 0
        if ring:
            self.bells[ring - 1].ring()
        return stream

    def has_room(self, most: int) -> bool:
        """Whether so many requests can be published now, and their number be given."""
        return self.queue.length() < min(most, self.geometry.queue) and bool(self._free)

    def free(self, stream: int) -> None:
        """The stream is over: its slot may be used again."""
        self._free.append(stream & 0xFFFFFFFF)

    def sleeping(self) -> int:
        """How many waiters sleep; see core/layout.h."""
        return int.from_bytes(self._memory[512:520], "little").bit_count()

    def set_sleeping(self, waiter: int) -> None:
        """Play a waiter of another process that has just set its bit."""
        self._memory[512 + waiter // 8] |= 1 << waiter % 8

    def announce(self) -> None:
        """Send the descriptor of the segment of request bodies."""
        self.link.send({"type": "segment", "segment": REQUESTS}, [self.requests.fd])

    def lost(self) -> bool:
        """Whether the worker has ended its link."""
        try:
            while self.link.receive():
                pass
        except PeerLost:
            return True
        return False

    def send_file(self, stream: int, file: int) -> None:
        """Send the file that holds a request's body; opens none, unlike an outbox."""
        message = HEADER.pack(stream, BODY, FILE | LAST, 0, 0, 0, 0, 0)
        ((record, marker),) = fragments(stream, message, self.port.outbox.serial)
        self.link.send_bytes(record, [file])
        self.port.send(marker)

    def cancel(self, stream: int) -> None:
        """Nobody waits for it any more."""
        self.tracking.move(stream, Event.CANCEL)
        self.port.send(HEADER.pack(stream, 3, 0, 0, 0, 0, 0, 0))

    def acknowledge(self, stream: int, size: int) -> None:
        """So many bytes of its response have left."""
        self.port.send(HEADER.pack(stream, WINDOW, 0, 0, 0, size, 0, 0))

    def drain(self) -> list[Message]:
        """What the worker has sent; its chunks are free afterwards. What has found no room goes out now."""
        self.port.flush()
        result = self.port.incoming.drain(64)
        self._got = []
        dispatch(self.port.incoming, result & COUNT, self._take)
        result |= self.port.incoming.drain(0)  # lets go of what is long
        if result & STARVED:
            self.port.peer_bell.ring()
        return self._got

    def _take(
        self,
        stream: int,
        kind: int,
        flags: int,
        size: int,
        number: int,
        head: int,
        descriptors: list[tuple[int, int, int]] | None,
        inline: bytes,
    ) -> None:
        if kind == RECORD:
            while received := self.link.receive_bytes():
                assert is_record(received[0])
                self.port.inbox.put(*received)
            if arrived := self.port.inbox.take(number):
                self.files += arrived.files
                deliver(arrived.message, self._take)
            return
        for segment, first, length in descriptors or ():
            assert segment == WORKER
            count = self.segment.chunks_of(length)
            assert self.segment.chunks.transfer(first, count, WORKER, ROUTER)
            inline += self.segment.read(first, length)
            self.segment.chunks.release(first, count)
            if self.segment.chunks.take_waiting():
                self.port.peer_bell.ring()
        self._got.append(Message(stream, kind, flags, size, number, head, inline))

    def receive(self, count: int = 1) -> list[Message]:
        """The next messages, waited for."""
        found: list[Message] = []

        def look() -> bool:
            found.extend(self.drain())
            return len(found) >= count

        until(look)
        assert len(found) == count
        return found

    def response(self, stream: int, *, acknowledge: bool = True) -> tuple[int, bytes]:
        """The whole response of a stream, taken as a fast client does: (status, body)."""
        status, body, over = 0, b"", False

        def look() -> bool:
            nonlocal status, body, over
            for message in self.drain():
                assert message.stream == stream
                assert message.kind in (RESPONSE, DATA)
                status = status or message.number
                body += message.payload[message.head :]
                over = bool(message.flags & LAST)
                if acknowledge and not over:
                    self.acknowledge(stream, len(message.payload) - message.head)
            return over

        until(look)
        return status, body

    # The worker's side

    def seat(self, index: int = 0) -> Seat:
        """The seat of one thread."""
        seat = Seat(self.router, index)
        self.seats.append(seat)
        return seat

    def claimed(self, seat: Seat, **request: Any) -> ThreadStream:
        """A request that was published and claimed."""
        self.publish(**request)
        stream = seat.next(None)
        assert stream
        return stream


class Side:
    """Something that blocks, on a thread of its own; its result or its error are the test's."""

    def __init__(self, what: Callable[[], Any]) -> None:
        self.result: Any = None
        self.error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, args=(what,), daemon=True)
        self._thread.start()

    def _run(self, what: Callable[[], Any]) -> None:
        try:
            self.result = what()
        except BaseException as error:  # noqa: BLE001 - the test looks at it
            self.error = error

    @property
    def waits(self) -> bool:
        """Whether it has yet to end."""
        return self._thread.is_alive()

    def join(self) -> Any:
        """Wait for it; raises what it has raised."""
        self._thread.join(PATIENCE)
        assert not self._thread.is_alive()
        if self.error is not None:
            raise self.error
        return self.result


def until(condition: Callable[[], object]) -> None:
    """Wait until it is true."""
    end = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.0005)


def pattern(size: int) -> bytes:
    """Bytes in which a piece that is missing, repeated or in the wrong place shows."""
    return b"".join(number.to_bytes(4, "big") for number in range(size // 4 + 1))[:size]
