"""bridge.router.direct on a real uvloop and real sockets: bytes and files that go past the transport."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from bridge.config import Http
from bridge.router import direct
from tests.router.fakes import FakeExchange
from tests.router.test_disk import opened
from tests.router.test_http1_uvloop import GET, Service, _reads_a_reset, _run, _served, _until
from tests.router.uploads import pattern

HEAD_REQUEST = GET.replace(b"GET", b"HEAD")
OLD = GET.replace(b"HTTP/1.1", b"HTTP/1.0")
BIG = 1_000_000


@contextlib.asynccontextmanager
async def asked(
    request: bytes = GET, http: Http | None = None
) -> AsyncIterator[tuple[FakeExchange, asyncio.StreamReader, Service]]:
    """A client whose request waits for its answer."""
    service = Service(answer=None, http=http)
    async with _served(service) as (reader, writer):
        writer.write(request)
        await _until(lambda: bool(service.exchanges))
        # The kernel takes little at once, so that a long body is one that waits.
        sock = service.exchanges[0].connection._transport.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 65536)
        yield service.exchanges[0], reader, service


async def body(reader: asyncio.StreamReader) -> bytes:
    """The body of one answer, whichever way it is framed."""
    head = await reader.readuntil(b"\r\n\r\n")
    if b"content-length: " in head:
        return await reader.readexactly(int(head.partition(b"content-length: ")[2].partition(b"\r\n")[0]))
    if b"chunked" not in head:
        return await reader.read()
    parts = []
    while size := int(await reader.readuntil(b"\r\n"), 16):
        parts.append((await reader.readexactly(size + 2))[:-2])
    assert await reader.readexactly(2) == b"\r\n"
    return b"".join(parts)


def made(directory: Path, size: int) -> int:
    """A descriptor of a file of so many bytes."""
    path = directory / "file"
    path.write_bytes(pattern(size))
    return os.open(path, os.O_RDONLY)


@pytest.mark.parametrize("request_", [GET, OLD], ids=["announced", "until the end"])
def test_bytes_past_the_transport(request_: bytes) -> None:
    """The socket takes what it can, the transport gets the rest, and both count for the announced length."""

    async def test() -> None:
        async with asked(request_) as (exchange, reader, _):
            connection = exchange.connection
            data = pattern(BIG)
            connection.respond(200, b"", BIG if request_ is GET else None, 0, b"", False)
            sent = connection.send_now(data)
            assert 0 < sent < BIG
            assert connection.write(data[sent:-5], False)
            assert connection.send_now(data[-5:]) == 0
            assert connection.write(data[-5:], True)
            assert await body(reader) == data

    _run(test)


def test_nothing_goes_past_the_transport_that_must_not() -> None:
    """More than was announced, pieces of a transfer-chunked body, a body for nobody, and a response that is over."""

    async def test() -> None:
        async with asked() as (exchange, reader, _):
            exchange.connection.respond(200, b"", 10, 0, b"", False)
            assert exchange.connection.send_now(b"x" * 11) == 0
            assert exchange.connection.send_now(b"x" * 10) == 10
            assert exchange.connection.write(b"", True)
            assert exchange.connection.send_now(b"x") == 0
            assert await body(reader) == b"x" * 10
        async with asked() as (exchange, reader, _):
            exchange.connection.respond(200, b"", None, 0, b"", False)
            assert exchange.connection.send_now(b"x" * 10) == 0
            exchange.connection.write(b"y", True)
            assert await body(reader) == b"y"
        async with asked(HEAD_REQUEST) as (exchange, reader, _):
            exchange.connection.respond(200, b"", None, 0, b"", False)
            assert exchange.connection.send_now(b"x" * 10) == 10
            exchange.connection.write(b"", True)
            assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 200 ")

    _run(test)


@pytest.mark.parametrize("size", [0, 1, 1000, direct.PIECE, BIG])
@pytest.mark.parametrize("announced", [True, False])
@pytest.mark.parametrize("request_", [GET, OLD], ids=["1.1", "1.0"])
def test_a_file(tmp_path: Path, size: int, announced: bool, request_: bytes) -> None:
    """A part of a file ends a body, whichever way that is framed; the connection goes on."""

    async def test() -> None:
        async with asked(request_) as (exchange, reader, service):
            connection = exchange.connection
            connection.respond(200, b"", size + 3 if announced else None, 0, b"abc", False)
            assert connection.send_file(made(tmp_path, size + 20), 8, size)
            assert await body(reader) == b"abc" + pattern(size + 20)[8 : 8 + size]
            if request_ is GET:
                await _until(lambda: connection._state == 0)
                assert connection.deadline == pytest.approx(service.wheel.clock() + 180, abs=5)
        assert not opened(tmp_path)

    _run(test)


@pytest.mark.parametrize("announced", [True, False])
def test_a_file_behind_bytes_that_wait(tmp_path: Path, announced: bool) -> None:
    """What frames a file may itself find no room: the file waits for it."""

    async def test() -> None:
        async with asked() as (exchange, reader, _):
            connection = exchange.connection
            connection.respond(200, b"", 2 * BIG if announced else None, 0, b"", False)
            connection.write(pattern(BIG), False)
            assert not connection.flushed
            connection.send_file(made(tmp_path, BIG), 0, BIG)
            assert await body(reader) == pattern(BIG) * 2
        assert not opened(tmp_path)

    _run(test)


@pytest.mark.parametrize("announced", [True, False])
def test_a_request_body_that_ends_while_a_file_is_sent(tmp_path: Path, announced: bool) -> None:
    """The next request waits for the end of the file, so that the answers stay in order."""
    upload = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\n01234"

    async def test() -> None:
        service = Service(answer=None)
        async with _served(service) as (reader, writer):
            writer.write(upload)
            await _until(lambda: bool(service.exchanges))
            connection = service.exchanges[0].connection
            connection.respond(200, b"", 20 * BIG if announced else None, 0, b"", False)
            connection.send_file(made(tmp_path, 20 * BIG), 0, 20 * BIG)
            writer.write(b"56789" + GET)
            await _until(lambda: connection._lacking == 0)
            assert len(service.exchanges) == 1
            assert await body(reader) == pattern(20 * BIG)
            await _until(lambda: len(service.exchanges) == 2)
        assert not opened(tmp_path)

    _run(test)


def test_a_file_for_head(tmp_path: Path) -> None:
    """Nothing of it is sent, and the connection goes on."""

    async def test() -> None:
        async with asked(HEAD_REQUEST) as (exchange, reader, _):
            exchange.connection.respond(200, b"", BIG, 0, b"", False)
            assert exchange.connection.send_file(made(tmp_path, BIG), 0, BIG)
            assert b"content-length: 1000000" in await reader.readuntil(b"\r\n\r\n")
            assert exchange.connection._state == 0
            assert not opened(tmp_path)

    _run(test)


@pytest.mark.parametrize("announced", [99, 101])
def test_a_file_of_the_wrong_length(tmp_path: Path, announced: int) -> None:
    """Not a byte of it is sent, and the connection is cut."""

    async def test() -> None:
        async with asked() as (exchange, reader, _):
            exchange.connection.respond(200, b"", announced, 0, b"", False)
            assert not exchange.connection.send_file(made(tmp_path, 200), 0, 100)
            with contextlib.suppress(ConnectionError):
                assert (await reader.read()).endswith(b"\r\n\r\n")
        assert not opened(tmp_path)

    _run(test)


@pytest.mark.parametrize("request_", [GET, OLD], ids=["1.1", "1.0"])
@pytest.mark.parametrize("size", [10, BIG])
def test_a_file_that_has_become_shorter(
    tmp_path: Path, request_: bytes, size: int, caplog: pytest.LogCaptureFixture
) -> None:
    """The client sees a broken response, also where the end of the connection would be the end of the body."""

    async def test() -> None:
        async with asked(request_) as (exchange, reader, _):
            exchange.connection.respond(200, b"", None, 0, b"", False)
            exchange.connection.send_file(made(tmp_path, size), 0, size + 1)
            with pytest.raises((ConnectionError, asyncio.IncompleteReadError)):
                await body(reader)
        assert not opened(tmp_path)

    _run(test)
    assert caplog.messages == ["a file that is sent as a response: it is shorter than it was"]


def test_a_file_that_cannot_be_read(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A descriptor that is open for writing only ends the connection, not the router."""

    async def test() -> None:
        (tmp_path / "file").write_bytes(b"hello")
        async with asked() as (exchange, reader, _):
            exchange.connection.respond(200, b"", 5, 0, b"", False)
            exchange.connection.send_file(os.open(tmp_path / "file", os.O_WRONLY), 0, 5)
            with contextlib.suppress(ConnectionError):
                assert (await reader.read()).endswith(b"\r\n\r\n")
        assert not opened(tmp_path)

    _run(test)
    assert "Bad file descriptor" in caplog.text


