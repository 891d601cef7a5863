"""The request half of a connection, and the only file that knows httptools.

Strategy: one head at a time. llhttp gets exactly the bytes of one head, without callbacks, and `framing.judge` gets
the same bytes; only when both agree is there a request. So sizes, pipelining and the place where a body ends are
under our own control. A body with a Content-Length never passes a parser: the socket is read into the memory that
the exchange offers. The next head is looked at when the exchange before it is over, so answers are in order.

Reading stays on while the application works: only so is a client seen that leaves. What it sends meanwhile is kept
up to the size of one head; then the socket is paused and `hangup` watches it.

For the states see `lifetime`.
"""

from __future__ import annotations

import asyncio
from typing import Any, cast

from httptools import HttpParserError, HttpParserInvalidMethodError, HttpParserUpgrade, HttpRequestParser

from bridge.errors import ClientError
from bridge.router.direct import DirectResponder
from bridge.router.framing import REFUSED, Framing, check_partial, fields_of, judge, repeats
from bridge.router.interface import Service
from bridge.router.lifetime import CHUNKED_BODY, DONE, HEAD, LENGTH_BODY, LINGER, NOT_BEGUN, WAIT
from bridge.router.scratch import scratch
from bridge.router.transfer import ChunkDecoder
from bridge.router.wheel import NEVER

_HEAD_END = b"\r\n\r\n"
_LARGEST_READ = 65536  # bytes taken from a socket at once, bodies with a Content-Length excepted
_FIRST_REQUEST_TIME = 1.0  # seconds for the first request of a connection accepted just before the end


def _peer_block(transport: asyncio.Transport) -> tuple[bytes, str]:
    client: Any = transport.get_extra_info("peername")
    server: Any = transport.get_extra_info("sockname")
    if isinstance(server, tuple):
        host, number = client[:2] if isinstance(client, tuple) else ("", "")
        return f"{host}\0{number}\0{server[0]}\0{server[1]}\n".encode(), host
    path = server if isinstance(server, bytes) else str(server or "").encode("utf-8", "surrogateescape")
    path = path.replace(b"\0", b"@").replace(b"\n", b"?")  # an abstract name begins with NUL
    return b"\0\0%b\0\n" % path, ""


