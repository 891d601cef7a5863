"""Segments: memory that nobody can resize, chunks with a header that is checked, and a pool with a limit."""

from __future__ import annotations

import fcntl
import gc
import mmap
import os
import weakref
from collections.abc import Iterator
from pathlib import Path

import pytest

from bridge.core import NONE
from bridge.errors import RemoteProtocolError
from bridge.ipc import segment as segment_module
from bridge.ipc.segment import Segment, SegmentPool, create_memory, map_memory

MB = 1 << 20


@pytest.fixture
def segment() -> Iterator[Segment]:
    """Eight chunks of 64 bytes."""
    segment = Segment.create(3, 64, 8, 1)
    yield segment
    segment.close()


def names() -> set[str]:
    """What is left in the file system of shared memory."""
    return {path.name for path in Path("/dev/shm").iterdir() if path.name.startswith("bridge")}


@pytest.mark.parametrize("size", [0, 4095, 4097, MB])
def test_sealed_memory_keeps_its_size(size: int) -> None:
    """Neither a shrink nor a growth nor a further seal goes through, by whatever way."""
    fd = create_memory(4096)
    with pytest.raises(PermissionError):
        os.ftruncate(fd, size)
    with pytest.raises(PermissionError):
        fcntl.fcntl(fd, fcntl.F_ADD_SEALS, fcntl.F_SEAL_WRITE)
    again = os.open(f"/proc/self/fd/{fd}", os.O_RDWR)
    with pytest.raises(PermissionError):
        os.ftruncate(again, size)
    assert os.fstat(fd).st_size == 4096
    assert not os.get_inheritable(fd)
    os.close(again)
    os.close(fd)


def test_memory_without_memfd(caplog: pytest.LogCaptureFixture) -> None:
    """The other kind of memory has no name, has its pages, warns once, and is as good for sharing."""
    before = names()
    segment_module._warn_unsealed.cache_clear()
    os.close(create_memory(4096, memfd=False))
    fd = create_memory(MB, memfd=False)
    assert caplog.text.count("without memfd") == 1
    assert names() == before
    assert os.fstat(fd).st_nlink == 0
    assert os.fstat(fd).st_blocks * 512 >= MB
    assert not os.get_inheritable(fd)
    left, right = map_memory(fd, MB), map_memory(fd, MB)
    left[MB - 5 :] = b"hello"
    assert right[MB - 5 :] == b"hello"
    os.close(fd)


