"""Exchanges with a WSGI application: no worker sees a request whose body is not complete."""

from __future__ import annotations

import errno
import gc
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from bridge import config
from bridge.ipc.message import FILE, UNKNOWN, WANT
from bridge.router.collected import Collected
from bridge.router.framing import Framing
from tests.router.by_hand import WorkerByHand
from tests.router.rig import GEOMETRIES, HEAD, PEER, FakeConnection, Rig, echo, pattern, run, settle, until, upload
from tests.router.test_disk import opened

BLOCK = PEER + HEAD
LONG_HEAD = HEAD[:-2] + b"A: " + b"a" * 3000 + b"\r\n\r\n"


@pytest.fixture
def http(tmp_path: Path) -> Iterator[config.Http]:
    """Files lie in the test's directory, and none is left open."""
    yield config.Http(body_temp_path=str(tmp_path), body_buffer_size=50_000)
    assert not opened(tmp_path)


async def read(connection: FakeConnection, exchange: Any, body: bytes, position: int = 0) -> None:
    """Let the whole body arrive."""
    while position < len(body):
        await until(lambda: not connection.paused)
        position = upload(connection, exchange, body, position)


async def decode(connection: FakeConnection, exchange: Any, body: bytes) -> None:
    """Let all but ten bytes arrive as a transfer-chunked body does."""
    for start in range(10, len(body), 30_000):
        await until(lambda: not connection.paused)
        exchange.body_bytes(body[start : start + 30_000], start + 30_000 >= len(body))


async def finish(rig: Rig, worker: WorkerByHand, directory: str | None) -> None:
    """Everything is given back."""
    await rig.idle()
    worker.close_files()
    assert not opened(Path(str(directory)))
    await rig.close()
    worker.close()


@pytest.mark.parametrize("size", [1, 40, 900, 2000, 50_000, 50_001, 700_000])
@pytest.mark.parametrize("head", [HEAD, LONG_HEAD], ids=["short", "long"])
def test_a_request_comes_with_its_whole_body(memory: config.Memory, http: config.Http, head: bytes, size: int) -> None:
    """In chunks or in a file, with the exact length; a client that says no length makes no difference."""

    async def test() -> None:
        rig = Rig(memory, http, protocol="wsgi")
        worker = WorkerByHand(rig).attach()
        body = pattern(size)
        for framing in (Framing(size=size), Framing(size=UNKNOWN, chunked=True)):
            connection, exchange = rig.request(body[:10], complete=size <= 10, framing=framing, head=head)
            if size > 10:
                await settle()
                worker.look()
                assert worker.requests == []
                if framing.chunked:
                    await decode(connection, exchange, body)
                else:
                    await read(connection, exchange, body, 10)
            request = await worker.request()
            assert request.size == size
            assert await worker.body(request) == body
            if not request.flags & FILE:
                assert worker.payload(request) == PEER + head + body
            worker.respond(request, 2, b"ok", last=True)
            await connection.completed()
        await finish(rig, worker, http.body_temp_path)

    run(test())


def test_a_body_that_came_with_the_head(memory: config.Memory, http: config.Http) -> None:
    """What is complete at once and fits no queue item goes to chunks or to a file as well."""

    async def test() -> None:
        rig = Rig(memory, http, protocol="wsgi")
        worker = WorkerByHand(rig).attach()
        for size in (1, 500, 5000, 30_000):
            rig.request(pattern(size), framing=Framing(size=size))
            request = await worker.request()
            assert await worker.body(request) == pattern(size)
            worker.respond(request, 0, last=True)
        await finish(rig, worker, http.body_temp_path)

    run(test())


@pytest.mark.parametrize("interface", ["asgi", "wsgi"])
def test_a_body_that_comes_before_the_first_worker(memory: config.Memory, http: config.Http, interface: str) -> None:
    """As long as nobody knows what the application is, nothing is read; then it goes the right way."""

    async def test() -> None:
        rig = Rig(memory, http)
        body = pattern(40_000)
        whole, _ = rig.request(body[:30], framing=Framing(size=30))
        bare, _ = rig.request()
        expecting, expected = rig.request(complete=False, framing=Framing(size=9, expect=True))
        connection, exchange = rig.request(body[:10], complete=False, framing=Framing(size=40_000))
        clients = [whole, bare, expecting, connection]
        assert connection.paused
        assert rig.application.pool.busy() == 0
        if interface == "asgi":
            rig.worker(echo)
            await until(lambda: expecting.continues)
            await read(expecting, expected, body[:9])
            await read(connection, exchange, body, 10)
            for client in clients:
                await client.completed()
            assert connection.body == body
            await rig.idle()
            await rig.close()
            return
        worker = WorkerByHand(rig).attach()
        await until(lambda: expecting.continues)
        await read(expecting, expected, body[:9])
        await read(connection, exchange, body, 10)
        bodies = []
        for _ in clients:
            request = await worker.request()
            bodies.append(await worker.body(request))
            worker.respond(request, 0, last=True)
        assert sorted(bodies) == sorted([body[:30], b"", body[:9], body])
        await finish(rig, worker, http.body_temp_path)

    run(test())


def test_no_worker_comes(http: config.Http) -> None:
    """A client whose body is not read yet gets its 503 as well."""

    async def test() -> None:
        rig = Rig(http=http, queue_timeout=0.05)
        connection, _ = rig.request(complete=False, framing=Framing(size=100))
        await until(lambda: connection.ended)
        assert connection.refused == (503, 1)
        await rig.idle()
        await rig.close()

    run(test())


