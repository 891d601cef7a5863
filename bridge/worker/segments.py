"""The segments of request bodies that a worker knows of one router.

The router sends each before a message names it. That one may be missing all the same, where the link was full or this
process could open no more files: then the message waits, and the segment is asked for.
"""

from __future__ import annotations

from typing import Any

from bridge.errors import RemoteProtocolError
from bridge.ipc.link import close_all, decode
from bridge.ipc.port import Geometry
from bridge.ipc.segment import Segment

RETRY = 0.1  #: seconds after which a segment that could not be received is asked for again


class SegmentUnknown(Exception):
    """A descriptor names a segment that has not come. Caught in this package."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


class Segments:
    """See the head of the file.

    Args:
        geometry: of the application.
        owner: this worker's id.
    """

    __slots__ = ("_geometry", "_known", "_owner", "lost")

    def __init__(self, geometry: Geometry, owner: int) -> None:
        self.lost: set[int] = set()  #: came, but this process could open no more files
        self._geometry = geometry
        self._owner = owner
        self._known: dict[int, Segment] = {}

    def __contains__(self, number: int) -> bool:
        """Whether a segment has come."""
        return number in self._known

    def find(self, number: int, first: int, size: int) -> Segment:
        """The segment of a descriptor.

        Raises:
            SegmentUnknown: it has not come.
            RemoteProtocolError: the descriptor names no chunks of it.
        """
        segment = self._known.get(number)
        if segment is None:
            raise SegmentUnknown(number)
        if not segment.covers(first, size):
            raise RemoteProtocolError(f"descriptor ({number}, {first}, {size}) names no chunks of this application")
        return segment

    def add(self, message: dict[str, Any], fds: list[int]) -> None:
        """A segment has come over the link; the descriptor is closed or belongs to it.

        Raises:
            RemoteProtocolError: it is none; or the router says that there is none with that number.
            OSError, ValueError: it cannot be mapped.
        """
        number = message.get("segment")
        if message.get("type") != "segment" or len(fds) != 1 or not isinstance(number, int):
            close_all(fds)
            raise RemoteProtocolError(f"unexpected message {message.get('type')!r} from the router")
        if number in self._known:
            close_all(fds)  # it was on its way when it was asked for
            return
        cells = self._geometry.chunk_size, self._geometry.chunks
        try:
            segment = Segment(fds[0], number, *cells, self._owner, create=False, writable=False)
        except BaseException:
            close_all(fds)
            raise
        self._known[number] = segment
        self.lost.discard(number)

    def missed(self, data: bytes) -> int | None:
        """A message of the link has come without its files: the segment that it was about, if it was."""
        number = decode(data, ()).get("segment")
        if not isinstance(number, int):
            return None
        self.lost.add(number)
        return number

    def close(self) -> None:
        """The router is gone: close every descriptor; a mapping goes with its last view."""
        for segment in self._known.values():
            segment.close()
