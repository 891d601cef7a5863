"""The segments of request bodies that a worker knows, and descriptors that name no part of them."""

from __future__ import annotations

import os

import pytest

from bridge.errors import RemoteProtocolError
from bridge.ipc.message import ABORT, SEGMENT
from bridge.ipc.segment import Segment
from bridge.worker.segments import Segments, SegmentUnknown
from tests.ipc.test_link import few_files
from tests.worker.thread_rig import REQUESTS, TINY, WORKER, RouterSide, Side, pattern

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


def test_segments_in_any_order() -> None:
    """Each is found by its own number, whatever came before it; one that comes twice is kept once."""
    segments = Segments(TINY, WORKER)
    numbers = [65536, 3, 0, 65537, 1]
    made = {number: Segment.create(number, TINY.chunk_size, TINY.chunks, 1) for number in numbers}
    before = len(os.listdir("/proc/self/fd"))
    for number in [*numbers, 3]:
        made[number].write(0, b"%d" % number)
        segments.add({"type": "segment", "segment": number}, [os.dup(made[number].fd)])
    assert len(os.listdir("/proc/self/fd")) == before + 2 * len(numbers)  # a mapping has a descriptor of its own
    for number in numbers:
        text = b"%d" % number
        assert segments.find(number, 0, len(text)).read(0, len(text)) == text
    assert 2 not in segments
    segments.close()
    for segment in made.values():
        segment.close()


def test_a_thread_asks_for_a_segment(caplog: pytest.LogCaptureFixture) -> None:
    """What has not come, or found no room in this process, is asked for, again if need be; then the request begins."""
    body = pattern(20_000)
    with RouterSide() as side:
        seat = side.seat()
        side.publish(body=body)
        thread = Side(lambda: seat.next(None))
        (ask,) = side.receive()
        assert (ask.stream, ask.kind, ask.number) == (0, SEGMENT, REQUESTS)
        with few_files(0):
            side.announce()
            (ask,) = side.receive()
        assert (ask.kind, ask.number) == (SEGMENT, REQUESTS)
        side.announce()
        stream = thread.join()
        assert stream.read(0, 50_000) == body
    assert "may open no more files" in caplog.text


def test_a_client_that_leaves_while_a_segment_is_asked_for() -> None:
    """The request is not begun, and the thread takes the next one."""
    with RouterSide() as side:
        seat = side.seat()
        gone = side.publish(body=pattern(20_000))
        thread = Side(lambda: seat.next(None))
        side.receive()
        following = side.publish()
        side.cancel(gone)
        stream = thread.join()
        assert stream.rest()[0] in (0, following)
        kinds = [(message.stream, message.kind) for message in side.drain()]
        assert (gone, ABORT) in kinds
