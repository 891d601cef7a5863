"""Request bodies as a thread reads them: inline, in chunks, in a file, and whose client has left."""

from __future__ import annotations

import os
import tempfile

import pytest

from bridge.errors import StreamCancelled
from bridge.ipc.message import BODY, FILE, HEADER, LAST, TAKEN, WANT
from bridge.ipc.port import Geometry
from tests.ipc.test_link import few_files
from tests.worker.thread_rig import HEAD, NORMAL, TINY, RouterSide, Side, pattern, until

BLOCK = b"a: b\r\n"
GEOMETRIES = pytest.mark.parametrize("geometry", [NORMAL, TINY], ids=["normal", "tiny"])


@GEOMETRIES
@pytest.mark.parametrize("size", [1, 40, 700])
def test_request_bodies(geometry: Geometry, size: int) -> None:
    """Inline or in chunks, they are read in place; when all of it is consumed, the router is told."""
    body = pattern(size)
    with RouterSide(geometry) as side:
        seat = side.seat()
        side.announce()
        stream = side.claimed(seat, head=HEAD[-24:], body=body)
        assert stream.size == size
        assert stream.read(0, 10) == body[:10]
        assert stream.read(10, size) == body[10:]
        assert stream.read(size, 10) == b""
        stream.respond(200, BLOCK, 0, 0, b"", True)
        assert seat.next(stream) is None
        wants = [message.size for message in side.drain() if message.kind == WANT]
        assert wants == ([size] if len(HEAD[-24:]) + size > side.queue.room - HEADER.size else [])


@pytest.mark.parametrize("body", [b"", pattern(300)])
def test_a_request_head_in_chunks(body: bytes) -> None:
    """The head is copied out of its chunks, and the router is told that they are free."""
    head = HEAD + bytes(400)
    with RouterSide(TINY) as side:
        seat = side.seat()
        side.announce()
        stream = side.claimed(seat, head=head, body=body)
        assert (stream.head, stream.size) == (head, len(body))
        assert [message.kind for message in side.drain()] == [TAKEN]
        assert stream.read(0, 1000) == body


def test_a_body_in_a_file() -> None:
    """Its descriptor is asked for at the first read, and closed with the request."""
    with RouterSide() as side, tempfile.TemporaryFile() as file:
        file.write(pattern(5000))
        file.flush()
        seat = side.seat()
        stream = side.claimed(seat, flags=LAST | FILE, size=5000)
        assert stream.size == 5000
        thread = Side(lambda: stream.read(100, 10_000))
        (want,) = side.receive()
        assert (want.kind, want.size) == (WANT, 0)
        side.send_file(1 << 32, file.fileno())
        assert thread.join() == pattern(5000)[100:]
        before = len(os.listdir("/proc/self/fd"))
        stream.respond(200, BLOCK, 0, 0, b"", True)
        assert seat.next(stream) is None
        assert len(os.listdir("/proc/self/fd")) == before - 1
        side.send_file(1 << 32, file.fileno())
        until(lambda: not _unread(side))
        until(lambda: len(os.listdir("/proc/self/fd")) == before - 1)


def _unread(side: RouterSide) -> bool:
    """Whether something waits in the link to the worker."""
    import select  # noqa: PLC0415 - for this look alone

    return bool(select.select([side.router.port.link.fileno()], [], [], 0)[0])


def test_a_file_that_cannot_be_opened() -> None:
    """A read says so, each time, and the request can go on."""
    with RouterSide() as side, tempfile.TemporaryFile() as file:
        seat = side.seat()
        stream = side.claimed(seat, flags=LAST | FILE, size=5000)
        thread = Side(lambda: stream.read(0, 10))
        (want,) = side.receive()
        with few_files(0):
            side.send_file(want.stream, file.fileno())
            with pytest.raises(OSError, match="the limit of open files"):
                thread.join()
        with pytest.raises(OSError, match="the limit of open files"):
            stream.read(0, 10)
        stream.respond(200, BLOCK, 0, 0, b"", True)
        assert seat.next(stream) is None
        assert [message.flags for message in side.drain()] == [LAST]


def test_a_body_whose_client_leaves() -> None:
    """Who waits for the file is woken."""
    with RouterSide() as side:
        seat = side.seat()
        stream = side.claimed(seat, flags=LAST | FILE, size=5000)
        thread = Side(lambda: stream.read(0, 10))
        side.receive()
        side.cancel(1 << 32)
        with pytest.raises(StreamCancelled):
            thread.join()
        assert seat.next(stream) is None
        assert side.router.bodies == {}


def test_a_body_that_the_router_cannot_send() -> None:
    """Where the router has no descriptor left the message comes without one: an error for who reads the body."""
    with RouterSide() as side:
        seat = side.seat()
        stream = side.claimed(seat, flags=LAST | FILE, size=5000)
        thread = Side(lambda: stream.read(0, 10))
        side.receive()
        side.port.outbox.send(1 << 32, HEADER.pack(1 << 32, BODY, FILE | LAST, 0, 0, 0, 0, 0))
        with pytest.raises(OSError, match="no room for the body"):
            thread.join()
        stream.respond(200, BLOCK, 0, 0, b"", True)
        assert seat.next(stream) is None
