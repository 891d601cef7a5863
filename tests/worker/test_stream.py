"""Responses of a stream: what is sent, what waits, and which chunks come back."""

from __future__ import annotations

import asyncio

import pytest

from bridge.errors import StreamCancelled
from bridge.ipc.message import ABORT, ACK, DATA, DATE, LAST, RESPONSE, UNKNOWN
from bridge.ipc.record import LONGEST
from bridge.ipc.stream import Event
from bridge.worker.stream import WorkerStream
from tests.worker.fake_router import OWNER, FakeRouter, pattern, run, serve, settle


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
        assert router.short == []  # a stream alone holds its share of what is free: it waits for the client first
        router.segment.chunks.claim(1)
        router.acknowledge(stream)
        assert router.short == [stream]
        router.segment.chunks.release(first, 4)
        await serve(router, stream, waiting)
        assert router.complete
        assert router.body == pattern(200)
        router.segment.chunks.release(first + 4, 12)

    run(test, chunks=16)


def test_small_pieces_behind_a_head_without_chunks() -> None:
    """A piece that asked for an acknowledgement of no bytes is not waited for when memory is scarce."""

    async def test(router: FakeRouter, stream: WorkerStream) -> None:
        first, _ = router.segment.claim(1024, 1)
        router.segment.chunks.release(first, 5)
        assert stream.respond(200, b"h" * 150, UNKNOWN, 0, b"", False)
        for _ in range(3):
            assert stream.send(b"x" * 60, False)
        router.free()
        await serve(router, stream, asyncio.ensure_future(_send_all(stream, b"y" * 100)))
        assert router.body == b"x" * 180 + b"y" * 100
        router.segment.chunks.release(first, 16, OWNER)

    run(test, chunks=16)


async def _send_all(stream: WorkerStream, body: bytes) -> None:
    if not stream.send(body, True):
        await stream.writable()


@pytest.mark.parametrize("scattered", [False, True], ids=["no chunks", "chunks in fragments"])
@pytest.mark.parametrize("length", [500, 2000])
def test_a_large_head_without_chunks(scattered: bool, length: int) -> None:
    """It goes over the link, holds no chunk, and nothing overtakes it."""

    async def test(router: FakeRouter, stream: WorkerStream) -> None:
        first, _ = router.segment.claim(1024, 1)
        for chunk in range(0, 16, 2) if scattered else ():
            router.segment.chunks.release(first + chunk, 1)
        busy = router.segment.chunks.busy()
        assert not stream.respond(200, b"h" * length, 5, 0, b"he", False)
        assert (router.long, router.head) == (1, b"h" * length)
        assert not stream.send(b"llo", True)
        waiting = asyncio.ensure_future(stream.writable())
        await settle()
        assert router.segment.chunks.busy() == busy
        assert router.kinds == [RESPONSE]
        for chunk in range(16):
            router.segment.chunks.release(first + chunk, 1)
        router.full = False
        blocked, router.blocked = router.blocked, []
        assert set(blocked) == {stream}
        stream.pump()
        await waiting
        assert router.body == b"hello"
        assert router.complete

    run(test, chunks=16)


def test_a_client_that_leaves_while_a_large_head_is_sent() -> None:
    """The stream ends, whatever is left of the head."""

    async def test(router: FakeRouter, stream: WorkerStream) -> None:
        first, _ = router.segment.claim(1024, 1024)
        assert not stream.respond(200, b"h" * 2000, 2, 0, b"ok", True)
        stream.cancel()
        with pytest.raises(StreamCancelled):
            await stream.writable()
        stream.finished()
        assert router.kinds == [RESPONSE, ABORT]
        router.segment.chunks.release(first, 16)

    run(test, chunks=16)


def test_a_head_that_is_too_large(caplog: pytest.LogCaptureFixture) -> None:
    """A head that no message takes ends the stream broken, and says why."""

    async def test(router: FakeRouter, stream: WorkerStream) -> None:
        assert not stream.respond(200, b"h" * (LONGEST - 31), 0, 0, b"", True)
        assert router.kinds == [ABORT]
        await stream.writable()

    run(test, chunks=16)
    assert f"{LONGEST - 31} bytes" in caplog.text


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
