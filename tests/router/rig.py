"""Both sides of an application's ports in one loop, over real shared memory; only the clients are made up."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable
from typing import Any, cast

import uvloop

from bridge import config
from bridge.ipc import handshake
from bridge.ipc.link import Link
from bridge.ipc.message import HEADER, UNKNOWN
from bridge.router.application import Application
from bridge.router.exchange import Exchange
from bridge.router.framing import PLAIN, Framing
from bridge.worker.attach import Attached
from bridge.worker.stream import WorkerStream
from bridge.worker.tunnel import TunnelStream
from tests.clocked import Clocked

PEER = b"192.0.2.7\x004711\x00192.0.2.1\x0080\n"
HEAD = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
NORMAL = config.Memory()
TINY = config.Memory(chunk_size=64, chunks=64, limit=4096, item_size=128, queue=4, window=512)
GEOMETRIES = {"normal": NORMAL, "tiny": TINY}
UPLOAD = Framing(size=100_000)  #: of a request whose body does not come along with its head
Body = Callable[["Worker", WorkerStream], Awaitable[None]]


def run(test: Awaitable[None]) -> None:
    """Run a test's coroutine on uvloop; an error in a callback of the loop fails the test."""

    async def watched() -> None:
        errors: list[dict[str, Any]] = []
        asyncio.get_running_loop().set_exception_handler(lambda _, context: errors.append(context))
        await test
        assert not errors, errors

    uvloop.run(watched())


async def until(condition: Callable[[], Any]) -> None:
    """Let the loop turn until something is true."""
    async with asyncio.timeout(30):
        while not condition():  # noqa: ASYNC110 - conditions of both sides, which tell nobody when they change
            await asyncio.sleep(0)


async def settle(turns: int = 30) -> None:
    """Let everything happen that needs nothing from outside; for what must *not* happen."""
    for _ in range(turns):
        await asyncio.sleep(0)


class FakeConnection:
    """What an exchange needs of a connection. `stalled`: the client takes nothing, so what is written stays held."""

    def __init__(self) -> None:
        self.status = 0
        self.block = b""
        self.size: int | None = None
        self.body = b""
        self.held: list[Any] = []
        self.complete = False
        self.refused: tuple[int, int | None] | None = None
        self.aborted = False
        self.continues = 0
        self.paused = False
        self.flushed = True
        self.stalled = False
        self.crowded = False
        self.room = 0  # bytes that the socket takes without the transport
        self.length_kept = True
        self.exchange: Exchange | None = None

    def respond(self, status: int, block: bytes, size: int | None, flags: int, body: Any, last: bool) -> bool:
        assert not self.status
        self.status, self.block, self.size = status, block, size
        return self.write(body, last)

    def write(self, data: Any, last: bool) -> bool:
        assert self.status
        assert not self.complete
        assert not self.aborted
        if not self.length_kept:
            self.aborted = True
            return False
        self.body += data
        if self.stalled:
            self.held.append(data)
            self.flushed = False
        self.complete = last
        return True

    def send_now(self, data: Any) -> int:
        assert self.flushed
        taken = min(self.room, len(data))
        self.room -= taken
        self.body += data[:taken]
        return taken

    def send_file(self, file: int, offset: int, count: int) -> bool:
        try:
            return self.write(os.pread(file, count, offset), True)
        finally:
            os.close(file)

    def take(self) -> None:
        """The client takes everything."""
        self.held.clear()
        if not self.flushed:
            self.flushed = True
            if self.exchange is not None:
                self.exchange.client_ready()

    def send_continue(self) -> None:
        self.continues += 1

    def refuse(self, status: int, retry_after: int | None = None) -> None:
        assert not self.status
        assert self.refused is None
        self.refused = (status, retry_after)

    def abort(self) -> None:
        assert not self.complete
        self.aborted = True

    def pause_body(self) -> None:
        assert not self.paused
        self.paused = True

    def resume_body(self) -> None:
        assert self.paused
        self.paused = False

    async def completed(self) -> None:
        """Wait for the end of the answer."""
        await until(lambda: self.complete)

    @property
    def ended(self) -> bool:
        """Whether the client has its answer, whatever it is."""
        return self.complete or self.aborted or self.refused is not None


class Sink:
    """What a WebSocket's stream tells beside its bytes."""

    def __init__(self) -> None:
        self.heard = False
        self.left = False

    def arrived(self, data: bytes | memoryview) -> None:
        """For those that want their bytes at once."""

    def relieved(self) -> None:
        """None of them asks for room."""

    def lost(self) -> None:
        """The stream is cancelled, which it says itself."""

    def leave(self) -> None:
        """The router ends."""
        self.left = True


