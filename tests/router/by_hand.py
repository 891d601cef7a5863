"""A worker of a WSGI application whose every message is sent by the test, over real shared memory."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any

from bridge import config
from bridge.ipc import handshake
from bridge.ipc.dispatcher import deliver, dispatch
from bridge.ipc.link import Link, decode
from bridge.ipc.message import ACK, BODY, DATA, DESCRIPTOR, FILE, HEADER, LAST, RECORD, RESPONSE, UNKNOWN, WANT, WINDOW
from bridge.ipc.record import fragments, is_record
from bridge.ipc.segment import Segment
from bridge.ipc.stream import Event
from bridge.router.exchange import Exchange
from tests.router.rig import FakeConnection, Rig, until


@dataclass(slots=True)
class Taken:
    """One request as it came through the queue."""

    stream: int
    flags: int
    size: int
    head: int
    pieces: list[tuple[int, int, int]]
    inline: bytes


class WorkerByHand:
    """The other end of one port; nothing happens in it by itself."""

    def __init__(self, rig: Rig, number: int = 2, limit: int = 100) -> None:
        self.number = number
        self.link, theirs = Link.pair()
        self.limit = limit
        rig.application.introduce(number, number + 1000, theirs)
        received = self.link.receive()
        assert received
        attachment = handshake.accept(self.link, "test", *received)
        self.port, self.queue, self.tracking = attachment.port, attachment.queue, attachment.tracking
        self.router_side = rig.application.workers[number]
        self.window = attachment.geometry.window
        self._geometry = attachment.geometry
        self.requests: list[Taken] = []
        self.segments: dict[int, Segment] = {}
        self.files: dict[int, int] = {}
        self._arrived: list[int] = []
        self.given_back: dict[int, int] = {}  #: stream → bytes of window

    def attach(self) -> WorkerByHand:
        """Say that the application is ready."""
        self.link.send(handshake.attached(self.limit, "wsgi"))
        return self

    def look(self) -> None:
        """Take what there is: requests, messages, what came over the link; what found no room goes out."""
        self.port.flush()
        while received := self.link.receive_bytes():
            data, fds = received
            if is_record(data):
                self.port.inbox.put(data, fds)
            else:
                message = decode(data, fds)
                geometry = self._geometry
                number, cells = message["segment"], (geometry.chunk_size, geometry.chunks)
                self.segments[number] = Segment(fds[0], number, *cells, self.number, create=False, writable=False)
        count = self.queue.claim(self.tracking, 8) & 0xFFFF
        dispatch(self.queue, count, self._on_request)
        count = self.port.incoming.drain(8) & 0xFFFF
        dispatch(self.port.incoming, count, self._on_message)

    def _on_request(self, stream: int, *parts: Any) -> None:
        _, flags, size, _, head, pieces, inline = parts
        self.requests.append(Taken(stream, flags, size, head, pieces or [], inline))

    def _on_message(self, stream: int, kind: int, *parts: Any) -> None:
        if kind == RECORD:
            arrived = self.port.inbox.take(parts[2])
            assert arrived
            self._arrived = arrived.files
            deliver(arrived.message, self._on_message)
        elif kind == BODY and parts[0] & FILE:
            assert stream not in self.files
            (self.files[stream],) = self._arrived
        elif kind == WINDOW:
            self.given_back[stream] = self.given_back.get(stream, 0) + parts[1]

    async def request(self) -> Taken:
        """The next request."""

        def found() -> bool:
            self.look()
            return bool(self.requests)

        await until(found)
        request = self.requests.pop(0)
        assert request.flags & LAST
        self.tracking.move(request.stream, Event.START)
        return request

    async def body(self, request: Taken) -> bytes:
        """The whole body of a request, wherever it is."""
        if request.flags & FILE:
            self.send(WANT, request.stream)
            await until(lambda: self._has_file(request.stream))
            size = os.fstat(self.files[request.stream]).st_size
            return os.pread(self.files[request.stream], size + 1, 0)
        return self.payload(request)[request.head :]

    def _has_file(self, stream: int) -> bool:
        self.look()
        return stream in self.files

    def payload(self, request: Taken) -> bytes:
        """Head and body of a request without a file."""
        return request.inline + b"".join(self.segments[number].read(*rest) for number, *rest in request.pieces)

    def send(self, kind: int, stream: int, payload: bytes = b"", **fields: int) -> None:
        """Send one message."""
        flags, pieces, size = fields.get("flags", 0), fields.get("pieces", 0), fields.get("size", 0)
        length = len(payload) - pieces * DESCRIPTOR.size
        number, head = fields.get("number", 0), fields.get("head", 0)
        self.port.send(HEADER.pack(stream, kind, flags, pieces, length, size, number, head) + payload)
        if not self.router_side.application.exchanges:
            return
        self.port.peer_bell.ring()

    def send_record(self, kind: int, stream: int, payload: bytes, *files: int, flags: int = 0) -> bytes:
        """Send a message with files over the link; returns its marker."""
        message = HEADER.pack(stream, kind, flags, 0, len(payload), 0, 0, 0) + payload
        ((record, marker),) = fragments(stream, message, self.port.outbox.serial)
        self.link.send_bytes(record, files)
        return marker

    def mark(self, marker: bytes) -> None:
        """Send a marker."""
        self.port.send(marker)
        self.port.peer_bell.ring()

    def respond(self, request: Taken, size: int = UNKNOWN, body: bytes = b"", *, last: bool = False) -> None:
        """Send a response head, and body that fits the item."""
        flags = self._finish(request) if last else 0
        self.send(RESPONSE, request.stream, b"x: y\r\n" + body, flags=flags, size=size, number=200, head=6)

    def data(self, request: Taken, body: bytes, *, last: bool = False) -> bool:
        """Send body in chunks; False = there are none free."""
        segment = self.port.segment
        first, got = segment.claim(len(body), len(body))
        if not got:
            return False
        segment.write(first, body)
        flags = self._finish(request) if last else ACK
        self.send(DATA, request.stream, DESCRIPTOR.pack(segment.number, first, len(body)), pieces=1, flags=flags)
        return True

    def end(self, request: Taken, body: bytes = b"") -> None:
        """Send the last message, with body that fits the item."""
        self.send(DATA, request.stream, body, flags=self._finish(request))

    def _finish(self, request: Taken) -> int:
        self.tracking.move(request.stream, Event.FINISH)
        return LAST

    def close(self) -> None:
        """The worker's process ends."""
        self.port.close()
        for segment in self.segments.values():
            segment.close()
        self.close_files()

    def close_files(self) -> None:
        """Close the bodies that came in files."""
        for file in self.files.values():
            os.close(file)
        self.files.clear()


