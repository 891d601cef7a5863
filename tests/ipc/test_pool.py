"""The segments that requests lie in: they grow up to a limit, and who finds no room is called in order."""

from __future__ import annotations

import gc
import os
from collections.abc import Iterator

import pytest

from bridge.ipc.pool import SegmentPool
from bridge.ipc.segment import Segment


@pytest.fixture
def segment() -> Iterator[Segment]:
    """Eight chunks of 64 bytes."""
    segment = Segment.create(3, 64, 8, 1)
    yield segment
    segment.close()


class Waiter:
    """Claims what it waited for, and keeps it until it is told otherwise."""

    def __init__(self, pool: SegmentPool, size: int, log: list[int]) -> None:
        self.pool = pool
        self.size = size
        self.log = log
        self.calls = 0
        self.claimed: tuple[Segment, int, int] | None = None

    def memory_ready(self) -> None:
        self.calls += 1
        self.log.append(self.size)
        self.claimed = self.pool.claim(self.size, self.size)
        assert self.claimed is not None

    def give_back(self) -> None:
        assert self.claimed is not None
        segment, first, got = self.claimed
        self.pool.release(segment, first, segment.chunks_of(got))


@pytest.fixture
def pool() -> Iterator[SegmentPool]:
    """At most two segments of four chunks of 64 bytes."""
    pool = SegmentPool(64, 4, 2 * 256 + 100, 1, memfd=True, announce=lambda segment: None)
    yield pool
    pool.close()


