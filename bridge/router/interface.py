"""What a connection needs from the rest of the router: the seam at which the tests put something else."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, Protocol

from bridge.config import Http
from bridge.router.framing import Framing
from bridge.router.hangup import Hangups
from bridge.router.wheel import Wheel


class Exchange(Protocol):
    """One request and its response, seen from the connection."""

    def body_buffer(self, lacking: int) -> memoryview:
        """Memory for the next bytes of a Content-Length body: never empty, and no more than `lacking` bytes."""
        ...

    def body_filled(self, count: int, complete: bool) -> None:
        """`count` bytes have arrived in the last buffer; `complete`: they end the body."""
        ...

    def body_bytes(self, data: bytes, complete: bool) -> None:
        """Decoded bytes of a transfer-chunked body."""
        ...

    def client_gone(self) -> None:
        """Nobody waits for the response any more; the connection takes nothing from now on."""
        ...

    def client_answered(self, status: int) -> None:
        """The connection answers with `status` itself, for what the client has sent; otherwise as `client_gone`."""
        ...

    def client_ready(self) -> None:
        """Everything written so far has left: `flushed` has become true."""
        ...


class Heir(Protocol):
    """Who gets the socket of a connection that speaks HTTP no more."""

    def take_over(self, service: Service, transport: asyncio.Transport, head: bytes, pending: bytes) -> None:
        """The transport, which is flushed and read, is theirs now.

        Args:
            service: what all connections share.
            transport: of the client.
            head: is to be written at once.
            pending: what has been read behind the request's head.
        """
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
    def connections(self) -> set[Any]:
        """Those that are open; connections add and remove themselves."""
        ...

    kept: int  #: bytes of this process's own memory that wait for slow clients; connections count them

    @property
    def most_kept(self) -> int:
        """Bytes of that which are no reason to put any elsewhere."""
        ...

    @property
    def draining(self) -> bool:
        """Every response from now on is the last of its connection."""
        ...

    @property
    def server(self) -> bytes:
        """Value of the Server field."""
        ...

    def admits(self) -> bool:
        """Count a connection that was just accepted; False = it is one too many and has to be closed."""
        ...

    @property
    def date(self) -> bytes:
        """Value of the Date field, now."""
        ...

    @property
    def fields(self) -> bytes:
        """The lines of both."""
        ...

    def trusts(self, host: str) -> bool:
        """Whether X-Forwarded-* of this peer is believed; an empty host is a unix socket's peer."""
        ...

    # fmt: off
    def exchange(
        self, connection: Any, head: bytes, framing: Framing, body: bytes, complete: bool,
    ) -> Exchange | None:
        """Begin a request; None = it has been answered already.

        Args:
            connection: where its response goes; may be answered at once, from within this call.
            head: the request head as it was received.
            framing: what it says about the body.
            body: bytes of the body that came along with the head, decoded.
            complete: whether `body` is all of it.
        """
        ...
    # fmt: on

    def refused(self, connection: Any, head: bytes, status: int) -> None:
        """A request was answered without an exchange; `head` may be incomplete (for the access log)."""
        ...
