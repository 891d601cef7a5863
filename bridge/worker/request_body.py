"""The body of a WSGI request, which is all there before the request is: in its message, in shared memory, or in a file.

Of shared memory it is read in place. A file's descriptor is asked for at the first read, for many a request is refused
before anybody looks at its body. With the last message of the stream the router frees both, and knows the stream no
more: an application that may read after that is served from what was kept before.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from typing import Protocol

from bridge.errors import StreamCancelled
from bridge.ipc.message import HEADER, WANT
from bridge.worker.thread_router import ThreadRouter

_EMPTY = memoryview(b"")


class ReadingSeat(Protocol):
    """What a body needs from the thread that reads it: `worker.seat.Seat`."""

    router: ThreadRouter

    @property
    def cancelled(self) -> Callable[[int], bool]:
        """Whether nobody waits for a stream any more, at a look."""

    def send(self, message: bytes) -> None:
        """Send a message that does not change its stream's state."""

    def wait(self, ready: Callable[[], bool], stream: int = 0) -> bool:
        """Sleep until `ready()`; raises StreamCancelled when nobody waits for the stream any more."""


class RequestBody:
    """See the head of the file.

    Args:
        seat: where the request was claimed.
        stream: its number.
        pieces: the bytes, unless they are in a file; none of them is empty.
        in_file: bytes of the file; None = it is in the pieces.
        shared: some of the pieces are in shared memory, and the router waits for it.
    """

    __slots__ = (
        "_asked",
        "_detached",
        "_file",
        "_in_file",
        "_later",
        "_lost",
        "_piece",
        "_seat",
        "_shared",
        "_start",
        "_stop",
        "_stream",
        "size",
    )

    def __init__(
        self, seat: ReadingSeat, stream: int, pieces: list[memoryview], in_file: int | None, *, shared: bool
    ) -> None:
        self.size = sum(map(len, pieces)) if in_file is None else in_file
        self._seat = seat
        self._stream = stream
        self._later = iter(pieces)  # those behind the one that was read last
        self._piece = _EMPTY
        self._start = self._stop = 0  # where that lies in the body
        self._in_file = in_file is not None
        self._shared = shared
        self._detached = False  # the stream is over, and what is here stays
        self._file = -1
        self._asked = False
        self._lost = False  # the file has come, and this process could not open it

    def read(self, offset: int, size: int) -> bytes:
        """`size` bytes from `offset`: fewer only where the body ends. `offset` never goes back.

        Raises:
            StreamCancelled: nobody waits any more.
            OSError: the body lies in a file, and this process may open no more.
        """
        end = min(offset + size, self.size)
        if self._in_file:
            data = self._read_file(offset, end - offset)
        elif offset >= self._start and end <= self._stop:
            data = self._piece[offset - self._start : end - self._start].tobytes()
        else:
            data = self._join(offset, end)
        # Behind the copy: when nobody waits any more, the memory may be another request's by now.
        if (self._seat.cancelled(self._stream) or not self._seat.router.alive) and not self._detached:
            raise StreamCancelled
        if end == self.size and self._shared:
            self._shared = False
            self._seat.send(HEADER.pack(self._stream, WANT, 0, 0, 0, end, 0, 0))
        return data

    @property
    def owed(self) -> bool:
        """Whether some of it can be read only as long as the stream is not over."""
        return self._shared or (self._in_file and self._file < 0 and not self._lost)

    def keep(self) -> None:
        """Make what is unread readable without the router, for the stream is about to end; waits for a file.

        Raises:
            StreamCancelled: nobody waits any more.
        """
        if self._in_file:
            self._open_file()
        elif self._shared:
            self._shared = False
            self._piece = memoryview(bytes(self._piece))
            self._later = iter([memoryview(bytes(piece)) for piece in self._later])

    def detach(self) -> None:
        """The stream is over, and nobody left before: from now on its tracking word is another one's."""
        self._detached = True

    def file_arrived(self, file: int) -> None:
        """The descriptor, which is this object's from now on; -1 = there was none left for it.

        The main thread calls it, under the router's lock.
        """
        if self._file >= 0:
            os.close(self._file)
        self._file = file
        self._lost = file < 0

    def close(self) -> None:
        """The request is over."""
        if self._asked:
            router = self._seat.router
            with router.changed:
                router.bodies.pop(self._stream, None)
                file, self._file = self._file, -1
            if file >= 0:
                os.close(file)
        self._piece, self._later = _EMPTY, iter(())

    def _join(self, offset: int, end: int) -> bytes:
        """What lies in several pieces, or in one that was not read before."""
        found = []
        while offset < end:
            if offset >= self._stop:
                self._piece = next(self._later)
                self._start, self._stop = self._stop, self._stop + len(self._piece)
                continue
            found.append(self._piece[offset - self._start : end - self._start])
            offset = self._stop
        return b"".join(found)

    def _read_file(self, offset: int, size: int) -> bytes:
        if self._file < 0:
            self._open_file()
            if self._lost:  # also at every later read: the router sends it once
                raise OSError(errno.EMFILE, "the limit of open files leaves no room for the body of a request")
        data = os.pread(self._file, size, offset)
        while len(data) < size and (more := os.pread(self._file, size - len(data), offset + len(data))):
            data += more
        return data

    def _open_file(self) -> None:
        """Have the router send the descriptor, unless that was done, and wait for it; it may be lost."""
        if not self._asked:
            self._asked = True
            self._seat.router.bodies[self._stream] = self
            self._seat.send(HEADER.pack(self._stream, WANT, 0, 0, 0, 0, 0, 0))
        if self._file < 0 and not self._lost:
            self._seat.wait(lambda: self._file >= 0 or self._lost, self._stream)
