"""An application, ASGI and WSGI: /small, /echo, /download (10 MiB in pieces) and anything else takes an upload."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Iterator, MutableMapping
from typing import Any

PIECE = bytes(range(256)) * 256
PIECES = 160

SMALL = b"small\n"


async def asgi(
    scope: MutableMapping[str, Any],
    receive: Callable[[], Awaitable[MutableMapping[str, Any]]],
    send: Callable[[MutableMapping[str, Any]], Awaitable[None]],
) -> None:
    """The application for ASGI."""
    if scope["type"] != "http":
        raise NotImplementedError
    path = scope["path"]
    size, echo, more = 0, b"", scope["method"] == "POST"
    while more:
        message = await receive()
        body = message.get("body", b"")
        size += len(body)
        if path == "/echo":
            echo += body
        more = message.get("more_body", False)
    if path == "/download":
        length = b"%d" % (len(PIECE) * PIECES)
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", length)]})
        for left in range(PIECES - 1, -1, -1):
            await send({"type": "http.response.body", "body": PIECE, "more_body": left > 0})
        return
    answer = SMALL if path == "/small" else echo if path == "/echo" else b"%d" % size
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"%d" % len(answer))]})
    await send({"type": "http.response.body", "body": answer})


def wsgi(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
    """The application for WSGI."""
    path = environ["PATH_INFO"]
    if path == "/download":
        start_response("200 OK", [("Content-Length", str(len(PIECE) * PIECES))])
        return pieces()
    if path == "/small":
        answer = SMALL
    elif path == "/echo":
        answer = environ["wsgi.input"].read()
    else:
        size = 0
        while body := environ["wsgi.input"].read(len(PIECE)):
            size += len(body)
        answer = b"%d" % size
    start_response("200 OK", [("Content-Length", str(len(answer)))])
    return [answer]


def pieces() -> Iterator[bytes]:
    """What /download brings."""
    for _ in range(PIECES):
        yield PIECE
