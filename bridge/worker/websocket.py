"""One WebSocket, as an ASGI application sees it: scope, receive() and send() over the stream of a tunnel.

    CONNECTING ──websocket.accept──► OPEN, and on as in `conversation`
        ├──websocket.close──► OVER (403)
        └──websocket.http.response.start──► DENYING ──more_body false──► OVER

send() does not wait for the closing handshake; the task does, when the application has returned.
"""

from __future__ import annotations

import asyncio
from functools import partial

from bridge import config
from bridge.errors import ClientDisconnect, StreamCancelled
from bridge.ipc.message import UNKNOWN
from bridge.worker.answers import own_answer
from bridge.worker.asgi import OVER as RESPONDED
from bridge.worker.asgi import AsgiApplication, RequestCycle, tells_of_leaving
from bridge.worker.conversation import CONNECTING, DENYING, FAILED, OPEN, OVER, RESTARTS, Conversation
from bridge.worker.frames import ABNORMAL, Frames
from bridge.worker.keepalive import KeepAlive
from bridge.worker.opening import Opening
from bridge.worker.scope import request_line
from bridge.worker.tunnel import TunnelStream
from bridge.worker.types import Message


class WebSocketCycle(Conversation):
    """One WebSocket: the coroutine that runs the application, and the receive() and send() it is given."""

    __slots__ = ("_denial", "_opening", "_sockets", "_told", "task")

    task: asyncio.Task[None]  #: set by the application at once, before the coroutine runs
    _opening: Opening  # until it was accepted

    def __init__(self, sockets: WebSockets, stream: TunnelStream) -> None:
        super().__init__(stream, sockets.settings, sockets.keepalive)
        self._sockets = sockets
        self._told = False  # the application was given websocket.connect
        self._denial: RequestCycle | None = None

    @property
    def cancelled(self) -> bool:
        """Whether it is over, so that the application may be cancelled after a grace."""
        return self.phase == OVER

    async def run(self) -> None:
        """Call the application, and see to it that the stream ends one way or another."""
        stream = self._stream
        application = self._sockets.application
        try:
            if not stream.begin():
                return
            scope = application.build_websocket(stream.head, stream.number)
            self._opening = Opening(scope)
            await application.target(scope, self.receive, self.send)
            self._returned()
            await self._closed()
        except GeneratorExit:  # the loop is gone, and with it whoever could be told
            raise
        except BaseException as exc:  # noqa: BLE001 - sys.exit() in a view must not end the other requests
            self._raised(exc)
            if not application.stopping:
                await self._closed()
        finally:
            self._keepalive.discard(self)
            application.tasks.pop(self.task, None)
            stream.finished()

    async def receive(self) -> Message:
        """ASGI receive(): websocket.connect, then messages, then websocket.disconnect for ever."""
        if not self._told:
            self._told = True
            return {"type": "websocket.connect"}
        queue = self._queue
        self._busy = False
        while not queue:
            if self._end is not None:
                if self._farewell is not None:
                    self._part()
                return dict(self._end)
            if self._waiter is not None and not self._waiter.done():
                await self._changed()
            else:
                self._waiter = waiter = self._keepalive.loop.create_future()
                await waiter
        message = queue.pop(0)
        self._ahead -= len(message)
        self._busy = True
        if not self._stream.eager:
            self._read_on()
        if message.__class__ is str:
            return {"type": "websocket.receive", "text": message}
        return {"type": "websocket.receive", "bytes": message}

    async def send(self, message: Message) -> None:
        """ASGI send().

        Raises:
            ClientDisconnect: the connection is closed, by the client or the server; an OSError, as ASGI demands.
            RuntimeError: the message does not fit here.
            TypeError, ValueError: the message is malformed.
        """
        kind = message["type"]
        try:
            if self.phase == OPEN and kind == "websocket.send":
                head, payload = self._pack(message)
                if not self._stream.send_frame(head, payload):
                    await self._stream.writable()
                    if self.phase == OVER:  # it ended while this waited, and perhaps before this was taken
                        raise StreamCancelled
            elif self._end is not None and self._farewell is None:
                raise StreamCancelled
            elif self.phase == CONNECTING and kind == "websocket.accept":
                self._accept(message)
            elif kind == "websocket.close" and self.phase in (CONNECTING, OPEN):
                code, reason = _code_and_reason(message)
                if self.phase == OPEN:
                    self._close(code, reason)
                else:
                    self._refuse(403)
            elif kind.startswith("websocket.http.response.") and self.phase <= DENYING:
                await self._deny(message)
            else:
                raise RuntimeError(self._misplaced(kind))
        except StreamCancelled:
            raise ClientDisconnect("the WebSocket is closed") from None

    def _pack(self, message: Message) -> tuple[bytes, bytes]:
        data = message.get("bytes")
        if data is None:
            text = message.get("text")
            if not isinstance(text, str):
                raise TypeError("websocket.send has neither text nor bytes" if text is None else _wrong("text", text))
            return self._frames.text(text)
        if isinstance(data, (bytes, bytearray, memoryview)):
            return self._frames.binary(bytes(data))
        raise TypeError(_wrong("bytes", data))

    def _accept(self, message: Message) -> None:
        settings, stream = self._settings, self._stream
        answer = self._opening.accept(message, settings)
        stream.respond(101, answer.block, UNKNOWN, answer.flags, b"", last=False)
        del self._opening
        self._frames = Frames(settings.max_frame_size, settings.max_message_size, answer.agreed)
        self.phase = OPEN
        stream.opened()
        self._keepalive.add(self)
        self._read_on()
        if self._sockets.leaving:
            self.leave()

    async def _deny(self, message: Message) -> None:
        """Answer with a response of the application's, which takes the way of any other."""
        if self._denial is None:
            self._denial = RequestCycle(self._sockets.application, self._stream)
            self.phase = DENYING
        await self._denial.send({**message, "type": message["type"].removeprefix("websocket.")})
        if self._denial.phase == RESPONDED:
            self._over(ABNORMAL)

    def _refuse(self, status: int) -> None:
        self._stream.respond(*own_answer(status, head_request=False))
        self._over(ABNORMAL)

    def _misplaced(self, kind: str) -> str:
        sent = ("accept", "send", "close", "http.response.start", "http.response.body")
        if kind.removeprefix("websocket.") not in sent or not kind.startswith("websocket."):
            return f"ASGI message {kind!r} is not one that a websocket connection sends"
        if self.phase == CONNECTING:
            return f"{kind} was sent before websocket.accept"
        last = {DENYING: "http.response.start", OPEN: "accept"}.get(self.phase, "close")
        return f"{kind} was sent after websocket.{last}"

    def _returned(self) -> None:
        if self.phase == OPEN:
            self._attempt(partial(self._close, 1000, ""))
        elif self.phase <= DENYING and not self._stream.cancelled:
            what = (
                "without an answer to the handshake" if self.phase == CONNECTING else "before it completed the response"
            )
            self._sockets.application.log.error(
                "the application returned %s: %s", what, request_line(self._stream.head)
            )
            self._break_off(500)

    def _raised(self, exc: BaseException) -> None:
        """Log what the application raised, and end the connection."""
        application, line = self._sockets.application, request_line(self._stream.head)
        stops = application.stopping and isinstance(exc, asyncio.CancelledError)
        if stops:
            application.log.warning("cancelled, the server stops: %s", line)
        elif self._end is not None and tells_of_leaving(exc):
            application.log.debug("the client left: %s", line)
        else:
            trace = exc.__traceback__ and (exc.__traceback__.tb_next or exc.__traceback__)
            application.log.error("exception in the application: %s", line, exc_info=(type(exc), exc, trace))
        if self.phase == OPEN:
            self._attempt(partial(self._close, RESTARTS if stops else FAILED, ""))
        elif self.phase <= DENYING:
            self._break_off(503 if stops else 500)

    def _break_off(self, status: int) -> None:
        """End a handshake that is not complete."""
        if self._denial is not None:
            self._denial.break_off(status)
            self._over(ABNORMAL)
        elif not self._stream.cancelled:
            self._attempt(partial(self._refuse, status))


