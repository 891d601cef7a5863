"""A WSGI application as an ASGI application, for where both kinds share a process: requests run on threads.

The request is run by `wsgi.WsgiApplication`, as in a worker of its own, so the application finds the same environ and
is held to the same rules. Here it gets a stream over ASGI's messages:

    task (event loop)                          thread
    orders ◄─── bytes to get, messages to send ── read(), respond(), send() …
    awaits them, or send() ────────── result ──► goes on

So a client that takes or sends slowly holds its thread, but little is kept in memory. A body of announced length is
read as it comes; one without is collected first, in memory and then in a file, because applications ask CONTENT_LENGTH.

A second task receives all the time, a little ahead of what is read: in no other way does ASGI tell that a client has
left, and the application can be told of it although it has not read its body. Who leaves with more than that unread is
noticed when the server is, at send().
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import os
import queue
import tempfile
import threading
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import Future
from functools import partial
from logging import Logger
from typing import IO, Any

from bridge.errors import StreamCancelled
from bridge.ipc.message import HTTP_1_0, HTTPS, UNKNOWN
from bridge.worker.head_of_scope import announced_length, head_of
from bridge.worker.types import Message, Receive, Scope, Send, WsgiTarget
from bridge.worker.wsgi import WsgiApplication

IN_MEMORY = 1048576  #: bytes of a collected body; a longer one lies in a file
PIECE = 65536  #: bytes of a file that are sent at once
AHEAD = 65536  #: bytes of a body that are received before they are asked for
MOST_PREFIXES = 64  #: root paths whose environs are remembered


class WsgiAdapter:
    """See the head of the file. It has no lifespan, and refuses WebSockets.

    Args:
        target: the WSGI application.
        log: gets its tracebacks.
        threads: requests that run at once; the others wait.
    """

    def __init__(self, target: WsgiTarget, log: Logger, threads: int) -> None:
        self._target = target
        self._log = log
        self._threads = threads
        self._pool = _Pool(threads)
        self._applications: dict[str, WsgiApplication] = {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI."""
        if scope["type"] == "websocket":
            await receive()
            await send({"type": "websocket.close"})
        elif scope["type"] == "http":
            stream = _Stream(scope, receive, send)
            await stream.run(self._application(scope["root_path"]), self._pool)
        else:
            raise ValueError(f"a WSGI application has no {scope['type']}")

    def _application(self, root_path: str) -> WsgiApplication:
        application = self._applications.get(root_path)
        if application is None:
            if len(self._applications) >= MOST_PREFIXES:
                self._applications.clear()
            # How many processes there are is not known here: PEP 3333 lets us say that there may be others.
            application = WsgiApplication(self._target, self._log, "", (root_path,), self._threads, processes=2)
            self._applications[root_path] = application
        return application


