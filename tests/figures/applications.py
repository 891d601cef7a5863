"""The applications that are put under load, for both interfaces.

What they have to tell goes into the file or FIFO that is called $TOLD, a line in one write each.
"""

from __future__ import annotations

import os
import time
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from typing import Any

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]

SLOW = 0.02  #: seconds of each request of `slow`
SHORT, LONG = 0.001, 0.1  #: seconds of the requests of `mixed`: LONG where the path is /long

_told = os.open(os.environ["TOLD"], os.O_WRONLY | os.O_APPEND) if "TOLD" in os.environ else -1


def tell(text: str) -> None:
    """Tell whoever measures."""
    if _told >= 0:
        os.write(_told, text.encode() + b"\n")


def _body() -> bytes:
    """Who has answered."""
    return b"%d\n" % os.getpid()


def _answer(start_response: Callable[..., Any]) -> Iterable[bytes]:
    body = _body()
    start_response("200 OK", [("Content-Length", str(len(body)))])
    return [body]


async def _send(send: Send) -> None:
    body = _body()
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"%d" % len(body))]})
    await send({"type": "http.response.body", "body": body})


async def _is_ready(scope: Scope, receive: Receive, send: Send) -> bool:
    """Answer what is no part of the load: lifespan, and the question whether there is a server."""
    if scope["type"] == "lifespan":
        for step in ("startup", "shutdown"):
            await receive()
            await send({"type": f"lifespan.{step}.complete"})
    elif scope["path"] == "/ready":
        await _send(send)
    else:
        return False
    return True


def slow_wsgi(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
    """Tell that a run has begun, and take its time."""
    if environ["PATH_INFO"] != "/ready":
        tell(f"run {time.monotonic_ns()}")
        time.sleep(SLOW)
    return _answer(start_response)


async def slow_asgi(scope: Scope, receive: Receive, send: Send) -> None:
    """The same, with a loop that can do nothing else meanwhile."""
    if not await _is_ready(scope, receive, send):
        tell(f"run {time.monotonic_ns()}")
        time.sleep(SLOW)  # noqa: ASYNC251 - this is what is to be measured
        await _send(send)


def mixed_wsgi(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
    """Wait for something, short or long."""
    time.sleep(LONG if environ["PATH_INFO"] == "/long" else SHORT)
    return _answer(start_response)


async def mixed_asgi(scope: Scope, receive: Receive, send: Send) -> None:
    """Compute something, short or long."""
    if not await _is_ready(scope, receive, send):
        # By the wall clock: beside other programs it takes the same time, and does less in it.
        end = time.perf_counter() + (LONG if scope["path"] == "/long" else SHORT)
        while time.perf_counter() < end:
            pass
        await _send(send)


async def leave_asgi(scope: Scope, receive: Receive, send: Send) -> None:
    """Tell when a request has begun, and when it hears that its client has left."""
    if await _is_ready(scope, receive, send):
        return
    tell("begun")
    while (await receive())["type"] != "http.disconnect":
        pass
    tell(f"gone {time.monotonic_ns()}")


def leave_wsgi(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
    """The same, asking again and again."""
    if environ["PATH_INFO"] != "/ready":
        tell("begun")
        while not environ["bridge.client_disconnected"]():
            time.sleep(0.0002)
        tell(f"gone {time.monotonic_ns()}")
    return _answer(start_response)
