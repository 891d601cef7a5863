"""Exchanges against a real worker side: answers, bodies, slow clients and clients that leave."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from bridge import config
from bridge.core import Queue
from bridge.errors import StreamCancelled
from bridge.ipc.message import UNKNOWN
from bridge.router.framing import Framing
from bridge.worker.stream import WorkerStream
from tests.router.rig import (
    GEOMETRIES,
    HEAD,
    TINY,
    Rig,
    Worker,
    answer,
    echo,
    pattern,
    read,
    reply,
    run,
    settle,
    until,
    upload,
)

UPLOAD = Framing(size=100_000)


@pytest.fixture(params=list(GEOMETRIES))
def memory(request: pytest.FixtureRequest) -> config.Memory:
    """Each test runs on the usual geometry and on the smallest."""
    return GEOMETRIES[request.param]


# Answers


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


def test_a_head_that_no_memory_takes() -> None:
    """A request head that is larger than a segment is refused at once instead of waiting for ever."""

    async def test() -> None:
        rig = Rig(TINY)
        rig.worker(echo)
        connection, _ = rig.request(head=HEAD[:-2] + b"X: " + b"y" * 5000 + b"\r\n\r\n")
        assert connection.refused is not None
        assert connection.refused[0] == 431
        await rig.idle()
        await rig.close()

    run(test())


def test_a_response_head_that_no_memory_takes(caplog: pytest.LogCaptureFixture) -> None:
    """A response head that is larger than a segment ends the request as a bad gateway."""

    async def test() -> None:
        rig = Rig(TINY)
        rig.worker(lambda worker, stream: _send(stream, b"x: " + b"y" * 5000 + b"\r\n"))
        connection, exchange = rig.request()
        await until(lambda: connection.ended)
        assert connection.refused is not None
        assert connection.refused[0] == exchange.status == 502
        await rig.idle()
        await rig.close()

    run(test())
    assert "5005 bytes" in caplog.text


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


# Slow clients


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


# Request bodies


@pytest.mark.parametrize("size", [1, 63, 64, 65, 511, 512, 513, 3000, 40_000])
def test_uploads_of_every_size(memory: config.Memory, size: int) -> None:
    """Bodies that are read from the socket into chunks arrive whole."""

    async def test() -> None:
        rig = Rig(memory)
        received: list[bytes] = []

        async def serve(worker: Worker, stream: WorkerStream) -> None:
            received.append(await read(stream))
            reply(stream)

        rig.worker(serve)
        body = pattern(size)
        connection, exchange = rig.request(complete=False, framing=Framing(size=size))
        position = 0
        while position < size:
            position = upload(connection, exchange, body, position)
            await settle(1)
        await until(lambda: connection.complete)
        assert received == [body]
        await rig.idle()
        await rig.close()

    run(test())


def test_uploads_that_begin_before_there_is_a_worker(memory: config.Memory) -> None:
    """What was read before anybody could take the request travels with it or right behind it."""

    async def test() -> None:
        rig = Rig(memory)
        body = pattern(memory.window * 3)
        connection, exchange = rig.request(body[:10], complete=False, framing=Framing(size=len(body)))
        position = upload(connection, exchange, body, 10)
        assert memory.window <= position < len(body)
        assert connection.paused
        rig.worker(echo)
        while position < len(body):
            await until(lambda: not connection.paused)
            position = upload(connection, exchange, body, position)
        await until(lambda: connection.complete)
        assert connection.body == body
        await rig.idle()
        await rig.close()

    run(test())


def test_uploads_share_little_memory() -> None:
    """Many uploads at once on one tiny segment: all of them end, in whatever order there is room."""

    async def test() -> None:
        rig = Rig(TINY)
        rig.worker(echo)
        bodies = [pattern(700 + 13 * index) for index in range(30)]
        clients: list[list[Any]] = []
        for body in bodies:
            connection, exchange = rig.request(body[:5], complete=False, framing=Framing(size=len(body)))
            clients.append([connection, exchange, body, 5])
        while not all(client[0].complete for client in clients):
            for client in clients:
                if client[3] < len(client[2]) and not client[0].paused:
                    client[3] = upload(*client)
            await settle(2)
        assert [client[0].body for client in clients] == bodies
        await rig.idle()
        await rig.close()

    run(test())


def test_an_answer_before_the_end_of_the_upload(memory: config.Memory) -> None:
    """The application may answer without reading: the chunks of the body come back."""

    async def test() -> None:
        rig = Rig(memory)
        worker = rig.worker()
        connection, exchange = rig.request(complete=False, framing=UPLOAD)
        upload(connection, exchange, pattern(100_000))
        await until(lambda: worker.streams)
        reply(worker.streams[0])
        await until(lambda: connection.complete)
        await rig.idle()
        await rig.close()

    run(test())


def test_the_client_that_waits_for_100(memory: config.Memory) -> None:
    """The first read of the application sends 100 (Continue), once; an answer without a read sends none."""

    async def test() -> None:
        rig = Rig(memory)
        worker = rig.worker()
        framing = Framing(size=5, expect=True)
        connection, exchange = rig.request(complete=False, framing=framing)
        other, _ = rig.request(complete=False, framing=framing)
        await until(lambda: len(worker.streams) == 2)
        assert connection.continues == 0
        reading = asyncio.ensure_future(read(worker.streams[0]))
        await until(lambda: connection.continues)
        upload(connection, exchange, b"hello")
        assert await reading == b"hello"
        for stream in worker.streams:
            reply(stream)
        await until(lambda: other.complete)
        assert (connection.continues, other.continues) == (1, 0)
        await rig.idle()
        await rig.close()

    run(test())


# Clients that leave


def test_a_client_that_leaves_the_line(memory: config.Memory) -> None:
    """Without a worker the request waits in the line; who leaves it was never published."""

    async def test() -> None:
        rig = Rig(memory)
        _, exchange = rig.request()
        assert rig.application.waiting == 1
        assert not rig.application.exchanges
        exchange.client_gone()
        assert rig.application.waiting == 0
        assert rig.over == [exchange]
        worker = rig.worker(echo)
        connection, _ = rig.request()
        await until(lambda: connection.complete)
        assert len(worker.streams) == 1
        await rig.idle()
        await rig.close()

    run(test())


def test_cancelled_before_the_claim(memory: config.Memory) -> None:
    """A published request whose client leaves first is over at once; the application never sees it."""

    async def test() -> None:
        rig = Rig(memory)
        worker = rig.worker(echo)
        await until(lambda: rig.ready)
        _, exchange = rig.request()
        assert rig.application.exchanges
        exchange.client_gone()
        assert not rig.application.exchanges
        connection, _ = rig.request()
        await until(lambda: connection.complete)
        assert len(worker.streams) == 1
        await rig.idle()
        await rig.close()

    run(test())


def test_cancelled_between_claim_and_start(memory: config.Memory, monkeypatch: pytest.MonkeyPatch) -> None:
    """A cancel that comes just behind the claim ends the stream without the application, and without harm."""

    async def test() -> None:
        rig = Rig(memory)
        worker = rig.worker(echo)
        await until(lambda: rig.ready)
        _, exchange = rig.request()
        claim = Queue.claim

        def slow(queue: Queue, tracking: Any, limit: int) -> int:
            result = claim(queue, tracking, limit)
            if result:
                exchange.client_gone()
            return result

        monkeypatch.setattr(Queue, "claim", slow)
        await until(lambda: not rig.application.exchanges)
        assert not worker.streams
        assert rig.over == [exchange]
        monkeypatch.undo()
        connection, _ = rig.request()
        await until(lambda: connection.complete)
        assert not rig.cut
        await rig.idle()
        await rig.close()

    run(test())


def test_cancelled_while_it_runs(memory: config.Memory) -> None:
    """The worker hears of it, its sends fail, and only its last word frees the stream."""

    async def test() -> None:
        rig = Rig(memory)
        worker = rig.worker()
        connection, exchange = rig.request(complete=False, framing=UPLOAD)
        upload(connection, exchange, pattern(100_000))
        await until(lambda: worker.streams)
        stream = worker.streams[0]
        gone = asyncio.ensure_future(stream.gone())
        exchange.client_gone()
        with pytest.raises(StreamCancelled):  # the word says so before the message has come
            stream.respond(200, b"", 2, 0, b"no", True)
        await gone
        await settle()
        assert rig.application.exchanges
        assert rig.application.pool.busy()  # the application may still be reading them
        with pytest.raises(StreamCancelled):
            stream.send(b"no", True)
        stream.finished()
        await rig.idle()
        assert not connection.ended
        await rig.close()

    run(test())


def test_cancelled_in_the_middle_of_an_answer(memory: config.Memory) -> None:
    """A sender that waits for its client is woken with the news, and its chunks come back."""

    async def test() -> None:
        rig = Rig(memory)
        raised: list[str] = []

        async def serve(worker: Worker, stream: WorkerStream) -> None:
            try:
                await answer(stream, pattern(memory.window * 3))
            except StreamCancelled:
                raised.append("in the application")

        rig.worker(serve)
        connection, exchange = rig.request()
        connection.stalled = True
        await until(lambda: connection.body)
        await settle()
        exchange.client_gone()
        connection.held.clear()  # the transport drops them
        await until(lambda: raised)
        await rig.idle()
        await rig.close()

    run(test())


def test_a_finish_that_crosses_the_cancel(memory: config.Memory) -> None:
    """The answer was published when the client left: nothing is written, the stream is over, nobody waits."""

    async def test() -> None:
        rig = Rig(memory)
        worker = rig.worker()
        connection, exchange = rig.request()
        await until(lambda: worker.streams)
        reply(worker.streams[0])
        exchange.client_gone()
        await rig.idle()
        assert not connection.ended
        await rig.close()

    run(test())
