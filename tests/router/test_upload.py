"""Uploads: the window, the memory, the order of what is shipped, and every chunk back at the end."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from bridge.core import ChunkMap
from bridge.ipc.message import BODY, DESCRIPTOR, HEADER, LAST
from bridge.ipc.segment import Segment, SegmentPool
from bridge.router.upload import Upload

MEMORIES = {"tiny": (64, 16, 512), "usual": (16384, 64, 262144)}  # chunk size, chunks, window
STREAM = 7 << 32 | 5


class Source:
    """A client's connection; it minds being paused twice."""

    def __init__(self) -> None:
        self.paused = False

    def pause_body(self) -> None:
        assert not self.paused
        self.paused = True

    def resume_body(self) -> None:
        assert self.paused
        self.paused = False


class FakePort:
    """Takes the messages apart and reads the bytes at once, as a worker does."""

    def __init__(self, pool: SegmentPool) -> None:
        self.pool = pool
        self.body = b""
        self.pieces: list[int] = []
        self.messages = 0
        self.last = False

    def send(self, message: bytes) -> None:
        assert not self.last
        self.messages += 1
        stream, kind, flags, count, length, size, _, _ = HEADER.unpack_from(message)
        assert (stream, kind, length) == (STREAM, BODY, 0)
        assert flags in (0, LAST)
        pieces = list(DESCRIPTOR.iter_unpack(message[HEADER.size :]))
        assert len(pieces) == count
        assert size == sum(piece[2] for piece in pieces)
        self.read(pieces, last=bool(flags))

    def read(self, pieces: list[tuple[int, int, int]], *, last: bool) -> None:
        """Read the bytes of some descriptors."""
        for number, first, size in pieces:
            segment = self.pool.segments[number]
            assert segment.covers(first, size)
            self.body += segment.read(first, size)
            self.pieces.append(size)
        self.last = last


class Rig:
    """One upload and both of its sides."""

    def __init__(self, chunk_size: int, chunks: int, window: int, *, segments: int = 1) -> None:
        self.window = window
        self.chunk_size = chunk_size
        self.pool = SegmentPool(
            chunk_size, chunks, segments * chunk_size * chunks, 1, memfd=True, announce=lambda segment: None
        )
        self.source = Source()
        self.port = FakePort(self.pool)
        self.upload = Upload(self.source, self.pool, window)
        self.upload.stream = STREAM
        self.sent = b""

    def fill(self, data: bytes, *, complete: bool = False, piece: int = 1 << 30) -> bytes:
        """Read from the socket until it is paused; returns what was not read."""
        while data and not self.source.paused:
            buffer = self.upload.buffer(len(data))
            count = min(len(buffer), piece)
            assert 0 < len(buffer) <= len(data)
            buffer[:count] = data[:count]
            self.sent += data[:count]
            data = data[count:]
            self.upload.filled(count, complete and not data)
        return data

    def hog(self, leave: int = 0) -> list[tuple[Segment, int, int]]:
        """Take all memory but `leave` chunks."""
        taken = []
        while run := self.pool.claim(self.chunk_size, 1):
            taken.append(run)
        for _ in range(leave):
            self.give_back(taken)
        return taken

    def give_back(self, taken: list[tuple[Segment, int, int]]) -> None:
        """Free one of the chunks."""
        segment, first, _ = taken.pop()
        self.pool.release(segment, first, 1)

    def close(self) -> None:
        """The stream is over: nothing is left."""
        self.upload.close()
        assert self.pool.busy() == 0
        assert not self.pool._waiting
        self.pool.close()


@pytest.fixture(params=list(MEMORIES))
def rig(request: pytest.FixtureRequest) -> Iterator[Rig]:
    """An upload on both geometries."""
    rig = Rig(*MEMORIES[request.param])
    yield rig
    rig.close()


