"""One connection of a client: request bytes in, response bytes out. The only file that knows httptools.

Strategy: one head at a time. llhttp gets exactly the bytes of one head, without callbacks, and `framing.judge` gets
the same bytes; only when both agree is there a request. So sizes, pipelining and the place where a body ends are
under our own control. A body with a Content-Length never passes the parser: the socket is read into the memory that
the exchange offers. The next head is looked at when the exchange before it is over, so answers are in order.

    _HEAD ──head──► _LENGTH | _CHUNKED ──body complete──► _WAIT ──response complete and flushed──► _HEAD
      │  └─no body────────────────────────────────────────►┘
      └──refused, or the response ended before the body──► _LINGER ──► _CLOSED

The response has a state of its own (`_reply`), because it may begin, and end, before the request has ended.

Reading stays on while the application works: only so is a client seen that leaves. What it sends meanwhile is kept
up to the size of one head; then the socket is paused and `hangup` watches it.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from functools import cache
from typing import Any, Final, Protocol, cast

from httptools import (
    HttpParserError,
    HttpParserInvalidMethodError,
    HttpParserUpgrade,
    HttpRequestParser,
)

from bridge.config import Http
from bridge.errors import ClientError, LocalProtocolError
from bridge.ipc.message import UNKNOWN
from bridge.router.answers import (
    CHUNKED,
    CONTINUE,
    LAST_CHUNK,
    LENGTH,
    NO_BODY,
    UNTIL_CLOSE,
    USUAL,
    canned,
    delivery,
    framing_lines,
    response_head,
)
from bridge.router.framing import PLAIN, REFUSED, Framing, check_partial, judge
from bridge.router.hangup import Hangups
from bridge.router.transfer import ChunkDecoder
from bridge.router.wheel import NEVER, Wheel

_HEAD, _LENGTH, _CHUNKED, _WAIT, _LINGER, _CLOSED = range(6)
_NOT_BEGUN: Final = -1  # `_reply`: no byte of the response yet; then one of answers' deliveries; then …
_DONE: Final = -2  # … nothing more may be written

_HEAD_END = b"\r\n\r\n"
_LARGEST_READ = 65536  # bytes taken from a socket at once, bodies with a Content-Length excepted
_JOINED = 16384  # bytes of body that are copied behind the head; more is cheaper as a write of its own
_JOINED_CHUNK = 1024  # the same for a transfer chunk
_DISCARDED = 65536  # unread bytes of a request body that are worth reading to keep the connection
_LINGER_TIME = 10.0  # seconds that a client gets to read an answer while it still sends
_FIRST_REQUEST_TIME = 1.0  # seconds for the first request of a connection accepted just before the end


class Exchange(Protocol):
    """One request and its response, seen from the connection."""

    def body_buffer(self, lacking: int) -> memoryview:
        """Memory for the next bytes of a Content-Length body: never empty, and no more than `lacking` bytes."""
        ...

    def body_filled(self, count: int, complete: bool) -> None:  # noqa: FBT001 - agreed by position
        """`count` bytes have arrived in the last buffer; `complete`: they end the body."""
        ...

    def body_bytes(self, data: bytes, complete: bool) -> None:  # noqa: FBT001
        """Decoded bytes of a transfer-chunked body."""
        ...

    def client_gone(self) -> None:
        """Nobody waits for the response any more; the connection takes nothing from now on."""
        ...

    def client_ready(self) -> None:
        """Everything written so far has left: `flushed` has become true."""
        ...


class Service(Protocol):
    """What all connections of one router share."""

    @property
    def http(self) -> Http:
        """The limits."""
        ...

    @property
    def wheel(self) -> Wheel:
        """Where deadlines are kept."""
        ...

    @property
    def hangups(self) -> Hangups:
        """Who watches paused sockets."""
        ...

    @property
    def call_soon(self) -> Callable[[Callable[[], None]], Any]:
        """The loop's."""
        ...

    @property
    def connections(self) -> set[Connection]:
        """Those that are open; connections add and remove themselves."""
        ...

    @property
    def draining(self) -> bool:
        """Every response from now on is the last of its connection."""
        ...

    @property
    def server(self) -> bytes:
        """Value of the Server field."""
        ...

    def date(self) -> bytes:
        """Value of the Date field, now."""
        ...

    def trusts(self, host: str) -> bool:
        """Whether X-Forwarded-* of this peer is believed; an empty host is a unix socket's peer."""
        ...

    # fmt: off
    def exchange(
        self, connection: Connection, head: bytes, framing: Framing, body: bytes, complete: bool,  # noqa: FBT001
    ) -> Exchange:
        """Begin a request.

        Args:
            connection: where its response goes; may be answered at once, from within this call.
            head: the request head as it was received.
            framing: what it says about the body.
            body: bytes of the body that came along with the head, decoded.
            complete: whether `body` is all of it.
        """
        ...
    # fmt: on

    def refused(self, connection: Connection, head: bytes, status: int) -> None:
        """A request was answered without an exchange; `head` may be incomplete (for the access log)."""
        ...


