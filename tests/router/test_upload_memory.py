"""Uploads when memory is scarce: they pause, go on, and leave some for others."""

from __future__ import annotations

import pytest

from bridge.ipc.pool import SegmentPool
from bridge.router.upload import Upload
from tests.router.uploads import MEMORIES, Rig, Source, known, pattern


def test_no_memory_to_begin_with() -> None:
    """The source is paused until there is some."""
    rig = Rig(*MEMORIES["tiny"])
    known(rig)
    taken = rig.hog()
    rig.upload.open()
    assert rig.source.paused
    rig.give_back(taken)
    assert not rig.source.paused
    assert len(rig.upload.buffer(1000)) == 64
    while taken:
        rig.give_back(taken)
    rig.close()


def test_what_nobody_waits_for() -> None:
    """An upload that was given up takes no memory, and leaves a connection alone that is at the next request."""
    rig = Rig(*MEMORIES["tiny"])
    taken = rig.hog()
    rig.upload.feed(pattern(100), False)
    assert rig.source.paused
    rig.upload.stop()
    while len(taken) > 1:
        rig.give_back(taken)
    known(rig)
    rig.upload.wanted(0)
    assert rig.pool.busy() == 1
    assert rig.source.paused
    rig.give_back(taken)
    rig.close()


def test_one_chunk_is_enough() -> None:
    """With next to no memory a body goes chunk by chunk, and the source is never asked with an empty buffer."""
    rig = Rig(*MEMORIES["tiny"])
    known(rig)
    taken = rig.hog(leave=1)
    rig.upload.open()
    body = pattern(300)
    rest = rig.fill(body, complete=True)
    consumed = 0
    while rest:
        assert rig.source.paused
        assert rig.pool.busy() == len(taken) + 1
        read, consumed = len(rig.port.body) - consumed, len(rig.port.body)
        assert read
        rig.upload.wanted(read)
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
    rig.upload.wanted(200)
    assert not rig.source.paused
    rig.close()


def test_the_end_comes_once_when_memory_comes_late() -> None:
    """An upload that waited for memory and ended without any is not ended again when there is some."""
    rig = Rig(*MEMORIES["tiny"])
    known(rig)
    taken = rig.hog()
    rig.upload.open()
    assert rig.pool._waiting
    rig.upload.feed(b"", complete=True)
    assert rig.port.last
    while taken:
        rig.give_back(taken)  # the port minds a second end
    rig.close()


def test_slow_uploads_leave_room_for_others() -> None:
    """Streams that nobody reads hold a share of what is free each: the last one that comes still gets some."""
    pool = SegmentPool(64, 64, 4096, 1, memfd=True, announce=lambda segment: None)
    uploads = []
    for _ in range(12):
        source = Source()
        upload = Upload(source, pool, 4096)
        uploads.append(upload)
        upload.open()
        while not source.paused:
            upload.filled(len(upload.buffer(64)), complete=False)
        assert upload._under_way
    held = [upload._under_way for upload in uploads]
    assert held == sorted(held, reverse=True)
    assert held[0] < 2048
    assert pool.busy() < 64
    for upload in uploads:
        upload.close()
    assert pool.busy() == 0
    assert pool.share() == 1024
    pool.close()


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


def test_whose_turn_it_is() -> None:
    """Without memory for its bytes it is not the client who is slow, although the application waits for some."""
    rig = Rig(*MEMORIES["tiny"])
    known(rig)
    taken = rig.hog()
    rig.upload.open()
    rig.upload.wanted(0)
    assert not rig.upload.hungry
    rig.give_back(taken)
    assert rig.upload.hungry
    while taken:
        rig.give_back(taken)
    rig.close()


def test_the_reserve() -> None:
    """Who does not run yet leaves it alone, and is called again when there is more; who runs may have it, and first."""
    rig = Rig(*MEMORIES["tiny"], segments=1)
    taken = rig.hog(leave=8)
    rig.upload.open()
    source = Source()
    other = Upload(source, rig.pool, rig.window)
    other.open()
    assert rig.source.paused
    known(rig)
    assert not rig.source.paused
    while source.paused:
        assert rig.pool.busy() >= 64 - 8
        rig.give_back(taken)
    assert rig.pool.busy() == 64 - 8
    other.close()
    while taken:
        rig.give_back(taken)
    rig.close()
