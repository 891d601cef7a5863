"""WSGI applications behind ASGI: request bodies, and clients that leave before theirs is read."""

from __future__ import annotations

import asyncio
import hashlib
import io
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

from bridge.worker import wsgi_adapter
from bridge.worker.wsgi_adapter import WsgiAdapter
from tests.worker.adapted import LOG, Start, answers, ask, run
from tests.worker.asgi_client import Client, http_scope


def test_a_body_is_read_as_it_comes() -> None:
    """What is here can be read, and answered, before the rest has come."""
    client = Client(http_scope("/", "POST", {"content-length": "10"}), None)

    def echo(environ: dict[str, Any]) -> Iterator[bytes]:
        for _ in range(2):
            yield environ["wsgi.input"].read(5)

    async def main() -> None:
        asking = asyncio.ensure_future(client.ask(WsgiAdapter(answers(echo), LOG, 1)))
        client.put(b"12345", more=True)
        while client.body != b"12345":  # noqa: ASYNC110 - the list tells nobody
            await asyncio.sleep(0.001)
        assert not asking.done()
        client.put(b"67", more=True)
        client.put(b"890", more=False)
        await asking

    run(main())
    assert client.body == b"1234567890"
    assert client.complete


def test_lines() -> None:
    """readline() keeps to its limit, and finds lines that come in several pieces."""
    text = b"first\nsecond\n" + b"x" * 40000 + b"\nlast"
    read: list[bytes] = []

    def lines(environ: dict[str, Any]) -> list[bytes]:
        body = environ["wsgi.input"]
        read.extend([body.readline(3), body.readline(), body.readline(100), *body, body.readline(5), body.read()])
        return [b""]

    pieces = [text[at : at + 7] for at in range(0, len(text), 7)]
    ask(answers(lines), Client(http_scope("/", "POST", {"content-length": str(len(text))}), pieces))
    assert read == [b"fir", b"st\n", b"second\n", b"x" * 40000 + b"\n", b"last", b"", b""]


def test_a_body_of_http_2() -> None:
    """Later versions announce a body in no way that has to be there."""
    client = Client(http_scope("/", "POST", http_version="2"), [b"abc", b"d"])
    assert ask(answers(lambda environ: [environ["wsgi.input"].read()]), client).body == b"abcd"


