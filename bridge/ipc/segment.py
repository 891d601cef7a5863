"""Segments: shared memory for bodies, cut into chunks, and the blocks that hold queues and tracking words.

The router creates all of them, so that limits and seals are its own and it never maps a descriptor that it was
given. Memory layout of a segment, in bytes from its start:

    0            magic "bridgeSG", layout version, segment id, chunk size, chunk count   (written once, never re-read)
    64           chunk map: one word per chunk and the sentinel                          (core/chunk_map.h)
    data_offset  chunk 0, chunk 1, …                                                     (a multiple of 4,096)

Whoever attaches compares the header with what the handshake announced, then goes by its own copy of the numbers.
"""

from __future__ import annotations

import errno
import fcntl
import logging
import mmap
import os
import secrets
from functools import cache
from struct import Struct
from typing import Any, Self

from bridge.core import NONE, ChunkMap, view
from bridge.errors import RemoteProtocolError

MAGIC = b"bridgeSG"
LAYOUT = 1
FREE_SHARE = 4
"""One stream may hold the fourth part of what is still free, so however many of them are slow, some is left for others.

With n streams that want all they can get, each ends up with 1/(n + 4) of the memory, and 4/(n + 4) of it stays free.
"""
JUNK = b"\xa5"  #: what freed chunks are filled with where `junk` is set
_HEADER = Struct("<8sIIII")
_MAP_OFFSET = 64
_PAGE = 4096
_SIZE_SEALS = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW
_SEAL_FUTURE_WRITE = 0x10  # no name in `fcntl`; Linux 5.1


