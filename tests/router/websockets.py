"""WebSockets over real sockets, a real loop and real shared memory; what the worker says in them is the test's."""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import Awaitable
from contextlib import suppress
from functools import partial
from typing import Any

from bridge import config
from bridge.ipc.message import HEADER, RESPONSE, UNKNOWN
from bridge.ipc.status import ROW, Row
from bridge.router.http1 import Connection
from bridge.router.service import Service
from bridge.worker.stream import WorkerStream
from bridge.worker.tunnel import TunnelStream
from tests.router import rig
from tests.router.rig import NORMAL, Rig, Worker, pattern, until

HANDSHAKE = (
    b"GET /chat HTTP/1.1\r\nHost: a\r\nConnection: keep-alive, Upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)
LARGE = pattern(300_000)
BLOCK = b"sec-websocket-accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n"


class Client:
    """A client on a socket of its own."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    async def read(self, count: int) -> bytes:
        """Exactly so many bytes."""
        async with asyncio.timeout(30):
            return await self.reader.readexactly(count)

    async def head(self) -> bytes:
        """A whole head."""
        async with asyncio.timeout(30):
            return await self.reader.readuntil(b"\r\n\r\n")

    async def rest(self) -> bytes:
        """All that comes before FIN; raises ConnectionResetError for a reset."""
        async with asyncio.timeout(30):
            return await self.reader.read()

    def reset(self) -> None:
        """Leave without FIN."""
        sock = self.writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.writer.transport.abort()

    async def close(self) -> None:
        """Leave."""
        self.writer.close()
        with suppress(ConnectionError):
            await self.writer.wait_closed()


class WebSockets(Rig):
    """A rig with a listener in front.

    Args:
        memory: of the application.
        http: limits; its `websocket.window` is used as it is.
        access_log: path of the log.
        settings: of the application.
    """

    def __init__(
        self,
        memory: config.Memory = NORMAL,
        http: config.Http | None = None,
        access_log: str | None = None,
        **settings: Any,
    ) -> None:
        window = config.WebSocket(window=min(65536, memory.window))
        http = http or config.Http(websocket=window)
        super().__init__(memory, http, **settings)
        whole = config.single(self.application.settings, http=http, access_log=access_log)
        self.row = Row(memoryview(bytearray(ROW)).cast("Q"))
        self.service = Service(whole, {"app": self.application}, self.row, 1000)
        self._server: asyncio.Server | None = None
        self._clients: list[Client] = []
        _begun.append(self)

    async def client(self, data: bytes = HANDSHAKE) -> Client:
        """A new client, which has sent `data`."""
        if self._server is None:
            loop, make = asyncio.get_running_loop(), partial(Connection, self.service, self.application)
            self._server = await loop.create_server(make, "127.0.0.1", 0)
        client = Client(*await asyncio.open_connection(*self._server.sockets[0].getsockname()))
        self._clients.append(client)
        client.writer.write(data)
        return client

    async def open(self, worker: Worker, behind: bytes = b"") -> tuple[Client, TunnelStream]:
        """A WebSocket: the client, which has sent something behind its handshake, and the worker's stream."""
        client = await self.client(HANDSHAKE + behind)
        stream = await self.asked(worker)
        stream.respond(101, BLOCK, 0, 0, b"", False)
        assert (await client.head()).startswith(b"HTTP/1.1 101 ")
        return client, stream

    async def asked(self, worker: Worker) -> TunnelStream:
        """The next stream that the worker has."""
        await until(lambda: worker.streams)
        stream = worker.streams.pop(0)
        assert isinstance(stream, TunnelStream)
        return stream

    async def end(self, client: Client, stream: WorkerStream) -> None:
        """The last client leaves, and nothing is left."""
        if not stream.over:
            stream.abort()
        await client.close()
        await self.idle()
        await self.close()

    def abandon(self) -> None:
        """Cut everything, so that the loop can be closed: the test has failed."""
        if self._server is not None:
            self._server.close()
        for client in self._clients:
            client.writer.transport.abort()
        for connection in self.service.connections:
            connection._transport.abort()
        self.service.hangups.close()

    async def close(self) -> None:
        """Everybody leaves."""
        if self._server is not None:
            self._server.close()
        await until(lambda: not self.service.connections)
        self.service.hangups.close()
        if self.service.access_log is not None:
            self.service.access_log.close()
        for worker in self.workers:
            if worker.attached._alive and worker.number not in self.application.workers:
                await worker.ended.wait()  # it was cut off
        await super().close()


_begun: list[WebSockets] = []


def run(test: Awaitable[None]) -> None:
    """As `rig.run`; a test that fails does not leave the loop waiting for its sockets."""

    async def watched() -> None:
        try:
            async with asyncio.timeout(60):
                await test
        except BaseException:
            for each in _begun:
                each.abandon()
            await asyncio.sleep(0.1)
            raise
        finally:
            _begun.clear()

    rig.run(watched())


def raw(worker: Worker, kind: int, stream: WorkerStream, flags: int = 0, data: bytes = b"", number: int = 0) -> None:
    """Send a message of this stream, whatever state it is in."""
    head = len(data) if kind == RESPONSE else 0
    worker.attached.send(HEADER.pack(stream._stream, kind, flags, 0, len(data), UNKNOWN, number, head) + data)


async def echo(stream: WorkerStream) -> None:
    """Send everything back, to the client's FIN."""
    while not stream.ended and not stream.cancelled:
        if data := stream.take():
            if not stream.send(data, False):
                await stream.writable()
        else:
            await stream.readable()
    if not stream.cancelled:
        stream.send(b"", True)


def unread(stream: WorkerStream) -> int:
    """Bytes that wait for whoever reads from the stream."""
    return sum(map(len, stream._parts or ()))
