"""Exchanges against a real worker side: answers of all sizes, and clients that read them slowly."""

from __future__ import annotations

from typing import Any

import pytest

from bridge import config
from bridge.ipc.message import UNKNOWN
from bridge.ipc.record import LONGEST
from bridge.router import framing
from bridge.router.framing import Framing
from bridge.worker.stream import WorkerStream
from tests.router.rig import (
    HEAD,
    TINY,
    Rig,
    Worker,
    answer,
    echo,
    pattern,
    read,
    run,
    settle,
    until,
)


def test_a_small_answer(memory: config.Memory) -> None:
    """A request in one item gets its answer in one item, and nothing is left of either."""

    async def test() -> None:
        rig = Rig(memory)
        rig.worker(echo)
        connection, exchange = rig.request(b"hello", framing=Framing(size=5))
        await until(lambda: connection.complete)
        assert (connection.status, connection.block, connection.size) == (200, b"x: y\r\n", 5)
        assert connection.body == b"hello"
        assert rig.over == [exchange]
        assert (exchange.status, exchange.sent) == (200, 5)
        await rig.idle()
        await rig.close()

    run(test())


def test_what_is_logged_includes_the_body() -> None:
    """When an exchange says that it is over, the bytes of its last message are counted."""

    async def test() -> None:
        rig = Rig()
        rig.worker(echo)
        connection, exchange = rig.request(b"hello", framing=Framing(size=5))
        sizes: list[int] = []
        exchange.on_over = lambda over: sizes.append(over.sent)
        await until(lambda: connection.complete)
        assert sizes == [5]
        await rig.close()

    run(test())


@pytest.mark.parametrize("size", [0, 1, 79, 80, 81, 511, 512, 513, 5000, 1_000_000])
def test_answers_of_every_size(memory: config.Memory, size: int) -> None:
    """Bodies around every limit arrive whole, and their chunks come back."""

    async def test() -> None:
        body = pattern(min(size, 5000) if memory is TINY else size)

        async def serve(worker: Worker, stream: WorkerStream) -> None:
            await answer(stream, body)

        rig = Rig(memory)
        rig.worker(serve)
        pairs = [rig.request() for _ in range(3)]
        await until(lambda: all(connection.complete for connection, _ in pairs))
        assert all(connection.body == body for connection, _ in pairs)
        await rig.idle()
        await rig.close()

    run(test())


@pytest.mark.parametrize("size", [1, 40, 150, 600])
def test_answers_in_many_pieces(memory: config.Memory, size: int) -> None:
    """What an application sends piece by piece arrives in order, small pieces behind large ones too."""

    async def test() -> None:
        pieces = [pattern(size * (index % 3 + 1)) for index in range(40)]

        async def serve(worker: Worker, stream: WorkerStream) -> None:
            if not stream.respond(200, b"", UNKNOWN, 0, b"", False):
                await stream.writable()
            for piece in pieces:
                if not stream.send(piece, False):
                    await stream.writable()
            stream.send(b"", True)

        rig = Rig(memory)
        rig.worker(serve)
        pairs = [rig.request() for _ in range(4)]
        await until(lambda: all(connection.complete for connection, _ in pairs))
        assert all(connection.body == b"".join(pieces) for connection, _ in pairs)
        await rig.idle()
        await rig.close()

    run(test())


@pytest.mark.parametrize("length", [60, 100, 1000, 2500])
@pytest.mark.parametrize("body", [b"", b"some body", b"b" * 700])
def test_response_heads_that_fit_no_item(memory: config.Memory, length: int, body: bytes) -> None:
    """A head that is too long for an item travels in chunks, and its body behind it."""

    async def test() -> None:
        block = b"x: " + b"y" * length + b"\r\n"

        async def serve(worker: Worker, stream: WorkerStream) -> None:
            if not stream.respond(201, block, len(body), 0, body, True):
                await stream.writable()

        rig = Rig(memory)
        rig.worker(serve)
        pairs = [rig.request() for _ in range(4)]
        await until(lambda: all(connection.complete for connection, _ in pairs))
        assert all((c.status, c.block, c.body) == (201, block, body) for c, _ in pairs)
        await rig.idle()
        await rig.close()

    run(test())


@pytest.mark.parametrize("length", [10, 100, 1000, 2500])
def test_request_heads_that_fit_no_item(memory: config.Memory, length: int) -> None:
    """A long request head arrives whole, with and without a body."""

    async def test() -> None:
        rig = Rig(memory)
        worker = rig.worker(echo)
        head = HEAD[:-2] + b"X: " + b"y" * length + b"\r\n\r\n"
        for body in (b"", b"some body"):
            connection, _ = rig.request(body, head=head, framing=Framing(size=len(body)))
            await connection.completed()
            assert connection.body == body
            assert worker.streams[-1].head.endswith(head)
            assert worker.streams[-1].size == len(body)
            await rig.idle()
        await rig.close()

    run(test())


