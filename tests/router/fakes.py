"""A transport and a service without sockets and without time, for the tests of connections."""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import Callable
from typing import Any

from bridge.config import Http
from bridge.router.framing import Framing
from bridge.router.http1 import Connection
from bridge.router.wheel import Wheel
from tests.clocked import Clock

GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
POST = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\n"
EXPECT = POST.replace(b"\r\n\r\n", b"\r\nExpect: 100-continue\r\n\r\n")
CHUNKED = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
DATE = b"Sun, 06 Nov 1994 08:49:37 GMT"


class FakeSocket:
    """What is asked of a transport's socket."""

    def __init__(self) -> None:
        self.resets = False  # closing sends RST

    def fileno(self) -> int:
        """Any number."""
        return 99

    def setsockopt(self, level: int, option: int, value: bytes) -> None:
        """Only this is set."""
        assert (level, option) == (socket.SOL_SOCKET, socket.SO_LINGER)
        on, seconds = struct.unpack("ii", value)
        self.resets = bool(on) and not seconds


class FakeTransport(asyncio.Transport):
    """Keeps what is written; `room` is what the client takes before the buffer fills."""

    def __init__(self, peername: Any = ("192.0.2.7", 4711), sockname: Any = ("192.0.2.1", 80)) -> None:
        super().__init__()
        self.socket = FakeSocket()
        self.extra = {"peername": peername, "sockname": sockname, "socket": self.socket}
        self.protocol: Connection | None = None
        self.written = bytearray()
        self.writes: list[Any] = []
        self.room: float = float("inf")
        self.buffered = 0
        self.reading = True
        self.eof = False
        self.closing = False
        self.aborted = False

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        """As the real one."""
        return self.extra.get(name, default)

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        """Only zero is expected."""
        assert high == 0

    def get_write_buffer_size(self) -> int:
        """Bytes the client has not taken."""
        return self.buffered

    def write(self, data: Any) -> None:
        """Take bytes as uvloop does: what the client does not take makes it call pause_writing."""
        self.writelines([data])

    def writelines(self, list_of_data: Any) -> None:
        """Several at once: pause_writing is called behind the last."""
        assert not self.closing
        assert not self.eof
        was = self.buffered
        for data in list_of_data:
            self.writes.append(data)
            self.written += data
            taken = min(self.room, len(data))
            self.room -= taken
            self.buffered += len(data) - int(taken)
        if self.buffered and not was and self.protocol is not None:
            self.protocol.pause_writing()

    def take(self, count: int) -> None:
        """The client reads `count` bytes of what waits."""
        self.buffered -= min(count, self.buffered)
        if not self.buffered and self.protocol is not None:
            self.room = float("inf")
            self.protocol.resume_writing()

    def can_write_eof(self) -> bool:
        """TCP can."""
        return True

    def write_eof(self) -> None:
        """Shut down the sending side."""
        self.eof = True

    def pause_reading(self) -> None:
        """Stop."""
        assert self.reading
        self.reading = False

    def resume_reading(self) -> None:
        """Go on."""
        assert not self.reading
        self.reading = True

    def close(self) -> None:
        """Close when flushed."""
        self.closing = True

    def abort(self) -> None:
        """Close at once."""
        self.closing = self.aborted = True

    def is_closing(self) -> bool:
        """As the real one."""
        return self.closing


class FakeExchange:
    """Collects a request; answers as soon as it is complete when `answer` is set."""

    def __init__(self, connection: Connection, head: bytes, framing: Framing, answer: bytes | None) -> None:
        self.connection = connection
        self.head = head
        self.framing = framing
        self.body = bytearray()
        self.complete = False
        self.gone = 0
        self.answered: list[int] = []
        self.ready = 0
        self.offer = 7  # bytes of buffer: small, so that bodies come in pieces
        self.buffer = memoryview(bytearray(65536))
        self._answer = answer

    def body_buffer(self, lacking: int) -> memoryview:
        """Memory for a piece of body."""
        assert not self.complete
        return self.buffer[: self.offer]

    def body_filled(self, count: int, complete: bool) -> None:
        """A piece has arrived."""
        self.body_bytes(bytes(self.buffer[:count]), complete)

    def body_bytes(self, data: bytes, complete: bool) -> None:
        """A piece has arrived."""
        self.body += data
        self.complete = complete
        if complete and self._answer is not None:
            self.connection.respond(200, b"content-type: text/plain\r\n", len(self._answer), 0, self._answer, True)

    def client_gone(self) -> None:
        """Count it."""
        self.gone += 1

    def client_answered(self, status: int) -> None:
        """Note it."""
        self.answered.append(status)

    def client_ready(self) -> None:
        """Count it."""
        self.ready += 1


