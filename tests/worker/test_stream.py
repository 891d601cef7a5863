"""A worker's stream against a router that is made up: what is sent, what waits, and which chunks come back."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
import uvloop

from bridge.core import CANCELLED
from bridge.errors import StreamCancelled
from bridge.ipc.message import ABORT, ACK, DATA, DATE, DESCRIPTOR, HEADER, LAST, RESPONSE, UNKNOWN, WANT
from bridge.ipc.segment import Segment
from bridge.ipc.stream import Event
from bridge.worker.stream import WorkerStream

STREAM = 9 << 32 | 3
OWNER = 2
Test = Callable[["FakeRouter", WorkerStream], Awaitable[None]]


class FakeRouter:
    """Takes messages apart, owns the chunks in them from then on, and frees them when the client takes them."""

    def __init__(self, chunk_size: int = 64, chunks: int = 16, room: int = 80, window: int = 512) -> None:
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

    def answer(self, stream: int, event: Event, message: bytes) -> int:
        assert stream == STREAM
        assert len(message) <= HEADER.size + self.room
        assert not self.over
        if self.cancelled:
            return CANCELLED
        self.events.append(event)
        self._read(message)
        assert (event == Event.FINISH) == self.complete
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
        self.asked = self.asked or bool(flags & ACK)
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


# The response


def test_a_small_answer_is_one_message() -> None:
    """Head and body that fit an item are one message and one move of the stream's word."""

    async def test(router: FakeRouter, stream: WorkerStream) -> None:
        assert stream.respond(200, b"a: b\r\n", 5, DATE, b"hello", True)
        assert (router.status, router.head, router.size, router.body) == (200, b"a: b\r\n", 5, b"hello")
        assert router.kinds == [RESPONSE]
        assert router.flags == [LAST | DATE]
        assert router.events == [Event.FINISH]
        assert stream.over
        await stream.writable()

    run(test)


@pytest.mark.parametrize("head", [0, 6, 68, 69, 80, 81, 300, 700])
@pytest.mark.parametrize("size", [0, 1, 64, 80, 81, 512, 513, 3000])
def test_answers_of_every_size(head: int, size: int) -> None:
    """Whatever does not fit the item travels in chunks, at most a window at a time."""

    async def test(router: FakeRouter, stream: WorkerStream) -> None:
        block, body = b"h" * head, pattern(size)

        async def answer() -> None:
            if not stream.respond(200, block, size, 0, body, True):
                await stream.writable()

        await serve(router, stream, asyncio.ensure_future(answer()))
        assert (router.head, router.body, router.size) == (block, body, size)
        assert router.complete
        assert router.kinds[0] == RESPONSE
        assert set(router.kinds[1:]) <= {DATA}
        assert router.events[-1] == Event.FINISH
        assert router.flags[0] & ~(LAST | ACK) == 0

    run(test)


@pytest.mark.parametrize("size", [1, 79, 80, 81, 200, 1000])
def test_a_body_in_pieces(size: int) -> None:
    """Pieces of all sizes stay in order, and small ones wait behind a large one."""

    async def test(router: FakeRouter, stream: WorkerStream) -> None:
        pieces = [pattern(size), b"", b"small", pattern(size * 2), b"end"]

        async def answer() -> None:
            if not stream.respond(200, b"", UNKNOWN, 0, b"", False):
                await stream.writable()
            for piece in pieces:
                if not stream.send(piece, False):
                    await stream.writable()
            if not stream.send(b"", True):
                await stream.writable()

        await serve(router, stream, asyncio.ensure_future(answer()))
        assert router.body == b"".join(pieces)
        assert router.complete
        assert router.size == UNKNOWN

    run(test)


def test_senders_that_do_not_wait() -> None:
    """An application that ignores the window keeps its order, and its bytes wait here, not in shared memory."""

    async def test(router: FakeRouter, stream: WorkerStream) -> None:
        stream.respond(200, b"", UNKNOWN, 0, b"", False)
        pieces = [pattern(70 * index) for index in range(1, 8)]
        for piece in pieces:
            stream.send(piece, False)
        assert router.payload <= router.window + router.room
        stream.send(b"", True)
        await serve(router, stream, asyncio.ensure_future(stream.writable()))
        assert router.body == b"".join(pieces)
        assert router.complete

    run(test)


@pytest.mark.parametrize("size", [40, 80, 5000])
def test_the_window(size: int) -> None:
    """Nothing is sent beyond it until bytes have left, and the router is always asked to say so."""

    async def test(router: FakeRouter, stream: WorkerStream) -> None:
        writable = stream.respond(200, b"", UNKNOWN, 0, b"", False)
        while writable:
            writable = stream.send(pattern(size), False)
        assert router.payload == router.window if size > 80 else router.payload < router.window + size
        assert router.asked
        waiting = asyncio.ensure_future(stream.writable())
        await settle()
        assert not waiting.done()
        router.free()
        await settle()
        assert not waiting.done()
        await serve(router, stream, waiting)
        assert router.payload >= size

    run(test)


