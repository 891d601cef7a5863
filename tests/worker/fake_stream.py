"""A stream without a router: what the application's side of a request sends and waits for, observable."""

from __future__ import annotations

import asyncio

from bridge.errors import StreamCancelled
from bridge.ipc.message import UNKNOWN

PEER = b"192.0.2.7\x0049152\x00192.0.2.1\x008080\n"
GET = b"GET / HTTP/1.1\r\nHost: example.test\r\n\r\n"


class FakeStream:
    """Implements `worker.types.Stream`.

    Args:
        request: head as a client sends it.
        body: pieces of the request body that are here already.
        ended: no more body will come.
    """

    def __init__(self, request: bytes = GET, body: tuple[bytes, ...] = (), *, ended: bool = True) -> None:
        self.head = PEER + request
        self.number = 0
        self.cancelled = False
        self.messages: list[tuple[str, bytes, bool]] = []  # what went out: respond or send, body, last
        self.status = 0
        self.block = b""
        self.size = UNKNOWN
        self.flags = 0
        self.aborted = False
        self.finishes = 0
        self.reads = 0  # calls of readable()
        self.waits = 0  # calls of writable()
        self.full = False  # respond() and send() ask to wait
        self._pieces = list(body)
        self._complete = ended
        self.ended = ended and not body
        self._changed = asyncio.Event()

    # What the test does

    def feed(self, data: bytes, *, last: bool = False) -> None:
        """More of the request body arrives."""
        if data:
            self._pieces.append(data)
        self._complete = last
        self.ended = last and not self._pieces
        self._wake()

    def cancel(self) -> None:
        """The client leaves."""
        self.cancelled = True
        self._wake()

    def drain(self) -> None:
        """The client has taken what was sent: whoever waits to send more may."""
        self._wake()

    @property
    def body(self) -> bytes:
        """The response body so far."""
        return b"".join(body for _, body, _ in self.messages)

    @property
    def complete(self) -> bool:
        """Whether the response was completed."""
        return bool(self.messages) and self.messages[-1][2]

    # What the application's side does

    def begin(self) -> bool:
        return not self.cancelled

    def take(self) -> bytes | None:
        if not self._pieces:
            return None
        data = b"".join(self._pieces)
        self._pieces.clear()
        self.ended = self._complete
        return data

    async def readable(self) -> None:
        self.reads += 1
        while not (self._pieces or self._complete or self._over()):
            await self._changed.wait()

    def respond(self, status: int, block: bytes, size: int, flags: int, body: bytes, last: bool) -> bool:
        self._check()
        assert not self.messages
        self.status, self.block, self.size, self.flags = status, block, size, flags
        return self._record("respond", body, last)

    def send(self, body: bytes, last: bool) -> bool:
        self._check()
        assert self.messages
        assert not self.complete
        return self._record("send", body, last)

    async def writable(self) -> None:
        self.waits += 1
        if self.full and not self.cancelled:
            await self._changed.wait()
        self._check()

    def abort(self) -> None:
        assert self.messages
        assert not self.complete
        self.aborted = True
        self._wake()

    async def gone(self) -> None:
        while not self._over():
            await self._changed.wait()

    def finished(self) -> None:
        self.finishes += 1

    def _record(self, kind: str, body: bytes, last: bool) -> bool:
        assert type(body) is bytes
        self.messages.append((kind, body, last))
        if last:
            self._wake()
        return not self.full

    def _check(self) -> None:
        if self.cancelled:
            raise StreamCancelled

    def _over(self) -> bool:
        return self.cancelled or self.aborted or self.complete

    def _wake(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()
