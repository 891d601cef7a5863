"""The chunk map through the facade."""

from __future__ import annotations

import mmap

import pytest

from bridge.core import NONE, ChunkMap
from bridge.errors import RemoteProtocolError

ROUTER, WORKER = 1, 2


@pytest.fixture(params=[640, 8], ids=["normal", "tiny"])
def maps(request: pytest.FixtureRequest) -> tuple[ChunkMap, ChunkMap, int]:
    """The router's and the worker's handle of one map, and its number of chunks."""
    count = request.param
    memory = mmap.mmap(-1, ChunkMap.bytes_needed(count))
    router = ChunkMap(memory, count=count, owner=ROUTER, create=True)
    return router, ChunkMap(memory, count=count, owner=WORKER, create=False), count


def test_runs_are_claimed_first_fit_and_released(maps: tuple[ChunkMap, ChunkMap, int]) -> None:
    """The lowest run that is long enough is taken; a release is counted and makes room again."""
    router, worker, count = maps
    assert [worker.claim(2), router.claim(1), worker.claim(2)] == [0, 2, 3]
    assert worker.release(0, 2) == 2
    assert worker.release(0, 2) == 0
    assert router.claim(3) == 5
    assert router.claim(2) == 0
    assert router.claim(count) == NONE
    assert router.busy() == 8
    assert router.release(3, 2, WORKER) == 2


def test_growth_is_as_far_as_possible_or_not_at_all(maps: tuple[ChunkMap, ChunkMap, int]) -> None:
    """Growth stops at the first busy chunk and at the end; too little of it is none."""
    router, worker, count = maps
    assert worker.claim(1) == 0
    assert router.grow(5, 1, 1) == 1
    assert worker.grow(1, 7, 5) == 0
    assert worker.busy() == 2
    assert worker.grow(1, 7, 4) == 4
    assert worker.claim_some(1000, 1) == (6, count - 6)
    assert worker.claim_some(1, 1) == (NONE, 0)
    assert worker.grow(count, 1, 0) == 0


def test_a_run_is_handed_over_exactly_once(maps: tuple[ChunkMap, ChunkMap, int]) -> None:
    """A repeated or forged descriptor transfers nothing, and the old owner cannot release any more."""
    router, worker, count = maps
    assert worker.claim(3) == 0
    assert router.transfer(0, 3, WORKER, ROUTER)
    assert not router.transfer(0, 3, WORKER, ROUTER)
    assert not router.transfer(1, count, ROUTER, WORKER)
    assert not router.transfer(count, 1, ROUTER, WORKER)
    assert not router.transfer(2, 2, ROUTER, WORKER)
    assert worker.release(0, 3) == 0
    assert router.release(0, 3) == 3


def test_who_waits_is_told_once(maps: tuple[ChunkMap, ChunkMap, int]) -> None:
    """The flag is set by the waiting side, taken by the releasing side."""
    router, worker, _ = maps
    assert not router.take_waiting()
    assert worker.wait()
    assert not worker.wait()
    assert router.take_waiting()
    assert not router.take_waiting()


def test_recovery_frees_one_owner(maps: tuple[ChunkMap, ChunkMap, int]) -> None:
    """What the dead held is free, what others hold is not."""
    router, worker, count = maps
    assert router.claim(1) == 0
    assert worker.claim_some(count, 1) == (1, count - 1)
    assert router.recover(WORKER) == count - 1
    assert router.busy() == 1


def test_memory_of_nothing_is_refused() -> None:
    """Joining memory that nobody laid out raises."""
    with pytest.raises(RemoteProtocolError):
        ChunkMap(mmap.mmap(-1, 4096), count=8, owner=WORKER, create=False)
    with pytest.raises(ValueError, match="not inside"):
        ChunkMap(bytearray(64), count=8, owner=WORKER, create=True)
