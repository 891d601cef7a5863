"""bridge.router.http1 on a real uvloop and real sockets: what only the loop and the kernel can show."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest
import uvloop

from bridge.config import Http
from bridge.router.framing import Framing
from bridge.router.hangup import Hangups
from bridge.router.http1 import Connection
from bridge.router.lifetime import CLOSED
from bridge.router.wheel import Wheel
from tests.router.fakes import FakeExchange, FakeService

GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"


class Service(FakeService):
    """A service on a running loop."""

    def __init__(self, answer: bytes | None = b"Hello", http: Http | None = None) -> None:
        super().__init__(answer)
        loop = asyncio.get_running_loop()
        self.http = http or Http()
        self.wheel = Wheel(loop.time, loop.call_later, 0.05)
        self.hangups = Hangups(loop.add_reader, loop.remove_reader, loop.call_later)
        self.changed = asyncio.Event()

    def call_soon(self, callback: Callable[[], None]) -> None:
        """The loop's."""
        asyncio.get_running_loop().call_soon(callback)

    def exchange(
        self, connection: Connection, head: bytes, framing: Framing, body: bytes, complete: bool
    ) -> FakeExchange:
        """Begin a request, and say so."""
        self.changed.set()
        return super().exchange(connection, head, framing, body, complete)


@contextlib.asynccontextmanager
async def _served(service: Service) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    server = await asyncio.get_running_loop().create_server(lambda: Connection(service), "127.0.0.1", 0)
    reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
    try:
        yield reader, writer
    finally:
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()
        server.close()
        await _until(lambda: not service.connections)
        service.hangups.close()


def _run(test: Callable[[], Awaitable[Any]]) -> None:
    async def bounded() -> None:
        await asyncio.wait_for(test(), 30)

    uvloop.run(bounded())


def _reads_a_reset(writer: asyncio.StreamWriter) -> bool:
    """Whether the bytes that wait for a client end with a reset; read past its transport, which need not tell."""
    client = writer.get_extra_info("socket").fileno()
    try:
        while os.read(client, 1 << 20):
            pass
    except ConnectionResetError:
        return True
    return False


async def _until(condition: Callable[[], bool]) -> None:
    while not condition():  # noqa: ASYNC110 - nothing tells when the kernel has moved on
        await asyncio.sleep(0.01)


def test_requests_bodies_and_pipelining() -> None:
    """Several requests with and without bodies, in one write, are answered in order."""

    async def test() -> None:
        service = Service()
        async with _served(service) as (reader, writer):
            post = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 200000\r\n\r\n" + b"x" * 200_000
            chunked = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n"
            writer.write(GET + post + chunked + GET)
            for _ in range(4):
                head = await reader.readuntil(b"\r\n\r\n")
                assert head.startswith(b"HTTP/1.1 200 OK\r\n")
                assert await reader.readexactly(5) == b"Hello"
            assert [len(exchange.body) for exchange in service.exchanges] == [0, 200_000, 3, 0]

    _run(test)


