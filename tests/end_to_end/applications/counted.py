"""An application, ASGI and WSGI, that notes in the file $GATES/runs which process began which request.

The query says which request it is. Every request takes a moment, so that there is always something running.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from functools import cache
from typing import Any

MOMENT = 0.002  #: seconds
BIG = bytes(range(256)) * 2000


@cache
def runs() -> int:
    """The file."""
    return os.open(os.path.join(os.environ["GATES"], "runs"), os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)


def note(identity: str) -> None:
    """In one write, which is all there or not at all."""
    os.write(runs(), f"{os.getpid()} {identity}\n".encode())


def body_of(path: str, identity: str, received: bytes) -> bytes:
    """What the answer is."""
    return BIG if path == "/big" else received if path == "/echo" else identity.encode()


async def asgi(
    scope: MutableMapping[str, Any],
    receive: Callable[[], Awaitable[MutableMapping[str, Any]]],
    send: Callable[[MutableMapping[str, Any]], Awaitable[None]],
) -> None:
    """The application for ASGI."""
    if scope["type"] != "http":
        raise NotImplementedError
    identity = scope["query_string"].decode()
    note(identity)
    received, more = b"", True
    while more:
        message = await receive()
        received += message.get("body", b"")
        more = message.get("more_body", False)
    await asyncio.sleep(MOMENT)
    body = body_of(scope["path"], identity, received)
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"%d" % len(body))]})
    half = len(body) // 2
    await send({"type": "http.response.body", "body": body[:half], "more_body": True})
    await send({"type": "http.response.body", "body": body[half:]})


def wsgi(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
    """The application for WSGI."""
    identity = environ["QUERY_STRING"]
    note(identity)
    received = environ["wsgi.input"].read()
    time.sleep(MOMENT)
    body = body_of(environ["PATH_INFO"], identity, received)
    start_response("200 OK", [("Content-Length", str(len(body)))])
    half = len(body) // 2
    return [body[:half], body[half:]]
