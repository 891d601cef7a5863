"""The response half of a connection: heads, bodies, and what becomes of the connection behind them.

`http1.Connection` is the request half. They are one object and two files: the response may begin, and end, before
the request has ended, so each half has a state of its own (see `lifetime`), and these meet in `_finish` and `_next`
only.
"""

from __future__ import annotations

from typing import Any

from bridge.errors import LocalProtocolError
from bridge.ipc.message import DATE, SERVER
from bridge.router.answers import (
    CHUNKED,
    CONTINUE,
    LAST_CHUNK,
    LENGTH,
    NO_BODY,
    SWITCHED,
    UNTIL_CLOSE,
    USUAL,
    canned,
    delivery,
    framing_lines,
    response_head,
)
from bridge.router.interface import Heir
from bridge.router.lifetime import CHUNKED_BODY, DONE, HEAD, LENGTH_BODY, LINGER, NOT_BEGUN, WAIT, Lifetime
from bridge.router.wheel import NEVER

_JOINED = 16384  # bytes of body that are copied behind the head: cheaper than a vector of two
_JOINED_CHUNK = 1024  # the same for a transfer chunk, which has three parts
_DISCARDED = 65536  # unread bytes of a request body that are worth reading to keep the connection


class Responder(Lifetime):
    """What an exchange may do with its connection. Made as `http1.Connection` only."""

    __slots__ = ()

    # fmt: off
    def respond(
        self, status: int, block: bytes, size: int | None, flags: int, body: Any, last: bool,
    ) -> bool:
        """Write the head of the response and the first bytes of its body.

        Args:
            status: 200 to 999.
            block: field lines that `framing.check_block` has passed.
            size: announced bytes of body, None = not known.
            flags: DATE, SERVER of `ipc.message`.
            body: bytes-like; kept until it has left when it is long.
            last: `body` ends the response.

        Returns:
            False: the body is longer or shorter than announced, so the connection has been cut; or it is gone.

        Raises:
            LocalProtocolError: the response has begun before.
        """
        if self._reply != NOT_BEGUN:
            if self._reply == DONE:
                return False
            raise LocalProtocolError("a second response head")
        framing = self._framing
        service = self._service
        length = len(body)
        if not (
            last and length <= _JOINED and self._state == WAIT and (size is None or size == length)
            and framing.keep_alive and framing.minor and not framing.is_head and not service.draining
            and status in USUAL
        ):
            return self._respond_rarely(status, block, size, flags, body, last)
        if flags & (DATE | SERVER):
            lines = b"content-length: %d\r\n" % length
            head = response_head(status, block, lines, flags, service.server, service.date)
        else:
            head = USUAL[status] + service.fields + block + b"content-length: %d\r\n\r\n" % length
        self._reply = DONE
        self._exchange = None
        self._keep_alive = True
        self._transport.write(head + body)
        if self.flushed:
            self._next()
        return True

    def _respond_rarely(
        self, status: int, block: bytes, size: int | None, flags: int, body: Any, last: bool,
    ) -> bool:
        framing, service = self._framing, self._service
        mode = delivery(framing, status, size)
        if size is None and last and (mode != NO_BODY or (framing.is_head and len(body))):
            size = len(body)
            mode = delivery(framing, status, size)
        if mode == LENGTH and (len(body) > (size or 0) or (last and len(body) != size)):
            self.abort()
            return False
        self._keep_alive = (
            framing.keep_alive and not service.draining and mode != UNTIL_CLOSE and self._rest_is_small(last=last)
        )
        if mode == UNTIL_CLOSE:
            # FIN is the end of this body, so whoever closes the socket too early (the kernel, should this process be
            # killed) must send RST.
            self._set_resets(resets=True)
        lines = framing_lines(framing, status, size, keep_alive=self._keep_alive)
        self._reply = mode
        self._remaining = size or 0
        self._write_first(response_head(status, block, lines, flags, service.server, service.date), body, last)
        return True
    # fmt: on

    def _write_first(self, head: bytes, body: Any, last: bool) -> None:
        mode = self._reply
        length = len(body)
        if mode == NO_BODY or not length:
            self._transport.write(head + LAST_CHUNK if mode == CHUNKED and last else head)
        elif mode == CHUNKED:
            self._transport.writelines((b"%b%x\r\n" % (head, length), body, b"\r\n" + (LAST_CHUNK if last else b"")))
        elif length <= _JOINED:
            self._transport.write(head + body)
        else:
            self._transport.writelines((head, body))
        self._remaining -= length
        if last:
            self._finish()

    def write(self, data: Any, last: bool) -> bool:
        """Write more of the response's body; `data` is bytes-like and kept until it has left.

        Returns:
            False: the body is longer or shorter than announced, so the connection has been cut; or it is gone.
        """
        mode = self._reply
        length = len(data)
        if mode == CHUNKED:
            self._write_chunk(data, length, LAST_CHUNK if last else b"")
        elif mode in (LENGTH, UNTIL_CLOSE):
            if mode == LENGTH:
                self._remaining -= length
                if self._remaining < 0 or (last and self._remaining):
                    self.abort()
                    return False
            if length:
                if not self.flushed:
                    self._unsent += length
                    self._keep(data)
                self._transport.write(data)
        elif mode != NO_BODY:
            return False
        if last:
            self._finish()
        return True

    def _write_chunk(self, data: Any, length: int, end: bytes) -> None:
        if not self.flushed:
            self._unsent += len(end) + (length + len(b"%x\r\n\r\n" % length) if length else 0)
            self._keep(data)
        if length > _JOINED_CHUNK:
            self._transport.writelines((b"%x\r\n" % length, data, b"\r\n" + end))
        elif length:
            self._transport.write(b"%x\r\n%b\r\n%b" % (length, data, end))
        elif end:
            self._transport.write(end)

    def switch(self, block: bytes, flags: int, heir: Heir) -> None:
        """Answer with 101 (Switching Protocols): from then on the socket belongs to another, and this is over.

        Args:
            block: field lines that `framing.check_block` has passed.
            flags: DATE, SERVER of `ipc.message`.
            heir: gets the socket, the head to be written, and what the client has sent behind its request.

        Raises:
            LocalProtocolError: the response has begun before.
        """
        if self._reply != NOT_BEGUN or self._state != WAIT:
            raise LocalProtocolError("101 in the middle of something else")
        service, pending = self._service, bytes(self._pending)
        self._resume()
        self._end()
        service.wheel.remove(self)
        service.connections.discard(self)
        head = response_head(101, block, SWITCHED, flags, service.server, service.date)
        heir.take_over(service, self._transport, head, pending)

    def send_continue(self) -> None:
        """The application wants the body: tell a client that waits for 100 (Continue)."""
        if self._continue and self._reply == NOT_BEGUN:
            self._continue = False
            self._transport.write(CONTINUE)
            self._expect_body()

    def refuse(self, status: int, retry_after: int | None = None) -> None:
        """Answer in the application's place; a response that has begun is cut instead.

        Args:
            status: 400 to 599.
            retry_after: seconds, for Retry-After.
        """
        if self._reply == NOT_BEGUN:
            block, body = canned(status, retry_after)
            self.respond(status, block, len(body), 0, body, True)
        else:
            self.abort()

    def pause_body(self) -> None:
        """Read nothing more of the request body: there is no memory for it."""
        if self._reply != DONE and self._state in (LENGTH_BODY, CHUNKED_BODY):
            self._pause()
            self._read_by = NEVER
            self._arm()

    def resume_body(self) -> None:
        """Read the request body again: `Exchange.body_buffer` has memory from now on."""
        if self._state in (LENGTH_BODY, CHUNKED_BODY):
            self._resume()
            if not self._continue:
                self._expect_body()

    # The transport calls

    def resume_writing(self) -> None:
        """Everything written has left."""
        self.flushed = True
        self._send_by = NEVER
        self._arm()
        if self._kept:
            self._keep_nothing()
        if self._exchange is not None:
            self._exchange.client_ready()
        elif self._reply == DONE:
            if self._state == WAIT:
                self._next()
            elif self._state >= LINGER:
                self._end_as_usual()

    # Both halves call

    def _advance(self) -> None:
        # The request half goes on with what is in `_pending`.
        raise NotImplementedError

    def _rest_is_small(self, *, last: bool) -> bool:
        # Whether the connection can be kept although the request body has not been read to its end.
        if self._state == WAIT:
            return True
        if self._continue:
            return False  # nobody can tell whether the client will send it
        return not last or (self._state == LENGTH_BODY and self._lacking <= _DISCARDED)

    def _finish(self) -> None:
        # The last byte of the response is written.
        self._reply = DONE
        self._exchange = None
        if self._state == WAIT:
            if self.flushed:
                self._next()
        elif self._keep_alive and self._rest_is_small(last=True):
            self._resume()
            self._expect_body()
        else:
            self._linger()

    def _next(self) -> None:
        # Request and response are complete, and the client has all of it.
        service = self._service
        pending = self._pending
        if self._paused:
            self._resume()
        if not self._keep_alive or (service.draining and not pending):
            if pending:
                self._linger()
            else:
                self._end_as_usual()
                self._close()
            return
        self._state = HEAD
        self.deadline = deadline = service.wheel.clock() + service.http.idle_timeout
        if deadline < self.slot_due:
            service.wheel.put(self)
        if pending:
            service.call_soon(self._advance)  # never from within the exchange that has just ended
