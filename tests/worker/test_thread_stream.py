"""The synchronous stream over a real port: what goes out, when it waits, and what ends the wait."""

from __future__ import annotations

import os
import tempfile
import time
from collections import Counter

import pytest

from bridge.core import FULL, Tracking
from bridge.errors import RemoteProtocolError, StreamCancelled
from bridge.ipc.message import ABORT, ACK, BATON, DATA, DESCRIPTOR, FILE, HEADER, LAST, PART, REQUEST, RESPONSE
from bridge.ipc.port import Geometry
from bridge.ipc.record import LONGEST
from bridge.ipc.segment import Segment
from bridge.ipc.stream import Event
from bridge.worker.thread_stream import ThreadStream
from tests.ipc.rings import rung
from tests.worker.thread_rig import HEAD, NORMAL, REQUESTS, TINY, RouterSide, Side, pattern, until

BLOCK = b"a: b\r\n"
GEOMETRIES = pytest.mark.parametrize("geometry", [NORMAL, TINY], ids=["normal", "tiny"])


@GEOMETRIES
def test_a_small_response_leaves_with_the_next_claim(geometry: Geometry) -> None:
    """One message, which stays with the thread until it looks for its next request."""
    with RouterSide(geometry) as side:
        seat = side.seat()
        stream = side.claimed(seat, head=HEAD[-24:])
        assert (stream.head, stream.size, stream.complete, stream.over) == (HEAD[-24:], 0, True, False)
        stream.respond(200, BLOCK, 5, 0, b"hello", True)
        assert stream.over
        assert side.drain() == []
        assert seat.next(stream) is None
        (message,) = side.drain()
        assert (message.kind, message.flags, message.number, message.size) == (RESPONSE, LAST, 200, 5)
        assert message.payload == BLOCK + b"hello"
        assert side.tracking.state(message.stream) == Tracking.DONE


def test_flush_does_not_wait() -> None:
    """What was given last goes out at once, and only once."""
    with RouterSide() as side:
        seat = side.seat()
        stream = side.claimed(seat)
        stream.respond(200, BLOCK, 5, 0, b"hello", True)
        stream.flush()
        assert len(side.drain()) == 1
        stream.flush()
        stream.abort()
        assert seat.next(stream) is None
        assert side.drain() == []


@GEOMETRIES
@pytest.mark.parametrize("size", [0, 1, 50, 5000, 600_000])
def test_bodies_of_any_size(geometry: Geometry, size: int) -> None:
    """Everything arrives in order, however little memory and window there is, whole or in pieces."""
    size = min(size, 20_000) if geometry is TINY else size
    body = pattern(size)
    with RouterSide(geometry) as side:
        seat = side.seat()

        def respond() -> None:
            stream = side.claimed(seat, head=HEAD[-24:])
            stream.respond(200, BLOCK, size, 0, body, True)
            stream = seat.next(stream) or side.claimed(seat, head=HEAD[-24:])
            stream.respond(200, BLOCK, size, 0, b"", False)
            for start in range(0, size, 700):
                stream.send(body[start : start + 700], False)
            stream.send(b"", True)
            assert seat.next(stream) is None

        thread = Side(respond)
        received, ends = b"", 0

        def look() -> bool:
            nonlocal received, ends
            for message in side.drain():
                received += message.payload[message.head :]
                ends += message.flags & LAST
                if not message.flags & LAST:
                    side.acknowledge(message.stream, len(message.payload) - message.head)
            return ends == 2

        until(look)
        thread.join()
        assert received == body + body
        assert side.segment.chunks.busy() == 0
        assert side.router.streams == {}


@GEOMETRIES
def test_a_head_that_fits_no_item(geometry: Geometry) -> None:
    """It travels in chunks, with its body behind it."""
    block = b"a: " + b"x" * (3 * geometry.item_size) + b"\r\n"
    with RouterSide(geometry) as side:
        seat = side.seat()
        stream = side.claimed(seat, head=HEAD[-24:])
        stream.respond(200, block, 4, 0, b"", False)
        stream.send(b"body", True)
        assert seat.next(stream) is None
        head, body = side.drain()
        assert (head.payload, head.head, body.payload) == (block, len(block), b"body")
        assert side.segment.chunks.busy() == 0


def test_a_head_that_fits_nowhere() -> None:
    """The response is broken, and the application is told as if nobody waited."""
    with RouterSide(TINY) as side:
        seat = side.seat()
        stream = side.claimed(seat, head=HEAD[-24:])
        with pytest.raises(StreamCancelled):
            stream.respond(200, b"x" * LONGEST, 0, 0, b"", True)
        assert [message.kind for message in side.drain()] == [ABORT]
        assert stream.over


