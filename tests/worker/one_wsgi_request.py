"""Runs one request of a WSGI application over a fake stream."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from typing import Any

import pytest

from bridge.worker.types import Environ, WsgiTarget
from bridge.worker.wsgi import WsgiApplication
from tests.worker.fake_sync_stream import FakeSyncStream

HEAD = b"HEAD / HTTP/1.1\r\nHost: example.test\r\n\r\n"

Start = Callable[..., Any]


def serve(target: WsgiTarget, stream: FakeSyncStream | None = None, **settings: Any) -> FakeSyncStream:
    """Run one request to its end."""
    stream = stream or FakeSyncStream()
    log = logging.getLogger("bridge")
    claims = Claims()
    log.addHandler(claims)
    try:
        WsgiApplication(target, log, **settings).run(stream)
    finally:
        log.removeHandler(claims)
    if claims.failed:
        raise claims.failed[0]
    assert stream.over
    return stream


class Claims(logging.Handler):
    """What a test claims inside an application fails the test: the gateway logs it like any other exception."""

    def __init__(self) -> None:
        super().__init__()
        self.failed: list[BaseException] = []

    def emit(self, record: logging.LogRecord) -> None:
        if record.exc_info and isinstance(record.exc_info[1], (AssertionError, pytest.fail.Exception)):
            self.failed.append(record.exc_info[1])


def answers(result: Any, *headers: tuple[str, str], status: str = "200 OK") -> WsgiTarget:
    """An application that returns that."""

    def target(environ: Environ, start_response: Start) -> Iterable[bytes]:
        start_response(status, list(headers))
        returned: Iterable[bytes] = result
        return returned

    return target


def fails(target: WsgiTarget, caplog: pytest.LogCaptureFixture, stream: FakeSyncStream | None = None) -> FakeSyncStream:
    """Serve a request that must be logged as an error."""
    with caplog.at_level(logging.INFO, "bridge"):
        stream = serve(target, stream)
    assert [record.levelname for record in caplog.records] == ["ERROR"]
    return stream


def is_500(stream: FakeSyncStream) -> bool:
    text = b"Internal Server Error"
    plain = b"content-type: text/plain; charset=utf-8\r\n"
    return (stream.status, stream.messages, stream.block) == (500, [("respond", text, True)], plain)


def is_broken(stream: FakeSyncStream) -> bool:
    return stream.aborted and not stream.complete
