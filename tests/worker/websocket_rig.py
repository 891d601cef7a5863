"""A WebSocket of an application without a router: over a tunnel's stream, with a client that makes its own frames."""

from __future__ import annotations

import asyncio
import logging
import struct
from collections.abc import Awaitable, Callable
from typing import Any, cast

import uvloop

from bridge import config
from bridge.core import CANCELLED
from bridge.ipc.message import ABORT, ACK, DATA, HEADER, LAST, RESPONSE, UPGRADE, WANT
from bridge.ipc.segment import Segment
from bridge.ipc.stream import Event
from bridge.worker.asgi import AsgiApplication
from bridge.worker.scope import ScopeBuilder
from bridge.worker.stream import WorkerStream
from bridge.worker.tunnel import Tunnels, TunnelStream
from bridge.worker.types import Message, Receive, Scope, Send, Target
from bridge.worker.websocket import WebSockets
from tests.clocked import Clocked
from tests.worker.fake_stream import PEER

STREAM = 7 << 32 | 5
KEY = "dGhlIHNhbXBsZSBub25jZQ=="  # of RFC 6455, section 1.3, like the answer to it
ACCEPT = b"sec-websocket-accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n"
CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0, 1, 2, 8, 9, 10
MASK = b"\x12\x34\x56\x78"
ACCEPTED = {"type": "websocket.accept"}
Script = Callable[["Client"], Awaitable[None]]


def request(*fields: str) -> bytes:
    """The head of an opening handshake."""
    ours = ["Host: example.test", "Connection: Upgrade", "Upgrade: websocket", f"Sec-WebSocket-Key: {KEY}"]
    return "\r\n".join(["GET /chat?room=1 HTTP/1.1", *ours, "Sec-WebSocket-Version: 13", *fields, "", ""]).encode()


def frame(opcode: int, data: bytes = b"", *, fin: bool = True, rsv: int = 0, mask: bytes | None = MASK) -> bytes:
    """A frame as a client sends it."""
    first = (fin << 7) | (rsv << 4) | opcode
    second = 0x80 if mask else 0
    size = len(data)
    if size < 126:
        head = bytes((first, second | size))
    elif size < 65536:
        head = struct.pack("!BBH", first, second | 126, size)
    else:
        head = struct.pack("!BBQ", first, second | 127, size)
    if mask is None:
        return head + data
    return head + mask + bytes(byte ^ mask[index % 4] for index, byte in enumerate(data))


def closing(code: int, reason: str = "") -> bytes:
    """A close frame as a client sends it."""
    return frame(CLOSE, struct.pack("!H", code) + reason.encode())


