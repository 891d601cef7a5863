"""ASGI applications with as little in them as there can be, so that the server is what is measured."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]

GREETING = b"Hello, world!\n"
MEBIBYTE = b"x" * (1 << 20)


def head(kind: bytes, size: int) -> dict[str, Any]:
    """The message that starts a response."""
    fields = [(b"content-type", kind), (b"content-length", b"%d" % size)]
    return {"type": "http.response.start", "status": 200, "headers": fields}


HELLO_HEAD = head(b"text/plain", len(GREETING))
MEBIBYTE_HEAD = head(b"application/octet-stream", len(MEBIBYTE))


async def hello(scope: Scope, receive: Receive, send: Send) -> None:
    """Say hello."""
    if scope["type"] != "http":
        raise RuntimeError("no lifespan here")  # the documented way to decline it
    await send(HELLO_HEAD)
    await send({"type": "http.response.body", "body": GREETING})


async def upload(scope: Scope, receive: Receive, send: Send) -> None:
    """Read the body and say how long it was."""
    if scope["type"] != "http":
        raise RuntimeError("no lifespan here")
    size, more = 0, True
    while more:
        message = await receive()
        size += len(message.get("body", b""))
        more = message.get("more_body", False)
    answer = b"%d\n" % size
    await send(head(b"text/plain", len(answer)))
    await send({"type": "http.response.body", "body": answer})


async def download(scope: Scope, receive: Receive, send: Send) -> None:
    """A mebibyte in one piece."""
    if scope["type"] != "http":
        raise RuntimeError("no lifespan here")
    await send(MEBIBYTE_HEAD)
    await send({"type": "http.response.body", "body": MEBIBYTE})


async def echo(scope: Scope, receive: Receive, send: Send) -> None:
    """Every message of a WebSocket goes back as it came."""
    if scope["type"] != "websocket":
        raise RuntimeError("no lifespan here")
    await receive()
    await send({"type": "websocket.accept"})
    while (message := await receive())["type"] == "websocket.receive":
        message["type"] = "websocket.send"
        await send(message)
