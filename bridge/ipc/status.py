"""A status page: shared memory with a row of counters for each process, written by that process alone.

The router has one, and the workers of each application have one: whoever has mapped it can write all of it.

Memory layout, in bytes: a header of 256 (magic "bridgeST", layout version, row count), then rows of 256, which
are 32 words of 64 bits each. Words are written and read whole (an aligned 8-byte copy) and carry no ordering:
good for counting and for heartbeats, never for handing anything over.

The number of a row is the process's id in the links (router 1, workers from 2). A row survives its writer, and to
everybody else it is untrusted numbers: whoever reads it adds it up or shows it, and relies on it for nothing.
"""

from __future__ import annotations

import os
import time
from enum import IntEnum
from struct import Struct
from typing import Self

from bridge.errors import RemoteProtocolError
from bridge.ipc.segment import create_memory, map_memory

MAGIC = b"bridgeST"
LAYOUT = 2
ROW = 256  #: bytes
PERIOD = 1.0  #: seconds between two heartbeats of a worker
_HEADER = Struct("<8sII")
_MASK = (1 << 64) - 1

# Words of a row.
PID = 0  #: 0 = the row was never used
STATE = 1  #: a `State`
STARTED = 2  #: nanoseconds of the monotonic clock
BEAT = 3  #: the same clock, at the last heartbeat; 0 = none yet
REQUESTS = 4  #: total of requests begun (worker), of requests read (router)
ACTIVE = 5  #: requests in flight now
CANCELLED = 6  #: total of requests whose client left before their end (router)
ERRORS = 7  #: total of answers that the router gave in the application's place: 502, 503, 504 (router)
CONNECTIONS = 8  #: open now (router)
ACCEPTED = 9  #: total of connections (router)
QUEUED = 10  #: requests that wait for a worker now (router)
EXPIRED = 11  #: total of requests refused because no worker took them in time (router)
TURNED_AWAY = 12  #: total of requests refused because too many waited (router)
TIMED_OUT = 13  #: total of requests given up because the application took too long (router)
REPEATED = 14  #: total of requests that another worker got when the one that was running them had died (router)
WEBSOCKETS = 15  #: open now (router)
WEBSOCKETS_OPENED = 16  #: total (router)
WEBSOCKETS_REFUSED = 17  #: total of those refused because too many were open (router)


class State(IntEnum):
    """Where a process is in its life, by its own account."""

    UNUSED = 0
    BOOTING = 1
    READY = 2
    DRAINING = 3


class Row:
    """One process's counters. `words` may be indexed by the names above where a method call is too dear."""

    __slots__ = ("words",)

    def __init__(self, words: memoryview) -> None:
        self.words = words

    def begin(self, pid: int) -> None:
        """Take the row for process `pid`: counters start at zero, without a heartbeat."""
        self.words[:] = memoryview(bytes(ROW)).cast("Q")
        self.words[PID] = pid
        self.words[STATE] = State.BOOTING
        self.words[STARTED] = time.monotonic_ns()

    def beat(self) -> None:
        """Say that this process's loop still turns."""
        self.words[BEAT] = time.monotonic_ns()

    def enter(self, state: State) -> None:
        """Publish a new state."""
        self.words[STATE] = state

    def add(self, word: int, number: int = 1) -> None:
        """Add to a counter; negative numbers take away."""
        self.words[word] = (self.words[word] + number) & _MASK

    @property
    def last_beat(self) -> float:
        """Seconds of the monotonic clock at the last heartbeat, 0.0 before the first one."""
        return int(self.words[BEAT]) / 1e9


class Page:
    """The mapping of all rows.

    Args:
        fd: descriptor of the memory; the page owns it.
        rows: how many; checked against the header unless `create`.
        first: number of the first row.
        create: True for main, which writes the header.

    Raises:
        RemoteProtocolError: this is no status page of this layout, or a smaller one.
    """

    __slots__ = ("_words", "fd", "first", "rows")

    def __init__(self, fd: int, rows: int, *, first: int = 0, create: bool = False) -> None:
        self.fd = fd
        self.rows = rows
        self.first = first
        memory = map_memory(fd, ROW * (rows + 1))
        if create:
            _HEADER.pack_into(memory, 0, MAGIC, LAYOUT, rows)
        elif _HEADER.unpack_from(memory, 0) != (MAGIC, LAYOUT, rows):
            raise RemoteProtocolError("the status page has another layout than this version's")
        self._words = memoryview(memory).cast("Q")

    @classmethod
    def create(cls, rows: int, *, first: int = 0, memfd: bool = True) -> Self:
        """A new page with `rows` unused rows."""
        return cls(create_memory(ROW * (rows + 1), memfd=memfd), rows, first=first, create=True)

    def row(self, number: int) -> Row:
        """The row of process `number`.

        Raises:
            IndexError: there is no such row.
        """
        index = number - self.first
        if not 0 <= index < self.rows:
            raise IndexError(f"row {number} of {self.rows}, from {self.first}")
        words = ROW // 8
        return Row(self._words[(index + 1) * words : (index + 2) * words])

    def close(self) -> None:
        """Close the descriptor; the mapping lives as long as somebody holds a row."""
        os.close(self.fd)
