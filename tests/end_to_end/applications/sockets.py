"""An ASGI application of WebSockets without a framework: one path for each thing that a test wants to happen.

What `name=` is given says what it notices on standard error, "NAME: …".
"""

from __future__ import annotations

import asyncio
import functools
import json
import os
import sys
from collections.abc import Awaitable, Callable, MutableMapping
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

Message = MutableMapping[str, Any]
Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Handler = Callable[[Scope, Receive, Send], Awaitable[None]]

PATHS: dict[str, Handler] = {}
ACCEPT = {"type": "websocket.accept"}
BROWSER = Path(__file__).parent / "browser.html"
moved = 0  #: bytes that /flood has got rid of and /deaf has received, all together


def path(handler: Handler) -> Handler:
    """Serve the function under its name."""
    PATHS[f"/{handler.__name__}"] = handler
    return handler


async def app(scope: Scope, receive: Receive, send: Send) -> None:
    """Hand each WebSocket, and each request, to the function for its path."""
    if scope["type"] == "lifespan":
        raise RuntimeError("no lifespan here")  # the documented way to decline it
    if scope["type"] == "http":
        await page(scope, receive, send)
        return
    assert (await receive())["type"] == "websocket.connect"
    await PATHS[scope["path"]](scope, receive, send)


async def page(scope: Scope, receive: Receive, send: Send) -> None:
    """Requests: process number, progress, a page for a browser, what it reports, or what the scope was."""
    if scope["path"] == "/report":
        sys.stderr.write(f"report: {(await receive())['body'].decode()}\n")
        sys.stderr.flush()
    pages = {"/pid": str(os.getpid()), "/moved": str(moved), "/browser": BROWSER.read_text()}
    body = pages.get(scope["path"], f"{scope['type']} {scope['method']}").encode()
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"%d" % len(body))]})
    await send({"type": "http.response.body", "body": body})


def asked(scope: Scope, name: str, default: str = "") -> str:
    """One value of the query."""
    query: bytes = scope["query_string"]
    return parse_qs(query.decode()).get(name, [default])[0]


def say(scope: Scope, text: str) -> None:
    """Tell the test, in one write."""
    if name := asked(scope, "name"):
        sys.stderr.write(f"{name}: {text}\n")
        sys.stderr.flush()


def opened(file: str) -> bool:
    """Whether the test has opened this gate."""
    return Path(os.environ["GATES"], file).exists()


async def gate(scope: Scope) -> None:
    """Wait for the file that the test makes."""
    file = asked(scope, "gate")
    while not opened(file):  # noqa: ASYNC110 - a file tells no event
        await asyncio.sleep(0.01)


async def until_left(scope: Scope, receive: Receive) -> None:
    """Take messages until the other side has left, and say how it did."""
    while (message := await receive())["type"] != "websocket.disconnect":
        say(scope, f"received {message.get('text', message.get('bytes'))!r}")
    say(scope, f"left {message['code']} {message.get('reason')!r}")


@path
async def echo(scope: Scope, receive: Receive, send: Send) -> None:
    """Every message goes back as it came; the first of the offered subprotocols is taken if `choose` is said."""
    offered = scope["subprotocols"] if asked(scope, "choose") else []
    await send({**ACCEPT, "subprotocol": offered[0] if offered else None})
    say(scope, "open")
    while (message := await receive())["type"] == "websocket.receive":
        await send({**message, "type": "websocket.send"})
    say(scope, f"left {message['code']} {message.get('reason')!r}")


@path
async def pid(scope: Scope, receive: Receive, send: Send) -> None:
    """Say which process this is, then echo."""
    await send(dict(ACCEPT))
    await send({"type": "websocket.send", "text": str(os.getpid())})
    while (message := await receive())["type"] == "websocket.receive":
        await send({**message, "type": "websocket.send"})
    say(scope, f"left {message['code']} {message.get('reason')!r}")


@path
async def hold(scope: Scope, receive: Receive, send: Send) -> None:
    """Accept when the gate is open, then echo."""
    say(scope, f"asked in {os.getpid()}")
    await gate(scope)
    await echo(scope, receive, send)


@path
async def doubt(scope: Scope, receive: Receive, send: Send) -> None:
    """Wait for the client to give up before it was accepted, and accept it then."""
    say(scope, "doubts")
    await until_left(scope, receive)
    try:
        await send(dict(ACCEPT))
    except OSError:
        say(scope, "accept: OSError")
        raise


