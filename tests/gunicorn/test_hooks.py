"""Hooks, access log and max_requests around an application, without a server."""

from __future__ import annotations

import asyncio
import datetime as dt
import io
from collections.abc import Callable, Iterable, MutableMapping
from types import SimpleNamespace
from typing import Any
from wsgiref.util import FileWrapper, setup_testing_defaults

import pytest

from bridge.gunicorn.hooks import Around, Request, Response, around_asgi, around_wsgi

SCOPE = {
    "type": "http",
    "method": "POST",
    "raw_path": b"/a%20b",
    "query_string": b"q=1",
    "http_version": "1.1",
    "scheme": "https",
    "headers": [(b"x-one", b"1"), (b"x-one", b"\xe9")],
    "client": ("192.0.2.1", 4711),
}


class Watched:
    """A worker whose hooks and logger note what they are given."""

    def __init__(self, max_requests: int = 0) -> None:
        self.seen: list[Any] = []
        self.nr = 0
        self.max_requests = max_requests
        self.cfg = SimpleNamespace(max_requests=max_requests)
        self.log = SimpleNamespace(access=self.access, exception=self.seen.append)

    def access(self, response: Response, request: Request, environ: dict[str, Any], took: dt.timedelta) -> None:
        assert took >= dt.timedelta(0)
        self.seen.append(("access", request.uri, environ["REQUEST_METHOD"], response.status, response.sent))

    def pre_request(self, worker: object, request: Request) -> None:
        assert worker is self
        self.seen.append(("pre", request))

    def post_request(self, worker: object, request: Request, environ: dict[str, Any], response: Response) -> None:
        assert worker is self
        self.seen.append(("post", request, environ, response))

    def around(self, **given: Any) -> Around:
        """Everything at once, unless said otherwise."""
        values: dict[str, Any] = {
            "log_access": True,
            "pre_request": self.pre_request,
            "post_request": self.post_request,
            "spent": lambda: self.seen.append("spent"),
        }
        return Around(self, **(values | given))


async def no_receive() -> dict[str, Any]:
    """A request without a body."""
    raise AssertionError


def call_asgi(target: Any, around: Around, scope: dict[str, Any] | None = None) -> list[Any]:
    """Run one request; returns what was sent."""
    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    async def request() -> None:
        await around_asgi(target, around)(scope or dict(SCOPE), no_receive, send)

    asyncio.run(request())
    return sent


async def answer(scope: Any, receive: Any, send: Any) -> None:
    """An application that answers in two pieces."""
    await send({"type": "http.response.start", "status": 201, "headers": [(b"x-two", b"2")]})
    await send({"type": "http.response.body", "body": b"abc", "more_body": True})
    await send({"type": "http.response.body", "body": b"de"})


def test_asgi_hooks_see_request_and_response() -> None:
    """pre_request gets the request as gunicorn has it; access log and post_request also the response."""
    worker = Watched()
    assert len(call_asgi(answer, worker.around())) == 3
    before, access, after = worker.seen
    request = before[1]
    assert (request.method, request.uri, request.path, request.query) == ("POST", "/a%20b?q=1", "/a%20b", "q=1")
    assert (request.version, request.scheme, request.remote_addr) == ((1, 1), "https", ("192.0.2.1", 4711))
    assert request.headers == [("X-ONE", "1"), ("X-ONE", "\xe9")]
    assert access == ("access", "/a%20b?q=1", "POST", 201, 5)
    assert after[1] is request
    assert after[2]["REMOTE_ADDR"] == "192.0.2.1"
    assert (after[3].status, after[3].headers, after[3].sent) == (201, [("x-two", "2")], 5)


def test_asgi_exception_is_a_500_in_the_log() -> None:
    """An application that raises is logged with status 500, and the exception goes on to the server."""
    worker = Watched()

    async def failing(scope: Any, receive: Any, send: Any) -> None:
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        call_asgi(failing, worker.around())
    assert worker.seen[1] == ("access", "/a%20b?q=1", "POST", 500, 0)


def test_asgi_other_scopes_are_no_requests() -> None:
    """Lifespan passes untouched and uncounted."""
    worker = Watched(max_requests=1)
    seen: list[str] = []

    async def lifespan(scope: Any, receive: Any, send: Any) -> None:
        seen.append(scope["type"])

    call_asgi(lifespan, worker.around(), {"type": "lifespan"})
    assert (seen, worker.seen) == (["lifespan"], [])


