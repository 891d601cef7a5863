"""WSGI applications behind ASGI: what they find, how bodies flow both ways, and what becomes of clients that leave."""

from __future__ import annotations

import asyncio
import contextvars
import hashlib
import io
import logging
import threading
from collections.abc import Awaitable, Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest

from bridge.worker import wsgi_adapter
from bridge.worker.types import WsgiTarget
from bridge.worker.wsgi_adapter import WsgiAdapter
from tests.worker.asgi_client import Client, http_scope

LOG = logging.getLogger("bridge")
Start = Callable[..., Callable[[bytes], None]]


def run(test: Awaitable[Any]) -> None:
    """Run a test's coroutine; one that hangs fails."""

    async def limited() -> None:
        await asyncio.wait_for(test, 30)

    asyncio.run(limited())


def ask(target: WsgiTarget, client: Client, threads: int = 2) -> Client:
    """One request."""
    run(client.ask(WsgiAdapter(target, LOG, threads)))
    return client


def answers(give: Callable[[dict[str, Any]], Iterable[bytes]]) -> WsgiTarget:
    """An application that answers 200 with what a function makes of the environ."""

    def application(environ: dict[str, Any], start: Start) -> Iterable[bytes]:
        start("200 OK", [("Content-Type", "text/plain")])
        return give(environ)

    return application


def test_what_the_scope_says() -> None:
    """Scheme, version, the root path and how many run at once are those of the request and of its place."""

    def tell(environ: dict[str, Any]) -> list[bytes]:
        names = ("wsgi.url_scheme", "SERVER_PROTOCOL", "SCRIPT_NAME", "PATH_INFO", "wsgi.multithread")
        return [" ".join(str(environ[name]) for name in names).encode()]

    for scheme, version in (("https", "1.1"), ("http", "1.0")):
        scope = http_scope("/a/x", root_path="/a", scheme=scheme, http_version=version)
        assert ask(answers(tell), Client(scope)).body.decode() == f"{scheme} HTTP/{version} /a /x True"
    assert ask(answers(tell), Client(http_scope()), threads=1).body.endswith(b" False")


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


def test_a_response_streams() -> None:
    """A piece is asked for when the one before was taken."""
    made: list[int] = []
    client = Client(http_scope())

    def pieces(_: dict[str, Any]) -> Iterator[bytes]:
        for number in range(3):
            made.append(number)
            yield b"%d" % number

    async def main() -> None:
        client.gate = asyncio.Event()
        asking = asyncio.ensure_future(client.ask(WsgiAdapter(answers(pieces), LOG, 1)))
        while not client.sent:  # noqa: ASYNC110 - as above
            await asyncio.sleep(0.001)
        await asyncio.sleep(0)
        assert made == [0]
        client.gate.set()
        await asking

    run(main())
    assert client.body == b"012"
    assert b"content-length" not in client.headers


def test_short_answers_are_two_messages() -> None:
    """A list of one piece goes out at once, with its length."""
    client = ask(answers(lambda _: [b"hello"]), Client(http_scope()))
    assert [message["type"] for message in client.sent] == ["http.response.start", "http.response.body"]
    assert client.headers == {b"content-type": b"text/plain", b"content-length": b"5"}
    head = ask(answers(lambda _: [b"hello"]), Client(http_scope(method="HEAD")))
    assert (head.headers[b"content-length"], head.body) == (b"5", b"")


def test_a_file(tmp_path: Path) -> None:
    """What is given to wsgi.file_wrapper is sent."""
    content = b"0123456789" * 20000

    path = tmp_path / "file"
    path.write_bytes(content)
    client = ask(answers(lambda environ: environ["wsgi.file_wrapper"](path.open("rb"))), Client(http_scope()))
    assert client.body == content
    assert client.headers[b"content-length"] == b"200000"
    assert ask(answers(lambda e: e["wsgi.file_wrapper"](io.BytesIO(b"abc"))), Client(http_scope())).body == b"abc"


def test_a_client_that_leaves_is_noticed() -> None:
    """The application can ask, its iterable is closed at the next piece, and nothing is an error."""
    client = Client(http_scope())
    closed: list[bool] = []

    def pieces(environ: dict[str, Any]) -> Iterator[bytes]:
        try:
            yield b"first"
            client_leaves()
            gone.wait(20)
            while not environ["bridge.client_disconnected"]():
                pass
            yield b"second"
            raise AssertionError("somebody asked for a third piece")
        finally:
            closed.append(environ["bridge.client_disconnected"]())

    gone = threading.Event()
    loops: list[asyncio.AbstractEventLoop] = []

    def client_leaves() -> None:
        loops[0].call_soon_threadsafe(client.leave)
        gone.set()

    async def main() -> None:
        loops.append(asyncio.get_running_loop())
        await client.ask(WsgiAdapter(answers(pieces), LOG, 1))

    run(main())
    assert closed == [True]
    assert client.body == b"first"


