"""What one side of a port sends over its link, without waiting: records, and JSON messages that may be late.

Messages take turns: after `SHARE` bytes a long one goes to the tail. Nothing is sent while the queue's own line is not
clear, so a record is ahead of its marker by one. What finds no room waits here, and the owner is told to look out for
the link; a link that is full costs nobody anything but time.
"""

from __future__ import annotations

import itertools
import os
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Protocol

from bridge.errors import LinkFull, RemoteProtocolError
from bridge.ipc.link import Link, close_all
from bridge.ipc.record import AT_ONCE, FRAGMENT, LONGEST, SHARE, fragments

MOST_FILES = 512  #: files of ours that may wait with them: far more than a reader's threads ask for before it reads
MOST_WAITING = 65536  #: messages that may wait before the other side counts as broken


class Lane(Protocol):
    """What an outbox needs of its port."""

    link: Link

    @property
    def clear(self) -> bool:
        """Whether a marker that is sent now goes straight into the queue."""

    @property
    def on_blocked(self) -> Callable[[bool], None]:
        """Called with True when something waits for the link to be writable, with False when nothing does."""

    def send(self, message: bytes) -> bool:
        """Put a marker into the queue."""


class _Long:
    """One message on its way."""

    __slots__ = ("files", "lent", "next", "rest", "share", "stream")

    def __init__(self, stream: int, rest: Iterator[tuple[bytes, bytes]], lent: Sequence[int]) -> None:
        self.stream = stream
        self.rest = rest
        self.lent = lent  # files of the sender's, while he is in `Outbox.send`
        self.files: list[int] = []  # duplicates of them, ours to close
        self.next: tuple[bytes, bytes] | None = next(rest)
        self.share = 0  # bytes sent in this turn


class Outbox:
    """See the head of the file.

    Args:
        lane: the port.
    """

    __slots__ = ("_blocked", "_lane", "_notes", "_turns", "_waiting", "serial")

    def __init__(self, lane: Lane) -> None:
        self._lane: Lane | None = lane
        self._blocked = False
        self.serial = itertools.count(1).__next__  #: the number of the next record, also for those that others send
        self._turns: deque[_Long] = deque()  # at most AT_ONCE
        self._waiting: deque[_Long] = deque()
        self._notes: deque[tuple[dict[str, Any], Sequence[int]]] = deque()

    @property
    def clear(self) -> bool:
        """Whether everything is on its way."""
        return not (self._turns or self._waiting or self._notes)

    def send(self, stream: int, message: bytes, files: Sequence[int] = ()) -> bool:
        """Send one message of a stream, with files that stay the caller's; False = it waits.

        Raises:
            PeerLost: the other side is gone.
            RemoteProtocolError: it has stopped reading.
            OSError: the files would have to wait, and this process may open no more; nothing is sent.
        """
        if len(message) > LONGEST:
            raise ValueError(f"a message of {len(message)} bytes is over the limit of {LONGEST}")
        self._check(len(files))
        long = _Long(stream, fragments(stream, message, self.serial), files)
        self._waiting.append(long)
        try:
            self.advance()
        finally:
            self._own(long)
        return self.clear

    def note(self, message: dict[str, Any], files: Sequence[int] = ()) -> bool:
        """Send a JSON message, which has no place among the others; as `send`.

        Its files stay the caller's, who closes the port before them.
        """
        self._check(0)
        self._notes.append((message, files))
        return self.advance()

    def advance(self) -> bool:
        """Send what waits, as far as there is room; True = nothing waits any more. Raises as `send`."""
        lane = self._lane
        blocked = False
        if lane is None:
            return True
        try:
            while self._notes:
                message, files = self._notes[0]
                lane.link.send(message, files)
                self._notes.popleft()
            while lane.clear and self._next(lane):
                pass
        except LinkFull:
            blocked = True
        if blocked != self._blocked:
            self._blocked = blocked
            lane.on_blocked(blocked)
        return self.clear

    def drop(self, stream: int) -> None:
        """Nobody waits for this stream any more: send nothing more of it."""
        for line in (self._turns, self._waiting):
            for long in [each for each in line if each.stream == stream]:
                line.remove(long)
                close_all(long.files)

    def close(self) -> None:
        """The port is gone: nothing of what waits will be sent."""
        for line in (self._turns, self._waiting):
            for long in line:
                close_all(long.files)
            line.clear()
        self._notes.clear()
        self._lane = None  # whose mappings go with the last reference

    def _own(self, long: _Long) -> None:
        # Only what has to wait is duplicated.
        lent, long.lent = long.lent, ()
        try:
            long.files = [os.dup(file) for file in lent]
        except OSError:
            for line in (self._turns, self._waiting):
                if long in line:
                    line.remove(long)
            raise

    def _check(self, files: int) -> None:
        if len(self._waiting) + len(self._notes) >= MOST_WAITING or (files and self._files() + files > MOST_FILES):
            raise RemoteProtocolError("the other side of the port has stopped reading its link")

    def _files(self) -> int:
        return sum(len(long.files) for line in (self._turns, self._waiting) for long in line)

    def _next(self, lane: Lane) -> bool:
        """Send one fragment of whose turn it is; False = there is none."""
        while self._waiting and len(self._turns) < AT_ONCE:
            self._turns.append(self._waiting.popleft())
        if not self._turns:
            return False
        long = self._turns[0]
        if long.next is None:
            raise AssertionError("what is through has left the line")
        record, marker = long.next
        lane.link.send_bytes(record, long.lent or long.files)
        close_all(long.files)
        long.lent, long.files = (), []
        long.next = next(long.rest, None)
        long.share += FRAGMENT
        if long.next is None:
            self._turns.popleft()
        elif long.share >= SHARE:
            long.share = 0
            self._turns.rotate(-1)
        lane.send(marker)
        return True
