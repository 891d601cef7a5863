"""A WSGI response on its way to a client that may be slow, so that the thread that made it need not wait.

Bytes go from shared memory straight into the socket as long as that takes them. What it does not take waits in shared
memory for `PATIENCE`; then the client counts as slow, and whatever it has not taken is moved to a temporary file, up to
`most` bytes of it. The file is read back piece by piece as the client takes them. So a client that is quick costs
neither a copy nor a file, and one that is slow holds no chunk, hence no thread.
"""

from __future__ import annotations

import asyncio
import os
from collections import deque
from collections.abc import Callable
from typing import Any, Protocol

from bridge.router.disk import Disk, Spool

PATIENCE = 0.02  #: seconds that bytes wait in shared memory for a client
COPIED = 65536  #: bytes of our own memory that one slow client takes at most
#: Memory is crowded, that of a worker's segment or our own, when more than this part of it is on its way to clients.
CROWDED = 4
_JOINED = 16384  # bytes that are not worth a system call of their own


class Sink(Protocol):
    """What is needed of the client's connection."""

    flushed: bool  #: everything written has left

    def write(self, data: Any, last: bool) -> bool:
        """Write body, and keep it until it has left; False = the connection has been cut."""

    def send_now(self, data: Any) -> int:
        """Give away what can be given at once; returns the number of bytes."""

    def send_file(self, file: int, offset: int, count: int) -> bool:
        """Send the rest of the body from a file, and close that; False = the connection has been cut."""

    def abort(self) -> None:
        """Cut the connection."""


class Outflow:
    """What of one response the client has not taken.

    Attributes:
        over: nothing is held, and nothing more is written.

    Args:
        sink: the client's connection.
        disk: where files are made.
        most: bytes that the file may take, with those that were read: it begins again when it has been read to its end.
        cleared: called when no shared memory is held any more, unless that comes of a call of `advance`.
        ended: called once: True = the last byte was handed over, False = the body is not as long as announced and the
            connection has been cut, None = it has been cut because the file cannot be read.
    """

    __slots__ = (
        "_cleared",
        "_disk",
        "_ended",
        "_file",
        "_last",
        "_most",
        "_moving",
        "_pending",
        "_read",
        "_since",
        "_sink",
        "_slow",
        "_spool",
        "_timer",
        "over",
    )

    def __init__(
        self, sink: Sink, disk: Disk, most: int, cleared: Callable[[], None], ended: Callable[[bool | None], None]
    ) -> None:
        self.over = False
        self._sink = sink
        self._disk = disk
        self._most = most
        self._cleared = cleared
        self._ended = ended
        self._pending: deque[Any] = deque()  # bytes-like, in shared memory
        self._moving: list[Any] = []  # the same, while they are written to the file
        self._spool: Spool | None = None
        self._read = 0  # bytes of the file that were handed on
        self._file: tuple[int, int, int] | None = None  # what ends the response: descriptor, offset, count
        self._last = False  # nothing follows what is held
        self._slow = False
        self._since = 0.0  # when what is held began to wait; 0 = it does not
        self._timer: asyncio.TimerHandle | None = None

    @property
    def clear(self) -> bool:
        """Whether no shared memory is held."""
        return not self._pending and not self._moving

    @property
    def empty(self) -> bool:
        """Whether nothing is held at all, in a file neither."""
        return self.clear and (self._spool is None or self._read == self._spool.end)

    def push(self, data: Any) -> None:
        """Take more of the body; see `advance`."""
        if len(data):
            self._pending.append(data)

    def finish(self, file: tuple[int, int, int] | None = None) -> None:
        """Nothing follows but, perhaps, a part of a file: descriptor, offset, count; the descriptor is ours."""
        self._last = True
        self._file = file

    def advance(self) -> None:
        """Hand on what the client takes now; called after something was added, and when the connection is flushed."""
        spool = self._spool
        while not self.over and (spool is None or not spool.busy):
            if not self._sink.flushed:
                self._hold()
                return
            if spool is not None and self._read < spool.end:
                spool.fetch(self._read, COPIED, self._fetched)
                return
            if self._pending:
                self._send()
                if not self._pending:
                    self._since = 0.0
                    self._slow = False
            elif self._last:
                self._finish()
            else:
                return

    def close(self) -> None:
        """Let go of everything; nobody is told."""
        if self.over:
            return
        self.over = True
        self._pending.clear()
        if self._timer is not None:
            self._timer.cancel()
        if self._spool is not None:
            self._spool.close()
        if self._file is not None:
            os.close(self._file[0])
            self._file = None

    # To the client

    def _send(self) -> None:
        pending = self._pending
        data = pending.popleft()
        size = len(data)
        most = COPIED
        if size > _JOINED:
            sent = self._sink.send_now(data)
            if sent == size:
                return
            data = memoryview(data)[sent:]
            size -= sent
            if sent:
                most = _JOINED  # the socket is full: this is only to be told when there is room again
        if size > most:
            pending.appendleft(data[most:])
            data = data[:most]
        elif pending:
            data = [data]
            while pending and size + len(pending[0]) <= most:
                size += len(pending[0])
                data.append(pending.popleft())
            data = b"".join(data)
        self._write(bytes(data))

    def _write(self, data: bytes) -> None:
        unread = self._spool is not None and self._read < self._spool.end
        last = self._last and self.clear and not unread and self._file is None
        self._after(self._sink.write(data, last), last)

    def _finish(self) -> None:
        file, self._file = self._file, None
        self._after(self._sink.send_file(*file) if file else self._sink.write(b"", True), True)

    def _after(self, kept_length: bool, last: bool) -> None:
        if not kept_length or last:
            self.close()
            self._ended(kept_length)

    # To the file, and back

    def _hold(self) -> None:
        if not self._pending:
            return
        if self._slow:
            self._move()
            return
        loop = asyncio.get_running_loop()
        if not self._since:
            self._since = loop.time()
        if self._timer is None:
            # It is not stopped when the client has caught up, but looks how long it has not.
            self._timer = loop.call_at(self._since + PATIENCE, self._expired)

    def _expired(self) -> None:
        self._timer = None
        if self._since and self._pending and not self._sink.flushed:
            self._slow = asyncio.get_running_loop().time() >= self._since + PATIENCE
            self._hold()

    def _move(self) -> None:
        spool = self._spool
        if (spool.end if spool else 0) + sum(map(len, self._pending)) > self._most:
            return
        if spool is None:
            spool = self._spool = Spool(self._disk)
        self._moving = list(self._pending)
        self._pending.clear()
        spool.append(list(self._moving), self._on_moved)

    def _on_moved(self, error: OSError | None) -> None:
        if error is not None:
            self._pending.extendleft(reversed(self._moving))
            self._most = 0  # not again for this response: its thread waits for the client
        self._moving = []
        self.advance()
        if self.clear:
            self._cleared()

    def _fetched(self, data: bytes | OSError) -> None:
        spool = self._spool
        if not data or isinstance(data, OSError) or spool is None:
            self.close()
            self._sink.abort()
            self._ended(None)
            return
        self._read += len(data)
        if self._read == spool.end:
            self._read = 0
            spool.restart()
        self._write(data)
        self.advance()
        if self.clear:
            self._cleared()