class Client:
    """Stands in the place of the router, and of the client behind it."""

    def __init__(self, window: int, room: int) -> None:
        self.loop = asyncio.get_running_loop()
        self.clock = Clocked(self.loop)
        self.segment = Segment.create(2, 1024, 16, 2)  # most tests put nothing into it
        self.window = window
        self.room = room
        self.status = 0
        self.block = b""
        self.body = b""  # of a response other than 101
        self.sent = b""  # what the server has sent behind 101, as far as no frame was read from it
        self.over = False  # the server has sent its last byte
        self.aborted = False
        self.gone = False
        self.finishes = 0
        self.tunnels = 0
        self.credits: list[int] = []
        self.unacknowledged = 0
        self.asked = False
        self.full = False
        self.blocked = False  # the stream waits for the queue
        self.stream: TunnelStream
        self.sockets: WebSockets
        self.app: AsgiApplication
        self._changed = asyncio.Event()

    # What the stream calls

    def begin(self, stream: int) -> bool:
        return not self.gone

    def send(self, message: bytes) -> None:
        _, kind, _, _, _, size, *_ = HEADER.unpack(message)
        assert kind == WANT
        self.credits.append(size)

    def answer(self, stream: int, event: int, message: bytes) -> int:
        if self.gone:
            return CANCELLED
        _, kind, flags, count, length, _, number, head = HEADER.unpack_from(message)
        payload = message[HEADER.size :]
        assert (count, length, self.over) == (0, len(payload), False)
        if kind == RESPONSE:
            assert not self.status
            self.status, self.block = number, payload[:head]
            self.body = payload[head:]
        else:
            assert kind == DATA
            if self.status == 101:
                self.sent += payload
            else:
                self.body += payload
        self.unacknowledged += len(payload) - head
        self.asked = self.asked or bool(flags & ACK)
        self.over = bool(flags & LAST)
        self._wake()
        return 0

    def answer_soon(self, stream: int, message: bytes, rest: bytes) -> int:
        return self.answer(stream, Event.RESPOND, message + rest)

    answer_long = None

    def give_up(self, stream: int, message: bytes) -> None:
        assert HEADER.unpack(message)[1] == ABORT
        self.aborted = True
        self._wake()

    def clear(self) -> bool:
        return not self.full

    def wait_for_chunks(self, stream: WorkerStream) -> None:
        pass

    def wait_for_queue(self, stream: WorkerStream) -> None:
        assert self.full
        self.blocked = True

    def count_tunnels(self, change: int) -> None:
        self.tunnels += change
        assert self.tunnels in (0, 1)

    def finished(self, number: int) -> None:
        self.finishes += 1

    def _wake(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()

    # What the test calls

    @property
    def credit(self) -> int:
        """Bytes that the worker has given back."""
        return sum(self.credits)

    def say(self, *frames: bytes) -> None:
        """Send, all in one piece, which is not there any more afterwards."""
        data = bytearray().join(frames)
        if not self.stream.look(memoryview(data).toreadonly(), 0):
            self.stream.deliver(bytes(data), last=False)
        data[:] = b"?" * len(data)

    def hang_up(self, data: bytes = b"") -> None:
        """The client's FIN, perhaps with a last word."""
        self.stream.deliver(data, last=True)

    def vanish(self) -> None:
        """The connection is reset."""
        self.gone = True
        self.stream.cancel()

    def take(self) -> None:
        """Read what the server has sent, of which it is told."""
        if self.asked:
            self.asked = False
            size, self.unacknowledged = self.unacknowledged, 0
            self.stream.acknowledged(size)

    def drain(self) -> None:
        """The queue has room again."""
        self.full = False
        if self.blocked:
            self.blocked = False
            self.stream.pump()

    async def until(self, condition: Callable[[], object]) -> None:
        """Wait until something has been sent that makes it true."""
        while not condition():
            await self._changed.wait()

    async def hears(self) -> tuple[int, bytes]:
        """Opcode, with the reserved bits, and payload of the server's next frame, which is final and not masked."""
        await self.until(lambda: len(self.sent) > 1)
        self.take()
        first, second = self.sent[0], self.sent[1]
        assert first & 0x80
        assert second < 128
        start, size = 2, second
        if second > 125:
            start = 4 if second == 126 else 10
            size = int.from_bytes(self.sent[2:start], "big")
            assert size > (125 if second == 126 else 65535)
        assert len(self.sent) >= start + size
        data, self.sent = self.sent[start : start + size], self.sent[start + size :]
        return first & 0x7F, data

    async def hears_text(self) -> str:
        """The server's next message."""
        opcode, data = await self.hears()
        assert opcode == TEXT
        return data.decode()

    async def hears_close(self) -> tuple[int, str]:
        """Code and reason of the server's close frame."""
        opcode, data = await self.hears()
        assert opcode == CLOSE
        return int.from_bytes(data[:2], "big"), data[2:].decode()

    async def is_accepted(self) -> None:
        """Wait for the handshake."""
        await self.until(lambda: self.status)
        assert self.status == 101

    async def ends(self) -> None:
        """Wait for the last byte, or for a cut."""
        await self.until(lambda: self.over or self.aborted)


def talk(
    target: Target,
    script: Script,
    head: bytes = b"",
    *,
    window: int = 65536,
    room: int = 1 << 24,
    grace: float | None = None,
    by_hand: bool = False,
    **settings: Any,
) -> Client:
    """Run one WebSocket of `target` to its end, with a client that does what `script` says.

    `by_hand`: its deadlines are those of `client.clock`, which the script turns.
    """

    async def main() -> Client:
        loop = asyncio.get_running_loop()
        app = AsgiApplication(target, ScopeBuilder(), loop, logging.getLogger("bridge"), grace)
        client = Client(window, room)
        clock = cast("asyncio.AbstractEventLoop", client.clock) if by_hand else loop
        sockets = WebSockets(app, config.WebSocket(**({"window": window} | settings)), clock)
        client.app, client.sockets = app, sockets
        client.stream = TunnelStream(Tunnels(client, window), STREAM, UPGRADE, PEER + (head or request()))  # type: ignore[arg-type]
        sockets.start(client.stream)
        assert len(app.tasks) == 1
        try:
            await script(client)
        except BaseException:
            client.vanish()  # nobody waits for its close frame, or for a clock that stands
            raise
        while app.tasks:
            await asyncio.wait(set(app.tasks))
        assert client.finishes == 1
        assert client.tunnels == 0
        assert not len(sockets.keepalive)
        return client

    return uvloop.run(asyncio.wait_for(main(), 20))


async def echo(scope: Scope, receive: Receive, send: Send) -> None:
    """Say everything back."""
    assert await receive() == {"type": "websocket.connect"}
    await send(ACCEPTED)
    while (message := await receive())["type"] == "websocket.receive":
        await send({**message, "type": "websocket.send"})


class Recorder:
    """An application that accepts, and notes what it receives until the end."""

    def __init__(self) -> None:
        self.events: list[Message] = []

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        await send(ACCEPTED)
        while not self.events or self.events[-1]["type"] == "websocket.receive":
            self.events.append(await receive())

    @property
    def end(self) -> tuple[int, str]:
        """Code and reason of websocket.disconnect."""
        assert self.events[-1]["type"] == "websocket.disconnect"
        return self.events[-1]["code"], self.events[-1]["reason"]

    @property
    def messages(self) -> list[Any]:
        """What came before."""
        return [event.get("text", event.get("bytes")) for event in self.events[:-1]]
