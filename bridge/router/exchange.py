"""One HTTP request joined to one stream: what the worker says is checked, and what it answers goes to the client.

Of the parts of an exchange this is the one that the worker talks to. `request` is what the worker gets, `endings` what
becomes of both sides when it is over.
"""

from __future__ import annotations

import os
from typing import Any

from bridge.errors import RemoteProtocolError
from bridge.ipc.message import (
    ABORT,
    ACK,
    DATA,
    FILE,
    LAST,
    PART,
    RESPONSE,
    TAKEN,
    UNKNOWN,
    WANT,
)
from bridge.router.endings import Endings
from bridge.router.framing import USUAL_BLOCK, check_block, check_usual_block
from bridge.router.outflow import CROWDED, Outflow
from bridge.router.worker_port import WorkerPort


class Exchange(Endings):
    """See the head of the file. Made by the service for each request.

    Args:
        application: where the request goes.
        connection: where the answer goes.
        block: peer block and request head, as the worker gets them.
        framing: what the router has read from the head.
        bits: HTTPS, if the client's side is that, and the way to the application, as a REQUEST has them.
    """

    __slots__ = ()

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
        if kind >= TAKEN and self.port is None and self._serve_head(port, kind):
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
            # It is copied out of the worker's memory, so whoever may send more of that could fill ours.
            if sum(map(len, views)) > self.application.largest_head:
                raise RemoteProtocolError("a response head that is too long")
            inline += b"".join(bytes(view) for view in views)
            views = None
        block = inline[:head]
        check = check_usual_block if head <= USUAL_BLOCK else check_block
        if head > len(inline) or not 200 <= number <= 999 or not check(block):
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
        # Whether the body goes through an outflow: what is small goes straight to a client that takes it, and so does
        # everything of ASGI while there is memory, the worker's and ours: only the one task waits.
        if self._outflow is not None:
            return True
        port = self.port
        if self._gone or port is None or (views is None and self.connection.flushed):
            return False
        crowded = port.held * CROWDED > port.port.segment.count or (views is None and self.connection.crowded)
        if port.interface != "wsgi" and not crowded:
            return False
        self._begin_outflow()
        return True

    def _begin_outflow(self) -> None:
        application = self.application
        most = application.http.max_temp_file_size
        self._outflow = Outflow(self.connection, application.disk, most, self._acknowledge, self._flowed)

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
        file = port.take_file(offset, count)
        if file is None:  # our own shortage, which costs this response and nothing else
            self._on_abort()
            return
        if self._gone:
            os.close(file)
            return
        self.sent += count
        if self._outflow is None:
            self._begin_outflow()
        self._flow(flags, b"", None, (file, offset, count))

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
        if self._unacknowledged and self.port is not None and not self._over and (self._gone or self._taken()):
            size, self._unacknowledged = self._unacknowledged, 0
            self.port.acknowledge(self.stream, size)

    # From the client

    def client_ready(self) -> None:
        """Everything written so far has left for the client."""
        if self._outflow is not None:
            self._outflow.advance()
        self._acknowledge()
