"""Heads that find no chunks, in a WSGI worker: they go over the link, in both directions."""

from __future__ import annotations

import pytest

from bridge.errors import StreamCancelled
from bridge.ipc.message import ABORT, HEADER, LAST, LINKED, REQUEST
from bridge.ipc.message import HEAD as HEAD_KIND
from bridge.ipc.record import fragments
from bridge.ipc.segment import Segment
from tests.worker.thread_rig import HEAD, TINY, RouterSide, Side, until

BLOCK = b"a: b\r\n"
WAITING = 64 + 128  #: where in a segment stands whether somebody waits for chunks; see core/layout.h
LONG = HEAD[:-2] + b"X: " + b"y" * 50_000 + b"\r\n\r\n"


def publish_linked(side: RouterSide) -> tuple[int, bytes]:
    """A request whose head found no chunks: its stream, and the message that brings the head."""
    number = side.arm()
    side.queue.push(HEADER.pack(number, REQUEST, LAST | LINKED, 0, 0, 0, 0, len(LONG)))
    return number, HEADER.pack(number, HEAD_KIND, 0, 0, len(LONG), 0, 0, len(LONG)) + LONG


@pytest.mark.parametrize("body", [b"", b"small", bytes(5000)], ids=["empty", "small", "large"])
def test_long_heads_of_several_threads(body: bytes) -> None:
    """Where there are no chunks they go over the link, all at the same time; each arrives whole and in its place."""
    with RouterSide(TINY, threads=6) as side:
        seats = [side.seat(index) for index in range(6)]
        streams = [side.claimed(seat, head=HEAD[-24:]) for seat in seats[:4]]
        held = [(side.segment.chunks.claim(TINY.chunks), TINY.chunks)]
        heads = [b"x: " + bytes([65 + index]) * 60_000 + b"\r\n" for index in range(4)]

        def respond(index: int) -> None:
            streams[index].respond(200, heads[index], len(body), 0, body, True)
            assert seats[index].next(streams[index]) is None

        threads = [Side(lambda index=index: respond(index)) for index in range(4)]  # type: ignore[misc]
        received: dict[int, bytes] = {}
        sizes: dict[int, int] = {}
        over: set[int] = set()

        def look() -> bool:
            for message in side.drain():
                received[message.stream] = received.get(message.stream, b"") + message.payload
                sizes[message.stream] = sizes.get(message.stream, 0) + message.head
                if message.flags & LAST:
                    over.add(message.stream)
                else:
                    side.acknowledge(message.stream, len(message.payload) - message.head)
            if len(sizes) == 4 and held:
                side.segment.release(*held.pop())
                seats[0].router.chunks_released()
            return len(over) == 4

        until(look)
        for thread in threads:
            thread.join()
        assert sorted(received.values()) == sorted(head + body for head in heads)


def test_a_client_that_leaves_while_a_long_head_is_sent() -> None:
    """The thread does not wait for a link that nobody reads."""
    with RouterSide(TINY) as side:
        seat = side.seat()
        stream = side.claimed(seat, head=HEAD[-24:])
        side.segment.chunks.claim(TINY.chunks)
        thread = Side(lambda: stream.respond(200, b"x" * (1 << 19), 0, 0, b"", True))
        until(lambda: side.port.incoming.length() == TINY.queue)
        side.cancel(1 << 32)
        until(lambda: side.drain() or not thread.waits)
        with pytest.raises(StreamCancelled):
            thread.join()
        assert seat.next(stream) is None


def test_a_head_that_comes_over_the_link() -> None:
    """A request whose head found no chunks: the thread asks, waits, and has all of it; or its client leaves."""
    with RouterSide() as side:
        seat = side.seat()
        for leaves in (True, False):
            number, message = publish_linked(side)
            thread = Side(lambda: seat.next(None))
            (ask,) = side.receive()
            assert (ask.stream, ask.kind) == (number, HEAD_KIND)
            if leaves:
                side.cancel(number)
                assert thread.join() is None
                assert [message.kind for message in side.drain()] == [ABORT]
            else:
                side.port.outbox.send(number, message)
                stream = thread.join()
                assert (stream.head, stream.complete, stream.read(0, 10)) == (LONG, True, b"")
                stream.respond(200, BLOCK, 0, 0, b"", True)
                assert seat.next(stream) is None
        assert seat.router.heads == {}


@pytest.mark.parametrize("early", [0, 1, 2])
def test_a_client_that_leaves_while_its_head_comes(early: int) -> None:
    """The router sends no more of it: neither what had come nor what comes behind that is kept by the worker."""
    with RouterSide() as side:
        seat = side.seat()
        inbox = seat.router.port.inbox
        number, message = publish_linked(side)
        thread = Side(lambda: seat.next(None))
        side.receive()
        pieces = [*fragments(number, message, side.port.outbox.serial)][:3]  # the last one never comes
        for index, (record, marker) in enumerate(pieces):
            if index == early:
                until(lambda: bool(inbox.held) == bool(early))
                side.cancel(number)
                assert thread.join() is None
                side.receive()
            side.link.send_bytes(record)
            side.port.send(marker)
        other, message = publish_linked(side)
        thread = Side(lambda: seat.next(None))
        side.receive()
        side.port.outbox.send(other, message)
        stream = thread.join()
        assert stream.head == LONG
        assert inbox.held == 0
        stream.respond(200, BLOCK, 0, 0, b"", True)
        assert seat.next(stream) is None


def test_chunks_that_a_long_head_has_claimed_in_vain(monkeypatch: pytest.MonkeyPatch) -> None:
    """A thread that found none, for another one held all of them for a moment, is told when they are free again."""
    with RouterSide(TINY, threads=2) as side:
        seats = [side.seat(index) for index in range(2)]
        streams = [side.claimed(seat, head=HEAD[-24:]) for seat in seats]
        changed = seats[0].router.changed
        body = bytes(TINY.chunk_size * 3)

        def place(segment: Segment, data: bytes, most: int) -> None:
            first, got = segment.claim(TINY.chunks * TINY.chunk_size, TINY.chunks * TINY.chunk_size)
            threads.append(Side(lambda: streams[1].respond(200, BLOCK, len(body), 0, body, True)))
            until(lambda: segment.memory[WAITING])
            with changed:  # it has looked once more after that, and sleeps
                segment.release(first, segment.chunks_of(got))

        threads: list[Side] = []
        monkeypatch.setattr(Segment, "place", place)
        threads.append(Side(lambda: streams[0].respond(200, b"x: " + b"y" * 60_000 + b"\r\n", 0, 0, b"", True)))

        def over() -> bool:
            side.drain()
            return not any(thread.waits for thread in threads)

        until(over)
        for thread in threads:
            thread.join()
