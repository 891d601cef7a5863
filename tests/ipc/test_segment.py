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
from bridge.ipc.segment import JUNK, Segment, create_memory, map_memory

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


@pytest.mark.parametrize("junk", [False, True])
def test_freed_chunks_are_filled(junk: bool) -> None:
    """Where it is asked for, what is given back is junk, and nothing else changes."""
    segment = Segment.create(3, 64, 8, 1, junk=junk)
    segment.claim(300, 300)
    segment.write(0, b"x" * 300)
    segment.handle().release(1, 2)
    freed = JUNK * 128 if junk else b"x" * 128
    assert segment.read(0, 300) == b"x" * 64 + freed + b"x" * 108
    assert segment.chunks.busy() == 3
    segment.close()


def test_bytes_in_several_runs(segment: Segment) -> None:
    """They are put where there is room, in as many runs as are allowed, or not at all."""
    first, _ = segment.claim(512, 512)
    for chunk in (1, 3, 4, 6):
        segment.release(first + chunk, 1)
    data = bytes(range(200))
    assert segment.place(data, 2) is None
    assert segment.chunks.busy() == 4
    runs = segment.place(data, 3)
    assert runs
    assert b"".join(segment.read(*run) for run in runs) == data
    assert segment.place(data, 3) is None
    assert segment.chunks.busy() == 8


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


def test_a_segment_that_cannot_be_mapped_leaves_no_descriptor(monkeypatch: pytest.MonkeyPatch) -> None:
    """When the mapping fails, the new memory is given back."""
    before = len(os.listdir("/proc/self/fd"))

    def fail(*_: int, **__: bool) -> None:
        raise OSError(12, "Cannot allocate memory")

    monkeypatch.setattr("bridge.ipc.segment.map_memory", fail)
    with pytest.raises(OSError, match="Cannot allocate"):
        Segment.create(1, 64, 4, 1)
    assert len(os.listdir("/proc/self/fd")) == before


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
