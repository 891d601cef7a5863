"""What lies in the shared memory of a running server's application, seen by a process that has no part in it.

The router's descriptors are opened through /proc, so nothing in the server knows that it is looked at.
"""

from __future__ import annotations

import contextlib
import mmap
import os
from pathlib import Path
from struct import Struct
from typing import NamedTuple

from bridge import config
from bridge.core import ChunkMap, Queue, Tracking
from bridge.ipc.port import Geometry
from bridge.ipc.segment import MAGIC
from bridge.router import application
from bridge.router.application import WAITERS

SLOTS = application.SLOTS + config.Limits().websockets  #: tracking words
_HEADER = Struct("<8sIIII")  # of a segment: magic, layout, number, bytes of a chunk, chunks
_MAP = 64  # where the chunk map of a segment begins
_STATE = 2  # of a cell: the byte that says what is in it; 0 = it is free
_FINAL = (Tracking.FREE, Tracking.DONE, Tracking.CANCELLED)


class Left(NamedTuple):
    """What somebody holds."""

    chunks: int  #: of bodies and heads, in all segments
    cells: int  #: of the queues, the application's and those of each worker, which are not free
    streams: int  #: tracking words that are not free, done or cancelled


NOTHING = Left(0, 0, 0)


class Inside:
    """See the head of the file.

    Args:
        router: process id of the router; it serves one application.
        memory: as the server is configured.
        waiters: sleeping bits of the application's queue.
    """

    def __init__(self, router: int, memory: config.Memory | None = None, waiters: int = WAITERS) -> None:
        self._files = Path(f"/proc/{router}/fd")
        settings = memory or config.Memory()
        self._geometry = Geometry(
            item_size=settings.item_size,
            queue=settings.queue,
            slots=SLOTS,
            waiters=waiters,
            chunk_size=settings.chunk_size,
            chunks=settings.chunks,
            window=settings.window,
        )

    def left(self) -> Left:
        """What is held now."""
        chunks = cells = streams = blocks = 0
        geometry = self._geometry
        for memory in self._mappings():
            if memory[:8] == MAGIC:
                first = _MAP + ChunkMap.bytes_needed(0) - 2  # behind the words is one for the sentinel
                owners = memoryview(memory[first : first + 2 * _HEADER.unpack_from(memory)[4]]).cast("H")
                chunks += sum(owner != 0 for owner in owners)
            elif len(memory) == 2 * geometry.queue_bytes:
                cells += self._cells(memory, 0, 1) + self._cells(memory, geometry.queue_bytes, 1)
            elif len(memory) == geometry.application_queue_bytes + Tracking.bytes_needed(SLOTS):
                blocks += 1
                cells += self._cells(memory, 0, geometry.waiters)
                words = geometry.application_queue_bytes + Tracking.bytes_needed(0)
                streams = sum(state not in _FINAL for state in memory[words : words + 8 * SLOTS][3::8])
        assert blocks == 1, f"{blocks} application blocks in the router"
        return Left(chunks, cells, streams)

    def mappings(self) -> int:
        """How many pieces of shared memory the router has."""
        return len(self._mappings())

    def ports(self) -> int:
        """How many workers' queues are among them."""
        return sum(len(memory) == 2 * self._geometry.queue_bytes for memory in self._mappings())

    def _cells(self, memory: mmap.mmap, start: int, waiters: int) -> int:
        geometry = self._geometry
        end = start + Queue.bytes_needed(geometry.queue, geometry.item_size, waiters)
        states = memory[end - geometry.queue * geometry.item_size + _STATE : end : geometry.item_size]
        return sum(state != 0 for state in states)

    def _mappings(self) -> list[mmap.mmap]:
        found: dict[int, mmap.mmap] = {}
        for file in self._files.iterdir():
            with contextlib.suppress(FileNotFoundError):  # closed meanwhile
                if not os.readlink(file).startswith("/memfd:bridge"):
                    continue
                number = os.open(file, os.O_RDONLY | os.O_CLOEXEC)
                try:
                    status = os.fstat(number)
                    if status.st_ino not in found:  # what is mapped has two descriptors
                        found[status.st_ino] = mmap.mmap(number, status.st_size, access=mmap.ACCESS_READ)
                finally:
                    os.close(number)
        return list(found.values())