def pattern(size: int) -> bytes:
    """Bytes in which a mistake shows."""
    return b"".join(number.to_bytes(4, "big") for number in range(size // 4 + 1))[:size]


def known(rig: Rig) -> None:
    """The worker has said something."""
    rig.upload.known(rig.port)  # type: ignore[arg-type]


@pytest.mark.parametrize("piece", [1, 63, 64, 1000, 1 << 30])
def test_a_body_from_the_socket(rig: Rig, piece: int) -> None:
    """With a worker that reads as it gets, a body of many windows arrives whole and ends once."""
    body = pattern(rig.window * 2 + 77 if piece > 1 else 1500)
    known(rig)
    rig.upload.open()
    rest = body
    consumed = 0
    while not rig.port.last:
        rest = rig.fill(rest, complete=True, piece=piece)
        taken, consumed = len(rig.port.body) - consumed, len(rig.port.body)
        if not rig.port.last:
            rig.upload.wanted(taken)
    assert rig.port.body == body


@pytest.mark.parametrize("piece", [1, 63, 64, 300])
def test_a_body_that_is_fed(rig: Rig, piece: int) -> None:
    """Decoded bytes arrive whole too, those that found no room while the source was paused included."""
    body = pattern(rig.window + 500 if piece > 100 else 1500)
    known(rig)
    rig.upload.feed(b"", complete=False)
    consumed = 0
    for position in range(0, len(body), piece):
        data = body[position : position + piece]
        rig.upload.feed(data, position + piece >= len(body))
        taken, consumed = len(rig.port.body) - consumed, len(rig.port.body)
        rig.upload.wanted(taken)
    assert rig.port.last
    assert rig.port.body == body


def test_the_window_stops_the_source(rig: Rig) -> None:
    """Without a reader little more than a window is taken in; the source goes on when half of it was consumed."""
    rig.upload.open()
    rest = rig.fill(pattern(rig.window * 3))
    most = rig.window * 3 // 2  # a run that was begun is filled
    assert rig.source.paused
    assert rig.window <= len(rig.sent) < most
    assert rig.pool.busy() * rig.chunk_size < most
    known(rig)
    assert rig.port.body == rig.sent
    consumed = 0
    while rest:
        assert rig.source.paused
        consumed += rig.window // 2
        rig.upload.wanted(rig.window // 2)
        assert not rig.source.paused
        rest = rig.fill(rest)
        assert len(rig.sent) - consumed < most
        assert rig.pool.busy() * rig.chunk_size < most + rig.window // 2


def test_consumed_bytes_free_whole_runs_only(rig: Rig) -> None:
    """A run is freed with its last byte; what was consumed of the next one counts later."""
    known(rig)
    rig.upload.open()
    rig.fill(pattern(rig.window * 2))
    full = rig.pool.busy()
    run = rig.port.pieces[0]
    rig.upload.wanted(run - 1)
    freed_by_reading = full - sum(-(-piece // rig.chunk_size) for piece in rig.port.pieces)
    assert rig.upload._shipped[0].filled == run
    assert freed_by_reading >= 0
    rig.upload.wanted(1)
    assert rig.upload._shipped[0].filled == rig.port.pieces[1]
    assert rig.upload._surplus == 0


def test_a_hungry_reader_gets_what_there_is(rig: Rig) -> None:
    """Bytes that fill no run are shipped when the application waits for them, and the rest of the run stays in use."""
    known(rig)
    rig.upload.open()
    rig.fill(b"abc")
    assert rig.port.body == b""
    rig.upload.wanted(0)
    assert rig.port.body == b"abc"
    rig.fill(b"defg")
    assert rig.port.body == b"abc"
    rig.upload.wanted(3)
    assert rig.port.body == b"abcdefg"
    rig.upload.wanted(4)
    rig.fill(b"h")  # it waited already
    assert rig.port.body == b"abcdefgh"
    rig.fill(b"i")  # once
    assert rig.port.body == b"abcdefgh"


def test_nothing_is_shipped_without_bytes(rig: Rig) -> None:
    """A hungry reader is not woken for nothing, whether or not there is a run."""
    known(rig)
    rig.upload.wanted(0)
    rig.upload.feed(b"", complete=False)
    rig.upload.wanted(0)
    assert rig.port.messages == 0
    rig.upload.feed(b"x", complete=False)
    assert rig.port.messages == 1
    assert not rig.port.last


def test_spare_chunks_are_used_again(rig: Rig) -> None:
    """A run that is shipped early keeps only the chunks that its bytes need."""
    known(rig)
    rig.upload.open()
    held = rig.pool.busy()
    rig.upload.wanted(0)
    rig.fill(b"x")
    assert rig.pool.busy() == held
    run = rig.upload._run
    assert run is not None
    assert run.room == (held - 1) * rig.chunk_size
    rig.fill(b"y", complete=True)
    assert rig.port.body == b"xy"
    assert rig.pool.busy() == 2


def test_an_empty_body_ends(rig: Rig) -> None:
    """The end alone is a message without bytes, and takes no memory."""
    known(rig)
    rig.upload.feed(b"", complete=True)
    assert rig.port.last
    assert rig.port.body == b""
    assert rig.pool.busy() == 0


def test_the_end_behind_a_full_run(rig: Rig) -> None:
    """A transfer-chunked body whose end comes alone, behind bytes that filled a run exactly, ends once."""
    known(rig)
    rig.upload.open()
    run = rig.upload._run
    assert run is not None
    size = run.room
    rig.upload.feed(pattern(size), complete=False)
    assert rig.port.body == pattern(size)
    assert not rig.port.last
    rig.upload.feed(b"", complete=True)
    assert rig.port.last


def test_first_pieces_travel_with_the_request(rig: Rig) -> None:
    """What is there before a worker is known is given once, in order; the rest follows as messages."""
    body = pattern(rig.window)
    rig.upload.feed(body, complete=True)
    pieces, last = rig.upload.first_pieces(1)
    assert len(pieces) == 1
    assert not last
    rig.port.read(pieces, last=last)
    known(rig)
    assert rig.port.body == body
    assert rig.port.last
    assert rig.upload.first_pieces(9) == ([], False)


def test_first_pieces_with_the_end(rig: Rig) -> None:
    """An end without bytes needs no descriptor, so it travels with the request always."""
    rig.upload.feed(b"", complete=True)
    assert rig.upload.first_pieces(0) == ([], True)


def test_no_memory_to_begin_with() -> None:
    """The source is paused until there is some."""
    rig = Rig(*MEMORIES["tiny"])
    taken = rig.hog()
    rig.upload.open()
    assert rig.source.paused
    rig.give_back(taken)
    assert not rig.source.paused
    assert len(rig.upload.buffer(1000)) == 64
    while taken:
        rig.give_back(taken)
    rig.close()


def test_memory_that_runs_out() -> None:
    """The source is paused between two runs, never with an empty buffer, and goes on chunk by chunk."""
    rig = Rig(*MEMORIES["tiny"])
    known(rig)
    taken = rig.hog(leave=2)
    rig.upload.open()
    body = pattern(300)
    rest = rig.fill(body, complete=True)
    assert rig.source.paused
    assert len(rest) == 300 - 128
    while rest:
        rig.give_back(taken)
        rest = rig.fill(rest, complete=True)
    assert rig.port.body == body
    assert rig.port.last
    while taken:
        rig.give_back(taken)
    rig.close()


@pytest.mark.parametrize("complete", [True, False])
def test_fed_bytes_that_find_no_memory(complete: bool) -> None:
    """They are held while the source rests, follow in order, and the end comes once, behind them."""
    rig = Rig(*MEMORIES["tiny"])
    known(rig)
    taken = rig.hog(leave=1)
    body = pattern(200)
    rig.upload.feed(body, complete)
    assert rig.source.paused != complete  # a body that is complete is not read any more
    assert rig.port.body == body[:64]
    rig.give_back(taken)
    rig.give_back(taken)
    rig.upload.wanted(0)
    assert rig.port.body == body[:192]
    assert not rig.port.last
    rig.give_back(taken)
    rig.upload.wanted(0)
    assert rig.port.body == body
    assert rig.port.last == complete
    while taken:
        rig.give_back(taken)
    assert not rig.source.paused
    rig.close()


def test_the_end_comes_once_when_memory_comes_late() -> None:
    """An upload that waited for memory, got on by other means and ended is not ended again."""
    rig = Rig(*MEMORIES["tiny"])
    known(rig)
    taken = rig.hog(leave=1)
    rig.upload.feed(pattern(64), complete=False)
    assert rig.source.paused
    assert rig.pool._waiting
    rig.upload.feed(b"", complete=True)
    assert rig.port.last
    while taken:
        rig.give_back(taken)  # the port minds a second end
    rig.close()


def test_closing_while_it_waits() -> None:
    """An upload that is over is not called when memory comes, and nothing that it held is lost."""
    rig = Rig(*MEMORIES["tiny"])
    taken = rig.hog(leave=1)
    rig.upload.feed(pattern(200), complete=False)
    assert rig.source.paused
    rig.upload.close()
    rig.give_back(taken)
    assert rig.source.paused
    while taken:
        rig.give_back(taken)
    rig.close()


def test_a_reader_that_claims_too_much(rig: Rig) -> None:
    """Numbers that are not true free nothing twice and break nothing."""
    known(rig)
    rig.upload.open()
    rest = rig.fill(pattern(rig.window * 2))
    rig.upload.wanted(1 << 60)
    rest = rig.fill(rest)
    assert rig.upload._under_way >= 0
    rig.upload.wanted(1 << 60)


def test_chunks_are_released_by_their_owner_once(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every release frees exactly the chunks that it names: none was free already."""
    release = ChunkMap.release
    counts: list[bool] = []

    def checked(chunks: ChunkMap, first: int, count: int, *rest: Any) -> int:
        freed = release(chunks, first, count, *rest)
        counts.append(freed == count)
        return freed

    monkeypatch.setattr(ChunkMap, "release", checked)
    known(rig)
    rig.upload.open()
    rest = pattern(rig.window * 3 + 5)
    consumed = 0
    while not rig.port.last:
        rest = rig.fill(rest, complete=True, piece=rig.chunk_size + 7)
        taken, consumed = len(rig.port.body) - consumed, len(rig.port.body)
        rig.upload.wanted(taken)
    rig.upload.close()
    assert counts
    assert all(counts)
    assert rig.pool.busy() == 0