class WebSockets:
    """The WebSockets of an application in this worker.

    Args:
        application: what serves its requests; its tasks are also those of its WebSockets.
        settings: what clients may send, and how long what may take.
        loop: runs them.
    """

    def __init__(
        self, application: AsgiApplication, settings: config.WebSocket, loop: asyncio.AbstractEventLoop
    ) -> None:
        self.application = application
        self.settings = settings
        self.keepalive = KeepAlive(settings, loop)
        self.leaving = False  #: what is opened now is closed at once

    @property
    def window(self) -> int:
        """Bytes of one that may be under way, in each direction."""
        return self.settings.window

    def start(self, stream: TunnelStream) -> None:
        """Run one in a task of its own."""
        stream.sink = cycle = WebSocketCycle(self, stream)
        self.application.run(cycle)

    def leave(self) -> None:
        """The worker goes: all are told, and have the close timeout to take their leave."""
        self.leaving = True
        for socket in self.keepalive.watched:
            socket.leave()


def _code_and_reason(message: Message) -> tuple[int, str]:
    code, reason = message.get("code"), message.get("reason")
    if code is not None and not isinstance(code, int):
        raise TypeError(f"code of websocket.close is {type(code).__name__}, not int")
    if reason is not None and not isinstance(reason, str):
        raise TypeError(f"reason of websocket.close is {type(reason).__name__}, not str")
    return 1000 if code is None else int(code), reason or ""


def _wrong(name: str, value: object) -> str:
    return f"{name} of websocket.send is {type(value).__name__}, not {'str' if name == 'text' else 'bytes'}"
