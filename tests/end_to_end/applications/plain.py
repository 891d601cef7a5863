"""An ASGI application without a framework: one path for each thing that a test wants to happen.

Requests that stop at a gate say so on standard error, "NAME at GATE in PID", and go on when the file GATE exists in
the directory $GATES.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import sys
import time
from collections.abc import Awaitable, Callable, MutableMapping
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
Handler = Callable[[Scope, Receive, Send], Awaitable[None]]

PATHS: dict[str, Handler] = {}
flooded = 0  #: bytes that /flood has got rid of
ticks: asyncio.Queue[str] = asyncio.Queue()


def path(handler: Handler) -> Handler:
    """Serve the function under its name."""
    PATHS[f"/{handler.__name__}"] = handler
    return handler


async def app(scope: Scope, receive: Receive, send: Send) -> None:
    """Hand each request to the function for its path."""
    if scope["type"] == "lifespan":
        await lifespan(scope, receive, send)
    else:
        await PATHS[scope["path"].removeprefix(scope["root_path"])](scope, receive, send)


async def lifespan(scope: Scope, receive: Receive, send: Send) -> None:
    """Leave something in the state, and say that the shutdown was heard of."""
    await receive()
    scope["state"]["greeting"] = f"left by {os.getpid()}"
    await send({"type": "lifespan.startup.complete"})
    await receive()
    say("shut down")
    await send({"type": "lifespan.shutdown.complete"})


def say(text: str) -> None:
    """Tell the test, in one write."""
    sys.stderr.write(text + "\n")
    sys.stderr.flush()


def asked(scope: Scope, name: str, default: str = "") -> str:
    """One value of the query."""
    query: bytes = scope["query_string"]
    return parse_qs(query.decode()).get(name, [default])[0]


def opened(file: str) -> bool:
    """Whether the test has opened this gate."""
    return Path(os.environ["GATES"], file).exists()


async def gate(name: str, scope: Scope) -> None:
    """Wait for the test."""
    file = asked(scope, "gate")
    say(f"{name} at {file} in {os.getpid()}")
    while not opened(file):  # noqa: ASYNC110 - a file tells no event
        await asyncio.sleep(0.01)


async def answer(send: Send, body: bytes, status: int = 200, *fields: tuple[bytes, bytes]) -> None:
    """Send a whole response."""
    headers = [(b"content-length", b"%d" % len(body)), *fields]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


async def body_of(receive: Receive) -> bytes:
    """The whole request body."""
    body = bytearray()
    while True:
        message = await receive()
        body += message.get("body", b"")
        if not message.get("more_body"):
            return bytes(body)


@path
async def hello(scope: Scope, receive: Receive, send: Send) -> None:
    await answer(send, b"hello\n", 200, (b"content-type", b"text/plain"))


@path
async def pid(scope: Scope, receive: Receive, send: Send) -> None:
    await answer(send, b"%d" % os.getpid())


@path
async def scope(scope: Scope, receive: Receive, send: Send) -> None:
    shown = dict(scope) | {"state": dict(scope["state"])}
    await answer(send, json.dumps(shown, default=lambda raw: raw.decode("latin-1")).encode())


@path
async def echo(scope: Scope, receive: Receive, send: Send) -> None:
    await answer(send, await body_of(receive))


@path
async def count(scope: Scope, receive: Receive, send: Send) -> None:
    """Size and SHA-256 of the body, which is not collected; `slow`: the loop turns between the pieces."""
    size, digest, more = 0, hashlib.sha256(), True
    hashed = not asked(scope, "unhashed")
    while more:
        message = await receive()
        piece, more = message.get("body", b""), message.get("more_body", False)
        size += len(piece)
        if hashed:
            digest.update(piece)
        if asked(scope, "slow"):
            await asyncio.sleep(0.0002)
    await answer(send, f"{size} {digest.hexdigest()}".encode())


@path
async def mirror(scope: Scope, receive: Receive, send: Send) -> None:
    """The body, piece by piece, without a content-length."""
    await send({"type": "http.response.start", "status": 200, "headers": []})
    more = True
    while more:
        message = await receive()
        more = message.get("more_body", False)
        await send({"type": "http.response.body", "body": message.get("body", b""), "more_body": more})


@path
async def pieces(scope: Scope, receive: Receive, send: Send) -> None:
    """`count` pieces without a content-length."""
    await send({"type": "http.response.start", "status": 200, "headers": []})
    for number in range(int(asked(scope, "count"))):
        await send({"type": "http.response.body", "body": b"piece %d\n" % number, "more_body": True})
    await send({"type": "http.response.body"})


@path
async def status(scope: Scope, receive: Receive, send: Send) -> None:
    """A response of that status, with a body where one is allowed."""
    code = int(asked(scope, "code"))
    await send({"type": "http.response.start", "status": code, "headers": [(b"etag", b'"1"')]})
    await send({"type": "http.response.body", "body": b"" if code in (204, 304) else b"body\n"})


@path
async def refuse(scope: Scope, receive: Receive, send: Send) -> None:
    """An answer without a look at the body."""
    await answer(send, b"no\n", 403)


@path
async def events(scope: Scope, receive: Receive, send: Send) -> None:
    """A server-sent event for each /tick, until the client leaves."""
    fields = [(b"content-type", b"text/event-stream")]
    await send({"type": "http.response.start", "status": 200, "headers": fields})
    gone = asyncio.ensure_future(receive_disconnect(receive))
    while not gone.done():
        tick = asyncio.ensure_future(ticks.get())
        await asyncio.wait({tick, gone}, return_when=asyncio.FIRST_COMPLETED)
        if tick.done():
            await send({"type": "http.response.body", "body": f"data: {tick.result()}\n\n".encode(), "more_body": True})
        else:
            tick.cancel()
    say("events: the client left")


@path
async def tick(scope: Scope, receive: Receive, send: Send) -> None:
    ticks.put_nowait(asked(scope, "text"))
    await answer(send, b"")


async def receive_disconnect(receive: Receive) -> None:
    """Wait until the client has left."""
    while (await receive())["type"] != "http.disconnect":
        pass


@path
async def hold(scope: Scope, receive: Receive, send: Send) -> None:
    """Wait before the answer."""
    await gate("hold", scope)
    await answer(send, b"held by %d" % os.getpid())


@path
async def hold_body(scope: Scope, receive: Receive, send: Send) -> None:
    """Wait after the first piece of the request body."""
    message = await receive()
    await gate("hold_body", scope)
    body = message.get("body", b"")
    if message.get("more_body"):
        body += await body_of(receive)
    await answer(send, b"%d" % len(body))


@path
async def hold_response(scope: Scope, receive: Receive, send: Send) -> None:
    """Wait in the middle of a response; `length`: announce one."""
    fields = [(b"content-length", b"10")] if asked(scope, "length") else []
    await send({"type": "http.response.start", "status": 200, "headers": fields})
    await send({"type": "http.response.body", "body": b"01234", "more_body": True})
    await gate("hold_response", scope)
    await send({"type": "http.response.body", "body": b"56789"})


@path
async def block(scope: Scope, receive: Receive, send: Send) -> None:
    """Stop the whole worker at the gate."""
    file = asked(scope, "gate")
    say(f"block at {file} in {os.getpid()}")
    while not opened(file):
        time.sleep(0.01)  # noqa: ASYNC251 - the loop stands still on purpose
    await answer(send, b"blocked")


@path
async def stubborn(scope: Scope, receive: Receive, send: Send) -> None:
    """Wait for the test, whatever the client does, and say when that is cancelled."""
    try:
        await gate("stubborn", scope)
    except asyncio.CancelledError:
        say("stubborn: cancelled")
        raise


@path
async def listen(scope: Scope, receive: Receive, send: Send) -> None:
    """Say what receive() and send() do when the client leaves."""
    say("listen: began")
    seen = []
    while (message := await receive())["type"] != "http.disconnect":
        seen.append(len(message["body"]))
    say(f"listen: {message['type']} behind {sum(seen)} bytes")
    await leave(send)


@path
async def talk(scope: Scope, receive: Receive, send: Send) -> None:
    """Send until it raises."""
    await leave(send)


async def leave(send: Send) -> None:
    """Say what send() raises in the end."""
    try:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        while True:
            await send({"type": "http.response.body", "body": b"x" * 65536, "more_body": True})
    except OSError as error:
        say(f"send: OSError {type(error).__name__}")
        raise


@path
async def flood(scope: Scope, receive: Receive, send: Send) -> None:
    """`size` bytes as fast as send() takes them."""
    global flooded  # noqa: PLW0603 - read by another request
    flooded = 0
    left = int(asked(scope, "size"))
    fields = [(b"content-length", b"%d" % left)]
    await send({"type": "http.response.start", "status": 200, "headers": fields})
    piece = b"x" * int(asked(scope, "piece", "1048576"))
    more = True
    while more:
        data = piece[:left] if left < len(piece) else piece
        left -= len(data)
        more = left > 0
        await send({"type": "http.response.body", "body": data, "more_body": more})
        flooded += len(data)


@path
async def progress(scope: Scope, receive: Receive, send: Send) -> None:
    """How far /flood is."""
    await answer(send, b"%d" % flooded)


@path
async def fail(scope: Scope, receive: Receive, send: Send) -> None:
    """Raise: `when` = before, or behind the head."""
    if asked(scope, "when") == "behind":
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"begun", "more_body": True})
    raise RuntimeError("on purpose")


@path
async def silent(scope: Scope, receive: Receive, send: Send) -> None:
    """Return without an answer."""


@path
async def announce(scope: Scope, receive: Receive, send: Send) -> None:
    """Announce `said` bytes and send `sent`, in two pieces."""
    fields = [(b"content-length", asked(scope, "said").encode())]
    await send({"type": "http.response.start", "status": 200, "headers": fields})
    await send({"type": "http.response.body", "body": b"x", "more_body": True})
    await asyncio.sleep(0.05)  # the first piece is on its way
    await send({"type": "http.response.body", "body": b"x" * (int(asked(scope, "sent")) - 1)})


@path
async def field(scope: Scope, receive: Receive, send: Send) -> None:
    """Answer with a field of that `name` and `value`."""
    await answer(send, b"field\n", 200, (asked(scope, "name").encode(), asked(scope, "value").encode("latin-1")))
