"""Runs one request of an application over a fake stream; the messages that applications send."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import pytest

from bridge.worker.asgi import AsgiApplication
from bridge.worker.scope import ScopeBuilder
from bridge.worker.types import Message, Receive, Scope, Send, Target
from tests.worker.fake_stream import FakeStream

HEAD = b"HEAD / HTTP/1.1\r\nHost: example.test\r\n\r\n"
POST = b"POST /upload?a=b HTTP/1.1\r\nHost: example.test\r\nTransfer-Encoding: chunked\r\n\r\n"


def start(status: int = 200, *headers: tuple[bytes, bytes]) -> Message:
    return {"type": "http.response.start", "status": status, "headers": list(headers)}


def body(data: Any = b"", *, more: bool = False) -> Message:
    return {"type": "http.response.body", "body": data, "more_body": more}


def length(size: int) -> tuple[bytes, bytes]:
    return b"content-length", b"%d" % size


def application(target: Target, **settings: Any) -> AsgiApplication:
    loop = asyncio.get_running_loop()
    scopes = ScopeBuilder(settings.get("root_path", ""), settings.get("state"))
    return AsgiApplication(target, scopes, loop, logging.getLogger("bridge"))


def serve(target: Target, stream: FakeStream | None = None, **settings: Any) -> FakeStream:
    """Run one request to its end."""
    stream = stream or FakeStream()

    async def main() -> None:
        app = application(target, **settings)
        app.start(stream)
        assert len(app.tasks) == 1
        assert await app.drain() == 0
        assert not app.tasks

    asyncio.run(asyncio.wait_for(main(), 10))
    assert stream.finishes == 1
    return stream


def sends(*messages: Message) -> Target:
    async def target(scope: Scope, receive: Receive, send: Send) -> None:
        for message in messages:
            await send(message)

    return target


async def turn(times: int = 3) -> None:
    """Let the loop come round."""
    for _ in range(times):
        await asyncio.sleep(0)


def fails(target: Target, caplog: pytest.LogCaptureFixture, stream: FakeStream | None = None) -> FakeStream:
    """Serve a request that must be logged as an error."""
    with caplog.at_level(logging.INFO, "bridge"):
        stream = serve(target, stream)
    assert [record.levelname for record in caplog.records] == ["ERROR"]
    return stream


def is_500(stream: FakeStream) -> bool:
    text = b"Internal Server Error"
    plain = b"content-type: text/plain; charset=utf-8\r\n"
    return (stream.status, stream.messages, stream.block) == (500, [("respond", text, True)], plain)


def is_broken(stream: FakeStream) -> bool:
    return stream.aborted and not stream.complete
