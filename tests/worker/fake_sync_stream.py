"""A synchronous stream without a router: what the application's side of a WSGI request sends, observable."""

from __future__ import annotations

import os

from bridge.errors import StreamCancelled
from bridge.ipc.message import UNKNOWN
from tests.worker.fake_stream import GET, PEER


class FakeSyncStream:
    """Implements `worker.types.SyncStream`, and holds the application to what that says.

    Args:
        request: head as a client sends it.
        body: the request body.
        leaves_after: cancelled() says so from this call on; None = the client stays.
    """

    def __init__(self, request: bytes = GET, body: bytes = b"", leaves_after: int | None = None) -> None:
        self.head = PEER + request
        self.number = 0
        self.size = len(body)
        self.over = False
        self.gone = False  # the client left
        self.messages: list[tuple[str, bytes, bool]] = []  # what went out: respond, send or file; body, last
        self.status = 0
        self.block = b""
        self.length = UNKNOWN
        self.flags = 0
        self.aborted = False
        self.flushed = 0  # how many messages were out at the last flush()
        self.reads: list[tuple[int, int]] = []  # what was read of the request body: offset, bytes
        self._body = body
        self._stays = leaves_after

    @property
    def body(self) -> bytes:
        """The response body so far."""
        return b"".join(body for _, body, _ in self.messages)

    @property
    def complete(self) -> bool:
        """Whether the response was completed."""
        return bool(self.messages) and self.messages[-1][2]

    def cancelled(self) -> bool:
        if self._stays is not None:
            self._stays -= 1
            self.gone = self.gone or self._stays < 0
        return self.gone

    def read(self, offset: int, size: int) -> bytes:
        self._check()
        assert size > 0
        assert offset + size <= self.size
        assert not self.reads or offset >= sum(self.reads[-1])
        self.reads.append((offset, size))
        return self._body[offset : offset + size]

    def respond(self, status: int, block: bytes, size: int, flags: int, body: bytes, last: bool) -> None:
        self._check()
        assert not self.messages
        self.status, self.block, self.length, self.flags = status, block, size, flags
        self._record("respond", body, last)

    def send(self, body: bytes, last: bool) -> None:
        self._check()
        assert self.messages
        self._record("send", body, last)

    def send_file(self, file: int, offset: int, count: int) -> None:
        self._check()
        assert self.messages
        assert count > 0
        data = os.pread(file, count, offset)
        assert len(data) == count
        self._record("file", data, last=True)

    def flush(self) -> None:
        self.flushed = len(self.messages)

    def abort(self) -> None:
        if not self.over:
            self.aborted = self.over = True

    def _record(self, kind: str, body: bytes, last: bool) -> None:
        assert type(body) is bytes
        assert not self.over
        self.messages.append((kind, body, last))
        self.over = last

    def _check(self) -> None:
        if self.gone:
            raise StreamCancelled