def test_failing_post_request_is_logged() -> None:
    """What post_request raises concerns no client."""
    worker = Watched()

    def failing(*_: object) -> None:
        raise ValueError("no")

    assert len(call_asgi(answer, worker.around(post_request=failing))) == 3
    assert worker.seen[-1] == "Exception in post_request hook"


def test_max_requests_is_said_once() -> None:
    """The request that makes the number full says so; those after it are served all the same."""
    worker = Watched(max_requests=2)
    around = worker.around(log_access=False, pre_request=None, post_request=None)
    for _ in range(4):
        assert len(call_asgi(answer, around)) == 3
    assert worker.seen == ["spent"]
    assert worker.nr == 4


def test_nothing_to_do() -> None:
    """Without hooks, log and max_requests nothing is needed."""
    worker = Watched()
    assert not worker.around(log_access=False, pre_request=None, post_request=None).needed
    assert worker.around(log_access=False, pre_request=None).needed


Wsgi = Callable[[MutableMapping[str, Any], Callable[..., Any]], Iterable[bytes]]


def call_wsgi(application: Wsgi, around: Around, **environ: Any) -> tuple[list[bytes], Any]:
    """Run one request as a server does; returns the pieces, and what the application seemed to return."""
    values: dict[str, Any] = {"RAW_URI": "/p?q=1", "QUERY_STRING": "q=1", "HTTP_X_ONE": "1"} | environ
    setup_testing_defaults(values)
    written: list[bytes] = []
    result = around_wsgi(application, around)(values, lambda *_: written.append)
    pieces = written + list(result)
    close = getattr(result, "close", None)
    if close:
        close()
    return pieces, result


def test_wsgi_hooks_see_request_and_response() -> None:
    """The same for WSGI, where the status is text, and the end is when the server closes the iterable."""
    worker = Watched()
    closed: list[bool] = []

    class Body(list[bytes]):
        def close(self) -> None:
            closed.append(True)

    def application(environ: Any, start_response: Any) -> Iterable[bytes]:
        start_response("200 OK", [("X-Two", "2")])(b"ab")
        return Body([b"cde"])

    pieces, _ = call_wsgi(application, worker.around())
    assert (pieces, closed) == ([b"ab", b"cde"], [True])
    before, access, after = worker.seen
    assert (before[1].uri, before[1].path, before[1].query) == ("/p?q=1", "/p", "q=1")
    assert ("X-ONE", "1") in before[1].headers
    assert access == ("access", "/p?q=1", "GET", "200 OK", 5)
    assert (after[3].status, after[3].headers) == ("200 OK", [("X-Two", "2")])


@pytest.mark.parametrize("body", [[b"ab", b"c"], (b"ab", b"c")])
def test_wsgi_list_stays_a_list(body: Iterable[bytes]) -> None:
    """A body that is all there is handed on as a list, and counted; its close ends the request."""
    worker = Watched()

    def application(environ: Any, start_response: Any) -> Iterable[bytes]:
        start_response("200 OK", [])
        return body

    pieces, result = call_wsgi(application, worker.around())
    assert (pieces, isinstance(result, list)) == ([b"ab", b"c"], True)
    assert worker.seen[1] == ("access", "/p?q=1", "GET", "200 OK", 3)


def test_wsgi_exception_ends_the_request() -> None:
    """An application that raises at once has no iterable to close: its request ends there."""
    worker = Watched()

    def failing(environ: Any, start_response: Any) -> Iterable[bytes]:
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        call_wsgi(failing, worker.around())
    assert [entry[0] for entry in worker.seen] == ["pre", "access", "post"]


def test_wsgi_file_stays_a_file() -> None:
    """A file wrapper is handed on as such, so that the server can send the file; its close ends the request."""
    worker = Watched()

    def application(environ: Any, start_response: Any) -> Iterable[bytes]:
        start_response("200 OK", [("Content-Length", "4")])
        return FileWrapper(io.BytesIO(b"file"))

    pieces, result = call_wsgi(application, worker.around(), **{"wsgi.file_wrapper": FileWrapper})
    assert isinstance(result, FileWrapper)
    assert pieces == [b"file"]
    assert worker.seen[1] == ("access", "/p?q=1", "GET", "200 OK", 4)


def test_wsgi_max_requests() -> None:
    """Only counted, nothing is wrapped around what the application returns."""
    worker = Watched(max_requests=1)
    body = [b"x"]
    around = worker.around(log_access=False, pre_request=None, post_request=None)
    _, result = call_wsgi(lambda *_: body, around)
    assert result is body
    assert worker.seen == ["spent"]
