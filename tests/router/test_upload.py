"""Uploads: the window, the order of what is shipped, and every chunk back at the end."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from bridge.core import ChunkMap
from tests.router.uploads import MEMORIES, Rig, known, pattern


@pytest.fixture(params=list(MEMORIES))
def rig(request: pytest.FixtureRequest) -> Iterator[Rig]:
    """An upload on both geometries."""
    rig = Rig(*MEMORIES[request.param])
    yield rig
    rig.close()


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
    rig.upload.open()
    rig.fill(body[:1])
    assert rig.pool.claim(rig.chunk_size, 1)  # so that the first run cannot grow, and touches none
    rig.upload.feed(body[1:], complete=True)
    pieces, last = rig.upload.first_pieces(1)
    assert len(pieces) == 1
    assert not last
    rig.port.read(pieces, last=last)
    known(rig)
    assert rig.port.body == body
    assert rig.port.last
    assert rig.upload.first_pieces(9) == ([], False)
    rig.pool.release(rig.pool.segments[0], pieces[0][1] + -(-pieces[0][2] // rig.chunk_size), 1)


def test_a_run_grows_until_a_worker_is_known(rig: Rig) -> None:
    """What waits for a worker lies in runs as long as they may be, and those that touch are one descriptor."""
    body = pattern(rig.window)
    rig.upload.open()
    rig.fill(body)
    shipped = [run for run, _ in rig.upload._unsent if run is not None]
    assert {run.room for run in shipped} == {rig.window // 4}
    pieces, last = rig.upload.first_pieces(1)
    assert pieces == [(0, shipped[0].first, rig.window)]
    assert not last
    rig.port.read(pieces, last=last)
    assert rig.port.body == body


def test_first_pieces_with_the_end(rig: Rig) -> None:
    """An end without bytes needs no descriptor, so it travels with the request always."""
    rig.upload.feed(b"", complete=True)
    assert rig.upload.first_pieces(0) == ([], True)


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
