"""The segments of request bodies that a worker knows, and descriptors that name no part of them."""

from __future__ import annotations

import os

import pytest

from bridge.errors import RemoteProtocolError
from bridge.ipc.segment import Segment
from bridge.worker.segments import Segments, SegmentUnknown
from tests.worker.thread_rig import TINY, WORKER

NUMBER = 7


@pytest.fixture
def made() -> Segment:
    """A segment as a router makes it."""
    return Segment.create(NUMBER, TINY.chunk_size, TINY.chunks, 1)


def test_a_segment_that_has_come(made: Segment) -> None:
    """Whatever the router writes there is found by its descriptor; its file is closed in the end."""
    segments = Segments(TINY, WORKER)
    assert NUMBER not in segments
    segments.add({"type": "segment", "segment": NUMBER}, [os.dup(made.fd)])
    assert NUMBER in segments
    made.write(3, b"hello")
    found = segments.find(NUMBER, 3, 5)
    assert found.read(3, 5) == b"hello"
    file = found.fd
    segments.close()
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(file)
    made.close()


@pytest.mark.parametrize(
    ("number", "first", "size"),
    [(NUMBER, 0, 0), (NUMBER, TINY.chunks, 1), (NUMBER, 0, TINY.chunks * TINY.chunk_size + 1)],
)
def test_descriptors_of_nothing(made: Segment, number: int, first: int, size: int) -> None:
    """One that leaves its segment is refused; one that names a segment which has not come has to wait."""
    segments = Segments(TINY, WORKER)
    segments.add({"type": "segment", "segment": NUMBER}, [os.dup(made.fd)])
    with pytest.raises(RemoteProtocolError, match="names no chunks"):
        segments.find(number, first, size)
    with pytest.raises(SegmentUnknown) as unknown:
        segments.find(NUMBER + 1, first, size)
    assert unknown.value.number == NUMBER + 1
    segments.close()
    made.close()


@pytest.mark.parametrize(
    ("message", "files"),
    [
        ({"type": "other", "segment": NUMBER}, 1),
        ({"type": "segment", "segment": "7"}, 1),
        ({"type": "segment", "segment": NUMBER}, 0),
        ({"type": "segment", "segment": NUMBER}, 2),
        ({"type": "segment", "segment": NUMBER + 1}, 1),
    ],
)
def test_messages_that_bring_no_segment(made: Segment, message: dict[str, object], files: int) -> None:
    """They are refused, and the files that came with them are closed."""
    segments = Segments(TINY, WORKER)
    fds = [os.dup(made.fd) for _ in range(files)]
    with pytest.raises(RemoteProtocolError):
        segments.add(message, fds)
    for fd in fds:
        with pytest.raises(OSError, match="Bad file descriptor"):
            os.fstat(fd)
    assert NUMBER not in segments
    made.close()
