"""WSGI applications behind ASGI: what they find, how responses flow, and what becomes of clients that leave."""

from __future__ import annotations

import asyncio
import contextvars
import io
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from bridge.worker.wsgi_adapter import WsgiAdapter
from tests.worker.adapted import LOG, Start, answers, ask, run
from tests.worker.asgi_client import Client, http_scope


def test_what_the_scope_says() -> None:
    """Scheme, version, the root path and how many run at once are those of the request and of its place."""

    def tell(environ: dict[str, Any]) -> list[bytes]:
        names = ("wsgi.url_scheme", "SERVER_PROTOCOL", "SCRIPT_NAME", "PATH_INFO", "wsgi.multithread")
        return [" ".join(str(environ[name]) for name in names).encode()]

    for scheme, version in (("https", "1.1"), ("http", "1.0")):
        scope = http_scope("/a/x", root_path="/a", scheme=scheme, http_version=version)
        assert ask(answers(tell), Client(scope)).body.decode() == f"{scheme} HTTP/{version} /a /x True"
    assert ask(answers(tell), Client(http_scope()), threads=1).body.endswith(b" False")


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


@pytest.mark.parametrize("before", [0, 1])
def test_a_thread_that_cannot_be_started(before: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where there is one, it comes to the request; where there is none, that one fails, and no later one."""
    free = threading.Event()
    start = threading.Thread.start

    def application(environ: dict[str, Any], start_response: Start) -> list[bytes]:
        if environ["PATH_INFO"] == "/first":
            free.wait(20)
        start_response("200 OK", [])
        return [b"x"]

    def fail(_: threading.Thread) -> None:
        free.set()
        raise RuntimeError("can't start new thread")

    async def main() -> None:
        adapter = WsgiAdapter(application, LOG, 2)
        clients = [Client(http_scope("/first")) for _ in range(before)]
        asking = [asyncio.ensure_future(client.ask(adapter)) for client in clients]
        while adapter._pool._started < before:  # noqa: ASYNC110 - as above
            await asyncio.sleep(0)
        monkeypatch.setattr(threading.Thread, "start", fail)
        clients.append(Client(http_scope()))
        if before:
            await clients[-1].ask(adapter)
        else:
            for _ in range(2):
                with pytest.raises(RuntimeError, match="new thread"):
                    await clients[0].ask(adapter)
            monkeypatch.setattr(threading.Thread, "start", start)
            await clients[0].ask(adapter)
        await asyncio.gather(*asking)
        assert [client.body for client in clients] == [b"x"] * len(clients)

    run(main())


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