def test_what_is_said_of_a_machine_without_memory(
    pool: SegmentPool, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """It is said once, however many ask, and once more when there was some in between."""

    def fail(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(Segment, "create", fail)
        assert [pool.claim(64, 64) for _ in range(5)] == [None] * 5
    assert caplog.text.count("No space left") == 1
    assert pool.claim(256, 256)
    monkeypatch.setattr(Segment, "create", fail)
    assert [pool.claim(64, 64) for _ in range(5)] == [None] * 5
    assert caplog.text.count("No space left") == 2


def test_the_pool_grows_up_to_its_limit() -> None:
    """A segment is made when the others have no room, announced before it is used, and never beyond the limit."""
    announced: list[tuple[int, int]] = []
    pool = SegmentPool(
        64, 4, 600, 1, memfd=True, announce=lambda segment: announced.append((segment.number, segment.chunks.busy()))
    )
    assert pool.segments == []
    first = pool.claim(256, 64)
    assert first is not None
    assert first[1:] == (0, 256)
    second = pool.claim(1, 1)
    assert second is not None
    assert announced == [(0, 0), (1, 0)]
    assert second[0] is not first[0]
    assert pool.claim(1000, 1000) is None
    third = pool.claim(256, 64)
    assert third is not None
    assert third == (second[0], 1, 192)
    assert pool.claim(1, 1) is None
    assert len(pool.segments) == 2
    assert pool.busy() == 8
    pool.release(*first[:2], 4)
    assert pool.claim(1000, 1000) == first
    pool.close()


def test_a_pool_has_at_least_one_segment() -> None:
    """A limit below one segment still gives one: without any nothing would work."""
    pool = SegmentPool(64, 4, 1, 1, memfd=True, announce=lambda segment: None)
    assert pool.claim(64, 64) is not None
    pool.close()


def test_waiters_are_served_in_order(pool: SegmentPool) -> None:
    """The first in line is not overtaken by one that needs less, and each is called once."""
    claims = [pool.claim(256, 256), pool.claim(256, 256)]
    log: list[int] = []
    waiters = [Waiter(pool, size, log) for size in (192, 64, 128, 256)]
    for waiter in waiters:
        pool.wait(waiter, waiter.size)
    segment, first, _ = claims[0]  # type: ignore[misc]
    pool.release(segment, first, 2)
    assert log == []
    pool.release(segment, first + 2, 1)
    assert log == [192]
    pool.release(segment, first + 3, 1)
    assert log == [192, 64]
    waiters[0].give_back()
    assert log == [192, 64, 128]
    waiters[1].give_back()
    waiters[2].give_back()
    assert log == [192, 64, 128, 256]
    assert all(waiter.calls == 1 for waiter in waiters)


def test_who_runs_is_called_before_who_does_not(pool: SegmentPool) -> None:
    """However long others have waited for memory beside the reserve, they hold up nobody that needs none of it."""
    claims = [pool.claim(256, 256), pool.claim(256, 256)]
    log: list[int] = []
    patient, running = Waiter(pool, 64, log), Waiter(pool, 128, log)
    pool.wait(patient, 64, spare=True)
    pool.wait(running, 128)
    segment, first, _ = claims[0]  # type: ignore[misc]
    pool.release(segment, first, 1)
    assert log == []
    pool.release(segment, first + 1, 1)
    assert log == [128]
    pool.release(segment, first + 2, 2)
    assert log == [128, 64]


def test_who_forgot_is_not_called(pool: SegmentPool) -> None:
    """A waiter that is gone neither is called nor holds up the line; to forget a stranger is no error."""
    claims = [pool.claim(256, 256), pool.claim(256, 256)]
    log: list[int] = []
    gone, there = Waiter(pool, 256, log), Waiter(pool, 64, log)
    pool.wait(gone, 256)
    pool.wait(there, 64)
    pool.forget(gone)
    pool.forget(gone)
    segment, first, _ = claims[0]  # type: ignore[misc]
    pool.release(segment, first, 1)
    assert log == [64]


def test_a_long_line_is_no_deep_recursion(pool: SegmentPool) -> None:
    """Thousands of waiters that give back at once what they got are served by a loop."""
    claims = [pool.claim(256, 256), pool.claim(256, 256)]
    served: list[int] = []

    class Brief(Waiter):
        def memory_ready(self) -> None:
            super().memory_ready()
            self.give_back()

    for _ in range(5000):
        waiter = Brief(pool, 64, served)
        pool.wait(waiter, 64)
    segment, first, _ = claims[0]  # type: ignore[misc]
    pool.release(segment, first, 1)
    assert len(served) == 5000


def test_a_machine_without_memory(pool: SegmentPool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where no segment can be made there is no memory now; later there may be."""

    def fail(*_: object, **__: object) -> int:
        raise OSError(12, "Cannot allocate memory")

    with monkeypatch.context() as context:
        context.setattr("bridge.ipc.segment.create_memory", fail)
        assert pool.claim(64, 64) is None
    assert pool.claim(64, 64) is not None


def test_no_descriptor_is_left() -> None:
    """Closing a pool gives back every descriptor and, with the last reference, every mapping."""
    before = len(os.listdir("/proc/self/fd"))
    pool = SegmentPool(64, 4, 1024, 1, memfd=True, announce=lambda segment: None)
    for _ in range(4):
        pool.claim(256, 256)
    pool.close()
    del pool
    gc.collect()
    assert len(os.listdir("/proc/self/fd")) == before


def test_shares(pool: SegmentPool, segment: Segment) -> None:
    """A stream may hold a quarter of what is free, at least one chunk; segments that do not exist yet are free."""
    assert segment.share() == 128
    segment.claim(256, 256)
    assert segment.share() == 64
    segment.claim(256, 256)
    assert segment.share() == 64
    assert pool.share() == 128
    run = pool.claim(256, 256)
    assert run is not None
    assert pool.share() == 64
    pool.release(run[0], run[1], 4)
    assert pool.share() == 128


def test_a_run_grows_where_it_lies(pool: SegmentPool) -> None:
    """As far as the chunks behind it are free; what it cannot have changes nothing, also in the count of the pool."""
    one, two = pool.claim(64, 64), pool.claim(64, 64)
    assert one
    assert two
    segment, first, second = one[0], one[1], two[1]
    share = pool.share()
    assert pool.grow(segment, first + 1, 64) == 0
    assert pool.share() == share
    assert pool.grow(segment, second + 1, 1 << 64) == 128
    assert segment.chunks.busy() == 4
    assert pool.grow(segment, 4, 64) == 0
    pool.release(segment, first, 4)
    assert pool.busy() == 0
    assert pool.share() == share + 64
