"""How an exchange ends. Every ending of a request lives here.

    done                      a message with LAST                     over at once
    client gone, not begun    the cancel wins the tracking word       over at once; the application never sees it
    client gone, begun        CANCEL to the worker                    over when the worker has confirmed
    body refused              4xx from the connection                 as client gone
    ran for too long          504 before the head, a cut connection behind it, and CANCEL to the worker: the same
    worker died, not begun    published again
    worker died               502 before the head, a cut connection behind it; or published again, see `_may_repeat`
    worker broke the protocol the same, and the worker is ended
    response cannot go on     ABORT from the worker                   502 before the head, a cut connection behind it
    no worker in time         503, from the line or by a cancel       over at once; the application never sees it
    line full                 503 at once
    head fits no message      431 at once

Whichever it is, `_end` runs once: it gives back memory and the stream's number, and tells the access log.
"""

from __future__ import annotations

from typing import Any

from bridge.ipc.message import CANCEL, HEADER
from bridge.ipc.stream import Event, State
from bridge.router.application import Application
from bridge.router.framing import Framing
from bridge.router.http1 import Connection
from bridge.router.outflow import Outflow
from bridge.router.request import Request

_SAFE = (b"GET ", b"HEAD ", b"OPTIONS ", b"TRACE ")  # RFC 9110, section 9.2.1


class Endings(Request):
    """See the head of the file; the arguments are those of an `Exchange`."""

    __slots__ = (
        "_gone",
        "_outflow",
        "_over",
        "_repeated",
        "_responding",
        "_unacknowledged",
        "on_over",
        "sent",
        "status",
    )

    def __init__(
        self, application: Application, connection: Connection, block: bytes, framing: Framing, bits: int
    ) -> None:
        super().__init__(application, connection, block, framing, bits)
        self.status = 0
        self.sent = 0  # bytes of response body, for the access log
        self.on_over: Any = None  # called with the exchange when it is over (access log)
        self._responding = False
        self._gone = False
        self._over = False
        self._repeated = False  # it was begun by a worker that has died
        self._unacknowledged = 0
        self._outflow: Outflow | None = None  # what a client that may be slow has not taken, of a WSGI response

    @property
    def gone(self) -> bool:
        """Whether nobody waits for the answer any more."""
        return self._gone

    def client_gone(self) -> None:
        """Nobody waits for the answer any more; nothing is written to the connection from now on."""
        self._stop_flow()
        if not self._gone and not self._over:
            self.application.left(self, answered=self._responding)
            self._let_go()

    def client_answered(self, status: int) -> None:
        """What the client has sent cannot be understood, or does not come; the connection answers that itself."""
        if not self._gone and not self._over:
            self.status = status
            self._let_go()

    def _let_go(self) -> None:
        self._gone = True
        if not self.stream:
            # In this order: memory that it gives back is used to publish who waits, and that must not be this one.
            self.application.leave(self)
            self._end()
            return
        if self._upload is not None:
            self._upload.stop()
        tracking = self.application.tracking
        state = tracking.move(self.stream, Event.CANCEL)
        if state == State.CANCELLED:
            self._end()
        elif state == State.CANCELLING:
            port = self.port or self.application.workers.get(tracking.owner(self.stream))
            if port is not None:
                port.send(HEADER.pack(self.stream, CANCEL, 0, 0, 0, 0, 0, 0))

    def worker_lost(self, state: int) -> bool:
        """Its worker is gone; True = nothing of it has begun, so another worker is to run it, in its turn."""
        if self._over:
            return False
        if not self._gone and self.port is None and state in (State.QUEUED, State.CLAIMED):
            # It has not said a word, so whatever there is of the body is still here.
            self.application.take_back(self)
            return True
        if not self._gone and self._may_repeat():
            self._repeat()
            return False
        if not self._gone:
            self._gone = True
            self._break(502)
        self._end()
        return False

    def _may_repeat(self) -> bool:
        # Whether another worker may run what one was running when it died: the operator has said that this is right.
        application = self.application
        return (
            application.settings.retry_safe
            and not self._repeated
            and not self._responding
            and self._block.partition(b"\n")[2].startswith(_SAFE)
            and self._is_whole()
        )

    def _repeat(self) -> None:
        application = self.application
        application.tally.repeated += 1
        application.take_back(self)
        self._repeated = True
        self.port = None
        if self._upload is not None:
            self._upload.port = None
        application.admit(self)

    def sign_of_life(self) -> tuple[int, ...]:
        """What the application has done so far; when this is another value than before, it has gone on."""
        return self._responding, self.sent, 0 if self._upload is None else self._upload.consumed

    def waits_for_client(self) -> bool:
        """Whether the client is slow: it has to take bytes, or to send those that the application asks for."""
        return not self._taken() or (self._upload is not None and self._upload.hungry)

    def _taken(self) -> bool:
        # Whether the worker may go on: a thread of WSGI when its memory is free again, a task when the bytes have left.
        outflow = self._outflow
        if outflow is None:
            return self.connection.flushed
        if self.port is not None and self.port.interface == "wsgi":
            return outflow.clear
        return outflow.empty and self.connection.flushed

    def time_out(self) -> None:
        """The application has had its time: the client gets an answer in its place, and the worker is to stop."""
        if self._gone or self._over:
            return
        self.application.tally.timed_out += 1
        self._break(504)
        self._let_go()

    def _break(self, status: int) -> None:
        # The application will not answer, or not to the end.
        self._stop_flow()
        self.application.tally.errors += 1
        if self._responding:
            self.connection.abort()
        else:
            self.status = status
            self.connection.refuse(status)

    def refuse(self, status: int) -> None:
        """Answer in the application's place; nobody has begun to run it."""
        if self._gone or self._over:
            return
        self.application.tally.errors += status >= 500
        self.status = status
        self._let_go()
        self.connection.refuse(status, retry_after=1)

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

    def _end(self) -> None:
        if self._over:
            return
        self._over = True
        if self._upload is not None:
            self._upload.close()
        if self._head_runs is not None:
            self._free_head()
        port = self.port
        if port is not None:
            if port.leaving:
                self.application.left_with(port)
            if port.linked:
                port.forget(self.stream)
        if self.stream:
            self.application.finished(self)
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