@path
async def scope(scope: Scope, receive: Receive, send: Send) -> None:
    """Show the scope."""
    await send(dict(ACCEPT))
    shown = {name: value for name, value in scope.items() if name != "state"}
    await send({"type": "websocket.send", "text": json.dumps(shown, default=lambda raw: raw.decode("latin-1"))})
    await until_left(scope, receive)


@path
async def fields(scope: Scope, receive: Receive, send: Send) -> None:
    """Accept with header fields of its own; `bad`: with one that is not the application's to set."""
    own = [(b"set-cookie", b"a=1"), (b"set-cookie", b"b=2"), (b"x-own", b"yes")]
    if asked(scope, "bad"):
        own = [(asked(scope, "bad").encode(), b"hers")]
    try:
        await send({**ACCEPT, "headers": own})
    except Exception as error:
        say(scope, type(error).__name__)
        raise
    await until_left(scope, receive)


@path
async def refuse(scope: Scope, receive: Receive, send: Send) -> None:
    """Close before it was accepted."""
    await send({"type": "websocket.close", "code": 4000})
    await until_left(scope, receive)


@path
async def deny(scope: Scope, receive: Receive, send: Send) -> None:
    """An ordinary response instead, in two pieces."""
    headers = [(b"content-type", b"text/plain"), (b"x-own", b"yes")]
    await send({"type": "websocket.http.response.start", "status": 401, "headers": headers})
    await send({"type": "websocket.http.response.body", "body": b"not ", "more_body": True})
    await send({"type": "websocket.http.response.body", "body": b"you\n"})
    await until_left(scope, receive)


@path
async def fail(scope: Scope, receive: Receive, send: Send) -> None:
    """Raise, before it was accepted or behind that."""
    if asked(scope, "when") == "behind":
        await send(dict(ACCEPT))
    raise RuntimeError("on purpose")


@path
async def silent(scope: Scope, receive: Receive, send: Send) -> None:
    """Return without a word, before it was accepted or behind that."""
    if asked(scope, "when") == "behind":
        await send(dict(ACCEPT))


@path
async def end(scope: Scope, receive: Receive, send: Send) -> None:
    """Accept, send `text` if there is one, close with `code` and `reason`, and hear how the client does."""
    await send(dict(ACCEPT))
    if asked(scope, "text"):
        await send({"type": "websocket.send", "text": asked(scope, "text")})
    await send({"type": "websocket.close", "code": int(asked(scope, "code", "1000")), "reason": asked(scope, "reason")})
    await until_left(scope, receive)


@path
async def late(scope: Scope, receive: Receive, send: Send) -> None:
    """Send when the client has left."""
    await send(dict(ACCEPT))
    await until_left(scope, receive)
    try:
        await send({"type": "websocket.send", "text": "late"})
    except OSError as error:
        say(scope, f"OSError {isinstance(error, OSError)}")
        raise


@path
async def deaf(scope: Scope, receive: Receive, send: Send) -> None:
    """Take nothing before the gate is open, then everything, and say how many bytes that was."""
    global moved  # noqa: PLW0603 - read by a request
    await send(dict(ACCEPT))
    say(scope, "deaf")
    await gate(scope)
    size = 0
    while (message := await receive())["type"] == "websocket.receive":
        piece = len(message.get("bytes") or message.get("text") or "")
        size += piece
        moved += piece
        if message.get("text") == "how many":
            await send({"type": "websocket.send", "text": str(size)})
    say(scope, f"left {message['code']}")


@functools.cache
def noise(size: int) -> bytes:
    """What cannot be compressed, the same for everybody."""
    return os.urandom(size)


@path
async def flood(scope: Scope, receive: Receive, send: Send) -> None:
    """Messages of `size` bytes, `count` of them, as fast as send() takes them."""
    global moved  # noqa: PLW0603 - read by a request
    await send(dict(ACCEPT))
    piece = noise(int(asked(scope, "size", "65536")))
    try:
        for _ in range(int(asked(scope, "count", "1000000000"))):
            await send({"type": "websocket.send", "bytes": piece})
            moved += len(piece)
    except OSError:
        say(scope, "send: OSError")
        raise
    await send({"type": "websocket.close"})
    await until_left(scope, receive)
