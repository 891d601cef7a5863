"""The life of a connection apart from what it says: its states, its deadlines, its rests, and every way it ends.

The request:

    HEAD ──head──► LENGTH_BODY | CHUNKED_BODY ──body complete──► WAIT ──response complete and flushed──► HEAD
      │  └─no body──────────────────────────────────────────────►┘
      └──refused, or the response has ended before the body──► LINGER ──► CLOSED

The response: NOT_BEGUN, then the way its body is framed (`answers.delivery`), then DONE.
"""

from __future__ import annotations

import asyncio
import socket
from dataclasses import replace
from typing import Any, Final

from bridge.router.framing import PLAIN
from bridge.router.interface import Exchange, Service
from bridge.router.wheel import NEVER

HEAD, LENGTH_BODY, CHUNKED_BODY, WAIT, LINGER, CLOSED = range(6)
NOT_BEGUN: Final = -1
DONE: Final = -2

LINGER_TIME = 10.0  #: seconds that a client gets to read an answer while it still sends
_RESET = b"\1\0\0\0\0\0\0\0"  # struct linger {on, 0 seconds}: closing sends RST
_USUAL_END = bytes(8)  # struct linger {off}: closing sends what there is, then FIN


class Lifetime(asyncio.BufferedProtocol):
    """See the head of the file. Made as `http1.Connection` only.

    Attributes:
        flushed: everything written has left this process, so memory given to `write` is free.
        deadline, slot_due: see `wheel.Timed`.
    """

    __slots__ = (
        "_continue",
        "_exchange",
        "_framing",
        "_keep_alive",
        "_kept",
        "_lacking",
        "_paused",
        "_pending",
        "_read_by",
        "_remaining",
        "_reply",
        "_resets",
        "_send_by",
        "_service",
        "_state",
        "_transport",
        "_unsent",
        "deadline",
        "flushed",
        "slot_due",
    )

    _transport: asyncio.Transport

    def __init__(self, service: Service) -> None:
        self._service = service
        self._state = HEAD
        self._pending = bytearray()  # bytes behind what was understood so far
        self._paused = False
        self._exchange: Exchange | None = None  # None also while a finished request's body is still read
        self._framing = PLAIN
        self._lacking = 0  # bytes of a Content-Length body still to come
        self._continue = False  # the client waits for 100 (Continue)
        self._reply = DONE
        self._remaining = 0  # bytes of the announced length still to be written
        self._keep_alive = True
        self._resets = False  # closing sends RST
        self._unsent = 0  # bytes that would wait now if the client had taken none since the last look
        self._kept = 0  # bytes of our own memory that have waited since the client took everything
        self._read_by = NEVER
        self._send_by = NEVER
        self.deadline = NEVER
        self.slot_due = NEVER
        self.flushed = True

    def end_behind_this(self) -> None:
        """Answer nothing behind the request that has just been read."""
        self._framing = replace(self._framing, keep_alive=False)

    @property
    def crowded(self) -> bool:
        """Whether so much of this process's memory waits for slow clients that more of it should wait elsewhere."""
        return self._service.kept > self._service.most_kept

    def abort(self) -> None:
        """Cut the connection, so that the client cannot take what it has for the whole response."""
        if self._state != CLOSED:
            self._cut()

    # The transport, the wheel and those who watch call

    def pause_writing(self) -> None:
        """The client does not take all that was written."""
        self.flushed = False
        self._unsent = self._transport.get_write_buffer_size()
        self._send_by = self._service.wheel.clock() + self._service.http.send_timeout
        self._arm()

    def peer_closed(self, *, reset: bool) -> None:  # noqa: ARG002 - however it has left
        """The client has left while its socket was paused (called by `hangup`)."""
        if self._reply != DONE:
            self._leave()
        elif self._state != CLOSED:
            self._close()

    def expired(self) -> None:
        """The deadline is over (called by the wheel)."""
        raise NotImplementedError

    # The rest of the connection calls

    def _linger(self) -> None:
        # Closing a socket that has unread bytes resets it, and the client would lose the answer.
        self._state = LINGER
        self._pending.clear()
        self._resume()
        if self._transport.can_write_eof():
            self._transport.write_eof()
        self._read_by = NEVER
        if self.flushed:
            self._end_as_usual()

    def _end_as_usual(self) -> None:
        # The client has been given everything, the end of a body that only the close ends included.
        if self._resets:
            self._set_resets(resets=False)
        if self._state == LINGER:
            self._read_by = self._service.wheel.clock() + LINGER_TIME
            self._arm()

    def _set_resets(self, *, resets: bool) -> None:
        # It does nothing on a unix socket.
        self._resets = resets
        sock = self._transport.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET if resets else _USUAL_END)

    def _expect_body(self) -> None:
        self._read_by = self._service.wheel.clock() + self._service.http.body_read_timeout
        self._arm()

    def _arm(self) -> None:
        self.deadline = deadline = min(self._read_by, self._send_by)
        if deadline < self.slot_due:
            self._service.wheel.put(self)

    def _keep(self, data: Any) -> None:
        # Behind others that the client has not taken. What lies in shared memory is counted there.
        if data.__class__ is bytes:
            size = len(data)
            self._kept += size
            self._service.kept += size

    def _keep_nothing(self) -> None:
        self._service.kept -= self._kept
        self._kept = 0

    def _pause(self) -> None:
        if not self._paused:
            self._paused = True
            self._transport.pause_reading()
            self._service.hangups.watch(self._transport.get_extra_info("socket").fileno(), self)

    def _resume(self) -> None:
        if self._paused:
            self._unwatch()
            self._transport.resume_reading()

    def _unwatch(self) -> None:
        self._paused = False
        self._service.hangups.forget(self._transport.get_extra_info("socket").fileno(), self)

    def _leave(self) -> None:
        exchange = self._cut()
        if exchange is not None:
            exchange.client_gone()

    def _cut(self) -> Exchange | None:
        exchange = self._end()
        self._transport.abort()
        return exchange

    def _close(self) -> None:
        self._end()
        self._transport.close()

    def _end(self) -> Exchange | None:
        exchange, self._exchange = self._exchange, None
        if self._paused:
            self._unwatch()
        self._state = CLOSED
        self._read_by = NEVER
        self._reply = DONE
        self._pending.clear()
        return exchange