class _Pool:
    """Threads that are started when they are needed, and that no end of the process waits for."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._started = 0
        self._idle = threading.Semaphore(0)
        self._jobs: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()

    def submit(self, job: Callable[[], None]) -> None:
        """Run a job that raises nothing on the next thread that is free; called by the event loop alone.

        Raises:
            RuntimeError: the system gives us no thread, and there is none that could come to it.
        """
        self._jobs.put(job)
        if not self._idle.acquire(blocking=False) and self._started < self._most:
            try:
                threading.Thread(target=self._work, name=f"wsgi-{self._started + 1}", daemon=True).start()
            except RuntimeError:
                if not self._started:
                    raise
            else:
                self._started += 1

    def _work(self) -> None:
        while True:
            self._jobs.get()()
            self._idle.release()


class _Stream:
    """A request with its response: a `worker.types.SyncStream` for the thread, over ASGI's messages."""

    def __init__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.head = head_of(scope)
        old = scope["http_version"] == "1.0"
        self.number = (HTTP_1_0 if old else 0) | (HTTPS if scope["scheme"] == "https" else 0)
        self.over = False
        self.size = announced_length(scope)
        self._receive = receive
        self._send = send
        self._loop = asyncio.get_running_loop()
        self._orders: asyncio.Queue[tuple[Future[Any], Callable[[], Awaitable[Any]]] | None] = asyncio.Queue()
        self._lock = threading.Lock()
        self._order: Future[Any] | None = None  # what the thread waits for
        self._gone = False  # nobody waits for the response
        # The task puts bytes at the end, the thread takes them from the front.
        self._held = bytearray()  # bytes of the body that came, and were not read
        self._complete = False  # all of the body came
        self._end: Exception | None = None  # nothing more comes, because of this
        self._wanted = 0  # bytes that are asked for
        # A client that waits for "100 Continue" gets it at the first receive(), so when the body is asked for.
        self._ahead = 0 if any(name.lower() == b"expect" for name, _ in scope["headers"]) else AHEAD
        self._room = asyncio.Event()  # perhaps fewer bytes are held
        self._more = asyncio.Event()  # perhaps more
        self._file: IO[bytes] | None = None  # or lies here

    # The task

    async def run(self, application: WsgiApplication, pool: _Pool) -> None:
        """From the first byte of the body to the end of the application's run."""
        if self.size == UNKNOWN and not await self._collect(pool):
            return
        watch = self._loop.create_task(self._watch())
        try:
            pool.submit(partial(contextvars.copy_context().run, self._run, application))
            while (order := await self._orders.get()) is not None:
                await self._obey(*order)
        finally:
            self._close()
            watch.cancel()

    def _run(self, application: WsgiApplication) -> None:
        # On the thread.
        try:
            if not self._gone:
                application.run(self)
        finally:
            if self._file is not None:
                self._file.close()
            self._tell(None)

    async def _obey(self, order: Future[Any], what: Callable[[], Awaitable[Any]]) -> None:
        try:
            result = await what()
        except OSError:
            self._close()  # as send() of ASGI says it of a client that has left
        except Exception as exc:  # noqa: BLE001 - the thread's to handle
            if not order.done():
                order.set_exception(exc)
        else:
            if not order.done():
                order.set_result(result)

    def _close(self) -> None:
        """Nobody waits any more: whoever does on the thread's side is told."""
        with self._lock:
            self._gone = True
            if self._order is not None and not self._order.done():
                self._order.set_exception(StreamCancelled("the client has left"))

    async def _watch(self) -> None:
        """Receive what the client sends, until it leaves."""
        while self._end is None:
            while not self._complete and len(self._held) >= max(self._wanted, self._ahead):
                self._room.clear()
                await self._room.wait()
            try:
                message = await self._receive()
            except Exception as exc:  # noqa: BLE001 - of middleware, for whoever reads
                self._end = exc
            else:
                self._take(message)
            self._more.set()

    def _take(self, message: Message) -> None:
        if message["type"] == "http.disconnect":
            self._end = StreamCancelled("the client left inside the request body")
            if not self.over:
                self._close()
        elif not self._complete:
            self._held += message.get("body", b"")
            self._complete = not message.get("more_body", False)

    async def _fetch(self, size: int) -> None:
        """Wait until so many bytes of the body are held, or all of it."""
        self._wanted = size
        self._room.set()
        while len(self._held) < size and not self._complete:
            if self._end is not None:
                raise self._end
            self._more.clear()
            await self._more.wait()
        self._wanted = 0

    async def _collect(self, pool: _Pool) -> bool:
        """Take a body of unknown length; False = the client has left."""
        size = 0
        try:
            while not self._complete:
                held = len(self._held)
                self._take(await self._receive())
                if self._end is not None:
                    return False
                size += len(self._held) - held
                if len(self._held) > IN_MEMORY or (self._file is not None and self._complete):
                    await self._write(pool)
            self.size = size
        finally:
            if self.size == UNKNOWN and self._file is not None:
                self._file.close()
        return True

    async def _write(self, pool: _Pool) -> None:
        """Move what is held to the file, on a thread."""
        data, self._held = self._held, bytearray()
        file = self._file = self._file or tempfile.TemporaryFile(buffering=0)  # noqa: SIM115 - closed by `_run`
        written: asyncio.Future[None] = self._loop.create_future()

        def write() -> None:
            failure: Exception | None = None
            try:
                file.write(data)
            except (OSError, ValueError) as exc:  # no room; or it was closed, for the task has been cancelled
                failure = exc
            with contextlib.suppress(RuntimeError):  # the loop has been closed
                self._loop.call_soon_threadsafe(done, failure)

        def done(failure: Exception | None) -> None:
            if not written.done():
                written.set_result(None) if failure is None else written.set_exception(failure)

        pool.submit(write)
        await written

    # The thread

    def cancelled(self) -> bool:
        """See `SyncStream`."""
        return self._gone

    def read(self, offset: int, size: int) -> bytes:
        """See `SyncStream`; waits for the client."""
        if self._file is not None:
            return os.pread(self._file.fileno(), size, offset)
        if len(self._held) < size and not self._complete:
            self._ask(partial(self._fetch, size))
        data = bytes(self._held[:size])
        del self._held[:size]
        if not self._complete:
            with contextlib.suppress(RuntimeError):  # the loop has been closed
                self._loop.call_soon_threadsafe(self._room.set)
        return data

    def respond(self, status: int, block: bytes, size: int, flags: int, body: bytes, last: bool) -> None:
        """See `SyncStream`."""
        del flags  # the server sees for itself whether there is a Date
        lines = block.split(b"\r\n")[:-1]
        headers = [(name, value.strip()) for name, _, value in (line.partition(b":") for line in lines)]
        if size != UNKNOWN:
            headers.append((b"content-length", b"%d" % size))
        start: Message = {"type": "http.response.start", "status": status, "headers": headers}
        self._give([start, {"type": "http.response.body", "body": body, "more_body": not last}], last=last)

    def send(self, body: bytes, last: bool) -> None:
        """See `SyncStream`."""
        self._give([{"type": "http.response.body", "body": body, "more_body": not last}], last=last)

    def send_file(self, file: int, offset: int, count: int) -> None:
        """See `SyncStream`."""
        while count:
            data = os.pread(file, min(PIECE, count), offset)
            if not data:
                raise StreamCancelled("the file has become shorter")
            offset += len(data)
            count -= len(data)
            self.send(data, not count)

    def flush(self) -> None:
        """See `SyncStream`: everything is on its way already."""

    def abort(self) -> None:
        """See `SyncStream`: a callable that returns too early makes every server break the connection."""
        self.over = True

    def _give(self, messages: Sequence[Message], *, last: bool) -> None:
        async def send() -> None:
            for message in messages:
                # Before it is sent: behind the last one receive() speaks of an end that is none of the client's doing.
                self.over = last and message is messages[-1]
                await self._send(message)

        self._ask(send)

    def _ask(self, what: Callable[[], Awaitable[Any]]) -> Any:
        """Let the task do something, and wait for what it gives."""
        order: Future[Any] = Future()
        with self._lock:
            if self._gone:
                raise StreamCancelled("the client has left")
            self._order = order
        self._tell((order, what))
        return order.result()

    def _tell(self, order: tuple[Future[Any], Callable[[], Awaitable[Any]]] | None) -> None:
        try:
            self._loop.call_soon_threadsafe(self._orders.put_nowait, order)
        except RuntimeError:  # the loop has been closed, and the task with it
            self._close()
