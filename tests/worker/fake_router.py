"""A router for the streams of a worker, made up but for its shared memory."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import uvloop

from bridge.core import CANCELLED
from bridge.ipc.message import ACK, DATA, DESCRIPTOR, HEADER, LAST, RESPONSE, WANT
from bridge.ipc.segment import Segment
from bridge.ipc.stream import Event
from bridge.worker.stream import WorkerStream

STREAM = 9 << 32 | 3
OWNER = 2
Test = Callable[["FakeRouter", WorkerStream], Awaitable[None]]


class FakeRouter:
    """Takes messages apart, owns the chunks in them from then on, and frees them when the client takes them."""

    def __init__(self, chunk_size: int = 64, chunks: int = 64, room: int = 80, window: int = 512) -> None:
        self.loop = asyncio.get_running_loop()
        self.segment = Segment.create(OWNER, chunk_size, chunks, OWNER)
        self.room = room
        self.window = window
        self.kinds: list[int] = []
        self.flags: list[int] = []
        self.head = b""
        self.status = 0
        self.size = 0
        self.body = b""
        self.unacknowledged = 0
        self.asked = False  # for an acknowledgement
        self.complete = False
        self.wants: list[int] = []
        self.runs: list[tuple[int, int]] = []
        self.events: list[int] = []
        self.over = 0
        self.cancelled = False
        self.long = 0
        self.full = False
        self.short: list[WorkerStream] = []
        self.blocked: list[WorkerStream] = []

    # What the stream calls

    def begin(self, stream: int) -> bool:
        assert stream == STREAM
        return not self.cancelled

    def send(self, message: bytes) -> None:
        stream, kind, flags, pieces, length, size, *_ = HEADER.unpack(message)
        assert (stream, kind, flags, pieces, length) == (STREAM, WANT, 0, 0, 0)
        self.wants.append(size)

    def answer(self, stream: int, event: int, message: bytes) -> int:
        assert stream == STREAM
        assert len(message) <= HEADER.size + self.room
        assert not self.over
        if self.cancelled:
            return CANCELLED
        self.events.append(Event(event))
        self._read(message)
        assert (event == Event.FINISH) == self.complete
        return 0

    def answer_long(self, stream: int, message: bytes) -> int:
        assert stream == STREAM
        assert len(message) > HEADER.size + self.room
        if self.cancelled:
            return CANCELLED
        self.full = True
        self.long += 1
        self._read(message)
        assert not self.complete
        return 0

    def give_up(self, stream: int, message: bytes) -> None:
        assert stream == STREAM
        assert not self.over
        self.kinds.append(HEADER.unpack(message)[1])

    def clear(self) -> bool:
        return not self.full

    def wait_for_chunks(self, stream: WorkerStream) -> None:
        self.short.append(stream)

    def wait_for_queue(self, stream: WorkerStream) -> None:
        self.blocked.append(stream)

    def finished(self, number: int) -> None:
        assert number == STREAM
        self.over += 1

    def _read(self, message: bytes) -> None:
        _, kind, flags, count, length, size, number, head = HEADER.unpack_from(message)
        self.kinds.append(kind)
        self.flags.append(flags)
        end = HEADER.size + DESCRIPTOR.size * count
        payload = message[end:]
        assert len(payload) == length
        for segment, first, piece in DESCRIPTOR.iter_unpack(message[HEADER.size : end]):
            assert segment == OWNER
            assert self.segment.covers(first, piece)
            assert self.segment.chunks.transfer(first, self.segment.chunks_of(piece), OWNER, 1)
            payload += self.segment.read(first, piece)
            self.runs.append((first, self.segment.chunks_of(piece)))
        if kind == RESPONSE:
            assert not self.head
            self.head, self.status, self.size = payload[:head], number, size
            assert len(self.head) == head
            payload = payload[head:]
        else:
            assert kind == DATA
            assert self.status
        self.body += payload
        self.unacknowledged += len(payload)
        self.asked = self.asked or bool(flags & ACK and self.unacknowledged)  # of no bytes it says nothing
        self.complete = bool(flags & LAST)

    # What the test calls

    def free(self) -> None:
        """The client takes everything: chunks are free."""
        for first, count in self.runs:
            assert self.segment.chunks.release(first, count, 1) == count
        self.runs.clear()
        short, self.short = self.short, []
        for stream in short:
            stream.pump()

    def acknowledge(self, stream: WorkerStream) -> None:
        """As the router: only when it was asked to."""
        if self.asked:
            self.asked = False
            size, self.unacknowledged = self.unacknowledged, 0
            stream.acknowledged(size)

    def drain(self) -> None:
        """The queue has room again."""
        self.full = False
        blocked, self.blocked = self.blocked, []
        for stream in blocked:
            stream.pump()

    @property
    def payload(self) -> int:
        """Response bytes that were sent."""
        return len(self.body)


def run(test: Test, **geometry: int) -> None:
    """Run `test` with a router and a stream; no chunk may be left when the client has taken everything."""

    async def inside() -> None:
        router = FakeRouter(**geometry)
        stream = WorkerStream(router, STREAM, 0, 0, b"head")
        assert stream.begin()
        async with asyncio.timeout(30):
            await test(router, stream)
        stream.finished()
        stream.finished()
        assert router.over == 1
        router.free()
        assert router.segment.chunks.busy() == 0
        router.segment.close()

    uvloop.run(inside())


def pattern(size: int) -> bytes:
    """Bytes in which a mistake shows."""
    return b"".join(number.to_bytes(4, "big") for number in range(size // 4 + 1))[:size]


async def settle() -> None:
    """Let every task go as far as it can."""
    for _ in range(5):
        await asyncio.sleep(0)


async def serve(router: FakeRouter, stream: WorkerStream, pending: asyncio.Future[None]) -> None:
    """Be a client that takes everything, until a sender is through."""
    while not pending.done():
        router.free()
        router.acknowledge(stream)
        await asyncio.sleep(0)
    await pending