@pytest.mark.parametrize("size", [framing.USUAL_BLOCK, 100_000])
def test_long_response_heads_are_not_kept(size: int) -> None:
    """What the router remembers of heads is of a bounded size: long ones are judged again each time."""

    async def test() -> None:
        rig = Rig()
        rig.worker(echo_head)
        remembered: Any = framing.check_usual_block
        before = remembered.cache_info()
        for number in range(3):
            connection, _ = rig.request(b"%d" % number * size, framing=Framing(size=size))
            await until(lambda: connection.complete)  # noqa: B023 - it is waited for at once
            assert connection.block == b"x: %b\r\n" % (b"%d" % number * size)
        assert remembered.cache_info() == before
        await rig.idle()
        await rig.close()

    async def echo_head(worker: Worker, stream: WorkerStream) -> None:
        if not stream.respond(200, b"x: %b\r\n" % await read(stream), 0, 0, b"", True):
            await stream.writable()

    run(test())


def test_a_head_that_no_memory_takes() -> None:
    """A request head that is larger than any message is refused at once."""

    async def test() -> None:
        rig = Rig(TINY)
        rig.worker(echo)
        connection, _ = rig.request(head=HEAD[:-2] + b"X: " + b"y" * LONGEST + b"\r\n\r\n")
        assert connection.refused is not None
        assert connection.refused[0] == 431
        await rig.idle()
        await rig.close()

    run(test())


def test_a_response_head_that_no_memory_takes(caplog: pytest.LogCaptureFixture) -> None:
    """A response head that is larger than any message ends the request as a bad gateway."""

    async def test() -> None:
        rig = Rig(TINY)
        rig.worker(lambda worker, stream: _send(stream, b"x: " + b"y" * LONGEST + b"\r\n"))
        connection, exchange = rig.request()
        await until(lambda: connection.ended)
        assert connection.refused is not None
        assert connection.refused[0] == exchange.status == 502
        await rig.idle()
        await rig.close()

    run(test())
    assert f"{LONGEST + 5} bytes" in caplog.text


async def _send(stream: WorkerStream, block: bytes) -> None:
    stream.respond(200, block, 0, 0, b"", True)


def test_many_requests_at_once(memory: config.Memory) -> None:
    """Hundreds of requests over three workers and full queues: each gets its own answer."""

    async def test() -> None:
        rig = Rig(memory)
        for _ in range(3):
            rig.worker(echo, limit=7)
        bodies = [b"%d:" % index + pattern(index * 3) for index in range(300)]
        pairs = [rig.request(body, framing=Framing(size=len(body))) for body in bodies]
        await until(lambda: all(connection.complete for connection, _ in pairs))
        for body, (connection, _) in zip(bodies, pairs, strict=True):
            assert connection.body == body
        assert all(worker.streams for worker in rig.workers)
        await rig.idle()
        await rig.close()

    run(test())


def test_a_slow_client_stops_the_application(memory: config.Memory) -> None:
    """At most a window and one item of a response wait in shared memory; the rest follows when the client reads."""

    async def test() -> None:
        body = pattern(memory.window * 4)
        rig = Rig(memory)
        rig.worker(lambda worker, stream: answer(stream, body))
        connection, exchange = rig.request()
        connection.stalled = True
        await until(lambda: len(connection.body) >= memory.window // 2)
        await settle()
        assert len(connection.body) <= memory.window
        assert not connection.complete
        while not connection.complete:
            before = len(connection.body)
            connection.take()
            await until(lambda before=before: len(connection.body) > before)  # type: ignore[misc]
        assert connection.body == body
        assert exchange.sent == len(body)
        connection.take()
        await rig.idle()
        await rig.close()

    run(test())


def test_no_chunk_is_free_before_its_bytes_have_left(memory: config.Memory) -> None:
    """What a transport still holds stays the router's, also after the exchange is over."""

    async def test() -> None:
        rig = Rig(memory)
        worker = rig.worker(lambda worker, stream: answer(stream, pattern(memory.window)))
        connection, _ = rig.request()
        connection.stalled = True
        await until(lambda: connection.complete)
        assert not rig.application.exchanges
        chunks = rig.application.workers[worker.number].port.segment.chunks
        assert chunks.busy() == memory.window // memory.chunk_size
        connection.take()
        assert chunks.busy() == 0
        await rig.idle()
        await rig.close()

    run(test())


def test_streams_that_wait_for_chunks_go_on() -> None:
    """More responses than the segment holds: those that find no chunk are woken when some are free."""

    async def test() -> None:
        body = pattern(2000)
        rig = Rig(TINY)
        rig.worker(lambda worker, stream: answer(stream, body))
        pairs = [rig.request() for _ in range(40)]
        for connection, _ in pairs:
            connection.stalled = True
        segment = rig.application.workers[2].port.segment
        await until(lambda: segment.chunks.busy() == segment.count)
        await settle()
        while not all(connection.complete for connection, _ in pairs):
            for connection, _ in pairs:
                connection.take()
            await settle(3)
        assert all(connection.body == body for connection, _ in pairs)
        for connection, _ in pairs:
            connection.take()
        await rig.idle()
        await rig.close()

    run(test())