class Worker:
    """A worker's side: an `Attached`, and every stream that it has begun to run."""

    def __init__(self, rig: Rig, number: int, limit: int, body: Body | None) -> None:
        self.number = number
        self.streams: list[WorkerStream] = []
        self.tasks: set[asyncio.Task[None]] = set()
        self.lost = 0
        self.ended = asyncio.Event()
        self.attached: Attached
        self._body = body
        self.limit = limit
        self._window = rig.application.http.websocket.window
        self.link, theirs = Link.pair()
        rig.application.introduce(number, number + 1000, theirs)

    def attach(self) -> None:
        """Accept the router's offer, and take requests."""
        received = self.link.receive()
        assert received
        attachment = handshake.accept(self.link, "test", *received)
        self.attached = Attached(attachment, self.limit, self._start, self._lost, self)
        self.attached.open()

    @property
    def window(self) -> int:
        """Bytes of one WebSocket that may be under way, in each direction."""
        return self._window

    def start(self, stream: TunnelStream) -> None:
        """A WebSocket begins, as any stream does."""
        stream.sink = Sink()
        self._start(stream)

    def _start(self, stream: WorkerStream) -> None:
        if self._body is None:
            if stream.begin():
                self.streams.append(stream)
            else:
                stream.finished()
        else:
            task = asyncio.get_running_loop().create_task(self._run(self._body, stream))
            self.tasks.add(task)
            task.add_done_callback(self.tasks.discard)

    async def _run(self, body: Body, stream: WorkerStream) -> None:
        try:
            if stream.begin():
                self.streams.append(stream)
                await body(self, stream)
        finally:
            stream.finished()

    def _lost(self, attached: Attached) -> None:
        self.lost += 1
        self.ended.set()

    def die(self) -> None:
        """The process is gone: nothing of it runs any more, and the kernel closes its link."""
        for task in self.tasks:
            task.cancel()
        attached = self.attached
        attached._alive = False
        attached.loop.remove_reader(attached.port.bell.fileno())
        attached.loop.remove_reader(attached.port.link.fileno())
        attached.port.close()


class Rig:
    """An application with workers, and requests to it."""

    def __init__(self, memory: config.Memory = NORMAL, http: config.Http | None = None, **settings: Any) -> None:
        self.cut: list[tuple[int, str]] = []
        self.ready: list[int] = []
        self.application = Application(
            config.Application("none", **settings),
            memory,
            "test",
            lambda number, reason: self.cut.append((number, reason)),
            self.ready.append,
            http,
        )
        self.clock = Clocked(self.application.loop)
        self.workers: list[Worker] = []
        self.segments: list[Any] = []
        self.over: list[Exchange] = []

    def by_hand(self) -> None:
        """From now on the application's time is that of `clock`, which the test turns."""
        self.application.loop = cast("asyncio.AbstractEventLoop", self.clock)

    def worker(self, body: Body | None = None, *, number: int = 0, limit: int = 100, attach: bool = True) -> Worker:
        """A new worker; with `body` each of its streams is run by it."""
        worker = Worker(self, number or len(self.workers) + 2, limit, body)
        self.workers.append(worker)
        self.segments.append(self.application.workers[worker.number].port.segment)
        if attach:
            worker.attach()
        return worker

    def request(
        self, body: bytes = b"", *, complete: bool = True, head: bytes = HEAD, framing: Framing = PLAIN
    ) -> tuple[FakeConnection, Exchange]:
        """Begin a request."""
        connection = FakeConnection()
        exchange = Exchange(self.application, connection, PEER + head, framing, False)  # type: ignore[arg-type]
        connection.exchange = exchange
        exchange.on_over = self.over.append
        exchange.begin(body, complete)
        return connection, exchange

    async def idle(self) -> None:
        """Wait until nothing is under way, and check that every slot and every chunk is back."""
        application = self.application
        await until(lambda: not application.exchanges and not application.waiting)
        await until(lambda: not any(worker.tasks for worker in self.workers))
        await until(lambda: not application.disk.jobs)
        await settle()
        assert not application.tunnels
        assert sorted(application._slots) == list(range(application.geometry.slots))
        assert application.pool.busy() == application.heads.busy() == 0
        assert not application.pool._waiting
        for worker in self.workers:
            if worker.number in application.workers and hasattr(worker, "attached"):
                assert not worker.attached.streams
                assert application.workers[worker.number].port.segment.chunks.busy() == 0
                assert not application.workers[worker.number]._flying

    async def close(self) -> None:
        """The router goes; every worker notices."""
        living = [worker for worker in self.workers if worker.number in self.application.workers]
        self.application.close()
        for worker in living:
            if hasattr(worker, "attached"):
                await worker.ended.wait()
            else:
                worker.link.close()


def pattern(size: int) -> bytes:
    """Bytes in which a piece that is missing, repeated or in the wrong place shows."""
    return b"".join(number.to_bytes(4, "big") for number in range(size // 4 + 1))[:size]


def upload(connection: FakeConnection, exchange: Exchange, body: bytes, position: int = 0) -> int:
    """Read `body` from the socket as long as it is not paused, as `http1` does; returns how far that went."""
    while position < len(body) and not connection.paused:
        buffer = exchange.body_buffer(len(body) - position)
        assert 0 < len(buffer) <= len(body) - position
        count = len(buffer)
        buffer[:] = body[position : position + count]
        position += count
        exchange.body_filled(count, position == len(body))
    return position


async def read(stream: WorkerStream) -> bytes:
    """The whole body of a request."""
    parts = []
    while True:
        data = stream.take()
        if data:
            parts.append(data)
        elif stream.ended or stream.cancelled:
            return b"".join(parts)
        else:
            await stream.readable()


async def echo(worker: Worker, stream: WorkerStream) -> None:
    """Answer with the request's body."""
    await answer(stream, await read(stream))


async def answer(stream: WorkerStream, body: bytes) -> None:
    """A whole answer of any size."""
    if not stream.respond(200, b"x: y\r\n", len(body), 0, body, True):
        await stream.writable()


def reply(stream: WorkerStream, body: bytes = b"ok") -> None:
    """A small answer, at once."""
    stream.respond(200, b"", len(body), 0, body, True)


def raw(worker: Worker, kind: int, stream: int = 0, **fields: int) -> None:
    """Send a message that no stream of ours sends."""
    flags, pieces, length = fields.get("flags", 0), fields.get("pieces", 0), fields.get("length", 0)
    size, number, head = fields.get("size", UNKNOWN), fields.get("number", 0), fields.get("head", 0)
    worker.attached.send(HEADER.pack(stream, kind, flags, pieces, length, size, number, head))
