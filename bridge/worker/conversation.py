"""An accepted WebSocket between its stream and whoever receives from it: RFC 6455, sections 5.4, 5.5 and 7.

    OPEN ──close frame sent──► CLOSING ──that of the client, or too late──► OVER
     └──close frame of the client, its end without one, its mistake────────────┘

A close frame of the client, and its mistake, are answered when the application has dealt with the messages in front of
them: when it receives again, or returns. It has the close timeout for that.

Messages are decoded ahead of the receiver as far as `max_queue` and `AHEAD` allow, so that pings are answered and the
end is noticed while it is busy; then the client is read no more. What ends a connection stands behind the messages that
came before it.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from functools import partial

from bridge import config
from bridge.errors import StreamCancelled, WebSocketError
from bridge.worker import frames
from bridge.worker.frames import ABNORMAL, CLOSE, PING, PONG, Control, Frames
from bridge.worker.keepalive import KeepAlive
from bridge.worker.tunnel import TunnelStream
from bridge.worker.types import Message

CONNECTING, DENYING, OPEN, CLOSING, OVER = range(5)  #: the first two are known to `worker.websocket` alone

AHEAD = 65536  #: bytes, or characters: with so many waiting to be received, no further message is decoded

FAILED, RESTARTS = 1011, 1012  #: close codes of the server's own: the application cannot go on, or the server goes


class Conversation:
    """See the head of the file; `worker.websocket.WebSocketCycle` is what an application has of it.

    Args:
        stream: of the connection.
        settings: what the client may send, and how long what may take.
        keepalive: looks at it, once it is open.
    """

    __slots__ = (
        "_ahead",
        "_busy",
        "_deadline",
        "_end",
        "_farewell",
        "_frames",
        "_keepalive",
        "_pings",
        "_pong",
        "_queue",
        "_settings",
        "_since",
        "_stream",
        "_waiter",
        "heard",
        "phase",
    )

    phase: int  #: see the head of the file
    _frames: Frames  # since it was accepted

    def __init__(self, stream: TunnelStream, settings: config.WebSocket, keepalive: KeepAlive) -> None:
        self._stream = stream
        self._settings = settings
        self._keepalive = keepalive
        self.phase = CONNECTING
        self.heard = True
        self._queue: list[str | bytes] = []  # messages that were not received
        self._ahead = 0  # bytes and characters of them
        self._waiter: asyncio.Future[None] | None = None  # of whoever waits for a message, or for the end
        self._busy = False  # a message was received, and no other asked for since
        self._end: Message | None = None  # websocket.disconnect
        self._farewell: bytes | None = None  # close frame that is owed
        self._since = 0.0  # when something was heard last, as far as anybody has looked
        self._pings = 0  # sent since
        self._pong: bytes | None = None  # owed
        self._deadline = 0.0  # of what is left to do when it is not open any more

    # The client's side: what the stream calls

    def arrived(self, data: bytes | memoryview) -> None:
        """See `worker.tunnel.Sink`."""
        if self.phase != OVER:
            self.heard = True
            self._read_on(data)
            if self._frames.rest:
                self._frames.keep()

    def relieved(self) -> None:
        """See `worker.tunnel.Sink`."""
        if self._pong is not None and self.phase == OPEN and self._farewell is None:
            self._attempt(self._send_pong)

    def lost(self) -> None:
        """See `worker.tunnel.Sink`."""
        self._over(ABNORMAL)

    def leave(self) -> None:
        """The server goes: begin the closing handshake, and tell the application at once."""
        if self.phase == OPEN and self._farewell is None:
            self._tell(RESTARTS, "the server restarts")
            self._attempt(partial(self._close, RESTARTS, "the server restarts"))

    def look(self, now: float) -> None:
        """See `worker.keepalive.Watched`."""
        if self._farewell is not None:
            if now >= self._deadline:
                self._part()
        elif self.phase == OPEN:
            self._look_for_life(now)
        elif self._stream.over or self._stream.cancelled:
            self._keepalive.discard(self)
        elif now >= self._deadline:
            self._over(ABNORMAL)
            self._stream.abort()

    def _look_for_life(self, now: float) -> None:
        if self.heard or not self._stream.eager:  # what lies undecoded may well be a sign of life
            self.heard = False
            self._since, self._pings = now, 0
            return
        silent, settings = now - self._since, self._settings
        if settings.read_timeout and silent >= settings.read_timeout:
            self._tell(ABNORMAL)
            self._fail(FAILED, "no sign of life")
        elif settings.keepalive_interval and silent >= settings.keepalive_interval * (self._pings + 1):
            self._pings += 1
            if not self._stream.congested:
                self._attempt(partial(self._stream.send, frames.control(PING), False))

    def _read_on(self, data: bytes | memoryview | None = None) -> None:
        """Read on in what has come, `data` the last of it; whatever is wrong there ends this connection alone."""
        try:
            if data is None:
                self._decode()
            elif not self._take_whole(data):
                self._frames.feed(data)
                self._decode()
        except WebSocketError as error:
            if self.phase == OPEN:
                self._part_behind(frames.close(error.code, str(error)), error.code, str(error))
            else:
                self._fail(error.code, str(error))
        except StreamCancelled:
            pass  # `lost` was called
        except Exception:
            # Above this stands the turn in which all other streams get what has come for them.
            logging.getLogger("bridge").exception("a WebSocket cannot be read")
            self._fail(FAILED, "")

    def _take_whole(self, data: bytes | memoryview) -> bool:
        """Decode `data` if it is a message, and all that there is, as it is nearly always; False = it is not."""
        if self._queue or self.phase != OPEN or self._farewell is not None or self._stream.ended:
            return False
        message = self._frames.whole(data)
        if message is None:
            return False
        self._add(message)
        if self._settings.max_queue == 1:  # else there is room for more: it is shorter than `AHEAD`
            self._stream.eager = False
        return True

    def _decode(self) -> None:
        """Decode as far as the application is to be read ahead of."""
        stream, decoder, queue = self._stream, self._frames, self._queue
        most = self._settings.max_queue
        while self.phase == CLOSING or (
            self.phase == OPEN and len(queue) < most and self._ahead < AHEAD and self._farewell is None
        ):
            message = decoder.next() if decoder.rest else None
            if message is None:
                if stream.eager or (data := stream.take()) is None:
                    stream.eager = True
                    if stream.ended:
                        self._over(ABNORMAL)
                        stream.send(b"", last=True)
                    break
                decoder.feed(data)
            elif isinstance(message, Control):
                self._control(message)
            elif self.phase == OPEN:
                self._add(message)
        else:
            stream.eager = False

    def _add(self, message: str | bytes) -> None:
        self._queue.append(message)
        self._ahead += len(message)
        if (waiter := self._waiter) is not None and not waiter.done():
            waiter.set_result(None)

    def _control(self, frame: Control) -> None:
        if frame.opcode == PING and self.phase == OPEN:
            self._pong = frame.data  # the last one is enough (RFC 6455, section 5.5.3)
            if self._stream.congested:
                self._stream.ask_for_room()
            else:
                self._send_pong()
        elif frame.opcode == CLOSE:
            if self.phase == OPEN:
                self._part_behind(frames.control(CLOSE, frame.data), frame.code, frame.reason)
            else:
                self._over(frame.code, frame.reason)
                self._stream.send(b"", last=True)

    def _send_pong(self) -> None:
        data, self._pong = self._pong, None
        self._stream.send(frames.control(PONG, data or b""), last=False)

    # Ends

    def _close(self, code: int, reason: str) -> None:
        """Begin the closing handshake.

        Raises:
            ValueError: no such code.
            StreamCancelled: the client is gone.
        """
        data = frames.close(code, reason)
        if self._farewell is not None:
            self._part()
            return
        self.phase = CLOSING
        self._set_deadline()
        self._stream.send(data, last=False)
        self._read_on()  # the client's part may lie behind messages that nobody wants any more

    def _part_behind(self, farewell: bytes, code: int, reason: str) -> None:
        """The client is heard no more: end when the application has had its turn with what it has said so far."""
        self._farewell = farewell
        self._set_deadline()
        self._tell(code, reason)
        if not self._queue and not self._busy:
            self._part()

    def _part(self) -> None:
        """Send the close frame that is owed, as the last word."""
        farewell = self._farewell or b""
        self._over(ABNORMAL)
        self._attempt(partial(self._stream.send, farewell, True))

    def _fail(self, code: int, reason: str) -> None:
        """End the connection at once, without waiting for the client (RFC 6455, section 7.1.7)."""
        farewell = frames.close(code, reason) if self.phase == OPEN else b""
        self._over(code, reason)
        self._attempt(partial(self._stream.send, farewell, True))

    def _over(self, code: int, reason: str = "") -> None:
        """Nothing more comes from the client, or is listened to."""
        self.phase = OVER
        self._farewell = None
        self._set_deadline()
        self._tell(code, reason)

    def _tell(self, code: int, reason: str = "") -> None:
        """Let the application know, behind what it has not received, that it is over; the first word counts."""
        if self._end is None:
            self._end = {"type": "websocket.disconnect", "code": code, "reason": reason}
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def _set_deadline(self) -> None:
        self._deadline = self._keepalive.loop.time() + self._settings.close_timeout

    def _attempt(self, step: Callable[[], object]) -> None:
        """Do something where nobody is to be told that the client is gone: `lost` was called."""
        try:
            step()
        except StreamCancelled:
            pass

    async def _closed(self) -> None:
        """Wait until the closing handshake is over, and the client has what was sent to it."""
        try:
            while self.phase == CLOSING:
                await self._changed()
            await self._stream.writable()
        except StreamCancelled:
            pass

    async def _changed(self) -> None:
        """Wait for a message or for the end, or at least for something."""
        waiter = self._waiter
        if waiter is not None and not waiter.done():
            await asyncio.wait({waiter})  # it is another task's, and ends with that
        else:
            self._waiter = waiter = self._keepalive.loop.create_future()
            await waiter