@pytest.mark.parametrize(("room", "window"), [(80, 64), (200, 128)])
def test_an_item_that_is_larger_than_the_window(room: int, window: int) -> None:
    """A first piece that fills the window at once asks for its acknowledgement."""

    async def test(router: FakeRouter, stream: WorkerStream) -> None:
        assert not stream.respond(200, b"", UNKNOWN, 0, b"x" * room, False)
        assert router.kinds == [RESPONSE]
        assert router.flags == [ACK]
        await serve(router, stream, asyncio.ensure_future(stream.writable()))
        stream.send(b"", True)

    run(test, room=room, window=window)


def test_no_chunks() -> None:
    """A body without memory waits for some; a head that fits the item does not."""

    async def test(router: FakeRouter, stream: WorkerStream) -> None:
        first, got = router.segment.claim(1024, 1)
        assert got == 1024
        assert not stream.respond(200, b"a: b\r\n", 200, 0, pattern(200), True)
        assert router.head == b"a: b\r\n"
        assert router.body == b""
        assert router.short == [stream]
        waiting = asyncio.ensure_future(stream.writable())
        router.segment.chunks.release(first + 3, 1)
        router.free()
        assert router.body == pattern(64)
        assert router.short == [stream]
        router.segment.chunks.release(first, 3)
        router.free()
        assert router.complete
        await waiting
        assert router.body == pattern(200)
        router.segment.chunks.release(first + 4, 12)

    run(test)


def test_a_large_head_without_chunks() -> None:
    """It holds nothing while it waits, and is whole when there are enough."""

    async def test(router: FakeRouter, stream: WorkerStream) -> None:
        first, _ = router.segment.claim(1024, 1)
        router.segment.chunks.release(first + 2, 3)
        assert not stream.respond(200, b"h" * 300, 2, 0, b"ok", True)
        assert router.segment.chunks.busy() == 13
        assert router.kinds == []
        router.segment.chunks.release(first + 8, 2)
        router.free()
        assert router.head == b"h" * 300
        assert router.complete or not router.body
        for rest in (0, 1, *range(5, 8), *range(10, 16)):
            router.segment.chunks.release(first + rest, 1)
        router.free()
        assert router.body == b"ok"
        assert router.complete

    run(test)


def test_a_large_head_in_fragments() -> None:
    """Memory in too many pieces for one message is not used: the head waits for longer runs."""

    async def test(router: FakeRouter, stream: WorkerStream) -> None:
        first, _ = router.segment.claim(1024, 1)
        for chunk in range(0, 16, 2):
            router.segment.chunks.release(first + chunk, 1)
        assert not stream.respond(200, b"h" * 500, 0, 0, b"", True)
        assert router.kinds == []
        for chunk in range(1, 16, 2):
            router.segment.chunks.release(first + chunk, 1)
        router.free()
        assert router.head == b"h" * 500
        assert router.complete

    run(test)


def test_a_head_that_is_too_large(caplog: pytest.LogCaptureFixture) -> None:
    """A head that no segment takes ends the stream broken, and says why."""

    async def test(router: FakeRouter, stream: WorkerStream) -> None:
        assert not stream.respond(200, b"h" * 1025, 0, 0, b"", True)
        assert router.kinds == [ABORT]
        await stream.writable()

    run(test)
    assert "1025 bytes" in caplog.text


def test_a_queue_that_is_full() -> None:
    """A sender waits until everything sent is in the queue, whichever way it came to wait."""

    async def test(router: FakeRouter, stream: WorkerStream) -> None:
        stream.respond(200, b"", UNKNOWN, 0, b"", False)
        router.full = True
        assert not stream.send(b"x", False)
        waiting = asyncio.ensure_future(stream.writable())
        await settle()
        assert router.blocked == [stream]
        router.drain()
        await waiting
        stream.send(pattern(512), False)  # waits for its window first, and meets the full queue after that
        waiting = asyncio.ensure_future(stream.writable())
        await settle()
        router.full = True
        router.free()
        router.acknowledge(stream)
        await settle()
        assert not waiting.done()
        assert router.blocked
        router.drain()
        await waiting

    run(test)


# Nobody waits any more


def test_a_cancel_wakes_everybody() -> None:
    """Readers and writers return, sends raise, and what waited is dropped."""

    async def test(router: FakeRouter, stream: WorkerStream) -> None:
        stream.ended = False
        stream.respond(200, b"", UNKNOWN, 0, b"", False)
        stream.send(pattern(3000), False)
        waiting: list[asyncio.Future[Any]] = [
            asyncio.ensure_future(each) for each in (stream.readable(), stream.gone(), stream.writable())
        ]
        await settle()
        assert not any(each.done() for each in waiting)
        stream.cancel()
        assert await waiting[0] is None
        assert await waiting[1] is None
        with pytest.raises(StreamCancelled):
            await waiting[2]
        with pytest.raises(StreamCancelled):
            stream.send(b"x", True)
        before = router.payload
        assert not stream.send(pattern(3000), True)
        with pytest.raises(StreamCancelled):
            await stream.writable()
        assert router.payload == before
        stream.finished()
        assert router.kinds[-1] == ABORT

    run(test)


