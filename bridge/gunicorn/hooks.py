"""pre_request, post_request, the access log and max_requests: around the application, in the worker.

A hook gets what gunicorn documents: a request with method, uri, path, query, version, scheme, remote_addr and headers
as a list of (NAME, value); an environ; a response with status, headers and sent. Only what is configured costs
anything: an application without hooks, worker's access log and max_requests is not wrapped at all.
"""

from __future__ import annotations

import datetime as dt
import itertools
import time
from collections.abc import Callable, Iterable, Iterator, MutableMapping
from dataclasses import dataclass, field
from typing import Any

from bridge.worker.file_wrapper import FileWrapper, part_of_file
from bridge.worker.types import Message, Receive, Scope, Send, Target


@dataclass(slots=True)
class Request:
    """What hooks and gunicorn's logger see of a request."""

    method: str
    uri: str
    path: str
    query: str
    version: tuple[int, int]
    scheme: str
    headers: list[tuple[str, str]]
    remote_addr: Any
    fragment: str = ""


@dataclass(slots=True)
class Response:
    """What they see of its response: `status` is a number for ASGI, "200 OK" for WSGI."""

    status: Any = 500
    headers: list[tuple[str, str]] = field(default_factory=list)
    sent: int = 0


class Around:
    """What is done before and after each request of one worker.

    Args:
        worker: the hooks' first argument; its `cfg` and `log` are gunicorn's.
        log_access: this worker writes the access log.
        pre_request: the user's hook; None = none.
        post_request: the same.
        spent: called once, when `worker.max_requests` requests have begun (with `max_requests` of the configuration).
    """

    def __init__(
        self,
        worker: Any,
        log_access: bool,
        pre_request: Callable[..., Any] | None,
        post_request: Callable[..., Any] | None,
        spent: Callable[[], None],
    ) -> None:
        self._worker = worker
        self._log_access = log_access
        self._pre_request = pre_request
        self._post_request = post_request
        self._spent = spent
        self._last = worker.max_requests if worker.cfg.max_requests else 0
        self._count = itertools.count(1)  # one step of the interpreter: threads need no lock

    @property
    def needed(self) -> bool:
        """Whether there is anything to do."""
        return bool(self.sees_requests or self._last)

    @property
    def sees_requests(self) -> bool:
        """Whether somebody looks at the requests themselves."""
        return bool(self._log_access or self._pre_request or self._post_request)

    def begin(self) -> None:
        """A request begins."""
        number = next(self._count)
        self._worker.nr = number
        if number == self._last:
            self._spent()

    def before(self, request: Request) -> None:
        """Call pre_request; what it raises becomes a 500, as under gunicorn."""
        if self._pre_request is not None:
            self._pre_request(self._worker, request)

    def after(self, request: Request, environ: dict[str, Any], response: Response, began: float) -> None:
        """Write the access log and call post_request; an exception there is logged."""
        try:
            if self._log_access:
                took = dt.timedelta(seconds=time.monotonic() - began)
                self._worker.log.access(response, request, environ, took)
            if self._post_request is not None:
                self._post_request(self._worker, request, environ, response)
        except Exception:
            self._worker.log.exception("Exception in post_request hook")


# --- ASGI -------------------------------------------------------------------------------------------------------


def around_asgi(target: Target, around: Around) -> Target:
    """`target` with `around` it."""

    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await target(scope, receive, send)
            return
        around.begin()
        if not around.sees_requests:
            await target(scope, receive, send)
            return
        began = time.monotonic()
        request = request_of_scope(scope)
        response = Response()

        async def watched(message: Message) -> None:
            await send(message)
            if message["type"] == "http.response.start":
                response.status = message["status"]
                response.headers = _text(message.get("headers", ()))
            elif message["type"] == "http.response.body":
                response.sent += len(message.get("body", b""))

        try:
            around.before(request)
            await target(scope, receive, watched)
        finally:
            around.after(request, environ_of(request), response, began)

    return application


def request_of_scope(scope: Scope) -> Request:
    """An HTTP scope in gunicorn's form."""
    raw_path = scope["raw_path"].decode("latin-1")
    query = scope["query_string"].decode("latin-1")
    major, _, minor = scope["http_version"].partition(".")
    return Request(
        method=scope["method"],
        uri=f"{raw_path}?{query}" if query else raw_path,
        path=raw_path,
        query=query,
        version=(int(major), int(minor or 0)),
        scheme=scope["scheme"],
        headers=[(name.upper(), value) for name, value in _text(scope["headers"])],
        remote_addr=scope["client"],
    )


def environ_of(request: Request) -> dict[str, Any]:
    """As much of a WSGI environ as gunicorn's own ASGI worker gives hooks and its logger."""
    major, minor = request.version
    environ = {
        "REQUEST_METHOD": request.method,
        "RAW_URI": request.uri,
        "PATH_INFO": request.path,
        "QUERY_STRING": request.query,
        "SERVER_PROTOCOL": f"HTTP/{major}.{minor}",
        "REMOTE_ADDR": request.remote_addr[0] if request.remote_addr else "-",
    }
    for name, value in request.headers:
        environ["HTTP_" + name.replace("-", "_")] = value
    return environ