@pytest.mark.parametrize("piece", [100, 40_000])
def test_the_window(piece: int) -> None:
    """So many bytes and no more are under way; when the client has taken some, the rest follows."""
    with RouterSide() as side:
        seat = side.seat()
        stream = side.claimed(seat)

        def respond() -> None:
            stream.respond(200, BLOCK, 0, 0, b"", False)
            for _ in range(0, 3 * NORMAL.window, piece):
                stream.send(bytes(piece), False)
            stream.send(b"", True)

        thread = Side(respond)
        held: list[int] = []

        def look() -> int:
            held.extend(len(message.payload) - message.head for message in side.drain())
            return sum(held)

        until(lambda: look() >= NORMAL.window // 4 and side.router.streams)  # the thread has asked to be told
        before = -1
        while before != look():  # until nothing more comes
            before = sum(held)
            time.sleep(0.05)
        assert thread.waits
        assert before <= NORMAL.window + piece
        side.acknowledge(_stream_of(side), before)

        def done() -> bool:
            for message in side.drain():
                held.append(len(message.payload))
                if message.flags & ACK:
                    side.acknowledge(message.stream, len(message.payload))
            return not thread.waits

        until(done)
        thread.join()
        assert seat.next(stream) is None
        while side.port.incoming.length():
            look()
        assert look() == -(-3 * NORMAL.window // piece) * piece


def _stream_of(side: RouterSide) -> int:
    """The one that waits for a window."""
    (number,) = side.router.streams
    return number


@pytest.mark.parametrize("why", ["client", "router"])
def test_a_wait_ends_with_the_client_or_the_router(why: str) -> None:
    """A thread that waits for its window is woken when nobody waits for it; its chunks are free again."""
    with RouterSide() as side:
        seat = side.seat()
        stream = side.claimed(seat)
        thread = Side(lambda: stream.respond(200, BLOCK, 0, 0, bytes(4 * NORMAL.window), True))
        until(lambda: side.router.streams)
        number = _stream_of(side)
        assert not stream.cancelled()
        if why == "client":
            side.cancel(number)
        else:
            side.link.close()
        with pytest.raises(StreamCancelled):
            thread.join()
        assert stream.cancelled()
        assert stream.over
        if why == "client":
            assert seat.next(stream) is None
            *_, last = side.drain()
            assert last.kind == ABORT
            assert side.tracking.state(number) == Tracking.DONE
            assert side.segment.chunks.busy() == 0
        else:
            stream.rest()


def test_memory_that_others_hold() -> None:
    """Without a free chunk a thread waits, and goes on as soon as the router has freed one."""
    with RouterSide() as side:
        seat = side.seat()
        first, count = side.segment.chunks.claim_some(NORMAL.chunks, NORMAL.chunks)
        stream = side.claimed(seat)
        thread = Side(lambda: stream.respond(200, BLOCK, 5000, 0, bytes(5000), True))
        until(side.segment.chunks.take_waiting)
        assert thread.waits
        side.segment.chunks.release(first, count)
        side.port.peer_bell.ring()
        thread.join()
        assert seat.next(stream) is None
        assert side.response(1 << 32)[1] == bytes(5000)


def test_memory_that_is_given_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """A thread that waits for chunks gets those of a response which nobody waits for any more."""
    looks: Counter[int] = Counter()
    claim, release = Segment.claim, ThreadStream._release

    def counted(segment: Segment, size: int, least: int) -> tuple[int, int]:
        found = claim(segment, size, least)
        looks[id(segment)] += 1
        return found

    with RouterSide(TINY, 2) as side:
        one, two = side.seat(0), side.seat(1)
        monkeypatch.setattr(Segment, "claim", counted)
        leaving, staying = side.claimed(one, head=HEAD[-24:]), side.claimed(two, head=HEAD[-24:])
        side.segment.chunks.claim_some(TINY.chunks - 1, TINY.chunks - 1)
        while side.router.port.outgoing.push(HEADER.pack(0, BATON, 0, 0, 0, 0, 0, 0)) != FULL:
            pass
        thread = Side(lambda: leaving.respond(200, b"", 100, 0, bytes(100), True))
        until(lambda: side.segment.chunks.busy() == TINY.chunks)  # it has the last chunk, and waits for the queue
        waiting = Side(lambda: staying.respond(200, b"", 100, 0, bytes(100), True))
        until(lambda: looks[id(two.segment)] > 1)
        before = looks[id(two.segment)]

        def slow(stream: ThreadStream, runs: list[tuple[int, int]]) -> None:
            until(lambda: looks[id(two.segment)] > before)  # the other one was woken too, and has found nothing
            release(stream, runs)

        monkeypatch.setattr(ThreadStream, "_release", slow)
        side.cancel(1 << 32)
        with pytest.raises(StreamCancelled):
            thread.join()
        until(lambda: side.segment.chunks.busy() == TINY.chunks)  # before there is any other reason to look
        assert {message.kind for message in side.receive(TINY.queue)} == {BATON}
        assert side.response(1 << 32 | 1) == (200, bytes(100))
        waiting.join()


def test_a_queue_that_is_full() -> None:
    """A thread waits for room, with an answer that is complete as with one that is not."""
    with RouterSide(TINY) as side:
        seat = side.seat()
        stream = side.claimed(seat, head=HEAD[-24:])
        while side.router.port.outgoing.push(HEADER.pack(0, BATON, 0, 0, 0, 0, 0, 0)) != FULL:
            pass
        thread = Side(lambda: stream.respond(200, BLOCK, 5, 0, b"", False))
        until(lambda: side.port.incoming.length() == TINY.queue)
        batons = side.receive(TINY.queue)
        assert {message.kind for message in batons} == {BATON}
        thread.join()
        stream.send(b"hello", True)
        while side.router.port.outgoing.push(HEADER.pack(0, BATON, 0, 0, 0, 0, 0, 0)) != FULL:
            pass
        thread = Side(lambda: seat.next(stream))
        found = [message.kind for message in side.receive(TINY.queue + 1)]
        assert (found[0], found[-1]) == (RESPONSE, DATA)
        assert thread.join() is None


def test_cancelled_before_it_runs() -> None:
    """Who claims a request that is cancelled at once sees it in its word, and confirms."""
    with RouterSide() as side:
        seat = side.seat()
        stream = side.claimed(seat)
        side.cancel(1 << 32)
        assert stream.cancelled()
        assert seat.next(stream) is None
        assert [message.kind for message in side.drain()] == [ABORT]
        assert side.tracking.state(1 << 32) == Tracking.DONE


def test_an_answer_that_is_given_up_hides_no_other() -> None:
    """A router that went to sleep at a message which was given up is rung for those behind it."""
    with RouterSide() as side:
        seat = side.seat()
        stream = side.claimed(seat)
        assert side.port.incoming.doze(0)
        seat.send(HEADER.pack(0, BATON, 0, 0, 0, 0, 5, 0))
        side.port.bell.hush()
        side.port.memory[NORMAL.queue_bytes + 512] |= 1  # it has looked before, and found nothing
        side.cancel(1 << 32)
        with pytest.raises(StreamCancelled):
            stream.respond(200, BLOCK, 0, 0, b"", False)
        assert rung(side.port.bell)
        assert seat.next(stream) is None


def test_a_request_that_is_over_is_not_looked_up() -> None:
    """Whoever asks later learns how it ended: its number is another request's by then."""
    with RouterSide() as side:
        seat = side.seat()
        stream = side.claimed(seat)
        stream.respond(200, BLOCK, 0, 0, b"", True)
        assert seat.next(stream) is None
        again = side.tracking.arm(0)
        assert side.tracking.move(again, Event.CANCEL) >= 0
        assert seat.cancelled(1 << 32)
        assert not stream.cancelled()


def test_cancelled_with_the_answer_in_hand() -> None:
    """An answer that comes too late ends the stream all the same, with one message."""
    with RouterSide() as side:
        seat = side.seat()
        stream = side.claimed(seat)
        stream.respond(200, BLOCK, 5, 0, b"hello", True)
        side.cancel(1 << 32)
        assert seat.next(stream) is None
        (message,) = side.drain()
        assert message.flags & LAST
        assert side.tracking.state(1 << 32) == Tracking.DONE


def test_an_answer_that_breaks() -> None:
    """abort() is told at once, and what follows is nothing."""
    with RouterSide() as side:
        seat = side.seat()
        stream = side.claimed(seat)
        stream.respond(200, BLOCK, 50, 0, b"", False)
        stream.abort()
        assert [message.kind for message in side.drain()] == [RESPONSE, ABORT]
        stream.abort()
        assert seat.next(stream) is None
        assert side.drain() == []


def test_a_file() -> None:
    """Its descriptor comes with the message that names the part of it."""
    with RouterSide() as side, tempfile.TemporaryFile() as file:
        file.write(b"0123456789")
        file.flush()
        seat = side.seat()
        stream = side.claimed(seat)
        stream.respond(200, BLOCK, 4, 0, b"", False)
        stream.send_file(file.fileno(), 3, 4)
        assert stream.over
        assert seat.next(stream) is None
        _, message = side.drain()
        assert os.pread(side.files[0], 10, 0) == b"0123456789"
        os.close(side.files[0])
        assert (message.kind, message.flags, PART.unpack(message.payload)) == (DATA, FILE | LAST, (3, 4))


def test_what_no_router_sends() -> None:
    """Descriptors of nothing and messages of another kind are the router's end."""
    with RouterSide() as side:
        seat = side.seat()
        piece = DESCRIPTOR.pack(REQUESTS, NORMAL.chunks - 1, NORMAL.chunk_size + 1)
        side.announce()
        side.queue.push(HEADER.pack(side.arm(), REQUEST, LAST, 1, 0, 0, 0, 0) + piece)
        with pytest.raises(RemoteProtocolError, match="names no chunks"):
            seat.next(None)
        side.queue.push(HEADER.pack(side.arm(), 99, LAST, 0, 0, 0, 0, 0))
        with pytest.raises(RemoteProtocolError, match="message 99"):
            seat.next(None)