@pytest.mark.parametrize("size", [1, 300])
@pytest.mark.parametrize("head", [0, 300])
def test_the_word_says_so_first(size: int, head: int) -> None:
    """An answer that the tracking word refuses gives its chunks back, and the stream is as if cancelled."""

    async def test(router: FakeRouter, stream: WorkerStream) -> None:
        router.cancelled = True
        if size + head < router.room:
            with pytest.raises(StreamCancelled):
                stream.respond(200, b"h" * head, size, 0, b"x" * size, True)
        else:
            assert not stream.respond(200, b"h" * head, size, 0, b"x" * size, True)
            with pytest.raises(StreamCancelled):
                await stream.writable()
        assert stream.cancelled
        assert router.segment.chunks.busy() == 0
        stream.finished()
        assert router.kinds == [ABORT]

    run(test)


def test_cancelled_before_it_began() -> None:
    """The application does not run, and the stream ends with the one message that it owes."""

    async def inside() -> None:
        router = FakeRouter()
        router.cancelled = True
        stream = WorkerStream(router, STREAM, 0, 0, b"head")
        assert not stream.begin()
        stream.finished()
        assert router.kinds == [ABORT]
        assert router.over == 1
        router.segment.close()

    uvloop.run(inside())


def test_an_abort_wakes_who_waits_in_another_task() -> None:
    """When the application ends while one of its tasks still reads, writes or waits for the end, none hangs."""

    async def test(router: FakeRouter, stream: WorkerStream) -> None:
        stream.ended = False
        stream.respond(200, b"", UNKNOWN, 0, b"", False)
        stream.send(pattern(3000), False)
        waiting = [asyncio.ensure_future(each) for each in (stream.readable(), stream.gone(), stream.writable())]
        await settle()
        stream.finished()
        assert router.kinds[-1] == ABORT
        await asyncio.gather(*waiting)
        await stream.readable()
        await stream.gone()
        await stream.writable()

    run(test)


def test_a_waiting_task_that_is_cancelled_loses_nothing() -> None:
    """Tasks share what they wait for: the end of one does not end the others' wait."""

    async def test(router: FakeRouter, stream: WorkerStream) -> None:
        stream.ended = False
        first, second = asyncio.ensure_future(stream.readable()), asyncio.ensure_future(stream.readable())
        await settle()
        first.cancel()
        await settle()
        assert not second.done()
        stream.deliver(b"x", last=True)
        await second
        assert stream.take() == b"x"

    run(test)


def test_an_acknowledgement_after_the_end() -> None:
    """What comes late, or says too much, does nothing."""

    async def test(router: FakeRouter, stream: WorkerStream) -> None:
        stream.respond(200, b"", UNKNOWN, 0, b"x", False)
        stream.acknowledged(1 << 60)
        assert stream.send(b"", True)
        stream.acknowledged(5)
        stream.pump()
        assert router.kinds == [RESPONSE, DATA]

    run(test)


# The body of the request


def test_bodies_in_pieces() -> None:
    """What is there is taken at once and joined; an empty last piece ends the body."""

    async def test(router: FakeRouter, stream: WorkerStream) -> None:
        assert stream.take() is None
        stream.ended = False
        stream.deliver(b"ab", last=False)
        stream.deliver(b"cd", last=False)
        assert stream.take() == b"abcd"
        assert stream.take() is None
        assert not stream.ended
        stream.deliver(b"", last=True)
        assert stream.ended
        assert stream.take() is None
        await stream.readable()
        assert router.wants == []

    run(test)


def test_reading_moves_the_window() -> None:
    """The router hears of half a window at the latest, of every wait, and of each byte once."""

    async def test(router: FakeRouter, stream: WorkerStream) -> None:
        stream.ended = False
        reading = asyncio.ensure_future(stream.readable())
        await settle()
        assert router.wants == [0]
        stream.deliver(b"x" * 255, last=False)
        await reading
        stream.take()
        assert router.wants == [0]
        await stream.readable() if stream._parts else None
        stream.deliver(b"x", last=False)
        stream.take()
        assert router.wants == [0, 256]
        stream.deliver(b"x" * 10, last=False)
        stream.take()
        reading = asyncio.ensure_future(stream.readable())
        await settle()
        assert router.wants == [0, 256, 10]
        stream.deliver(b"x" * 600, last=True)
        await reading
        stream.take()
        assert router.wants == [0, 256, 10]  # the router needs no news of a body that is complete

    run(test)


def test_nothing_is_wanted_after_the_end() -> None:
    """A stream that is over or cancelled says nothing more: its number may be somebody else's."""

    async def test(router: FakeRouter, stream: WorkerStream) -> None:
        stream.ended = False
        stream.deliver(b"x" * 600, last=False)
        stream.respond(200, b"", 0, 0, b"", True)
        assert stream.take() == b"x" * 600
        await stream.readable()
        assert router.wants == []

    run(test)