def test_memory_without_memfd_leaves_nothing_when_there_is_too_little(monkeypatch: pytest.MonkeyPatch) -> None:
    """When the pages cannot be had, neither a name nor a descriptor is left."""
    before, fds = names(), os.listdir("/proc/self/fd")

    def fail(*_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", fail)
    with pytest.raises(OSError, match="No space"):
        create_memory(MB, memfd=False)
    assert names() == before
    assert len(os.listdir("/proc/self/fd")) == len(fds)


def test_a_kernel_without_memfd(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the call does not exist the other kind is taken without being asked for."""
    monkeypatch.delattr(os, "memfd_create")
    segment = Segment.create(1, 64, 4, 1)
    assert segment.claim(64, 64) == (0, 64)
    segment.close()


def test_mapping_more_than_there_is() -> None:
    """A size that the object does not have is refused before anything faults."""
    fd = create_memory(4096)
    with pytest.raises(RemoteProtocolError, match="4096"):
        map_memory(fd, 4097)
    assert isinstance(map_memory(fd, 4096), mmap.mmap)
    os.close(fd)


def test_both_sides_see_the_same(segment: Segment) -> None:
    """Bytes written by one side are read by the other, and chunks have one owner."""
    other = Segment(os.dup(segment.fd), 3, 64, 8, 9, create=False)
    first, size = other.claim(100, 1)
    assert (first, size) == (0, 128)
    other.write(first, b"x" * 100)
    assert segment.read(0, 100) == b"x" * 100
    assert segment.claim(512, 512) == (NONE, 0)
    assert segment.claim(512, 64) == (2, 384)
    assert segment.chunks.transfer(0, 2, 9, 1)
    assert segment.chunks.release(0, 2) == 2
    other.close()


@pytest.mark.parametrize(
    ("number", "chunk_size", "count"), [(4, 64, 8), (3, 32, 8), (3, 64, 7), (3, 128, 4), (3, 64, 1 << 20)]
)
def test_another_geometry_is_refused(segment: Segment, number: int, chunk_size: int, count: int) -> None:
    """Who attaches by other numbers than those in the header is told so."""
    with pytest.raises(RemoteProtocolError):
        Segment(segment.fd, number, chunk_size, count, 9, create=False)


def test_a_damaged_header_is_refused(segment: Segment) -> None:
    """Memory that is no segment of this layout is refused."""
    for position in (0, 8):
        before = segment.memory[position]
        segment.memory[position] = before ^ 255
        with pytest.raises(RemoteProtocolError, match="header"):
            Segment(segment.fd, 3, 64, 8, 9, create=False)
        segment.memory[position] = before
    Segment(segment.fd, 3, 64, 8, 9, create=False)


def test_covers(segment: Segment) -> None:
    """A descriptor is believed only if all of its chunks lie inside."""
    assert segment.covers(0, 1)
    assert segment.covers(0, 512)
    assert segment.covers(7, 64)
    assert not segment.covers(0, 0)
    assert not segment.covers(0, 513)
    assert not segment.covers(7, 65)
    assert not segment.covers(8, 1)
    assert not segment.covers(1 << 32, 1)


def test_a_view_tells_when_its_bytes_are_free(segment: Segment) -> None:
    """The reference fires with the last holder, not with a slice or with the segment's descriptor."""
    fired: list[int] = []
    segment.write(2, b"hello")
    view = segment.view(2, 5)
    reference = weakref.ref(view, lambda _: fired.append(1))
    part = memoryview(view)[1:3]
    del view
    segment.close()
    gc.collect()
    assert not fired
    assert bytes(part) == b"el"
    del part
    assert fired
    assert reference() is None


class Waiter:
    """Claims what it waited for, and keeps it until it is told otherwise."""

    def __init__(self, pool: SegmentPool, size: int, log: list[int]) -> None:
        self.pool = pool
        self.size = size
        self.log = log
        self.calls = 0
        self.claimed: tuple[Segment, int, int] | None = None

    def memory_ready(self) -> None:
        self.calls += 1
        self.log.append(self.size)
        self.claimed = self.pool.claim(self.size, self.size)
        assert self.claimed is not None

    def give_back(self) -> None:
        assert self.claimed is not None
        segment, first, got = self.claimed
        self.pool.release(segment, first, segment.chunks_of(got))


@pytest.fixture
def pool() -> Iterator[SegmentPool]:
    """At most two segments of four chunks of 64 bytes."""
    pool = SegmentPool(64, 4, 2 * 256 + 100, 1, memfd=True, announce=lambda segment: None)
    yield pool
    pool.close()


def test_the_pool_grows_up_to_its_limit() -> None:
    """A segment is made when the others have no room, announced before it is used, and never beyond the limit."""
    announced: list[tuple[int, int]] = []
    pool = SegmentPool(
        64, 4, 600, 1, memfd=True, announce=lambda segment: announced.append((segment.number, segment.chunks.busy()))
    )
    assert pool.segments == []
    first = pool.claim(256, 64)
    assert first is not None
    assert first[1:] == (0, 256)
    second = pool.claim(1, 1)
    assert second is not None
    assert announced == [(0, 0), (1, 0)]
    assert second[0] is not first[0]
    assert pool.claim(1000, 1000) is None
    third = pool.claim(256, 64)
    assert third is not None
    assert third == (second[0], 1, 192)
    assert pool.claim(1, 1) is None
    assert len(pool.segments) == 2
    assert pool.busy() == 8
    pool.release(*first[:2], 4)
    assert pool.claim(1000, 1000) == first
    pool.close()


def test_a_pool_has_at_least_one_segment() -> None:
    """A limit below one segment still gives one: without any nothing would work."""
    pool = SegmentPool(64, 4, 1, 1, memfd=True, announce=lambda segment: None)
    assert pool.claim(64, 64) is not None
    pool.close()


def test_waiters_are_served_in_order(pool: SegmentPool) -> None:
    """The first in line is not overtaken by one that needs less, and each is called once."""
    claims = [pool.claim(256, 256), pool.claim(256, 256)]
    log: list[int] = []
    waiters = [Waiter(pool, size, log) for size in (192, 64, 128, 256)]
    for waiter in waiters:
        pool.wait(waiter, waiter.size)
    segment, first, _ = claims[0]  # type: ignore[misc]
    pool.release(segment, first, 2)
    assert log == []
    pool.release(segment, first + 2, 1)
    assert log == [192]
    pool.release(segment, first + 3, 1)
    assert log == [192, 64]
    waiters[0].give_back()
    assert log == [192, 64, 128]
    waiters[1].give_back()
    waiters[2].give_back()
    assert log == [192, 64, 128, 256]
    assert all(waiter.calls == 1 for waiter in waiters)


def test_who_forgot_is_not_called(pool: SegmentPool) -> None:
    """A waiter that is gone neither is called nor holds up the line; to forget a stranger is no error."""
    claims = [pool.claim(256, 256), pool.claim(256, 256)]
    log: list[int] = []
    gone, there = Waiter(pool, 256, log), Waiter(pool, 64, log)
    pool.wait(gone, 256)
    pool.wait(there, 64)
    pool.forget(gone)
    pool.forget(gone)
    segment, first, _ = claims[0]  # type: ignore[misc]
    pool.release(segment, first, 1)
    assert log == [64]


def test_a_long_line_is_no_deep_recursion(pool: SegmentPool) -> None:
    """Thousands of waiters that give back at once what they got are served by a loop."""
    claims = [pool.claim(256, 256), pool.claim(256, 256)]
    served: list[int] = []

    class Brief(Waiter):
        def memory_ready(self) -> None:
            super().memory_ready()
            self.give_back()

    for _ in range(5000):
        waiter = Brief(pool, 64, served)
        pool.wait(waiter, 64)
    segment, first, _ = claims[0]  # type: ignore[misc]
    pool.release(segment, first, 1)
    assert len(served) == 5000


def test_a_machine_without_memory(pool: SegmentPool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where no segment can be made there is no memory now; later there may be."""

    def fail(*_: object, **__: object) -> int:
        raise OSError(12, "Cannot allocate memory")

    with monkeypatch.context() as context:
        context.setattr("bridge.ipc.segment.create_memory", fail)
        assert pool.claim(64, 64) is None
    assert pool.claim(64, 64) is not None


def test_no_descriptor_is_left() -> None:
    """Closing a pool gives back every descriptor and, with the last reference, every mapping."""
    before = len(os.listdir("/proc/self/fd"))
    pool = SegmentPool(64, 4, 1024, 1, memfd=True, announce=lambda segment: None)
    for _ in range(4):
        pool.claim(256, 256)
    pool.close()
    del pool
    gc.collect()
    assert len(os.listdir("/proc/self/fd")) == before


def test_a_segment_that_cannot_be_mapped_leaves_no_descriptor(monkeypatch: pytest.MonkeyPatch) -> None:
    """When the mapping fails, the new memory is given back."""
    before = len(os.listdir("/proc/self/fd"))

    def fail(*_: int, **__: bool) -> None:
        raise OSError(12, "Cannot allocate memory")

    monkeypatch.setattr("bridge.ipc.segment.map_memory", fail)
    with pytest.raises(OSError, match="Cannot allocate"):
        Segment.create(1, 64, 4, 1)
    assert len(os.listdir("/proc/self/fd")) == before


def test_shares(pool: SegmentPool, segment: Segment) -> None:
    """A stream may hold a quarter of what is free, at least one chunk; segments that do not exist yet are free."""
    assert segment.share() == 128
    segment.claim(256, 256)
    assert segment.share() == 64
    segment.claim(256, 256)
    assert segment.share() == 64
    assert pool.share() == 128
    run = pool.claim(256, 256)
    assert run is not None
    assert pool.share() == 64
    pool.release(run[0], run[1], 4)
    assert pool.share() == 128


def test_what_only_its_maker_writes() -> None:
    """A segment of requests is read by workers: no way leads to writing it, and its maker still does."""
    segment = Segment.create(3, 64, 8, 1, shared=False)
    again = os.open(f"/proc/self/fd/{segment.fd}", os.O_RDWR)
    for fd in (segment.fd, again):
        with pytest.raises(PermissionError):
            mmap.mmap(fd, 4096)
        with pytest.raises(PermissionError):
            os.pwrite(fd, b"x", 0)
        with pytest.raises(PermissionError):
            os.ftruncate(fd, 0)
        with pytest.raises(PermissionError):
            fcntl.fcntl(fd, fcntl.F_ADD_SEALS, fcntl.F_SEAL_WRITE)
        with pytest.raises(PermissionError):
            os.posix_fallocate(fd, 0, 1 << 20)
    os.close(again)
    reader = Segment(os.dup(segment.fd), 3, 64, 8, 9, create=False, writable=False)
    assert segment.claim(64, 64) == (0, 64)
    segment.write(0, b"hello")
    assert reader.read(0, 5) == b"hello"
    with pytest.raises(TypeError):
        reader.write(0, b"other")
    reader.close()
    segment.close()


def test_a_kernel_that_cannot_seal_against_writing(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Without that seal, or without memfd, it is said once what is not prevented, and workers still map to read."""
    segment_module._warn_writable.cache_clear()
    monkeypatch.setattr(segment_module, "_SEAL_FUTURE_WRITE", 1 << 20)
    for number in range(2):
        segment = Segment.create(number, 64, 8, 1, shared=False)
        reader = Segment(os.dup(segment.fd), number, 64, 8, 9, create=False, writable=False)
        with pytest.raises(TypeError):
            reader.write(0, b"other")
        reader.close()
        segment.close()
    assert caplog.text.count("cannot seal") == 1
