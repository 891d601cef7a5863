"""A request that asks for a WebSocket: an exchange that may become a tunnel.

It is refused where its handshake is wrong or too many are open, before any worker is asked. A worker grants it with
101: then the request is over, and the socket goes to a `tunnel`. Whatever else the worker answers is an ordinary
response, the last one of the connection.
"""

from __future__ import annotations

from typing import Any

from bridge.errors import RemoteProtocolError
from bridge.ipc.message import HEADER, LAST, UPGRADE
from bridge.router.exchange import Exchange
from bridge.router.framing import check_block
from bridge.router.tunnel import Tunnel
from bridge.router.upgrade import refusal


class Opening(Exchange):
    """See the head of the file; the arguments are those of an `Exchange`."""

    __slots__ = ("_asked",)

    def begin(self, body: bytes, complete: bool) -> None:
        """Ask for a worker, or refuse."""
        self._asked = False
        self.connection.end_behind_this()
        if status := refusal(self._block):
            self.client_answered(status)
            self.connection.refuse(status)
        elif not self.application.tunnels.ask():
            self.refuse(503)
        else:
            self._asked = True
            super().begin(body, complete)

    def message(self) -> bytes:
        """The REQUEST message, but for its stream."""
        message = super().message()
        if self.application.interface == "wsgi":
            return message  # it was not known when the request came: an ordinary one
        _, kind, flags, pieces, length, size, number, head = HEADER.unpack_from(message)
        header = HEADER.pack(0, kind, flags & ~LAST, pieces, length, size, number | UPGRADE, head)
        return header + message[HEADER.size :]

    def _on_response(
        self, flags: int, size: int, number: int, head: int, views: list[Any] | None, inline: bytes
    ) -> None:
        if number != 101:
            super()._on_response(flags, size, number, head, views, inline)
            return
        views = views or []
        port = self.port
        if self._responding or flags & LAST or port is None or port.interface == "wsgi":
            raise RemoteProtocolError("101 for what asks for nothing, or not any more")
        # It is copied out of the worker's memory: see `Exchange`.
        if head != len(inline) + sum(map(len, views)) or head > self.application.largest_head:
            raise RemoteProtocolError("a response head that is too long, or of another length than announced")
        block = inline + b"".join(bytes(view) for view in views)
        if not check_block(block):
            raise RemoteProtocolError("a response head that HTTP does not allow")
        self._responding = True
        if self._gone:
            return
        self.status = number
        self._over = True
        self._asked = False
        self._free_head()
        if self._upload is not None:
            self._upload.close()
        if port.leaving:
            self.application.left_with(port)
        if port.linked:
            port.forget(self.stream)
        connection = self.connection
        del self.connection  # where nothing else is to be kept for the access log
        tunnel = Tunnel(self.application, port, self.stream, self._on_closed if self.on_over else None)
        self.application.switched(tunnel)
        connection.switch(block, flags, tunnel)

    def _on_closed(self, sent: int) -> None:
        self.sent = sent
        self._report()

    def _end(self) -> None:
        if self._asked:
            self._asked = False
            self.application.tunnels.give_up()
        super()._end()