@pytest.mark.parametrize("size", [0, 10, 3 * wsgi_adapter.IN_MEMORY + 5])
def test_a_body_of_unknown_length(size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is collected, so that its length is known, in a file if it is long."""
    written: list[int] = []
    write = wsgi_adapter._Stream._write

    async def note(self: Any, pool: Any) -> None:
        written.append(len(self._held))
        await write(self, pool)

    monkeypatch.setattr(wsgi_adapter._Stream, "_write", note)
    content = (bytes(range(256)) * (size // 256 + 1))[:size]
    pieces = [content[at : at + 60000] for at in range(0, size, 60000)]
    client = Client(http_scope("/", "POST", {"transfer-encoding": "chunked"}), pieces)

    def digest(environ: dict[str, Any]) -> list[bytes]:
        assert "HTTP_TRANSFER_ENCODING" not in environ
        body = environ["wsgi.input"]
        data = body.read(5) + body.readline() + body.read()
        return [f"{environ['CONTENT_LENGTH']} {hashlib.sha256(data).hexdigest()}".encode()]

    assert ask(answers(digest), client).body.decode() == f"{size} {hashlib.sha256(content).hexdigest()}"
    assert bool(written) == (size > wsgi_adapter.IN_MEMORY)
    assert max(written, default=0) <= wsgi_adapter.IN_MEMORY + 60000


def test_a_body_that_finds_no_room(monkeypatch: pytest.MonkeyPatch) -> None:
    """A full disk is the end of the request, and of no thread."""

    class Full(io.BytesIO):
        def write(self, data: Any) -> int:
            raise OSError(28, "No space left on device")

    monkeypatch.setattr(wsgi_adapter.tempfile, "TemporaryFile", lambda **_: Full())  # type: ignore[attr-defined]
    monkeypatch.setattr(wsgi_adapter, "IN_MEMORY", 3)
    adapter = WsgiAdapter(answers(lambda _: [b"next"]), LOG, 1)
    following = Client(http_scope())

    async def main() -> None:
        with pytest.raises(OSError, match="No space"):
            await Client(http_scope("/", "POST", {"transfer-encoding": "chunked"}), [b"1234", b""]).ask(adapter)
        await following.ask(adapter)

    run(main())
    assert following.body == b"next"


@pytest.mark.parametrize("sent", [0, 4, 10])
def test_a_client_that_leaves_with_its_body_unread(sent: int) -> None:
    """The application is told of it although it has read nothing of the body, whether that came or not."""
    client = Client(http_scope("/", "POST", {"content-length": "10"}), None)
    loops: list[asyncio.AbstractEventLoop] = []
    told: list[bool] = []

    def pieces(environ: dict[str, Any]) -> Iterator[bytes]:
        loops[0].call_soon_threadsafe(client.leave)
        late = time.monotonic() + 5
        try:
            while time.monotonic() < late:
                yield b"piece"
        finally:
            told.append(environ["bridge.client_disconnected"]())

    async def main() -> None:
        loops.append(asyncio.get_running_loop())
        if sent:
            client.put(b"x" * sent, more=sent < 10)
        await client.ask(WsgiAdapter(answers(pieces), LOG, 1))

    run(main())
    assert told == [True]


def test_a_body_is_received_only_a_little_ahead() -> None:
    """What nobody reads stays where it is, and all of it is there for who begins to read late."""
    size = 10 * wsgi_adapter.AHEAD
    client = Client(http_scope("/", "POST", {"content-length": str(size)}), [b"x" * 1024] * (size // 1024))
    waiting: list[int] = []
    go_on = threading.Event()

    def read(environ: dict[str, Any]) -> Iterator[bytes]:
        yield b"-"
        go_on.wait(20)
        waiting.append(client.coming.qsize())
        yield b"%d" % (len(environ["wsgi.input"].read(wsgi_adapter.AHEAD - 5)) + len(environ["wsgi.input"].read()))

    async def main() -> None:
        asking = asyncio.ensure_future(client.ask(WsgiAdapter(answers(read), LOG, 1)))
        while client.coming.qsize() > (size - wsgi_adapter.AHEAD) // 1024:  # noqa: ASYNC110 - as above
            await asyncio.sleep(0.001)
        await asyncio.sleep(0.01)
        go_on.set()
        await asking

    run(main())
    assert waiting == [(size - wsgi_adapter.AHEAD) // 1024]
    assert client.body == b"-%d" % size


def test_a_body_that_waits_to_be_asked_for() -> None:
    """Who expects "100 Continue" is asked for the body when the application reads it, and not before."""
    client = Client(http_scope("/", "POST", {"content-length": "3", "expect": "100-continue"}), [b"abc"])
    before: list[int] = []

    def read(environ: dict[str, Any]) -> Iterator[bytes]:
        yield b"-"
        before.append(client.coming.qsize())
        yield environ["wsgi.input"].read()

    ask(answers(read), client)
    assert before == [1]
    assert client.body == b"-abc"


def test_reading_behind_the_response() -> None:
    """When the response is over a server tells of no more body: who reads on hears that, and waits for nothing."""
    client = Client(http_scope("/", "POST", {"content-length": "10"}), None)
    raised: list[BaseException] = []
    loops: list[asyncio.AbstractEventLoop] = []

    def pieces(environ: dict[str, Any], start: Start) -> Iterator[bytes]:
        start("200 OK", [("Content-Length", "1")])
        yield b"x"
        loops[0].call_soon_threadsafe(client.leave)
        try:
            environ["wsgi.input"].read()
        except OSError as exc:
            raised.append(exc)

    async def main() -> None:
        loops.append(asyncio.get_running_loop())
        await client.ask(WsgiAdapter(pieces, LOG, 1))

    run(main())
    assert len(raised) == 1
    assert client.complete


def test_a_client_that_leaves_inside_its_body() -> None:
    """read() raises an OSError."""
    client = Client(http_scope("/", "POST", {"content-length": "10"}), None)
    client.put(b"123", more=True)
    raised: list[BaseException] = []
    loops: list[asyncio.AbstractEventLoop] = []

    def application(environ: dict[str, Any], _: Start) -> list[bytes]:
        loops[0].call_soon_threadsafe(client.leave)
        try:
            environ["wsgi.input"].read()
        except OSError as exc:
            raised.append(exc)
            raise
        return []

    async def main() -> None:
        loops.append(asyncio.get_running_loop())
        await client.ask(WsgiAdapter(application, LOG, 1))

    run(main())
    assert len(raised) == 1
    assert client.sent == []
    chunked = Client(http_scope("/", "POST", {"transfer-encoding": "chunked"}), None)
    chunked.leave()
    assert ask(application, chunked).sent == []
    assert len(raised) == 1