def test_refused_client_can_read_the_answer() -> None:
    """A client that keeps sending behind a refused request reads its answer to the end, and no reset."""

    async def test() -> None:
        async with _served(Service(http=Http(max_body_size=10))) as (reader, writer):
            writer.write(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3000000\r\n\r\n")
            for _ in range(30):
                writer.write(b"x" * 100_000)
                await writer.drain()
            answer = await reader.read()
            assert answer.startswith(b"HTTP/1.1 413 ")
            assert answer.endswith(b"413 Content Too Large\n")

    _run(test)


def test_slow_reader_and_flushed() -> None:
    """A large response to a client that does not read: not flushed, then ready, then complete."""

    async def test() -> None:
        service = Service(answer=None)
        async with _served(service) as (reader, writer):
            writer.write(GET)
            await service.changed.wait()
            exchange = service.exchanges[0]
            connection = exchange.connection
            size = 30_000_000
            assert connection.respond(200, b"", None, 0, memoryview(bytes(size)), False)
            assert not connection.flushed
            head = await reader.readuntil(b"\r\n\r\n")
            assert b"chunked" in head
            assert int(await reader.readuntil(b"\r\n"), 16) == size
            assert len(await reader.readexactly(size)) == size
            await _until(lambda: exchange.ready == 1)
            assert connection.flushed
            connection.write(b"", True)
            assert await reader.readexactly(7) == b"\r\n0\r\n\r\n"

    _run(test)


def test_aborted_old_response_is_a_reset() -> None:
    """A 1.0 client can tell a body that was cut from one that has ended."""

    async def test() -> None:
        service = Service(answer=None)
        async with _served(service) as (reader, writer):
            writer.write(b"GET / HTTP/1.0\r\n\r\n")
            await service.changed.wait()
            connection = service.exchanges[0].connection
            connection.respond(200, b"", None, 0, b"half", False)
            await reader.readuntil(b"half")
            connection.abort()
            try:
                ended = await reader.read()
            except ConnectionResetError:
                ended = b"reset"
            assert ended == b"reset"

    _run(test)


MANY = 15_000_000  #: bytes, more than the kernel keeps for a client


@contextlib.asynccontextmanager
async def _old_response(
    http: Http | None = None,
) -> AsyncIterator[tuple[Service, asyncio.StreamReader, asyncio.StreamWriter]]:
    service = Service(answer=None, http=http)
    async with _served(service) as (reader, writer):
        writer.write(b"GET / HTTP/1.0\r\n\r\n")
        await service.changed.wait()
        connection = service.exchanges[0].connection
        connection.respond(200, b"", None, 0, bytes(MANY), False)
        connection.write(bytes(MANY), True)
        yield service, reader, writer


@pytest.mark.parametrize("leaves", [False, True], ids=["stays", "closes its side"])
def test_old_response_that_is_taken_slowly(leaves: bool) -> None:
    """All of a body that the close ends arrives, and then its end, whenever the client gets round to reading it."""

    async def test() -> None:
        async with _old_response() as (service, reader, writer):
            assert not service.exchanges[0].connection.flushed
            if leaves:
                writer.write_eof()
                await _until(lambda: service.exchanges[0].connection._state == CLOSED)
            _, _, body = (await reader.read()).partition(b"\r\n\r\n")
            assert len(body) == 2 * MANY

    _run(test)


def test_old_response_that_is_not_taken() -> None:
    """Cut for taking nothing: the client can tell that, although every byte had been handed over."""

    async def test() -> None:
        async with _old_response(Http(send_timeout=0.1)) as (service, _, writer):
            await _until(lambda: not service.connections)
            assert _reads_a_reset(writer)

    _run(test)


def test_client_that_leaves_while_paused() -> None:
    """FIN behind unread bytes of a paused upload is noticed."""

    async def test() -> None:
        service = Service(answer=None)
        service.early = lambda exchange: exchange.connection.pause_body()
        async with _served(service) as (_, writer):
            writer.write(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 100000\r\n\r\n" + b"x" * 1000)
            await service.changed.wait()
            writer.close()
            await _until(lambda: service.exchanges[0].gone == 1)

    _run(test)


def test_deadline_on_a_real_clock() -> None:
    """A head that never ends is answered with 408 and closed."""

    async def test() -> None:
        service = Service(http=Http(header_read_timeout=1))
        async with _served(service) as (reader, writer):
            writer.write(b"GET / HTTP/1.1\r\nHost: ")
            assert (await reader.read()).startswith(b"HTTP/1.1 408 ")

    _run(test)


def test_unix_socket(tmp_path: Any) -> None:
    """A connection over a unix socket has the path as its server and no client."""
    path = str(tmp_path / "s")

    async def test() -> None:
        service = Service()
        server = await asyncio.get_running_loop().create_unix_server(lambda: Connection(service), path)
        with socket.socket(socket.AF_UNIX) as client:
            client.setblocking(False)
            loop = asyncio.get_running_loop()
            await loop.sock_connect(client, path)
            await loop.sock_sendall(client, GET)
            assert (await loop.sock_recv(client, 1000)).startswith(b"HTTP/1.1 200 ")
            assert service.exchanges[0].connection.peer == b"\0\0" + path.encode() + b"\0\n"
        await _until(lambda: not service.connections)
        server.close()
        service.hangups.close()

    _run(test)
