"""One request, as an ASGI application sees it: scope, receive() and send() over a stream.

The order of messages on a response, `phase` of a RequestCycle:

    START ──http.response.start──► HELD ──end of the loop's turn──► OPEN ──more_body false──► OVER
                                     └──────────http.response.body──┴────more_body false──────┘

HELD is the reason for the speed of small responses and costs a stream of events nothing: the head waits for the
body that nearly always follows in the same step of the task, so that both are one message; if the task
suspends instead, the head goes out when the loop comes round. One callback a turn flushes the heads of all
requests, so a busy loop pays for it once.

A response that cannot be completed becomes a 500 while its head is not out, and a broken connection after that:
never an answer that looks complete. Everything an application can do wrong in `send()` raises in the
application, where its traceback names the line.

send() waits when the stream asks it to, after the last piece too: a request counts as running until the
stream has taken all of its response.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from functools import partial
from logging import Logger
from typing import Any, Protocol

from bridge.errors import ClientDisconnect, StreamCancelled
from bridge.ipc.message import UNKNOWN
from bridge.worker.answers import own_answer
from bridge.worker.fields import encode
from bridge.worker.grace import Grace
from bridge.worker.grace import Stream as Leaving
from bridge.worker.scope import ScopeBuilder, request_line
from bridge.worker.types import Message, Stream, Target

START, HELD, OPEN, OVER = range(4)

_NO_CONTENT, _NOT_MODIFIED = 204, 304

#: What frameworks raise in a handler when receive() told them that the client left. They are known by name:
#: to import a framework for the sake of its exception is not a server's business.
_LEAVING = frozenset({"ClientDisconnect", "RequestAborted", "WebSocketDisconnect"})


class RequestCycle:
    """One request: the coroutine that runs the application, and the receive() and send() it is given."""

    __slots__ = (
        "_application",
        "_block",
        "_bodiless",
        "_body_read",
        "_congested",
        "_flags",
        "_head_request",
        "_remaining",
        "_size",
        "_status",
        "_stream",
        "phase",
        "task",
    )

    phase: int  #: see the head of the file
    task: asyncio.Task[None]  #: set by the application at once, before the coroutine runs

    def __init__(self, application: AsgiApplication, stream: Stream) -> None:
        self._application = application
        self._stream = stream
        self.phase = START
        self._body_read = False
        self._congested = False  # the flush of a held head was told to wait: the next send() does
        self._head_request = False

    async def run(self) -> None:
        """Call the application, and see to it that the stream ends one way or another."""
        application = self._application
        stream = self._stream
        try:
            if application.factory:
                await asyncio.sleep(0)
            if not stream.begin():
                return
            scope = application.build(stream.head, stream.number)
            self._head_request = scope["method"] == "HEAD"
            await application.target(scope, self.receive, self.send)
            if self.phase != OVER:
                self._returned_early()
        except GeneratorExit:  # the loop is gone, and with it whoever could be answered
            raise
        except BaseException as exc:  # noqa: BLE001 - sys.exit() in a view must not end the other requests
            self._raised(exc)
        finally:
            application.tasks.pop(self.task, None)
            stream.finished()

    async def receive(self) -> Message:
        """ASGI receive(): the request body, then http.disconnect when the client left or the response is over."""
        stream = self._stream
        while not self._body_read and self.phase != OVER:
            data = stream.take()
            if stream.cancelled:
                break
            if data is not None or stream.ended:
                self._body_read = stream.ended
                return {"type": "http.request", "body": data or b"", "more_body": not self._body_read}
            await stream.readable()
        while self.phase != OVER and not stream.cancelled:
            await stream.gone()
        return {"type": "http.disconnect"}

    async def send(self, message: Message) -> None:
        """ASGI send().

        Raises:
            ClientDisconnect: the client left; an OSError, as ASGI demands.
            RuntimeError: the message does not fit here, or the body does not fit the content length.
            TypeError, ValueError: the message is malformed.
        """
        kind = message["type"]
        try:
            if kind == "http.response.body" and START < self.phase < OVER:
                if self._congested:
                    self._congested = False
                    await self._stream.writable()
                if not self._send_body(message):
                    await self._stream.writable()
            elif kind == "http.response.start" and self.phase == START:
                self._hold(message)
            elif self._stream.cancelled:
                raise StreamCancelled("whatever it is that has no place here")
            else:
                raise RuntimeError(self._misplaced(kind))
        except StreamCancelled:
            raise ClientDisconnect("the client left before the response was complete") from None

    def flush(self) -> None:
        """Send the head alone: it still waits for its body (the phase is HELD)."""
        self.phase = OPEN
        try:
            self._congested = not self._stream.respond(self._status, self._block, self._size, self._flags, b"", False)
        except StreamCancelled:
            pass  # the next send() meets it where the application can see it

    def _hold(self, message: Message) -> None:
        if self._stream.cancelled:
            raise StreamCancelled("before the head")
        status = message["status"]
        if not isinstance(status, int):
            raise TypeError(f"status {status!r} of http.response.start is not an int")
        if not 200 <= status <= 999:
            raise ValueError(f"status {status!r} of http.response.start is not between 200 and 999")
        self._block, size, self._flags = encode(message.get("headers", ()))
        self._status = int(status)
        self._bodiless = self._head_request or status in (_NO_CONTENT, _NOT_MODIFIED)
        self._size = size if status != _NO_CONTENT else UNKNOWN
        self._remaining = -1 if self._bodiless or size == UNKNOWN else size
        self.phase = HELD
        self._application.hold(self)

    def _send_body(self, message: Message) -> bool:
        """Check one http.response.body and hand it to the stream; False = wait for it to be writable."""
        body = message.get("body", b"")
        if body.__class__ is not bytes:
            body = _as_bytes(body)
        last = not message.get("more_body", False)
        remaining = self._remaining
        if remaining >= 0:
            self._remaining = remaining = remaining - len(body)
            if remaining < 0 or (last and remaining):
                raise RuntimeError(self._misfit(remaining))
        if self.phase == OPEN:
            if self._bodiless:
                body = b""
            if last:
                self.phase = OVER
            elif not body:
                # Nothing is to be sent, but who sends events to a HEAD must hear of its end as with a GET.
                if self._stream.cancelled:
                    raise StreamCancelled("before an empty piece")
                return True
            return self._stream.send(body, last)
        self.phase = OVER if last else OPEN
        size = self._size
        if self._bodiless:
            if last and body and self._head_request and size == UNKNOWN:
                size = len(body)  # what GET would have announced
            body = b""
        elif last and size == UNKNOWN:
            size = len(body)
        return self._stream.respond(self._status, self._block, size, self._flags, body, last)

    def _misplaced(self, kind: str) -> str:
        phase = self.phase
        if kind not in ("http.response.start", "http.response.body"):
            return f"ASGI message {kind!r} is not one that an http connection sends"
        if phase == START:
            return "http.response.body was sent before http.response.start"
        if phase == OVER:
            return f"{kind} was sent after the response was over"
        return "http.response.start was sent twice"

    def _misfit(self, remaining: int) -> str:
        """Break the response, whose body is too long or too short."""
        self.break_off(500)
        if remaining < 0:
            return f"the response body is longer than its content-length of {self._size} bytes"
        return f"the response body ended {remaining} bytes short of its content-length of {self._size} bytes"

    def _returned_early(self) -> None:
        stream = self._stream
        if not stream.cancelled:
            what = "before it completed the response" if self.phase == OPEN else "without a response"
            self._application.log.error("the application returned %s: %s", what, request_line(stream.head))
        self.break_off(500)

    def _raised(self, exc: BaseException) -> None:
        """Log what the application raised, and end the response."""
        application, stream = self._application, self._stream
        if isinstance(exc, asyncio.CancelledError) and application.stopping:
            application.log.warning("cancelled, the server stops: %s", request_line(stream.head))
            self.break_off(503)
            return
        if stream.cancelled and tells_of_leaving(exc):
            application.log.debug("the client left: %s", request_line(stream.head))
        else:
            trace = exc.__traceback__ and (exc.__traceback__.tb_next or exc.__traceback__)
            application.log.error(
                "exception in the application: %s", request_line(stream.head), exc_info=(type(exc), exc, trace)
            )
        self.break_off(500)

    def break_off(self, status: int) -> None:
        """End a response that is not over: with a whole answer while no head is out, else visibly broken."""
        phase, self.phase = self.phase, OVER
        if phase == OVER or self._stream.cancelled:
            return
        if phase == OPEN:
            self._stream.abort()
            return
        try:
            self._stream.respond(*own_answer(status, self._head_request))
        except StreamCancelled:
            pass  # nobody waits for the answer


class Cycle(Leaving, Protocol):
    """What a task runs: a WebSocket."""

    task: asyncio.Task[None]  #: that task

    async def run(self) -> None:
        """From its beginning to its end."""


class AsgiApplication:
    """An ASGI application and the requests it is running.

    Args:
        target: the application.
        scopes: make the scope of each request.
        loop: runs the requests.
        log: gets the application's tracebacks.
        grace: seconds after which a request is cancelled whose client has left; None = never.
    """

    def __init__(
        self,
        target: Target,
        scopes: ScopeBuilder,
        loop: asyncio.AbstractEventLoop,
        log: Logger,
        grace: float | None = None,
    ) -> None:
        self.target = target
        self.log = log
        self.build = scopes.build
        self.build_websocket = scopes.build_websocket
        self.stopping = False  #: what still runs is being cancelled because the server stops
        #: requests in flight and WebSockets; the loop itself refers to tasks only weakly
        self.tasks: dict[asyncio.Task[None], Leaving] = {}
        self._held: list[RequestCycle] = []
        self._loop = loop
        self._grace = None if grace is None else Grace(self.tasks, grace, loop)
        #: somebody has given the loop a task factory, which may begin a task before it is known here
        self.factory = loop.get_task_factory() is not None
        # The loop's create_task does the same, slower.
        self._task: Callable[[Coroutine[Any, Any, None]], asyncio.Task[None]] = (
            loop.create_task if self.factory else partial(asyncio.Task, loop=loop, name="request")
        )

    def start(self, stream: Stream) -> None:
        """Run one request in a task of its own."""
        cycle = RequestCycle(self, stream)
        cycle.task = task = self._task(cycle.run())
        self.tasks[task] = stream
        if self._grace is not None and not self._grace.awake:
            self._grace.wake()

    def run(self, cycle: Cycle) -> None:
        """Run something else than a request, which takes itself out of `tasks`, in a task of its own."""
        cycle.task = task = self._task(cycle.run())
        self.tasks[task] = cycle
        if self._grace is not None and not self._grace.awake:
            self._grace.wake()

    def hold(self, cycle: RequestCycle) -> None:
        """Flush the head of this cycle when the loop comes round."""
        if not self._held:
            self._loop.call_soon(self._flush)
        self._held.append(cycle)

    def _flush(self) -> None:
        held, self._held = self._held, []
        for cycle in held:
            if cycle.phase == HELD:
                cycle.flush()

    async def drain(self, timeout: float | None = None, grace: float = 5.0) -> int:
        """Wait until no request is running.

        Args:
            timeout: seconds until what still runs is cancelled; None = wait for ever.
            grace: seconds that a cancelled request has to end.

        Returns:
            How many requests were cancelled.
        """
        deadline = None if timeout is None else self._loop.time() + timeout
        while self.tasks:
            left = None if deadline is None else max(0.0, deadline - self._loop.time())
            if left == 0.0:
                break
            await asyncio.wait(set(self.tasks), timeout=left)
        await asyncio.sleep(0)  # a task that is cancelled before its first step would leave its stream unfinished
        late = set(self.tasks)
        if late:
            self.stopping = True
            for task in late:
                task.cancel()
            await asyncio.wait(late, timeout=grace)
        return len(late)


def _as_bytes(body: object) -> bytes:
    """A copy that the application cannot change after send() has returned."""
    if isinstance(body, (bytes, bytearray, memoryview)):
        return bytes(body)
    raise TypeError(f"body of http.response.body is {type(body).__name__}, not bytes")


def tells_of_leaving(exc: BaseException) -> bool:
    """Whether an exception says no more than that the client left."""
    if isinstance(exc, BaseExceptionGroup):
        return all(tells_of_leaving(member) for member in exc.exceptions)
    if type(exc).__name__ in _LEAVING or isinstance(exc, (ClientDisconnect, asyncio.CancelledError)):
        return True
    return exc.__cause__ is not None and tells_of_leaving(exc.__cause__)