def create_memory(size: int, *, memfd: bool = True, final: bool = True) -> int:
    """A descriptor of new, zeroed, nameless shared memory of `size` bytes, close-on-exec.

    With memfd it is sealed against resizing, so no process can make another one's mapping fault. Where memfd is
    missing (or `memfd` is False) it is a POSIX object whose name is gone before this returns; its pages are
    reserved now, because running out of them later would kill whoever touches one. What is not `final` may be given to
    `keep_to_oneself`.

    Raises:
        OSError: no memory, or no shared memory file system.
    """
    if memfd and hasattr(os, "memfd_create"):
        fd = os.memfd_create("bridge", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        try:
            os.ftruncate(fd, size)
            fcntl.fcntl(fd, fcntl.F_ADD_SEALS, _SIZE_SEALS | (fcntl.F_SEAL_SEAL if final else 0))
        except OSError:
            os.close(fd)
            raise
        return fd
    return _create_named(size)


def _create_named(size: int) -> int:
    from _posixshmem import shm_open, shm_unlink  # noqa: PLC0415 — absent from some builds; only this path needs it

    _warn_unsealed()
    name = f"/bridge-{os.getpid()}-{secrets.token_hex(8)}"
    fd: int = shm_open(name, os.O_RDWR | os.O_CREAT | os.O_EXCL, mode=0o600)
    shm_unlink(name)
    try:
        os.set_inheritable(fd, False)
        os.posix_fallocate(fd, 0, size)
    except OSError:
        os.close(fd)
        raise
    return fd


@cache
def _warn_unsealed() -> None:
    logging.getLogger("bridge").warning(
        "shared memory without memfd: a worker could shrink it under the router, and write into request bodies"
    )


def keep_to_oneself(fd: int) -> None:
    """Let nobody write this memory, from now on and by whatever way, but through mappings that exist already."""
    try:
        fcntl.fcntl(fd, fcntl.F_ADD_SEALS, _SEAL_FUTURE_WRITE | fcntl.F_SEAL_SEAL)
    except OSError as error:
        if error.errno != errno.EPERM:  # that is what memory without memfd says, which has warned already
            fcntl.fcntl(fd, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SEAL)
            _warn_writable()


@cache
def _warn_writable() -> None:
    logging.getLogger("bridge").warning(
        "this kernel cannot seal shared memory against writing: a worker could write into the request bodies of others"
    )


def map_memory(fd: int, size: int, *, writable: bool = True) -> mmap.mmap:
    """Map `size` bytes of a received descriptor.

    Raises:
        RemoteProtocolError: the object is smaller than announced: touching it would fault.
    """
    if os.fstat(fd).st_size < size:
        raise RemoteProtocolError(f"shared memory of {os.fstat(fd).st_size} bytes where {size} were announced")
    return mmap.mmap(fd, size, access=mmap.ACCESS_WRITE if writable else mmap.ACCESS_READ)


class Segment:
    """One mapping of chunks, seen by one process (`owner`).

    Args:
        fd: descriptor of the memory; the segment owns it.
        number: id, unique within the application.
        chunk_size: bytes of a chunk.
        count: chunks.
        owner: what this process writes into the chunk map when it claims.
        create: True for the router, which writes the header.
        memory: its mapping, where there is one already.
        writable: False for the workers where only the router writes: there are no `chunks` then.
        junk: fill what is freed with `JUNK`: whoever reads or sends it afterwards gets caught (for debugging).
    """

    __slots__ = ("chunk_size", "chunks", "count", "data_offset", "fd", "junk", "memory", "number", "owner")

    def __init__(  # noqa: PLR0913 - a segment has this many properties
        self,
        fd: int,
        number: int,
        chunk_size: int,
        count: int,
        owner: int,
        *,
        create: bool,
        memory: mmap.mmap | None = None,
        writable: bool = True,
        junk: bool = False,
    ) -> None:
        self.fd = fd
        self.owner = owner
        self.junk = junk
        self.number = number
        self.chunk_size = chunk_size
        self.count = count
        self.data_offset = self._data_offset(count)
        self.memory = memory or map_memory(fd, self.data_offset + chunk_size * count, writable=writable)
        if create:
            _HEADER.pack_into(self.memory, 0, MAGIC, LAYOUT, number, chunk_size, count)
        elif _HEADER.unpack_from(self.memory, 0) != (MAGIC, LAYOUT, number, chunk_size, count):
            raise RemoteProtocolError(f"segment {number} has another header than the handshake announced")
        if writable:
            self.chunks = ChunkMap(self.memory, count=count, owner=owner, create=create, offset=_MAP_OFFSET)

    @classmethod
    def create(  # noqa: PLR0913 - as above
        cls,
        number: int,
        chunk_size: int,
        count: int,
        owner: int,
        *,
        memfd: bool = True,
        shared: bool = True,
        junk: bool = False,
    ) -> Self:
        """A new segment: memory, header and an empty chunk map; unless it is `shared` others can only read it."""
        fd = create_memory(cls._data_offset(count) + chunk_size * count, memfd=memfd, final=shared)
        try:
            segment = cls(fd, number, chunk_size, count, owner, create=True, junk=junk)
            if not shared:
                keep_to_oneself(fd)
        except BaseException:
            os.close(fd)
            raise
        return segment

    def handle(self) -> Segment:
        """A further thread's handle on the same mapping; it has no descriptor to close."""
        geometry = self.chunk_size, self.count
        return Segment(-1, self.number, *geometry, self.owner, create=False, memory=self.memory, junk=self.junk)

    @staticmethod
    def _data_offset(count: int) -> int:
        end = _MAP_OFFSET + ChunkMap.bytes_needed(count)
        return (end + _PAGE - 1) // _PAGE * _PAGE

    def chunks_of(self, size: int) -> int:
        """How many chunks `size` bytes take."""
        return (size + self.chunk_size - 1) // self.chunk_size

    def covers(self, first: int, size: int) -> bool:
        """Whether chunks from `first` on for `size` bytes lie inside this segment (checks a received descriptor)."""
        return 0 < size <= self.chunk_size * self.count and first + self.chunks_of(size) <= self.count

    def claim(self, size: int, least: int) -> tuple[int, int]:
        """Claim a run for up to `size` bytes, at least `least`; returns (first chunk, bytes) or (NONE, 0)."""
        first, got = self.chunks.claim_some(self.chunks_of(size), self.chunks_of(least))
        return (NONE, 0) if first == NONE else (first, got * self.chunk_size)

    def place(self, data: bytes, most: int) -> list[tuple[int, int]] | None:
        """Put `data` into at most `most` runs: (first chunk, bytes) of each; None = no memory, and nothing is held."""
        runs: list[tuple[int, int]] = []
        left = memoryview(data)
        while left:
            spare = most - len(runs)
            first, got = self.claim(len(left), -(-len(left) // spare)) if spare > 0 else (NONE, 0)
            if not got:
                for start, size in runs:
                    self.release(start, self.chunks_of(size))
                return None
            runs.append((first, min(got, len(left))))
            self.write(first, left[:got])
            left = left[got:]
        return runs

    def release(self, first: int, count: int) -> None:
        """Give back a run that this process holds."""
        if self.junk:
            self.spoil(first, count)
        self.chunks.release(first, count)

    def spoil(self, first: int, count: int) -> None:
        """Fill a run, which this process still holds, with `JUNK`."""
        self.write(first, JUNK * (count * self.chunk_size))

    def share(self) -> int:
        """Bytes that one stream may hold now; see `FREE_SHARE`."""
        return max((self.count - self.chunks.busy()) // FREE_SHARE, 1) * self.chunk_size

    def allowance(self, window: int, under_way: int, *, asked: bool) -> int:
        """Bytes of one response that may be put into chunks now.

        Args:
            window: most bytes of it that may be under way.
            under_way: how many are.
            asked: the other side will say when some of them have left. If not, a piece that asks for it goes out in
                any case: somebody must.
        """
        return max(min(window, self.share()) - under_way, 0 if asked else self.chunk_size)

    def view(self, first: int, size: int, skip: int = 0) -> Any:
        """A fresh buffer over `size` bytes, `skip` bytes behind the start of chunk `first`.

        A `weakref.ref` on it fires when the last holder has let go of it.
        """
        return view(self.memory, self.data_offset + first * self.chunk_size + skip, size)

    def read(self, first: int, size: int) -> bytes:
        """A copy of `size` bytes from chunk `first` on."""
        start = self.data_offset + first * self.chunk_size
        return self.memory[start : start + size]

    def write(self, first: int, data: bytes | memoryview) -> None:
        """Copy `data` into the run that starts at chunk `first`, which the caller has claimed."""
        start = self.data_offset + first * self.chunk_size
        self.memory[start : start + len(data)] = data

    def close(self) -> None:
        """Close the descriptor; the mapping goes when the last view of it has gone."""
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1