@cache
def _scratch(size: int) -> memoryview:
    # One for the whole process: what is read into it is taken out before the next socket is read.
    return memoryview(bytearray(size))


def _peer_block(transport: asyncio.Transport) -> tuple[bytes, str]:
    client: Any = transport.get_extra_info("peername")
    server: Any = transport.get_extra_info("sockname")
    if isinstance(server, tuple):
        host = client[0] if isinstance(client, tuple) else ""
        number = client[1] if isinstance(client, tuple) else ""
        return f"{host}\0{number}\0{server[0]}\0{server[1]}\n".encode(), host
    path = server if isinstance(server, bytes) else str(server or "").encode("utf-8", "surrogateescape")
    path = path.replace(b"\0", b"@").replace(b"\n", b"?")  # an abstract name begins with NUL
    return b"\0\0%b\0\n" % path, ""


class Connection(asyncio.BufferedProtocol):
    """See the head of the file.

    Attributes:
        flushed: everything written has left this process, so memory given to `write` is free.
        peer: addresses of both ends as the worker gets them, with "\\0" between and "\\n" at the end.
        trusted: whether the peer's X-Forwarded-* fields are believed.
        deadline, slot_due: see `wheel.Timed`.
    """

    __slots__ = (
        "_continue",
        "_decoder",
        "_exchange",
        "_framing",
        "_keep_alive",
        "_lacking",
        "_limit",
        "_parser",
        "_paused",
        "_pending",
        "_read_by",
        "_remaining",
        "_reply",
        "_seen",
        "_send_by",
        "_service",
        "_stale",
        "_state",
        "_transport",
        "_unsent",
        "_used",
        "_view",
        "deadline",
        "flushed",
        "peer",
        "slot_due",
        "trusted",
    )

    _transport: asyncio.Transport

    def __init__(self, service: Service) -> None:
        self._service = service
        self._limit = service.http.large_header_buffer_size * service.http.large_header_buffers
        self._view = _scratch(min(self._limit + 1, _LARGEST_READ))
        self._parser = HttpRequestParser(self)
        self._stale = False  # the parser must be started again before the next head
        self._used = False  # a request has been read
        self._state = _HEAD
        self._pending = bytearray()  # bytes behind what was understood so far
        self._seen = 0  # bytes of `_pending` that hold no end of a head
        self._paused = False
        # The current request
        self._framing = PLAIN
        self._exchange: Exchange | None = None
        self._lacking = 0  # bytes of a Content-Length body still to come
        self._decoder: ChunkDecoder | None = None
        self._continue = False  # the client waits for 100 (Continue)
        # The current response
        self._reply = _DONE
        self._remaining = 0  # bytes of the announced length still to be written
        self._keep_alive = True
        self._unsent = 0  # bytes that the client had not taken at the last look
        # Deadlines
        self._read_by = NEVER
        self._send_by = NEVER
        self.deadline = NEVER
        self.slot_due = NEVER
        self.flushed = True
        self.peer = b""
        self.trusted = False

    # The transport calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin to wait for the first request."""
        self._transport = cast("asyncio.Transport", transport)
        # With a high mark of zero uvloop sends within write() and says when all has left.
        self._transport.set_write_buffer_limits(high=0)
        service = self._service
        self.peer, host = _peer_block(self._transport)
        self.trusted = service.trusts(host)
        service.connections.add(self)
        self.deadline = service.wheel.clock() + service.http.header_read_timeout
        service.wheel.put(self)

    def get_buffer(self, sizehint: int) -> memoryview:  # noqa: ARG002 - the loop's guess is not ours
        """Memory for the bytes that the socket has."""
        state = self._state
        if state == _HEAD and not self._pending:
            return self._view
        if state == _LENGTH:
            lacking = self._lacking
            view = self._view if self._exchange is None else self._exchange.body_buffer(lacking)
            return view if len(view) <= lacking else view[:lacking]
        if state == _HEAD or state == _WAIT:  # noqa: PLR1714 - no tuple for each piece read
            return self._view[: max(self._limit + 1 - len(self._pending), 1)]
        return self._view

    def buffer_updated(self, count: int) -> None:
        """Take `count` bytes out of the memory that `get_buffer` gave."""
        state = self._state
        if state == _HEAD:
            data = self._view[:count].tobytes()
            if not self._pending and data.find(_HEAD_END) == count - 4 and count > 3:
                self._begin(data)  # nearly always: one head, whole, and nothing behind it
                return
            self._pending += data
            self._advance()
        elif state == _LENGTH:
            self._on_length_body(count)
        elif state == _CHUNKED:
            self._on_chunked_body(self._view[:count].tobytes())
        elif state == _WAIT:
            self._pending += self._view[:count]
            if len(self._pending) > self._limit:
                self._pause()

    def eof_received(self) -> None:
        """The client has closed its sending side: it is gone, as nginx has it; the loop closes the rest."""
        if self._exchange is not None:
            self._leave()
        else:
            self._end()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - whatever the reason
        """Let go of everything."""
        exchange = self._end()
        self._service.connections.discard(self)
        self._service.wheel.remove(self)
        if exchange is not None:
            exchange.client_gone()

    def pause_writing(self) -> None:
        """The client does not take all that was written."""
        self.flushed = False
        self._unsent = self._transport.get_write_buffer_size()
        self._send_by = self._service.wheel.clock() + self._service.http.send_timeout
        self._arm()

    def resume_writing(self) -> None:
        """Everything written has left."""
        self.flushed = True
        self._send_by = NEVER
        self._arm()
        if self._exchange is not None:
            self._exchange.client_ready()
        elif self._reply == _DONE and self._state == _WAIT:
            self._next()

    def peer_closed(self) -> None:
        """The client has left while its socket was paused (called by `hangup`)."""
        if self._exchange is not None:
            self._leave()
        elif self._state != _CLOSED:
            self._close()

    def expired(self) -> None:
        """The deadline is over (called by the wheel)."""
        state = self._state
        now = self._service.wheel.clock()
        if state == _HEAD:
            if self._pending:
                self._refuse_head(bytes(self._pending), 408)
            else:
                self._close()
        elif state >= _LINGER:
            self._transport.abort()
        elif self._send_by <= now and self._transport.get_write_buffer_size() >= self._unsent:
            self._leave()  # not a byte was taken
        elif self._read_by <= now:
            self._refuse_body(408)
        else:
            if self._send_by <= now:
                self._unsent = self._transport.get_write_buffer_size()
                self._send_by = now + self._service.http.send_timeout
            self._arm()

    # The request

    def _advance(self) -> None:
        # Bodies and heads that wait in `_pending`, as far as one exchange at a time allows.
        pending = self._pending
        while self._state == _HEAD and pending:
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
        try:
            framing = judge(head, service.http)
            if self._stale:
                self._parse_afresh(head)
            else:
                self._parser.feed_data(head)
        except HttpParserUpgrade:
            self._stale = True  # nobody here speaks the other protocol: an ordinary request
        except (ClientError, HttpParserError) as error:
            self._begin_badly(head, error)
            return
        self._framing = framing
        self._used = True
        self._reply = _NOT_BEGUN
        if framing.size:
            self._begin_body(head, framing)
            return
        self._state = _WAIT
        self.deadline = NEVER
        exchange = service.exchange(self, head, framing, b"", True)
        if self._reply != _DONE:
            self._exchange = exchange

    def _parse_afresh(self, head: bytes) -> None:
        self._parser.__init__(self)  # type: ignore[misc]  # the only reset there is; half the price of a new one
        self._stale = False
        self._parser.feed_data(head)

    def _begin_badly(self, head: bytes, error: ClientError | HttpParserError) -> None:
        if isinstance(error, ClientError):
            if head.startswith(b"\r\n"):
                self._begin(head[2:])  # RFC 9112, section 2.2: one empty line before a request is ignored
                return
            self._refuse_head(head, error.refused_with)
        elif self._used and not self._stale:
            # llhttp keeps opinions from the head before (Proxy-Connection: close, say): ask without them.
            self._stale = True
            self._begin(head)
        else:
            self._refuse_head(head, 501 if isinstance(error, HttpParserInvalidMethodError) else 400)

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
            self._state = _CHUNKED
        else:
            used = min(framing.size, len(pending))
            body = bytes(pending[:used])
            self._lacking = framing.size - used
            complete = not self._lacking
            self._state = _LENGTH
        self._continue = framing.expect and not used
        del pending[:used]
        if complete:
            self._state = _WAIT
            self._read_by = NEVER
        elif not self._continue:
            self._read_by = self._service.wheel.clock() + self._service.http.body_read_timeout
        self._arm()
        exchange = self._service.exchange(self, head, framing, body, complete)
        if self._reply != _DONE:
            self._exchange = exchange

    def _on_length_body(self, count: int) -> None:
        self._continue = False
        self._lacking -= count
        complete = not self._lacking
        self._on_progress(complete)
        if self._exchange is not None:
            self._exchange.body_filled(count, complete)
        elif complete and self.flushed:
            self._next()  # it was read to keep the connection

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

    def _on_progress(self, complete: bool) -> None:  # noqa: FBT001 - internal, hot
        if complete:
            self._state = _WAIT
            self._read_by = NEVER
        else:
            self._read_by = self._service.wheel.clock() + self._service.http.body_read_timeout
        self._arm()

    def _refuse_head(self, head: bytes, status: int) -> None:
        self._service.refused(self, head, status)
        self._framing = Framing(keep_alive=False, is_head=True) if head.startswith(b"HEAD ") else REFUSED
        self._state = _WAIT
        self._reply = _NOT_BEGUN
        self._pending += b" "  # so that what still comes is read before the connection is closed
        self.refuse(status)

    def _refuse_body(self, status: int) -> None:
        exchange, self._exchange = self._exchange, None
        begun = self._reply != _NOT_BEGUN
        self._reply = _DONE
        if exchange is not None:
            exchange.client_gone()
        if begun:
            self.abort()
            return
        self._reply = _NOT_BEGUN
        self._keep_alive = False
        self.refuse(status)

    def _pause(self) -> None:
        if not self._paused:
            self._paused = True
            self._transport.pause_reading()
            self._service.hangups.watch(self._transport.get_extra_info("socket").fileno(), self)

    def _resume(self) -> None:
        if self._paused:
            self._paused = False
            self._service.hangups.forget(self._transport.get_extra_info("socket").fileno(), self)
            self._transport.resume_reading()

    # The exchange calls

    def pause_body(self) -> None:
        """Read nothing more of the request body: there is no memory for it."""
        if self._reply != _DONE and self._state != _CLOSED:
            self._pause()
            self._read_by = NEVER
            self._arm()

    def resume_body(self) -> None:
        """Read the request body again: `Exchange.body_buffer` has memory from now on."""
        if self._state < _LINGER:
            self._resume()
            if self._state in (_LENGTH, _CHUNKED) and not self._continue:
                self._on_progress(complete=False)

    def send_continue(self) -> None:
        """The application wants the body: tell a client that waits for 100 (Continue)."""
        if self._continue and self._reply == _NOT_BEGUN:
            self._continue = False
            self._transport.write(CONTINUE)
            self._on_progress(complete=False)

    # fmt: off
    def respond(
        self, status: int, block: bytes, size: int | None, flags: int, body: Any, last: bool,  # noqa: FBT001
    ) -> bool:
        """Write the head of the response, and the first bytes of its body.

        Args:
            status: 200 to 999.
            block: field lines that `framing.check_block` has passed.
            size: announced bytes of body, None = not known.
            flags: DATE, SERVER of ipc.message.
            body: bytes-like; kept until `flushed` when it is long.
            last: `body` ends the response.

        Returns:
            False: the body is longer or shorter than announced, so the connection has been cut; or it is gone.

        Raises:
            LocalProtocolError: the response has begun before.
        """
        if self._reply != _NOT_BEGUN:
            if self._reply == _DONE:
                return False
            raise LocalProtocolError("a second response head")
        framing = self._framing
        service = self._service
        length = len(body)
        if (
            last and length <= _JOINED and self._state == _WAIT and (size is None or size == length)
            and framing.keep_alive and framing.minor and not framing.is_head and not service.draining
            and status in USUAL
        ):
            head = response_head(
                status, block, b"content-length: %d\r\n" % length, flags, service.server, service.date()
            )
            self._reply = _DONE
            self._exchange = None
            self._keep_alive = True
            self._transport.write(head + body if length else head)
            if self.flushed:
                self._next()
            return True
        return self._respond_rarely(status, block, size, flags, body, last)

    def _respond_rarely(
        self, status: int, block: bytes, size: int | None, flags: int, body: Any, last: bool,  # noqa: FBT001
    ) -> bool:
        framing = self._framing
        service = self._service
        mode = delivery(framing, status, size)
        if size is None and last and (mode != NO_BODY or (framing.is_head and len(body))):
            size = len(body)
            mode = delivery(framing, status, size)
        self._keep_alive = (
            framing.keep_alive and not service.draining and mode != UNTIL_CLOSE and self._rest_is_small(last=last)
        )
        lines = framing_lines(framing, status, size, keep_alive=self._keep_alive)
        head = response_head(status, block, lines, flags, service.server, service.date())
        length = len(body)
        if mode == LENGTH and (length > (size or 0) or (last and length != size)):
            self.abort()
            return False
        self._reply = mode
        self._remaining = size or 0
        if mode == LENGTH and 0 < length <= _JOINED:
            self._remaining -= length
            self._transport.write(head + body)
            if last:
                self._finish()
            return True
        if mode == CHUNKED and 0 < length <= _JOINED_CHUNK:
            self._transport.write(b"%b%x\r\n%b\r\n%b" % (head, length, body, LAST_CHUNK if last else b""))
            if last:
                self._finish()
            return True
        self._transport.write(head)
        return self.write(body, last)
    # fmt: on

    def write(self, data: Any, last: bool) -> bool:  # noqa: FBT001 - agreed by position
        """Write more of the response's body; `data` is bytes-like and kept until it has left.

        Returns:
            False: the body is longer or shorter than announced, so the connection has been cut; or it is gone.
        """
        mode = self._reply
        length = len(data)
        if mode == LENGTH:
            self._remaining -= length
            if self._remaining < 0 or (last and self._remaining):
                self.abort()
                return False
            if length:
                self._transport.write(data)
        elif mode == CHUNKED:
            self._write_chunk(data, length, LAST_CHUNK if last else b"")
        elif mode == UNTIL_CLOSE:
            if length:
                self._transport.write(data)
        elif mode != NO_BODY:
            return False
        if last:
            self._finish()
        return True

    def _write_chunk(self, data: Any, length: int, end: bytes) -> None:
        if length > _JOINED_CHUNK:
            self._transport.writelines((b"%x\r\n" % length, data, b"\r\n" + end))
        elif length:
            self._transport.write(b"%x\r\n%b\r\n%b" % (length, data, end))
        elif end:
            self._transport.write(end)

    def refuse(self, status: int, retry_after: int | None = None) -> None:
        """Answer in the application's place; a response that has begun is cut instead.

        Args:
            status: 400 to 599.
            retry_after: seconds, for Retry-After.
        """
        if self._reply == _NOT_BEGUN:
            block, body = canned(status, retry_after)
            self.respond(status, block, len(body), 0, body, True)
        else:
            self.abort()

    def abort(self) -> None:
        """Cut the connection, so that the client cannot take what it has for the whole response."""
        if self._state == _CLOSED:
            return
        if self._reply == UNTIL_CLOSE:
            # FIN would look like the end of the body: with this option the kernel sends RST.
            option = b"\1\0\0\0\0\0\0\0"  # struct linger {on, 0 seconds}
            self._transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, option)
        self._end()
        self._transport.abort()

    def drain(self) -> None:
        """The router ends: close as soon as no request is under way."""
        if self._state == _HEAD and not self._pending:
            if self._used:
                self._close()
                return
            self.deadline = self._service.wheel.clock() + _FIRST_REQUEST_TIME
            self._service.wheel.put(self)

    # After the response

    def _rest_is_small(self, *, last: bool) -> bool:
        # Whether the connection can be kept although the request body has not been read to its end.
        if self._state == _WAIT:
            return True
        if self._continue:
            return False  # nobody can tell whether the client will send it
        return not last or (self._state == _LENGTH and self._lacking <= _DISCARDED)

    def _finish(self) -> None:
        self._reply = _DONE
        self._exchange = None
        if self._state == _WAIT:
            if self.flushed:
                self._next()
        elif self._keep_alive and self._rest_is_small(last=True):
            self._resume()
            self._on_progress(complete=False)
        else:
            self._linger()

    def _next(self) -> None:
        # Request and response are complete, and the client has all of it.
        if self._paused:
            self._resume()
        if not self._keep_alive:
            if self._pending:
                self._linger()
            else:
                self._close()
            return
        self._state = _HEAD
        service = self._service
        self.deadline = deadline = service.wheel.clock() + service.http.idle_timeout
        if deadline < self.slot_due:
            service.wheel.put(self)
        if self._pending:
            service.call_soon(self._advance)  # never from within the exchange that has just ended

    def _linger(self) -> None:
        # Closing a socket that has unread bytes resets it, and the client would lose the answer.
        self._state = _LINGER
        self._pending.clear()
        self._resume()
        if self._transport.can_write_eof():
            self._transport.write_eof()
        self._read_by = self._service.wheel.clock() + _LINGER_TIME
        self._arm()

    def _arm(self) -> None:
        self.deadline = deadline = min(self._read_by, self._send_by)
        if deadline < self.slot_due:
            self._service.wheel.put(self)

    def _leave(self) -> None:
        exchange = self._end()
        self._transport.abort()
        if exchange is not None:
            exchange.client_gone()

    def _close(self) -> None:
        self._end()
        self._transport.close()

    def _end(self) -> Exchange | None:
        exchange, self._exchange = self._exchange, None
        if self._paused:
            self._paused = False
            self._service.hangups.forget(self._transport.get_extra_info("socket").fileno(), self)
        self._state = _CLOSED
        self._reply = _DONE
        self._pending.clear()
        return exchange
