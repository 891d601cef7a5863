"""A WSGI application as an ASGI application, for where both kinds share a process: requests run on threads.

The request is run by `wsgi.WsgiApplication`, as in a worker of its own, so the application finds the same environ and
is held to the same rules. Here it gets a stream over ASGI's messages:

    task (event loop)                          thread
    orders ◄── receive, or messages to send ── read(), respond(), send() …
    awaits receive() or send() ──── result ──► goes on

So a client that takes or sends slowly holds its thread, but nothing is kept in memory. A body of announced length is
read as it comes; one without is collected first, in memory and then in a file, because applications ask CONTENT_LENGTH.
When the body is complete the task waits for the client's end, so that the application can be told of it.
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
        """Run a job that raises nothing on the next thread that is free; called by the event loop alone."""
        self._jobs.put(job)
        if not self._idle.acquire(blocking=False) and self._started < self._most:
            self._started += 1
            threading.Thread(target=self._work, name=f"wsgi-{self._started}", daemon=True).start()

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
        self._held = bytearray()  # bytes of the body that came, and were not read
        self._complete = False  # all of the body came
        self._file: IO[bytes] | None = None  # or lies here

    # The task

    async def run(self, application: WsgiApplication, pool: _Pool) -> None:
        """From the first byte of the body to the end of the application's run."""
        watch: asyncio.Task[None] | None = None
        if self.size == UNKNOWN and not await self._collect(pool):
            return
        try:
            pool.submit(partial(contextvars.copy_context().run, self._run, application))
            while True:
                if watch is None and (self._complete or not self.size):
                    watch = self._loop.create_task(self._watch())
                order = await self._orders.get()
                if order is None:
                    return
                await self._obey(*order)
        finally:
            self._close()
            if watch is not None:
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
        """Wait until the client leaves; the body is complete, so there is nothing else to receive."""
        while (await self._receive())["type"] != "http.disconnect":
            pass
        if not self.over:
            self._close()

    async def _next(self) -> bytes | None:
        """The next piece of the body; None = the client has left."""
        message = await self._receive()
        if message["type"] == "http.disconnect":
            return None
        self._complete = not message.get("more_body", False)
        return bytes(message.get("body", b""))

    async def _collect(self, pool: _Pool) -> bool:
        """Take a body of unknown length; False = the client has left."""
        size = 0
        try:
            while not self._complete:
                data = await self._next()
                if data is None:
                    return False
                size += len(data)
                self._held += data
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
        while len(self._held) < size and not self._complete:
            data = self._ask(self._next)
            if data is None:
                self._close()
                raise StreamCancelled("the client left inside the request body")
            self._held += data
        data = bytes(self._held[:size])
        del self._held[:size]
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
