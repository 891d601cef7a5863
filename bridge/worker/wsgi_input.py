"""The request body as a WSGI application reads it: `wsgi.input` over a stream.

The body is here already: in its message, in shared memory or in a file, so nothing waits for the client. What read()
returns is copied once, straight from there; for lines, and for nothing else, a block is kept. The application may read
as long as it runs, also when its response is complete: the stream sees to that.
"""

from __future__ import annotations

from collections.abc import Iterator

from bridge.errors import ClientDisconnect, LocalProtocolError, StreamCancelled
from bridge.worker.types import SyncStream

#: What is fetched at once to look for lines in it.
BLOCK = 16384


class WsgiInput:
    """The file-like object of PEP 3333: it ends where the body ends.

    Every method raises ClientDisconnect (an OSError) if nobody waits for a response that is not complete, and
    ValueError when the application is through with the request.
    """

    __slots__ = ("_at", "_block", "_next", "_size", "_stream")

    def __init__(self, stream: SyncStream) -> None:
        self._stream: SyncStream | None = stream
        self._size = stream.size
        self._next = 0  # offset of the first byte that was not fetched
        self._block = b""  # the last one that was fetched for lines …
        self._at = 0  # … and how much of it was given away

    def read(self, size: int | None = -1) -> bytes:
        """`size` bytes, fewer only where the body ends; without a size all that is left."""
        kept = len(self._block) - self._at
        left = kept + self._size - self._next
        wanted = left if size is None or size < 0 or size > left else size
        if not kept:
            return self._fetch(wanted)  # which asks whether anybody waits
        self._open()
        start, self._at = self._at, min(self._at + wanted, len(self._block))
        piece = self._block[start : self._at]
        return piece if wanted <= kept else piece + self._fetch(wanted - kept)

    def readline(self, size: int | None = -1) -> bytes:
        """The next line with its end, or its first `size` bytes; empty at the end of the body."""
        self._open()
        left = len(self._block) - self._at + self._size - self._next
        if size is not None and 0 <= size < left:
            left = size
        pieces: list[bytes] = []
        while left:
            if self._at == len(self._block):
                self._block, self._at = self._fetch(min(BLOCK, self._size - self._next)), 0
            start = self._at
            stop = min(start + left, len(self._block))
            end = self._block.find(b"\n", start, stop) + 1
            self._at = end or stop
            pieces.append(self._block[start : self._at])
            if end:
                break
            left -= stop - start
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def readlines(self, hint: int | None = -1) -> list[bytes]:
        """The lines that are left; with a hint no more than make up so many bytes."""
        lines: list[bytes] = []
        size = 0
        for line in self:
            lines.append(line)
            size += len(line)
            if hint is not None and 0 < hint <= size:
                break
        return lines

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        line = self.readline()
        if not line:
            raise StopIteration
        return line

    def close(self) -> None:
        """The application is through with the request: what is read after that would be another one's."""
        self._stream = None
        self._block = b""

    def _open(self) -> SyncStream:
        stream = self._stream
        if stream is None:
            raise ValueError("wsgi.input is read after the request is over")
        if stream.cancelled():
            raise ClientDisconnect("the client left while the application was reading")
        return stream

    def _fetch(self, size: int) -> bytes:
        """The next `size` bytes, which are there."""
        stream = self._stream
        if not size or stream is None:
            self._open()
            return b""
        try:
            data = stream.read(self._next, size)
        except StreamCancelled:
            raise ClientDisconnect("the client left while the application was reading") from None
        if len(data) != size:
            raise LocalProtocolError(f"{len(data)} bytes of a request body where {size} are to be")
        self._next += size
        return data
