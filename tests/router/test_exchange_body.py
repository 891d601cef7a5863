"""Exchanges against a real worker side: request bodies, and clients that leave."""

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
    TINY,
    UPLOAD,
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
        rig = Rig(memory, protocol="asgi")
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


@pytest.mark.parametrize("begun", [False, True])
def test_a_body_that_the_client_spoils(begun: bool) -> None:
    """Nobody waits for the application's answer any more, but the client has one: it has not gone."""

    async def test() -> None:
        rig = Rig(protocol="asgi")
        _, exchange = rig.request(b"abc", complete=False, framing=UPLOAD)
        await settle(3)
        if begun:
            worker = rig.worker()
            await until(lambda: worker.streams)
        exchange.client_answered(408)
        if begun:
            await until(lambda: worker.streams[0].cancelled)
            worker.streams[0].finished()
        await rig.idle()
        assert rig.over == [exchange]
        assert exchange.status == 408
        assert rig.application.tally.cancelled == 0
        await rig.close()

    run(test())


async def echo_if_complete(worker: Worker, stream: WorkerStream) -> None:
    """As `echo`; who does not send all of it gets no answer."""
    body = await read(stream)
    if not stream.cancelled:
        await answer(stream, body)


def test_uploads_that_wait_leave_memory_to_those_that_run() -> None:
    """However many of them are in the line, the body of a request that a worker has goes on."""

    async def test() -> None:
        rig = Rig(TINY, protocol="asgi")
        rig.worker(echo_if_complete, limit=1)
        body = pattern(3000)
        connection, exchange = rig.request(complete=False, framing=Framing(size=len(body)))
        exchange.body_buffer(10)[:] = body[:10]
        exchange.body_filled(10, False)
        position = 10
        await until(lambda: exchange.port)
        waiting = [rig.request(pattern(64), complete=False, framing=UPLOAD) for _ in range(100)]
        await settle()
        assert rig.application.waiting > 90
        while position < len(body):
            await until(lambda: not connection.paused)
            position = upload(connection, exchange, body, position)
            await settle(1)
        await until(lambda: connection.complete)
        assert connection.body == body
        for _, other in waiting:
            other.client_gone()
        await rig.idle()
        await rig.close()

    run(test())


@pytest.mark.parametrize("chunked", [False, True])
def test_an_upload_that_has_waited_for_memory_and_runs_now(chunked: bool) -> None:
    """As soon as a worker has it, it is one of those that memory is kept back for."""

    async def test() -> None:
        rig = Rig(TINY, protocol="asgi")
        waiting = [rig.request(pattern(64), complete=False, framing=UPLOAD) for _ in range(64)]
        await settle()
        body = pattern(1000)
        framing = Framing(size=UNKNOWN, chunked=True) if chunked else Framing(size=len(body))
        connection, exchange = rig.request(body[:10] if chunked else b"", complete=False, framing=framing)
        await settle()
        assert connection.paused
        for _, other in waiting:  # they hold memory, and no worker takes them
            rig.application.leave(other)
        rig.worker(echo)
        position = 10 if chunked else 0
        while position < len(body):
            await until(lambda: not connection.paused)
            if chunked:
                exchange.body_bytes(body[position : position + 10], position + 10 == len(body))
                position += 10
            else:
                position = upload(connection, exchange, body, position)
            await settle(1)
        await until(lambda: connection.complete)
        assert connection.body == body
        for _, other in waiting:
            other.client_gone()
        await rig.idle()
        await rig.close()

    run(test())