class Both:
    """A rig with one worker by hand."""

    def __init__(self, http: config.Http, **settings: Any) -> None:
        self.rig = Rig(http=http, protocol="wsgi", **settings)
        self.worker = WorkerByHand(self.rig).attach()

    async def begin(self, *, stalled: bool = False, size: int | None = None) -> tuple[FakeConnection, Taken, Exchange]:
        """A request that the worker has, with the head of its response out if `size` is said."""
        connection, exchange = self.rig.request()
        connection.stalled = stalled
        taken = await self.worker.request()
        if size is not None:
            self.worker.respond(taken, size)
            await until(lambda: connection.status)
        return connection, taken, exchange

    async def window(self, taken: Taken, size: int) -> None:
        """Wait until so many bytes of window have come back."""

        def back() -> bool:
            self.worker.look()
            return self.worker.given_back.get(taken.stream, 0) == size

        await until(back)

    @property
    def held(self) -> int:
        """Chunks of the worker that are not free."""
        return self.worker.port.segment.chunks.busy()

    async def close(self) -> None:
        """Everything is given back."""
        await self.rig.idle()
        assert self.held == 0
        assert not self.worker.router_side.linked
        assert not self.worker.router_side.port.inbox.held
        await self.rig.close()
        self.worker.close()


async def take_all(connection: FakeConnection) -> None:
    """Let the client take its response to the end."""
    while not connection.complete:
        await until(lambda: connection.complete or not connection.flushed)
        connection.take()