class FakeHangups:
    """Remembers who is watched."""

    def __init__(self) -> None:
        self.watched: set[Any] = set()

    def watch(self, fd: int, connection: Any) -> None:
        """Begin."""
        self.watched.add(connection)

    def forget(self, fd: int, connection: Any) -> None:
        """End."""
        self.watched.discard(connection)


class FakeService:
    """What connections share; `answer` = None leaves the answers to the test."""

    def __init__(self, answer: bytes | None = b"Hello", **limits: Any) -> None:
        self.http = Http(**limits)
        self.clock = Clock()
        self.wheel = Wheel(self.clock, self.clock.call_later, 0.5)
        self.hangups: Any = FakeHangups()
        self.connections: set[Any] = set()
        self.kept = 0
        self.most_kept = 1000
        self.draining = False
        self.room = True
        self.server = b"Bridge"
        self.answer = answer
        self.exchanges: list[FakeExchange] = []
        self.refusals: list[tuple[bytes, int]] = []
        self.soon: list[Callable[[], None]] = []
        self.early: Callable[[FakeExchange], None] | None = None

    def admits(self) -> bool:
        """Unless told otherwise there is room."""
        return self.room

    def call_soon(self, callback: Callable[[], None]) -> None:
        """As a loop's; see `Client.settle`."""
        self.soon.append(callback)

    @property
    def fields(self) -> bytes:
        """The lines of both."""
        return b"server: %b\r\ndate: %b\r\n" % (self.server, DATE)

    @property
    def date(self) -> bytes:
        """The same date always."""
        return DATE

    def trusts(self, host: str) -> bool:
        """One peer is trusted."""
        return host == "192.0.2.7"

    def exchange(
        self, connection: Connection, head: bytes, framing: Framing, body: bytes, complete: bool
    ) -> FakeExchange:
        """Begin a request."""
        exchange = FakeExchange(connection, head, framing, self.answer)
        self.exchanges.append(exchange)
        if self.early is not None:
            self.early(exchange)
        if body or complete:
            exchange.body_bytes(body, complete)
        return exchange

    def refused(self, connection: Connection, head: bytes, status: int) -> None:
        """Note it."""
        self.refusals.append((head, status))


class Client:
    """The other end of one connection."""

    def __init__(self, service: FakeService, transport: FakeTransport | None = None) -> None:
        self.service = service
        self.transport = transport or FakeTransport()
        self.connection = Connection(service)
        self.transport.protocol = self.connection
        self.connection.connection_made(self.transport)

    @property
    def exchange(self) -> FakeExchange:
        """The latest one."""
        return self.service.exchanges[-1]

    @property
    def received(self) -> bytes:
        """Everything written so far."""
        return bytes(self.transport.written)

    def send(self, data: bytes, piece: int = 1 << 30) -> int:
        """Let the transport read `data` in pieces, until it is paused or closed; returns how much was read."""
        position = 0
        while position < len(data) and self.transport.reading and not self.transport.closing:
            buffer = self.connection.get_buffer(65536)
            assert len(buffer) > 0
            count = min(len(buffer), piece, len(data) - position)
            buffer[:count] = data[position : position + count]
            self.connection.buffer_updated(count)
            position += count
            self.settle()
        return position

    def settle(self) -> None:
        """Run what was to be run soon."""
        while self.service.soon:
            self.service.soon.pop(0)()

    def close(self) -> None:
        """The client closes; the transport does what uvloop does."""
        self.connection.eof_received()
        if not self.transport.closing:
            self.transport.close()


def asked(request: bytes = GET, **limits: float) -> Client:
    """A client whose request waits for its answer."""
    client = Client(FakeService(answer=None, **limits))
    client.send(request)
    return client
