"""A WebSocket as the router has it: bytes between one client and one worker, of which it reads none.

What the client sends is for `inflow`; here is what the worker sends, which goes into the socket as it comes, and how it
all ends. A tunnel that says nothing costs nothing but itself.

How one ends, from whichever side it begins:

    the client sends FIN          BODY with LAST; the worker finishes, its last bytes still find the client
    the client is reset           CANCEL; over when the worker has confirmed
    it takes nothing for too long the connection is closed, and CANCEL
    DATA with LAST, ABORT         what was written leaves, then FIN; over at once for the worker
    the worker is gone            the same
    the router ends               LEAVE; if that was for nothing, as if the client were reset, with FIN
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from typing import Any, Protocol

from bridge.core import Tracking
from bridge.errors import RemoteProtocolError
from bridge.ipc.message import ABORT, ACK, BODY, CANCEL, DATA, FILE, HEADER, LAST, LEAVE, TAKEN, WANT
from bridge.ipc.stream import Event, State
from bridge.router import inflow
from bridge.router.inflow import READ, Inflow
from bridge.router.interface import Service
from bridge.router.lifetime import LINGER_TIME
from bridge.router.wheel import NEVER
from bridge.router.worker_port import WorkerPort

LEAVE_TIME = 5.0  #: seconds for the end of a tunnel when the router ends …
HURRIED_LINGER_TIME = 1.0  #: … and then for the client's FIN
CROWDED = 4  #: of a worker's memory, so many parts: with more than one on its way to clients, slow ones get copies
_pack = HEADER.pack


class Owner(inflow.Owner, Protocol):
    """What a tunnel needs from its application."""

    tracking: Tracking
    most_unacknowledged: int  #: bytes that a worker may send ahead of the client

    def tunnel_over(self, tunnel: Any) -> None:
        """The worker is done with it."""


class Tunnel(Inflow):
    """See the head of the file.

    Args:
        application: whose it is.
        port: of the worker that has granted it.
        stream: its number.
        closed: called with the bytes that were sent to the client when both sides are done with it.

    Attributes:
        deadline, slot_due: see `wheel.Timed`.
    """

    __slots__ = (
        "_application",
        "_closed",
        "_closing",
        "_descriptor",
        "_end_by",
        "_gone",
        "_over",
        "_send_by",
        "_sent",
        "_taken",
        "deadline",
        "slot_due",
    )

    def __init__(
        self, application: Owner, port: WorkerPort, stream: int, closed: Callable[[int], None] | None = None
    ) -> None:
        super().__init__(application, port, stream)
        self.deadline = NEVER
        self.slot_due = NEVER
        self._application = application
        self._closed = closed
        self._gone = False  # the socket is not there any more, or not for this
        self._over = False  # the worker is done with it
        self._closing = False  # our FIN is on its way: only the client's is waited for
        self._sent = 0  # bytes given to the transport
        self._taken = 0  # bytes that the client had taken at the last look
        self._send_by = NEVER
        self._end_by = NEVER

    def take_over(self, service: Service, transport: asyncio.Transport, head: bytes, pending: bytes) -> None:
        """Begin; see `interface.Heir`."""
        self._service = service
        self._transport = transport
        self._descriptor = transport.get_extra_info("socket").fileno()
        service.connections.add(self)
        transport.set_protocol(self)
        transport.write(head)
        if pending:
            self._forward(pending)
        if service.draining:
            self.drain()

    # From the client

    def eof_received(self) -> bool:
        """The client has closed its sending side; what the worker still sends may reach it."""
        if self._deaf:
            return False
        self._finished = True
        self._tidy()
        self.port.send(_pack(self.stream, BODY, LAST, 0, 0, 0, 0, 0))
        return True

    def peer_closed(self, *, reset: bool) -> None:
        """The client has left while its socket was paused; bytes in front of a FIN come first, in their turn."""
        if reset:
            self._vanish()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - whatever the reason
        """Let go of everything."""
        self._unwatch()
        self._deaf = True
        self._tidy()
        self._service.connections.discard(self)
        self._service.wheel.remove(self)
        if not self._gone:
            self._gone = True
            self._cancel()
        self._report()

    def _vanish(self) -> None:
        self._gone = self._deaf = True
        self._cancel()
        self._transport.abort()

    def _cancel(self) -> None:
        # The worker is to stop; what it says until it has is not for anybody.
        if not self._over and self._application.tracking.move(self.stream, Event.CANCEL) == State.CANCELLING:
            self.port.send(_pack(self.stream, CANCEL, 0, 0, 0, 0, 0, 0))

    def pause_writing(self) -> None:
        """The client does not take all that was written."""
        self._flushed = False
        self._look_at_client()

    def resume_writing(self) -> None:
        """Everything written has left."""
        self._flushed = True
        self._send_by = NEVER
        if self._closing:
            self._linger()
        elif self._unacknowledged:
            self._acknowledge()
        self._arm()

    # From the worker

    def on_message(  # noqa: PLR0913 - the parts of one message
        self,
        port: WorkerPort,
        kind: int,
        flags: int,
        size: int,
        number: int,  # noqa: ARG002 - of other kinds
        head: int,  # noqa: ARG002 - likewise
        views: list[Any] | None,
        inline: bytes,
    ) -> None:
        """Handle one message of the worker.

        Raises:
            RemoteProtocolError: it makes no sense in a tunnel, or now.
        """
        if port is not self.port:
            raise RemoteProtocolError(f"stream {self.stream:#x} belongs to another worker")
        if kind == DATA:
            if views is None:
                length = len(inline)
                self._unacknowledged += length
                if length and not self._gone:
                    self._sent += length
                    self._transport.write(inline)
            else:
                self._write([inline, *views] if inline else views)
            if flags or not self._flushed:
                self._on_rare(flags)
            if size and not self._over:
                self._on_want(size)
        elif kind == WANT:
            self._on_want(size)
        elif kind == TAKEN:
            self._on_taken()
        elif kind == ABORT:
            self._end()
        else:
            raise RemoteProtocolError(f"message {kind} in a tunnel")

    def pass_on(self, port: WorkerPort, flags: int, size: int, data: memoryview) -> bool:
        """As `on_message` with DATA, whose bytes are only there until this returns: write them past the transport.

        Returns:
            False: the socket takes nothing now, or it is another worker's; nothing has happened.
        """
        transport = self._transport
        if self._gone or port is not self.port or transport.get_write_buffer_size() or transport.is_closing():
            return False  # a transport that closes has thrown away what it held
        try:
            sent = os.write(self._descriptor, data)
        except OSError:
            return False  # the transport will notice what is wrong
        length = len(data)
        self._unacknowledged += length
        self._sent += length
        if sent < length:
            transport.write(bytes(data[sent:]))
        if flags or not self._flushed:
            self._on_rare(flags)
        if size and not self._over:
            self._on_want(size)
        return True

    def _write(self, pieces: list[Any]) -> None:
        length = sum(map(len, pieces))
        self._unacknowledged += length
        if not self._gone:
            self._sent += length
            if self.port.held * CROWDED > self.port.port.segment.count:
                pieces = [bytes(piece) for piece in pieces]  # clients that are slow must not hold what others need
            self._transport.writelines(pieces)

    def _on_rare(self, flags: int) -> None:
        if flags & FILE:
            raise RemoteProtocolError("a file in a tunnel")
        if flags & LAST:
            self._end()
            return
        if self._unacknowledged > self._application.most_unacknowledged:
            raise RemoteProtocolError(f"{self._unacknowledged} bytes for a client that has not taken them")
        if flags & ACK and (self._flushed or self._gone):
            self._acknowledge()

    def _acknowledge(self) -> None:
        size, self._unacknowledged = self._unacknowledged, 0
        self.port.acknowledge(self.stream, size)

    def worker_lost(self) -> None:
        """The worker is gone."""
        self._end()

    def _end(self) -> None:
        # The worker is done with it: the client gets what was written, and FIN.
        self._over = True
        self._free()
        self._application.tunnel_over(self)
        if not self._gone:
            self._close()
        self._report()

    # The socket

    def _close(self) -> None:
        # Closing a socket that has unread bytes resets it, and the client would lose what it has not read yet.
        self._closing = True
        self._deaf, self._credit, self._long = True, READ, False
        self._tidy()
        self._resume()
        if self._finished or not self._transport.can_write_eof():
            self._transport.close()
            return
        self._transport.write_eof()
        self._end_by = NEVER
        if self._flushed:
            self._linger()
        self._arm()

    def _linger(self) -> None:
        service = self._service
        self._end_by = service.wheel.clock() + (HURRIED_LINGER_TIME if service.draining else LINGER_TIME)

    def _report(self) -> None:
        if self._over and self._gone and self._closed is not None:
            closed, self._closed = self._closed, None
            closed(self._sent)

    # The wheel and the router call

    def drain(self) -> None:
        """The router ends: so has the worker to end this."""
        if not self._over and not self._gone:
            self.port.send(_pack(self.stream, LEAVE, 0, 0, 0, 0, 0, 0))
            self._end_by = self._service.wheel.clock() + LEAVE_TIME
            self._arm()

    def expired(self) -> None:
        """The deadline is over."""
        now = self._service.wheel.clock()
        if self._send_by <= now:
            if self._sent - self._transport.get_write_buffer_size() <= self._taken:
                self._vanish()  # not a byte was taken
                return
            self._look_at_client()
        if self._end_by <= now:
            if self._closing:
                self._transport.abort()
                return
            self._gone = True
            self._cancel()
            self._close()
        self._arm()

    def _look_at_client(self) -> None:
        self._taken = self._sent - self._transport.get_write_buffer_size()
        self._send_by = self._service.wheel.clock() + self._service.http.send_timeout
        self._arm()

    def _arm(self) -> None:
        self.deadline = deadline = min(self._send_by, self._end_by)
        if deadline < self.slot_due:
            self._service.wheel.put(self)