def test_a_client_that_has_all_of_it_has_not_left() -> None:
    """Behind the last piece the application goes on undisturbed, although nothing more is to be received."""
    client = Client(http_scope())
    ended: list[bool] = []
    received = threading.Event()

    def pieces(environ: dict[str, Any], start: Start) -> Iterator[bytes]:
        start("200 OK", [("Content-Length", "1")])
        yield b"x"
        received.wait(20)
        ended.append(environ["bridge.client_disconnected"]())

    async def main() -> None:
        asking = asyncio.ensure_future(client.ask(WsgiAdapter(pieces, LOG, 1)))
        while not client.sent:  # noqa: ASYNC110 - as above
            await asyncio.sleep(0.001)
        client.leave()
        while not client.coming.empty():  # noqa: ASYNC110 - as above
            await asyncio.sleep(0.001)
        await asyncio.sleep(0)
        received.set()
        await asking

    run(main())
    assert ended == [False]


def test_a_send_that_fails() -> None:
    """A server that raises OSError in send() says that the client has left: write() raises it too."""
    raised: list[BaseException] = []
    client = Client(http_scope())
    client.error = OSError("gone")

    def application(_: dict[str, Any], start: Start) -> list[bytes]:
        write = start("200 OK", [])
        try:
            write(b"x")
        except OSError as exc:
            raised.append(exc)
        return []

    ask(application, client)
    assert len(raised) == 1


def test_a_client_that_leaves_inside_its_body() -> None:
    """read() raises an OSError."""
    client = Client(http_scope("/", "POST", {"content-length": "10"}), None)
    client.put(b"123", more=True)
    client.leave()
    raised: list[BaseException] = []

    def application(environ: dict[str, Any], _: Start) -> list[bytes]:
        try:
            environ["wsgi.input"].read()
        except OSError as exc:
            raised.append(exc)
            raise
        return []

    ask(application, client)
    assert len(raised) == 1
    assert client.sent == []
    chunked = Client(http_scope("/", "POST", {"transfer-encoding": "chunked"}), None)
    chunked.leave()
    assert ask(application, chunked).sent == []
    assert len(raised) == 1


def test_a_task_that_is_cancelled_releases_its_thread() -> None:
    """The thread is told at its next step, and serves the next request."""
    ended = threading.Event()

    def application(environ: dict[str, Any], start: Start) -> list[bytes]:
        if environ["PATH_INFO"] == "/wait":
            try:
                environ["wsgi.input"].read()
            finally:
                ended.set()
        start("200 OK", [])
        return [b"next"]

    async def main() -> None:
        adapter = WsgiAdapter(application, LOG, 1)
        waiting = Client(http_scope("/wait", "POST", {"content-length": "10"}), None)
        task = asyncio.ensure_future(waiting.ask(adapter))
        await asyncio.sleep(0.01)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        following = Client(http_scope())
        await following.ask(adapter)
        assert following.body == b"next"
        assert ended.is_set()

    run(main())


def test_who_leaves_before_a_thread_is_free_is_not_run() -> None:
    """At most so many requests run at once as there are threads; the others wait, and may give up."""
    free, ran = threading.Event(), []

    def application(environ: dict[str, Any], start: Start) -> list[bytes]:
        ran.append(environ["PATH_INFO"])
        if environ["PATH_INFO"] == "/first":
            free.wait(20)
        start("200 OK", [])
        return [b""]

    async def main() -> None:
        adapter = WsgiAdapter(application, LOG, 1)
        first, second, third = (Client(http_scope(path)) for path in ("/first", "/second", "/third"))
        asking = [asyncio.ensure_future(client.ask(adapter)) for client in (first, second, third)]
        second.leave()
        while not ran:  # noqa: ASYNC110 - as above
            await asyncio.sleep(0.001)
        while not second.coming.empty():  # noqa: ASYNC110 - as above
            await asyncio.sleep(0.001)
        await asyncio.sleep(0)
        free.set()
        await asyncio.gather(*asking)

    run(main())
    assert ran == ["/first", "/third"]


def test_exceptions(caplog: pytest.LogCaptureFixture) -> None:
    """Before the head a 500, behind it a response that is visibly broken; each with its traceback."""

    def early(environ: dict[str, Any], start: Start) -> list[bytes]:
        raise ZeroDivisionError("early")

    def late(_: dict[str, Any]) -> Iterator[bytes]:
        yield b"x"
        raise ZeroDivisionError("late")

    assert ask(early, Client(http_scope())).status == 500
    broken = ask(answers(late), Client(http_scope()))
    assert (broken.status, broken.complete) == (200, False)
    assert [str(record.exc_info[1]) for record in caplog.records if record.exc_info] == ["early", "late"]


def test_context_variables() -> None:
    """What ASGI middleware has set in its context is there on the thread."""
    variable = contextvars.ContextVar("variable", default="")
    adapter = WsgiAdapter(answers(lambda _: [variable.get().encode()]), LOG, 1)
    client = Client(http_scope())

    async def main() -> None:
        variable.set("set")
        await client.ask(adapter)

    run(main())
    assert client.body == b"set"


def test_websockets_are_refused() -> None:
    """WSGI knows none; and it has no lifespan."""
    client = Client({"type": "websocket", "root_path": ""}, None)
    client.coming.put_nowait({"type": "websocket.connect"})
    ask(answers(lambda _: []), client)
    assert client.sent == [{"type": "websocket.close"}]
    with pytest.raises(ValueError, match="lifespan"):
        ask(answers(lambda _: []), Client({"type": "lifespan"}))
