"""Requests that a loop has claimed, until each begins: their heads come inline, in chunks, or over the link.

A request whose head comes over the link waits for that alone.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Protocol

from bridge.errors import RemoteProtocolError
from bridge.ipc.message import ABORT, FILE, HEAD, HEADER, LAST, LINKED, REQUEST, TAKEN, UPGRADE
from bridge.worker.loop_link import LoopLink
from bridge.worker.segments import SegmentUnknown
from bridge.worker.stream import WorkerStream
from bridge.worker.tunnel import CountingRouter, Tunnels, TunnelStream


class Openings(Protocol):
    """Who takes WebSockets: `worker.websocket.WebSockets`."""

    @property
    def window(self) -> int:
        """Bytes of one that may be under way, in each direction."""

    def start(self, stream: TunnelStream) -> None:
        """One begins."""


class Arrivals:
    """See the head of the file.

    Args:
        router: where they come from.
        link: to it.
        streams: gets those that begin, by number.
        start: called with each of them.
        openings: gets those that ask for a WebSocket; None = they are ended.
    """

    def __init__(
        self,
        router: CountingRouter,
        link: LoopLink,
        streams: dict[int, WorkerStream],
        start: Callable[[WorkerStream], None],
        openings: Openings | None,
    ) -> None:
        self.headless: dict[int, tuple[int, int, int, list[bytes]]] = {}  #: those that wait for their heads
        self._router = router
        self._link = link
        self._streams = streams
        self._start = start
        self._openings = openings
        self._tunnels = None if openings is None else Tunnels(router, openings.window)

    def take(  # noqa: PLR0913 - the parts of one message
        self,
        stream: int,
        kind: int,
        flags: int,
        size: int,
        number: int,
        head: int,
        descriptors: list[tuple[int, int, int]] | None,
        payload: bytes,
    ) -> None:
        """A message of the application's queue; raises as `LoopLink.read`."""
        if kind != REQUEST:
            raise RemoteProtocolError(f"message {kind} in the application's queue")
        try:
            pieces = [self._link.read(*descriptor) for descriptor in descriptors or ()]
        except SegmentUnknown as unknown:
            parts = (stream, kind, flags, size, number, head, descriptors, payload)
            self._link.park(unknown.number, self.take, *parts)
            return
        if len(payload) < head:
            if flags & LINKED:
                self.headless[stream] = (flags, size, number, pieces)
                self._router.send(HEADER.pack(stream, HEAD, 0, 0, 0, 0, 0, 0))
                return
            payload += b"".join(pieces)
            pieces.clear()
            self._router.send(HEADER.pack(stream, TAKEN, 0, 0, 0, 0, 0, 0))
        self._begin(stream, flags, size, number, payload, head, pieces)

    def complete(self, stream: int, head: bytes) -> bool:
        """A head has come over the link; False = nothing waits for it."""
        request = self.headless.pop(stream, None)
        if request is None:
            return False
        flags, size, number, pieces = request
        self._begin(stream, flags, size, number, head, len(head), pieces)
        return True

    def _begin(  # noqa: PLR0913 - the parts of one request
        self, stream: int, flags: int, size: int, number: int, payload: bytes, head: int, pieces: list[bytes]
    ) -> None:
        request = WorkerStream(self._router, stream, number, size, payload[:head])
        if len(payload) > head:
            pieces.insert(0, payload[head:])
        if pieces:
            last = len(pieces) - 1
            for index, piece in enumerate(pieces):
                request.deliver(piece, index == last and bool(flags & LAST))
        elif flags != LAST:
            if number & UPGRADE:
                self._open(stream, number, payload[:head])
                return
            if flags & FILE:  # made for a worker of another interface, before a reload
                logging.getLogger("bridge").error("a request came with its body in a file, which ASGI cannot read")
                self._router.give_up(stream, HEADER.pack(stream, ABORT, 0, 0, 0, 0, 0, 0))
                return
            if not flags & LAST:
                request.expect_body()
        self._streams[stream] = request
        self._start(request)

    def _open(self, stream: int, number: int, head: bytes) -> None:
        if self._openings is None or self._tunnels is None:
            self._router.give_up(stream, HEADER.pack(stream, ABORT, 0, 0, 0, 0, 0, 0))
            return
        tunnel = TunnelStream(self._tunnels, stream, number, head)
        self._streams[stream] = tunnel
        self._openings.start(tunnel)