class Connection(DirectResponder):
    """One TCP or unix connection; see the head of the file, and its bases for what an exchange may call.

    Args:
        service: what all connections share.
        destination: where the service sends what arrives here; the connection does nothing with it.

    Attributes:
        peer: addresses of both ends as the worker gets them, with a NUL between and a line feed at the end.
        trusted: whether the peer's X-Forwarded-* fields are believed.
    """

    __slots__ = (
        "_decoder",
        "_fields",
        "_limit",
        "_memory",
        "_parser",
        "_seen",
        "_stale",
        "_used",
        "_view",
        "destination",
        "peer",
        "trusted",
    )

    def __init__(self, service: Service, destination: Any = None) -> None:
        super().__init__(service)
        self.destination = destination
        self._limit = service.http.large_header_buffer_size * service.http.large_header_buffers
        self._memory, self._view = scratch(min(self._limit + 1, _LARGEST_READ))
        self._parser = HttpRequestParser(self)
        self._stale = False  # the parser must be started again before the next head
        self._used = False  # a request has been read
        self._fields = b""  # those of the last head, if `_framing` is all that they say
        self._seen = 0  # bytes of `_pending` that hold no end of a head
        self._decoder: ChunkDecoder | None = None
        self.peer = b""
        self.trusted = False

    # The transport calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin to wait for the first request."""
        self._transport = cast("asyncio.Transport", transport)
        # With a high mark of zero uvloop sends within write() and says when all has left.
        self._transport.set_write_buffer_limits(high=0)
        service = self._service
        if not service.admits():
            self._transport.abort()
            return
        self.peer, host = _peer_block(self._transport)
        self.trusted = service.trusts(host)
        service.connections.add(self)
        self.deadline = service.wheel.clock() + service.http.header_read_timeout
        service.wheel.put(self)

    def get_buffer(self, sizehint: int) -> memoryview:  # noqa: ARG002 - the loop's guess is not ours
        """Memory for the bytes that the socket has."""
        state = self._state
        if state == HEAD and not self._pending:
            return self._view
        if state == LENGTH_BODY:
            lacking = self._lacking
            view = self._view if self._exchange is None else self._exchange.body_buffer(lacking)
            return view if len(view) <= lacking else view[:lacking]
        if state in (HEAD, WAIT):
            return self._view[: max(self._limit + 1 - len(self._pending), 1)]
        return self._view

    def buffer_updated(self, count: int) -> None:
        """Take `count` bytes out of the memory that `get_buffer` gave."""
        state = self._state
        if state == HEAD:
            data = self._memory[:count]
            if not self._pending and data.find(_HEAD_END) == count - 4 and count > 3:
                self._begin(data)  # nearly always: one head, whole, and nothing behind it
                return
            self._pending += data
            self._advance()
        elif state == LENGTH_BODY:
            self._on_length_body(count)
        elif state == CHUNKED_BODY:
            self._on_chunked_body(self._memory[:count])
        elif state == WAIT:
            self._pending += self._view[:count]
            if len(self._pending) > self._limit:
                self._pause()

    def eof_received(self) -> None:
        """The client has closed its sending side: it is gone, as nginx has it; the loop closes the rest."""
        if self._reply != DONE:
            self._leave()
        else:
            self._end()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - whatever the reason
        """Let go of everything."""
        exchange = self._end()
        self._service.connections.discard(self)
        self._service.wheel.remove(self)
        self._keep_nothing()
        if exchange is not None:
            exchange.client_gone()

    # The wheel and the router call

    def expired(self) -> None:
        """The deadline is over."""
        state = self._state
        now = self._service.wheel.clock()
        if state == HEAD:
            if self._pending:
                self._refuse_head(bytes(self._pending), 408)
            else:
                self._close()
        elif state >= LINGER and self.flushed:
            self._transport.abort()
        elif self._send_by <= now and self._transport.get_write_buffer_size() >= self._unsent:
            self._leave()  # not a byte was taken
        elif self._read_by <= now and state < LINGER:
            self._refuse_body(408)
        else:
            if self._send_by <= now:
                self._unsent = self._transport.get_write_buffer_size()
                self._send_by = now + self._service.http.send_timeout
            self._arm()

    def drain(self) -> None:
        """The router ends: close as soon as no request is under way."""
        if self._state != HEAD or self._pending:
            return
        if self._used:
            self._close()
        else:
            self.deadline = self._service.wheel.clock() + _FIRST_REQUEST_TIME
            self._service.wheel.put(self)

    # Heads

    def _advance(self) -> None:
        pending = self._pending
        while self._state == HEAD and pending:
            end = pending.find(_HEAD_END, max(self._seen - 3, 0)) + 4
            if end < 4:
                self._await_head()
                return
            head = bytes(pending[:end])
            del pending[:end]
            self._seen = 0
            self._begin(head)

    def _await_head(self) -> None:
        pending = self._pending
        try:
            check_partial(pending, self._seen, self._service.http)
        except ClientError as error:
            self._refuse_head(bytes(pending), error.refused_with)
            return
        if not self._seen:
            self.deadline = self._service.wheel.clock() + self._service.http.header_read_timeout
            if self.deadline < self.slot_due:
                self._service.wheel.put(self)
        self._seen = len(pending)

    def _begin(self, head: bytes) -> None:
        service = self._service
        if self._fields and repeats(head, self._fields, service.http):
            framing = self._framing
        else:
            self._fields = b""
            try:
                framing = judge(head, service.http)
                if self._stale:
                    self._restart_parser()
                self._parser.feed_data(head)
                self._fields = fields_of(head, framing, service.http)
            except HttpParserUpgrade:
                self._stale = True  # nobody here speaks the other protocol: an ordinary request
            except (ClientError, HttpParserError) as error:
                self._begin_badly(head, error)
                return
            self._framing = framing
            self._used = True
        self._reply = NOT_BEGUN
        if framing.size:
            self._begin_body(head, framing)
            return
        self._state = WAIT
        self.deadline = NEVER
        exchange = service.exchange(self, head, framing, b"", True)
        if self._reply != DONE:
            self._exchange = exchange

    def _restart_parser(self) -> None:
        self._parser.__init__(self)  # type: ignore[misc]  # the only reset there is
        self._stale = False

    def _begin_badly(self, head: bytes, error: ClientError | HttpParserError) -> None:
        if isinstance(error, ClientError):
            if head.startswith(b"\r\n"):
                self._begin(head[2:])  # RFC 9112, section 2.2: one empty line before a request is ignored
            else:
                self._refuse_head(head, error.refused_with)
        elif self._used:
            # llhttp keeps opinions from the head before (Proxy-Connection: close, say): ask it without them.
            self._restart_parser()
            self._used = False
            self._begin(head)
        else:
            self._refuse_head(head, 501 if isinstance(error, HttpParserInvalidMethodError) else 400)

    def _refuse_head(self, head: bytes, status: int) -> None:
        self._service.refused(self, head, status)
        self._refuse_finally(status, is_head=head.startswith(b"HEAD "))

    def _refuse_finally(self, status: int, *, is_head: bool) -> None:
        # Nothing behind this place can be understood, so what still comes is thrown away.
        self._framing = Framing(keep_alive=False, is_head=True) if is_head else REFUSED
        self._fields = b""
        self._state = CHUNKED_BODY
        self._continue = False
        self._reply = NOT_BEGUN
        self.refuse(status)

    # Bodies

    def _begin_body(self, head: bytes, framing: Framing) -> None:
        self._stale = True  # llhttp expects a body that it will not see
        pending = self._pending
        if framing.chunked:
            self._decoder = decoder = ChunkDecoder(self._service.http.max_body_size)
            try:
                body, used = decoder.feed(bytes(pending))
            except ClientError as error:
                self._refuse_head(head, error.refused_with)
                return
            complete = decoder.done
            self._state = CHUNKED_BODY
        else:
            used = min(framing.size, len(pending))
            body = bytes(pending[:used])
            self._lacking = framing.size - used
            complete = not self._lacking
            self._state = LENGTH_BODY
        self._continue = framing.expect and not used
        del pending[:used]
        if self._continue:
            self._arm()  # it is for us now to say that the body may come
        else:
            self._on_progress(complete)
        exchange = self._service.exchange(self, head, framing, body, complete)
        if self._reply != DONE:
            self._exchange = exchange

    def _on_length_body(self, count: int) -> None:
        self._continue = False
        self._lacking -= count
        complete = not self._lacking
        self._on_progress(complete)
        if self._exchange is not None:
            self._exchange.body_filled(count, complete)
        elif complete and self._reply == DONE and self.flushed:
            self._next()  # it was read only to keep the connection

    def _on_chunked_body(self, data: bytes) -> None:
        decoder = self._decoder
        if decoder is None:
            raise AssertionError("a transfer-chunked body has a decoder")
        self._continue = False
        try:
            body, used = decoder.feed(data)
        except ClientError as error:
            self._refuse_body(error.refused_with)
            return
        self._pending += data[used:]
        self._on_progress(decoder.done)
        if self._exchange is not None and (body or decoder.done):
            self._exchange.body_bytes(body, decoder.done)

    def _on_progress(self, complete: bool) -> None:
        if complete:
            self._state = WAIT
            self._read_by = NEVER
            self._arm()
        else:
            self._expect_body()

    def _refuse_body(self, status: int) -> None:
        if self._reply != NOT_BEGUN:
            self._leave()
            return
        exchange, self._exchange = self._exchange, None
        is_head = self._framing.is_head
        self._reply = DONE
        if exchange is not None:
            exchange.client_answered(status)
        self._refuse_finally(status, is_head=is_head)
