"""A small ASGI application without dependencies that shows what a server has to do.

    bridged run --app-dir apps hello:app        then open http://127.0.0.1:8000

Every address below is listed on `/`. Any ASGI server runs it.
"""

from __future__ import annotations

import asyncio
import html
import json
import time
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any
from urllib.parse import parse_qs

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]

PAGE = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<link rel="icon" href="data:,">
<title>Hello from Bridge</title>
<style>:root { color-scheme: light dark } body { font: 1.1em/1.5 system-ui; max-width: 40em; margin: 3em auto;
padding: 0 1em } form { display: inline }</style>
<h1>It works</h1>
<p>This worker has run for %(seconds).0f seconds and answered %(requests)d requests. Addresses to try:</p>
<ul>
<li><a href="%(root)s/hello">/hello</a>: the shortest answer
<li><a href="%(root)s/headers">/headers</a>: what the application is told about this request
<li><a href="%(root)s/slow?seconds=2">/slow?seconds=2</a>:
an answer that takes time; press Escape, and the worker notices
<li><a href="%(root)s/events">/events</a>: server-sent events, one each second until you leave
<li>/echo: sends the body back while it arrives:
<form method="post" action="%(root)s/echo"><input name="text" value="some text"><button>POST</button></form>
</ul>
"""
LONGEST_SLEEP = 60.0  #: seconds that /slow agrees to


async def app(scope: Scope, receive: Receive, send: Send) -> None:
    """Hand each request to the function for its path."""
    if scope["type"] == "lifespan":
        await lifespan(scope, receive, send)
    elif scope["type"] == "http":
        scope["state"]["count"]["requests"] += 1
        path = scope["path"].removeprefix(scope.get("root_path", ""))  # it is whole, also below a prefix
        await PATHS.get(path or "/", missing)(scope, receive, send)


async def lifespan(scope: Scope, receive: Receive, send: Send) -> None:
    """Start and stop; what is put into `state` here is found in the scope of every request."""
    while True:
        message = await receive()
        if message["type"] == "lifespan.startup":
            # Each request gets its own copy of `state`, but not of what is in it.
            scope["state"].update(started=time.monotonic(), count={"requests": 0})
            await send({"type": "lifespan.startup.complete"})
        else:
            await send({"type": "lifespan.shutdown.complete"})
            return


async def answer(send: Send, body: str, kind: str = "text/plain; charset=utf-8", status: int = 200) -> None:
    """Send a whole response."""
    data = body.encode()
    headers = [(b"content-type", kind.encode()), (b"content-length", str(len(data)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": data})


async def index(scope: Scope, receive: Receive, send: Send) -> None:
    """The page that lists the others."""
    state = scope["state"]
    page = PAGE % {
        "root": html.escape(scope.get("root_path", "")),
        "seconds": time.monotonic() - state["started"],
        "requests": state["count"]["requests"],
    }
    await answer(send, page, "text/html; charset=utf-8")


async def hello(scope: Scope, receive: Receive, send: Send) -> None:
    """The shortest answer."""
    await answer(send, "Hello, world!\n")


async def headers(scope: Scope, receive: Receive, send: Send) -> None:
    """The scope, as JSON."""
    shown = {name: value for name, value in scope.items() if name != "state"}
    await answer(
        send, json.dumps(shown, indent=2, default=lambda raw: raw.decode("latin-1")) + "\n", "application/json"
    )


async def echo(scope: Scope, receive: Receive, send: Send) -> None:
    """Send the body back piece by piece: nothing is collected, so any size fits."""
    kind = dict(scope["headers"]).get(b"content-type", b"application/octet-stream")
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", kind)]})
    more = True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            return
        more = message.get("more_body", False)
        await send({"type": "http.response.body", "body": message.get("body", b""), "more_body": more})


async def slow(scope: Scope, receive: Receive, send: Send) -> None:
    """Answer after `?seconds=`, unless the client leaves first."""
    text = parse_qs(scope["query_string"].decode("latin-1")).get("seconds", ["1"])[0]
    try:
        seconds = float(text)
    except ValueError:
        seconds = -1.0
    if not 0 <= seconds <= LONGEST_SLEEP:
        await answer(send, f"seconds is a number from 0 to {LONGEST_SLEEP:.0f}\n", status=400)
    elif not await gone_within(seconds, receive):
        await answer(send, f"That took {seconds:g} seconds.\n")


async def events(scope: Scope, receive: Receive, send: Send) -> None:
    """One server-sent event each second, until the client leaves."""
    fields = [(b"content-type", b"text/event-stream"), (b"cache-control", b"no-store")]
    await send({"type": "http.response.start", "status": 200, "headers": fields})
    number = 0
    try:
        while True:
            number += 1
            await send({"type": "http.response.body", "body": f"data: event {number}\n\n".encode(), "more_body": True})
            if await gone_within(1.0, receive):
                break
    except OSError:
        pass  # send() says it this way when it is the first to notice
    print(f"/events: the client left after event {number}", flush=True)


async def gone_within(seconds: float, receive: Receive) -> bool:
    """Wait that long for the client to leave; whether it did."""
    try:
        async with asyncio.timeout(seconds):
            while (await receive())["type"] != "http.disconnect":
                pass
    except TimeoutError:
        return False
    return True


async def missing(scope: Scope, receive: Receive, send: Send) -> None:
    """Everything else."""
    await answer(send, f"There is no {scope['path']} here; / lists what there is.\n", status=404)


PATHS = {"/": index, "/hello": hello, "/headers": headers, "/echo": echo, "/slow": slow, "/events": events}
