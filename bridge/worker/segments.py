"""The segments of request bodies that a worker knows of one router, which sends each before a message names it."""

from __future__ import annotations

import os
from typing import Any

from bridge.errors import RemoteProtocolError
from bridge.ipc.port import Geometry
from bridge.ipc.segment import Segment


class Segments:
    """See the head of the file.

    Args:
        geometry: of the application.
        owner: this worker's id.
    """

    __slots__ = ("_geometry", "_known", "_owner")

    def __init__(self, geometry: Geometry, owner: int) -> None:
        self._geometry = geometry
        self._owner = owner
        self._known: dict[int, Segment] = {}

    def __contains__(self, number: int) -> bool:
        """Whether a segment has come."""
        return number in self._known

    def find(self, number: int, first: int, size: int) -> Segment:
        """The segment of a descriptor, which lies inside it.

        Raises:
            RemoteProtocolError: it names nothing that there is.
        """
        segment = self._known.get(number)
        if segment is None or not segment.covers(first, size):
            raise RemoteProtocolError(f"descriptor ({number}, {first}, {size}) names no chunks of this application")
        return segment

    def add(self, message: dict[str, Any], fds: list[int]) -> None:
        """A segment has come over the link; its descriptor is owned from now on, or closed.

        Raises:
            RemoteProtocolError: the message is another one, or the segment is not what the handshake announced.
            OSError, ValueError: it cannot be mapped.
        """
        number, geometry = message.get("segment"), self._geometry
        try:
            if message.get("type") != "segment" or len(fds) != 1 or not isinstance(number, int):
                raise RemoteProtocolError(f"unexpected message {message.get('type')!r} from the router")
            cells = geometry.chunk_size, geometry.chunks
            segment = Segment(fds[0], number, *cells, self._owner, create=False, writable=False)
        except BaseException:
            for fd in fds:
                os.close(fd)
            raise
        self._known[number] = segment

    def close(self) -> None:
        """The router is gone: close every descriptor; a mapping goes with its last view."""
        for segment in self._known.values():
            segment.close()
