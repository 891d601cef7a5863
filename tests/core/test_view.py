"""Views: a weak reference that tells when the last reader of some bytes is gone."""

from __future__ import annotations

import gc
import mmap
import weakref

import pytest

from bridge.core import view


@pytest.fixture
def memory() -> mmap.mmap:
    """One page."""
    return mmap.mmap(-1, 4096)


def test_a_view_is_a_window(memory: mmap.mmap) -> None:
    """It shows exactly its bytes, and writing to it writes to the mapping."""
    memory[100:104] = b"abcd"
    window = memoryview(view(memory, 100, 4))
    assert bytes(window) == b"abcd"
    window[1:3] = b"--"
    assert memory[99:105] == b"\0a--d\0"
    assert bytes(view(memory, 4096, 0)) == b""


def test_the_reference_dies_with_the_last_reader(memory: mmap.mmap) -> None:
    """Slices and copies of a memoryview keep it; the last one gone, the reference fires at once."""
    fired: list[int] = []
    window = view(memory, 0, 64)
    weakref.finalize(window, fired.append, 1)
    reader = memoryview(window)
    part = reader[10:20]
    del window
    reader.release()
    del reader
    gc.collect()
    assert fired == []
    del part
    assert fired == [1]


def test_views_of_the_same_bytes_are_told_apart(memory: mmap.mmap) -> None:
    """Each call makes an exporter of its own."""
    first, second = view(memory, 0, 64), view(memory, 0, 64)
    alive = weakref.ref(second)
    gone = weakref.ref(first)
    del first
    assert gone() is None
    assert alive() is second


def test_a_view_keeps_the_mapping(memory: mmap.mmap) -> None:
    """As long as somebody reads, the memory cannot go; then it can."""
    window = view(memory, 0, 64)
    with pytest.raises(BufferError):
        memory.close()
    del window
    memory.close()


@pytest.mark.parametrize(("offset", "size"), [(-1, 4), (0, 4097), (4096, 1), (0, -1), (4000, 97)])
def test_a_view_stays_inside(memory: mmap.mmap, offset: int, size: int) -> None:
    """A range that leaves the mapping raises."""
    with pytest.raises(ValueError, match="not inside"):
        view(memory, offset, size)
