"""One HTTP request joined to one stream. Every ending of a request lives here.

    done                      a message with LAST                     over at once
    client gone, not begun    the cancel wins the tracking word       over at once; the application never sees it
    client gone, begun        CANCEL to the worker                    over when the worker has confirmed
    worker died               502 before the head, a cut connection behind it; not begun = published again
    worker broke the protocol the same, and the worker is ended
    response cannot go on     ABORT from the worker                   502 before the head, a cut connection behind it
    no worker in time         503, from the line or by a cancel       over at once; the application never sees it
    line full                 503 at once
    head fits no segment      431 at once

Whichever it is, `_end` runs once: it gives back memory and the stream's number, and tells the access log.
"""

from __future__ import annotations

import os
from typing import Any

from bridge.errors import RemoteProtocolError
from bridge.ipc.message import (
    ABORT,
    ACK,
    CANCEL,
    DATA,
    FILE,
    HEADER,
    LAST,
    PART,
    RESPONSE,
    TAKEN,
    UNKNOWN,
    WANT,
)
from bridge.ipc.stream import Event, State
from bridge.router.application import Application
from bridge.router.framing import Framing, check_block
from bridge.router.http1 import Connection
from bridge.router.outflow import Outflow
from bridge.router.request import Request
from bridge.router.worker_port import WorkerPort


