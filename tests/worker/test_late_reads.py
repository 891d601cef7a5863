"""Request bodies that are read when the stream is over: the router has freed them, and its number is another one's."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterator

import pytest

from bridge.errors import StreamCancelled
from bridge.ipc.message import ABORT, DATA, FILE, LAST, RESPONSE, WANT
from bridge.ipc.stream import Event
from bridge.worker.seat import Seat
from bridge.worker.thread_stream import ThreadStream
from tests.ipc.test_link import few_files
from tests.worker.thread_rig import RouterSide, Side, pattern, until

BLOCK = b"a: b\r\n"
BODY = pattern(40_000)  # several chunks
LARGE = bytes(5000)  # a response that fits no queue item


@pytest.fixture
def side() -> Iterator[RouterSide]:
    """A router, and a worker that knows its segment."""
    with RouterSide() as side:
        side.announce()
        until(lambda: side.requests.number in side.router.segments)
        yield side


def taken_by_another(side: RouterSide) -> None:
    """What a router does behind the last message: the memory is another request's, and so is the slot."""
    side.requests.write(0, bytes(side.geometry.chunks * side.geometry.chunk_size))
    again = side.tracking.arm(0)
    assert side.tracking.move(again, Event.CANCEL) >= 0


def with_a_file(side: RouterSide, seat: Seat) -> ThreadStream:
    return side.claimed(seat, flags=LAST | FILE, size=len(BODY))


def bring_the_file(side: RouterSide, reader: Side, *, room: bool = True) -> None:
    """Answer the WANT of somebody who then goes on; without room, this process may open no file."""
    (want,) = side.receive()
    assert want.kind == WANT
    with tempfile.TemporaryFile() as file:
        file.write(BODY)
        file.flush()
        with contextlib.nullcontext() if room else few_files(0):
            side.send_file(want.stream, file.fileno())
            reader.join()


@pytest.mark.parametrize("read", [0, 100, 20_000])
def test_chunks_that_are_kept(side: RouterSide, read: int) -> None:
    """What was not read when the response was flushed is read from a copy; the router hears nothing of that."""
    seat = side.seat()
    stream = side.claimed(seat, body=BODY)
    assert stream.read(0, read) == BODY[:read]
    stream.respond(200, BLOCK, 2, 0, b"ok", True)
    stream.flush()
    assert [message.flags for message in side.drain()] == [LAST]
    taken_by_another(side)
    assert not stream.cancelled()
    assert stream.read(read, 100) == BODY[read : read + 100]
    assert stream.read(read + 100, len(BODY)) == BODY[read + 100 :]
    assert seat.next(stream) is None
    assert side.drain() == []


def test_a_file_that_is_kept(side: RouterSide) -> None:
    """The file is fetched before the last message, which may be read at any time from then on."""
    seat = side.seat()
    stream = with_a_file(side, seat)
    stream.respond(200, BLOCK, 2, 0, b"ok", True)
    flushing = Side(stream.flush)
    bring_the_file(side, flushing)
    assert [message.flags for message in side.drain()] == [LAST]
    taken_by_another(side)
    assert stream.read(0, 100_000) == BODY
    files = len(os.listdir("/proc/self/fd"))
    assert seat.next(stream) is None
    assert len(os.listdir("/proc/self/fd")) == files - 1
    assert side.drain() == []


def test_a_file_that_cannot_be_opened(side: RouterSide) -> None:
    """The response goes out all the same, and who reads then gets an error instead of waiting for ever."""
    seat = side.seat()
    stream = with_a_file(side, seat)
    stream.respond(200, BLOCK, 2, 0, b"ok", True)
    bring_the_file(side, Side(stream.flush), room=False)
    assert [message.flags for message in side.drain()] == [LAST]
    taken_by_another(side)
    for _ in range(2):
        with pytest.raises(OSError, match="the limit of open files"):
            stream.read(0, 10)
    assert seat.next(stream) is None
    assert side.drain() == []


def test_a_file_whose_client_leaves(side: RouterSide) -> None:
    """Who waits for a file because of a flush is woken, and its request ends as one that nobody waits for."""
    seat = side.seat()
    stream = with_a_file(side, seat)
    stream.respond(200, BLOCK, 2, 0, b"ok", True)
    flushing = Side(stream.flush)
    (want,) = side.receive()
    side.cancel(want.stream)
    flushing.join()
    assert stream.cancelled()
    with pytest.raises(StreamCancelled):
        stream.read(0, 10)
    assert seat.next(stream) is None
    assert [message.kind for message in side.drain()] == [ABORT]


def test_a_large_response_is_ended_by_the_flush(side: RouterSide) -> None:
    """Its bytes go out at once, its last message when the body that nobody has read is kept."""
    seat = side.seat()
    stream = side.claimed(seat, body=BODY)
    stream.respond(200, BLOCK, len(LARGE), 0, LARGE, True)
    assert stream.over
    (response,) = side.drain()
    assert (response.kind, response.flags & LAST, response.payload) == (RESPONSE, 0, BLOCK + LARGE)
    stream.flush()
    (end,) = side.drain()
    assert (end.kind, end.flags, end.payload) == (DATA, LAST, b"")
    taken_by_another(side)
    assert stream.read(0, len(BODY)) == BODY
    assert seat.next(stream) is None
    assert side.drain() == []


def test_a_head_that_fits_no_item_is_ended_by_the_flush(side: RouterSide) -> None:
    """So it is with a response that is its head, which travels in chunks."""
    seat = side.seat()
    block = b"a: " + bytes(3000) + b"\r\n"
    stream = side.claimed(seat, body=BODY)
    stream.respond(200, block, 0, 0, b"", True)
    stream.flush()
    head, end = side.drain()
    assert (head.payload, head.flags & LAST, end.flags) == (block, 0, LAST)
    taken_by_another(side)
    assert stream.read(0, len(BODY)) == BODY


def test_without_a_flush_nothing_is_kept(side: RouterSide) -> None:
    """An application that is through with its answer gets neither a copy nor a file: the end is left to the thread."""
    seat = side.seat()
    stream = with_a_file(side, seat)
    stream.respond(200, BLOCK, len(LARGE), 0, LARGE, True)
    assert seat.next(stream) is None
    response, end = side.drain()
    assert (response.kind, end.kind, end.flags) == (RESPONSE, DATA, LAST)
    assert side.router.streams == {}


@pytest.mark.parametrize("response", [b"ok", LARGE])
def test_a_body_that_was_read(side: RouterSide, response: bytes) -> None:
    """There is nothing to keep: its response is one message, and a read behind it looks at nobody's word."""
    seat = side.seat()
    stream = side.claimed(seat, body=BODY)
    assert stream.read(0, len(BODY)) == BODY
    stream.respond(200, BLOCK, len(response), 0, response, True)
    stream.flush()
    want, answer = side.drain()
    assert (want.kind, answer.kind, answer.flags & LAST) == (WANT, RESPONSE, LAST)
    taken_by_another(side)
    assert not stream.cancelled()


def test_a_response_that_was_broken(side: RouterSide) -> None:
    """Behind an ABORT there is nothing to read, and nothing is sent."""
    seat = side.seat()
    stream = side.claimed(seat, body=BODY)
    stream.respond(200, BLOCK, 50, 0, b"", False)
    stream.abort()
    assert [message.kind for message in side.drain()] == [RESPONSE, ABORT]
    with pytest.raises(StreamCancelled):
        stream.read(0, len(BODY))
    assert seat.next(stream) is None
    assert side.drain() == []