def _text(headers: Iterable[tuple[bytes, bytes]]) -> list[tuple[str, str]]:
    return [(bytes(name).decode("latin-1"), bytes(value).decode("latin-1")) for name, value in headers]


# --- WSGI -------------------------------------------------------------------------------------------------------

WsgiTarget = Callable[[MutableMapping[str, Any], Callable[..., Any]], Iterable[bytes]]


def around_wsgi(target: WsgiTarget, around: Around) -> WsgiTarget:
    """`target` with `around` it; the request ends when the server closes what it returned."""

    def application(environ: MutableMapping[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        around.begin()
        if not around.sees_requests:
            return target(environ, start_response)
        began = time.monotonic()
        request = request_of_environ(environ)
        response = Response("500 Internal Server Error")

        def started(status: str, headers: list[tuple[str, str]], exc_info: Any = None) -> Callable[[bytes], Any]:
            write = start_response(status, headers, exc_info) if exc_info else start_response(status, headers)
            response.status, response.headers = status, list(headers)

            def counted(data: bytes) -> Any:
                response.sent += len(data)
                return write(data)

            return counted

        def over() -> None:
            around.after(request, dict(environ), response, began)

        try:
            around.before(request)
            result = target(environ, started)
        except BaseException:
            over()
            raise
        wrapper = environ.get("wsgi.file_wrapper")
        if isinstance(wrapper, type) and isinstance(result, wrapper):
            return _closing_file(result, response, over)
        if isinstance(result, (list, tuple)) and not hasattr(result, "close"):
            # Still a list, so that the server may see that it is all there, and announce its length.
            response.sent += sum(len(piece) for piece in result if isinstance(piece, bytes))
            return _Pieces(result, over)
        return _Counted(result, response, over)

    return application


def request_of_environ(environ: MutableMapping[str, Any]) -> Request:
    """A WSGI environ in gunicorn's form."""
    headers = [(name[5:].replace("_", "-"), value) for name, value in environ.items() if name.startswith("HTTP_")]
    plain = ("CONTENT_TYPE", "CONTENT_LENGTH")
    headers += [(name.replace("_", "-"), environ[name]) for name in plain if environ.get(name)]
    uri = environ.get("RAW_URI") or environ.get("REQUEST_URI") or ""
    if not uri:
        query = environ.get("QUERY_STRING", "")
        uri = environ.get("SCRIPT_NAME", "") + environ.get("PATH_INFO", "") + (f"?{query}" if query else "")
        environ.setdefault("RAW_URI", uri)  # gunicorn's logger wants it
    major, _, minor = str(environ.get("SERVER_PROTOCOL", "HTTP/1.1")).partition("/")[2].partition(".")
    client = environ.get("REMOTE_ADDR", "")
    return Request(
        method=environ["REQUEST_METHOD"],
        uri=uri,
        path=uri.partition("?")[0],
        query=environ.get("QUERY_STRING", ""),
        version=(int(major), int(minor or 0)),
        scheme=environ.get("wsgi.url_scheme", "http"),
        headers=headers,
        remote_addr=(client, int(environ.get("REMOTE_PORT") or 0)) if client else None,
    )


class _Counted:
    """An application's iterable that counts what it gives, and says when it is closed."""

    def __init__(self, result: Iterable[bytes], response: Response, over: Callable[[], None]) -> None:
        self._result = result
        self._response = response
        self._over: Callable[[], None] | None = over

    def __iter__(self) -> Iterator[bytes]:
        for piece in self._result:
            self._response.sent += len(piece)
            yield piece

    def close(self) -> None:
        """Close the application's iterable, then end the request."""
        try:
            close = getattr(self._result, "close", None)
            if close is not None:
                close()
        finally:
            over, self._over = self._over, None
            if over is not None:
                over()


class _Pieces(list[bytes]):
    """A list of pieces whose close() ends the request."""

    def __init__(self, pieces: Iterable[bytes], over: Callable[[], None]) -> None:
        super().__init__(pieces)
        self.close = over


def _closing_file(result: Any, response: Response, over: Callable[[], None]) -> Iterable[bytes]:
    """Leave a file wrapper what it is, so that the router sends the file; its length is what is left of the file."""
    close = getattr(result, "close", None)
    part = part_of_file(result.filelike) if isinstance(result, FileWrapper) else None
    length = next((value for name, value in response.headers if name.lower() == "content-length"), "0")
    response.sent += part.length if part else int(length) if length.isdigit() else 0

    def closing() -> None:
        try:
            if close is not None:
                close()
        finally:
            over()

    result.close = closing
    wrapped: Iterable[bytes] = result
    return wrapped