def test_100_continue_is_the_routers_to_say(http: config.Http) -> None:
    """The client that waits for it gets it at once, and the worker is not told about it."""

    async def test() -> None:
        rig = Rig(http=http, protocol="wsgi")
        worker = WorkerByHand(rig).attach()
        connection, exchange = rig.request(complete=False, framing=Framing(size=5, expect=True))
        assert connection.continues == 1
        await read(connection, exchange, b"hello")
        request = await worker.request()
        await worker.body(request)
        worker.send(WANT, request.stream)
        worker.respond(request, 0, last=True)
        await connection.completed()
        assert connection.continues == 1
        await finish(rig, worker, http.body_temp_path)

    run(test())


@pytest.mark.parametrize("size", [3000, 700_000])
def test_a_client_that_leaves_while_it_uploads(memory: config.Memory, http: config.Http, size: int) -> None:
    """No worker ever hears of it, and neither chunks nor a file are left."""

    async def test() -> None:
        rig = Rig(memory, http, protocol="wsgi")
        worker = WorkerByHand(rig).attach()
        connection, exchange = rig.request(complete=False, framing=Framing(size=size))
        upload(connection, exchange, pattern(size - 1))
        exchange.client_gone()
        await settle()
        worker.look()
        assert worker.requests == []
        assert rig.over == [exchange]
        assert rig.application.tally.cancelled == 1
        await finish(rig, worker, http.body_temp_path)

    run(test())


@pytest.mark.parametrize(
    ("number", "status"), [(errno.ENOSPC, 507), (errno.EDQUOT, 507), (errno.EMFILE, 503), (errno.EACCES, 503)]
)
def test_a_disk_that_takes_nothing(
    http: config.Http, monkeypatch: pytest.MonkeyPatch, number: int, status: int
) -> None:
    """The client gets a clear answer, and the next one may have more luck."""

    async def test() -> None:
        rig = Rig(http=http, protocol="wsgi")
        worker = WorkerByHand(rig).attach()

        def fails(*_: Any) -> int:
            raise OSError(number, os.strerror(number))

        body = pattern(100_000)
        with monkeypatch.context() as patched:
            patched.setattr(os, "pwritev", fails)
            connection, exchange = rig.request(complete=False, framing=Framing(size=len(body)))
            upload(connection, exchange, body)
            await until(lambda: connection.ended)
        assert connection.refused == (status, 1)
        assert rig.over == [exchange]
        connection, exchange = rig.request(complete=False, framing=Framing(size=len(body)))
        await read(connection, exchange, body)
        request = await worker.request()
        assert await worker.body(request) == body
        worker.respond(request, 0, last=True)
        await finish(rig, worker, http.body_temp_path)

    run(test())


@pytest.mark.parametrize("size", [3000, 100_000])
def test_the_worker_dies_before_it_has_begun(memory: config.Memory, http: config.Http, size: int) -> None:
    """The next worker gets the same body."""

    async def test() -> None:
        rig = Rig(memory, http, protocol="wsgi")
        first = WorkerByHand(rig).attach()
        connection, exchange = rig.request(complete=False, framing=Framing(size=size))
        await read(connection, exchange, pattern(size))
        await until(lambda: rig.application.exchanges)
        first.queue.claim(first.tracking, 1)
        first.close()
        await until(lambda: first.number not in rig.application.workers)
        second = WorkerByHand(rig, 3).attach()
        request = await second.request()
        assert await second.body(request) == pattern(size)
        second.respond(request, 0, last=True)
        await connection.completed()
        await finish(rig, second, http.body_temp_path)

    run(test())


def test_many_uploads_on_little_memory(http: config.Http) -> None:
    """When chunks are short the rest goes to files: all of them end, and nobody waits for anybody."""

    async def test() -> None:
        rig = Rig(GEOMETRIES["tiny"], http, protocol="wsgi")
        bodies = [pattern(700 + 13 * index) for index in range(30)]
        connections = []
        for body in bodies:
            connection, exchange = rig.request(complete=False, framing=Framing(size=len(body)))
            await read(connection, exchange, body)
            connections.append(connection)
        worker = WorkerByHand(rig).attach()
        received = []
        for _ in bodies:
            request = await worker.request()
            received.append(await worker.body(request))
            worker.respond(request, 0, last=True)
        assert sorted(received) == sorted(bodies)
        assert worker.files
        await finish(rig, worker, http.body_temp_path)

    run(test())


def test_a_request_that_is_over_holds_on_to_nothing(http: config.Http) -> None:
    """Its worker's shared memory can go when the worker does, without waiting for the collector of cycles."""

    async def test() -> None:
        rig = Rig(config.Memory(), http, protocol="wsgi")
        worker = WorkerByHand(rig).attach()
        connection, exchange = rig.request(b"x" * 10, complete=False, framing=Framing(size=20_000))
        await settle()
        await read(connection, exchange, pattern(20_000), 10)
        request = await worker.request()
        worker.respond(request, 2, b"ok", last=True)
        await connection.completed()
        rig.over.clear()
        connection.exchange = None
        del connection, exchange
        await settle()
        assert [kept for kept in gc.get_objects() if type(kept) is Collected] == []
        await finish(rig, worker, http.body_temp_path)

    gc.collect()
    gc.disable()
    try:
        run(test())
    finally:
        gc.enable()