class Exchange(Request):
    """See the head of the file. Made by the service for each request.

    Args:
        application: where the request goes.
        connection: where the answer goes.
        block: peer block and request head, as the worker gets them.
        framing: what the router has read from the head.
        https: whether the client's side is https.
    """

    __slots__ = (
        "_gone",
        "_outflow",
        "_over",
        "_responding",
        "_unacknowledged",
        "on_over",
        "sent",
        "status",
    )

    def __init__(
        self, application: Application, connection: Connection, block: bytes, framing: Framing, https: bool
    ) -> None:
        super().__init__(application, connection, block, framing, https)
        self.status = 0
        self.sent = 0  # bytes of response body, for the access log
        self.on_over: Any = None  # called with the exchange when it is over (access log)
        self._responding = False
        self._gone = False
        self._over = False
        self._unacknowledged = 0
        self._outflow: Outflow | None = None  # what a client that may be slow has not taken, of a WSGI response

    def begin(self, body: bytes, complete: bool) -> None:
        """Ask for a worker. `body` came along with the head; `complete`: it is all of it."""
        self._body = body
        self._complete = complete
        if len(self._block) > self.application.largest_head:
            self.refuse(431)
            return
        if complete and not body:
            self.application.admit(self)
        elif self._prepare_body():
            if self._upload is None:
                self.application.admit(self)
            else:
                # What the socket holds is read in this round of the loop, and travels with the request.
                self.application.loop.call_soon(self._admit)

    def _admit(self) -> None:
        if not self._over:
            self.application.admit(self)

    @property
    def gone(self) -> bool:
        """Whether nobody waits for the answer any more."""
        return self._gone

    # From the worker

    def on_message(  # noqa: PLR0913 - the parts of one message
        self,
        port: WorkerPort,
        kind: int,
        flags: int,
        size: int,
        number: int,
        head: int,
        views: list[Any] | None,
        inline: bytes,
    ) -> None:
        """Handle one message of the worker that runs this stream.

        Raises:
            RemoteProtocolError: it makes no sense in the state that this exchange is in.
        """
        if kind == TAKEN and self.port is None:
            self._free_head()  # said before the request begins: another worker could still run it
            return
        if self.port is not port:
            if self.port is not None:
                raise RemoteProtocolError(f"stream {self.stream:#x} belongs to another worker")
            if not self.application.tracking.held_by(self.stream, port.number):
                raise RemoteProtocolError(f"stream {self.stream:#x} was not claimed by it")
            self.port = port
            if self._upload is not None:
                self._upload.stream = self.stream
                self._upload.known(port)
        if kind == RESPONSE:
            self._on_response(flags, size, number, head, views, inline)
            if self._over:
                return
        elif kind == DATA:
            if not self._responding and not self._gone:
                raise RemoteProtocolError("response body before its head")
            self._write(flags, views, inline)
        else:
            self._on_note(kind, size)
            return
        if flags & LAST:
            self._end()
        elif flags & ACK:
            self._acknowledge()

    def _on_note(self, kind: int, size: int) -> None:
        if kind == TAKEN:
            self._free_head()
        elif kind == WANT:
            self._on_want(size)
        elif kind == ABORT:
            self._on_abort()
        else:
            raise RemoteProtocolError(f"unknown kind of message {kind}")

    def _on_response(
        self, flags: int, size: int, number: int, head: int, views: list[Any] | None, inline: bytes
    ) -> None:
        if self._responding:
            raise RemoteProtocolError("a second response head")
        if head > len(inline) and views:
            inline += b"".join(bytes(view) for view in views)
            views = None
        block = inline[:head]
        if head > len(inline) or not 200 <= number <= 999 or not check_block(block):
            raise RemoteProtocolError("a response head that HTTP does not allow")
        self._responding = True
        body = inline[head:]
        self._unacknowledged += len(body)
        if self._gone:
            return
        self.status = number
        last = bool(flags & LAST)
        announced = None if size == UNKNOWN else size
        self.sent += len(body)
        if last and not views:
            self._end()
            if not self.connection.respond(number, block, announced, flags, body, True):
                self._check(False)
            return
        if self._check(self.connection.respond(number, block, announced, flags, body, False)) and views:
            self._write(flags, views, b"")

    def _write(self, flags: int, views: list[Any] | None, inline: bytes) -> None:
        if flags & FILE:
            self._on_file(flags, views, inline)
            return
        if self._flows(views):
            self._flow(flags, inline, views)
            return
        pieces = [inline] if inline or not views else []
        pieces += views or []
        last = len(pieces) - 1
        for index, piece in enumerate(pieces):
            self._unacknowledged += len(piece)
            if self._gone:
                continue
            self.sent += len(piece)
            final = index == last and bool(flags & LAST)
            if final:
                self._end()
            if not self._check(self.connection.write(piece, final)):
                return
        if self._unacknowledged > self.application.most_unacknowledged:
            self._on_excess()

    def _flows(self, views: list[Any] | None) -> bool:
        # Whether the body goes through an outflow: what is small, or of ASGI, goes straight to a client that takes it.
        if self._outflow is not None:
            return True
        application, port = self.application, self.port
        if self._gone or port is None or port.interface != "wsgi" or (views is None and self.connection.flushed):
            return False
        most = application.http.max_temp_file_size
        self._outflow = Outflow(self.connection, application.disk, most, self._acknowledge, self._flowed)
        return True

    def _flow(
        self, flags: int, inline: bytes, views: list[Any] | None = None, file: tuple[int, int, int] | None = None
    ) -> None:
        outflow = self._outflow
        if outflow is None:
            raise AssertionError("it was made before")
        for piece in (inline, *(views or ())):
            self.sent += len(piece)
            self._unacknowledged += len(piece)
            outflow.push(piece)
        if flags & LAST:
            outflow.finish(file)
            self._end()
        outflow.advance()
        if self._unacknowledged > self.application.most_unacknowledged:
            self._on_excess()

    def _on_excess(self) -> None:
        # Bytes that came inline wait in our own memory for the client: no worker may fill that.
        if not self._gone and not self._over:
            raise RemoteProtocolError(f"{self._unacknowledged} bytes of a response that nobody has asked for")

    def _flowed(self, kept_length: bool | None) -> None:
        # The last byte was handed over, or the connection has been cut; None = because our disk has failed.
        self._outflow = None
        if kept_length is None:
            self.client_gone()
        else:
            self._check(kept_length)
        if self._over:
            self._report()

    def _on_file(self, flags: int, views: list[Any] | None, inline: bytes) -> None:
        port = self.port
        if port is None or port.interface != "wsgi" or not flags & LAST or views or len(inline) != PART.size:
            raise RemoteProtocolError("a file that does not end a response")
        offset, count = PART.unpack(inline)
        file = port.take_file(self.stream, offset, count)
        if self._gone:
            os.close(file)
            return
        self.sent += count
        self._flows([])
        self._flow(flags, b"", None, (file, offset, count))

    def _on_abort(self) -> None:
        self._stop_flow()
        if self._gone:
            self._end()
        elif self._responding:
            self._end()
            self.connection.abort()
        else:
            self.status = 502
            self._end()
            self.connection.refuse(502)

    def _check(self, kept_length: bool) -> bool:
        # The connection has been cut: the client must not take a response of another length for the whole one.
        if not kept_length and not self._gone:
            self.application.log.error(
                "worker %s sent a response that is longer or shorter than announced", self.port and self.port.number
            )
            self.client_gone()
        return kept_length

    def _on_want(self, consumed: int) -> None:
        if self._gone:
            return
        if self._continue:
            self._continue = False
            if not self._responding:
                self.connection.send_continue()
        if self._upload is not None:
            self._upload.wanted(consumed)

    def _acknowledge(self) -> None:
        # A window is given back when its bytes have left the process, so a slow client stops the application.
        outflow = self._outflow
        left = self.connection.flushed if outflow is None else outflow.clear
        if self._unacknowledged and self.port is not None and not self._over and (self._gone or left):
            size, self._unacknowledged = self._unacknowledged, 0
            self.port.acknowledge(self.stream, size)

    # From the client

    def client_ready(self) -> None:
        """Everything written so far has left for the client."""
        if self._outflow is not None:
            self._outflow.advance()
        self._acknowledge()

    def client_gone(self) -> None:
        """Nobody waits for the answer any more; nothing is written to the connection from now on."""
        self._stop_flow()
        if not self._gone and not self._over:
            self.application.left(self, answered=self._responding)
            self._let_go()

    def _let_go(self) -> None:
        self._gone = True
        if not self.stream:
            # In this order: memory that it gives back is used to publish who waits, and that must not be this one.
            self.application.leave(self)
            self._end()
            return
        tracking = self.application.tracking
        state = tracking.move(self.stream, Event.CANCEL)
        if state == State.CANCELLED:
            self._end()
        elif state == State.CANCELLING:
            port = self.port or self.application.workers.get(tracking.owner(self.stream))
            if port is not None:
                port.send(HEADER.pack(self.stream, CANCEL, 0, 0, 0, 0, 0, 0))

    def worker_lost(self, state: int) -> bool:
        """Its worker is gone; True = nothing of it has begun, so another worker may run it."""
        if self._over:
            return False
        if not self._gone and self.port is None and state in (State.QUEUED, State.CLAIMED):
            # It has not said a word, so whatever there is of the body is still here.
            self.application.finished(self)
            self.stream = 0
            return True
        if not self._gone:
            self._gone = True
            self._stop_flow()
            self.application.tally.errors += 1
            if self._responding:
                self.connection.abort()
            else:
                self.status = 502
                self.connection.refuse(502)
        self._end()
        return False

    def refuse(self, status: int) -> None:
        """Answer in the application's place; nobody has begun to run it."""
        if self._gone or self._over:
            return
        self.application.tally.errors += status >= 500
        self.status = status
        self._let_go()
        self.connection.refuse(status, retry_after=1)

    def _end(self) -> None:
        if self._over:
            return
        self._over = True
        if self._upload is not None:
            self._upload.close()
        if self._head_runs is not None:
            self._free_head()
        if self.stream:
            self.application.finished(self)
        if self.port is not None and self.port.files:
            self.port.drop_file(self.stream)
        if self._outflow is None:
            self._report()

    def _stop_flow(self) -> None:
        outflow, self._outflow = self._outflow, None
        if outflow is not None:
            outflow.close()
            if self._over:
                self._report()

    def _report(self) -> None:
        if self.on_over is not None:
            self.on_over(self)
