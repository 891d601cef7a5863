"""What `make bench` serves: as little application as there can be, so that the server is what is measured."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]

BODY = b"Hello, world!\n"
START = {
    "type": "http.response.start",
    "status": 200,
    "headers": [(b"content-type", b"text/plain"), (b"content-length", b"14")],
}


async def hello(scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
    """Read the whole body, if there is one, and say hello."""
    if scope["type"] != "http":
        raise RuntimeError("no lifespan here")  # the documented way to decline it
    if scope["method"] == "POST":
        while (await receive()).get("more_body"):
            pass
    await send(START)
    await send({"type": "http.response.body", "body": BODY})