@pytest.mark.parametrize("request_", [GET, OLD], ids=["1.1", "1.0"])
def test_the_client_leaves_in_the_middle_of_a_file(
    tmp_path: Path, request_: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    """The file and the duplicate of the socket are closed, and it is nobody's fault."""

    async def test() -> None:
        service = Service(answer=None)
        async with _served(service) as (reader, writer):
            writer.write(request_)
            await _until(lambda: bool(service.exchanges))
            connection = service.exchanges[0].connection
            files = len(os.listdir("/proc/self/fd"))
            connection.respond(200, b"", None, 0, b"", False)
            connection.send_file(made(tmp_path, BIG * 5), 0, BIG * 5)
            await reader.readexactly(10)
            assert opened(tmp_path) == 1
            assert len(os.listdir("/proc/self/fd")) == files + 2
            writer.transport.abort()  # with bytes unread: our socket gets RST
            await _until(lambda: not service.connections)
            assert not opened(tmp_path)
            await _until(lambda: len(os.listdir("/proc/self/fd")) == files - 2)

    _run(test)
    assert not caplog.messages


@pytest.mark.parametrize("ending", ["file", "bytes"])
def test_fin_in_the_middle_of_a_response_that_ends_with_the_connection(tmp_path: Path, ending: str) -> None:
    """Who has closed only his sending side reads a reset: FIN would make the part that he has look like all of it."""

    async def test() -> None:
        service = Service(answer=None)
        async with _served(service) as (reader, writer):
            writer.write(OLD)
            await _until(lambda: bool(service.exchanges))
            connection = service.exchanges[0].connection
            connection.respond(200, b"", None, 0, b"", False)
            if ending == "file":
                connection.send_file(made(tmp_path, BIG * 20), 0, BIG * 20)
            else:
                connection.write(pattern(BIG * 20), False)
            await reader.readuntil(b"\r\n\r\n")
            writer.write_eof()
            await _until(lambda: not service.connections)
            assert not opened(tmp_path)
            assert _reads_a_reset(writer)

    _run(test)


def test_a_client_that_takes_nothing_of_a_file(tmp_path: Path) -> None:
    """`send_timeout` cuts the connection, but not one whose client takes a little all the time."""

    async def test() -> None:
        async with asked(http=Http(send_timeout=1)) as (exchange, reader, service):
            exchange.connection.respond(200, b"", 5 * BIG, 0, b"", False)
            exchange.connection.send_file(made(tmp_path, 5 * BIG), 0, 5 * BIG)
            loop = asyncio.get_running_loop()
            begun = loop.time()
            while loop.time() < begun + 2:
                await reader.readexactly(20_000)
                await asyncio.sleep(0.02)
            assert service.connections
            await _until(lambda: not service.connections)
            assert not opened(tmp_path)
        assert not opened(tmp_path)

    _run(test)


def test_a_long_file_does_not_starve_the_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Between two pieces the loop turns, however fast the client is."""
    monkeypatch.setattr(direct, "PIECE", 10_000)
    turns: list[Any] = []

    async def test() -> None:
        def turn() -> None:
            turns.append(None)
            asyncio.get_running_loop().call_soon(turn)

        async with asked() as (exchange, reader, _):
            exchange.connection.respond(200, b"", BIG, 0, b"", False)
            asyncio.get_running_loop().call_soon(turn)
            exchange.connection.send_file(made(tmp_path, BIG), 0, BIG)
            assert await body(reader) == pattern(BIG)
            assert len(turns) >= BIG // 10_000 - 1

    _run(test)
