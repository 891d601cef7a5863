"""The facade's queue: what Python sees of it."""

from __future__ import annotations

import mmap
from typing import NamedTuple

import pytest

from bridge.core import (
    BATCH,
    BATON,
    CANCELLED,
    COUNT,
    FULL,
    LOST,
    STARVED,
    Draft,
    Queue,
    Tracking,
    answer,
    answer_joined,
)
from bridge.errors import RemoteProtocolError

ROUTER, WORKER = 1, 2


class Geometry(NamedTuple):
    """What the two ends agree on."""

    capacity: int
    item_size: int
    waiters: int


NORMAL, TINY = Geometry(128, 1040, 70), Geometry(4, 48, 3)


class Ends(NamedTuple):
    """Two handles of one queue."""

    memory: mmap.mmap
    router: Queue
    worker: Queue
    geometry: Geometry


def ends(geometry: Geometry, first_ticket: int = 0) -> Ends:
    """A new queue in memory that child processes would share."""
    memory = mmap.mmap(-1, Queue.bytes_needed(*geometry))
    router = Queue(memory, **geometry._asdict(), owner=ROUTER, create=True, first_ticket=first_ticket)
    worker = Queue(memory, **geometry._asdict(), owner=WORKER, create=False)
    return Ends(memory, router, worker, geometry)


@pytest.fixture(params=[NORMAL, TINY], ids=["normal", "tiny"])
def both(request: pytest.FixtureRequest) -> Ends:
    """A queue of each geometry."""
    return ends(request.param)


def batch(queue: Queue, result: int) -> list[bytes]:
    """The messages of a result."""
    found = []
    for at in range(0, (result & COUNT) * queue.stride, queue.stride):
        length = int.from_bytes(queue.batch[at : at + 4], "little")
        place = int.from_bytes(queue.batch[at + 4 : at + 8], "little")
        assert bool(place) == (length >= 4096)
        if place:
            start = (place - 1) * queue.item_size + 16
            found.append(bytes(queue.items[start : start + length]))
            assert bytes(queue.batch[at + 8 : at + 8 + 1024]) == found[-1][:1024]
        else:
            found.append(bytes(queue.batch[at + 8 : at + 8 + length]))
    return found


def test_messages_arrive_in_order_and_whole(both: Ends) -> None:
    """What is pushed is drained, byte for byte, first in first out, many at a time."""
    messages = [bytes([number]) * (number * 7 % (both.router.room + 1)) for number in range(100)]
    for start in range(0, 100, 4):
        for message in messages[start : start + 4]:
            assert both.router.push(message) == 0
        assert both.worker.length() == 4
        assert batch(both.worker, both.worker.drain(3)) == messages[start : start + 3]
        assert batch(both.worker, both.worker.drain(3)) == messages[start + 3 : start + 4]
    assert both.worker.drain(3) == 0


def test_full_is_a_result_and_starvation_is_reported(both: Ends) -> None:
    """A full queue takes nothing, says so, and its next drain says that somebody starves, once."""
    for _ in range(both.geometry.capacity):
        assert both.router.push(b"x") == 0
    assert both.router.push(b"x") == FULL
    assert both.worker.drain(1) == 1 | STARVED
    assert both.worker.drain(1) == 1
    assert both.router.push(b"x") == 0
    for _ in range(both.geometry.capacity):
        both.router.push(b"x")
    assert both.worker.drain(1) & STARVED
    assert not both.worker.drain(1) & STARVED


def test_the_limit_of_a_batch_holds(both: Ends) -> None:
    """One drain takes at most what its private buffer holds."""
    while both.router.push(b"x") != FULL:
        pass
    assert both.worker.drain(1000) & COUNT == min(BATCH, both.geometry.capacity)
    assert len(both.worker.batch) == min(BATCH, both.geometry.capacity) * both.worker.stride


def test_a_batch_of_long_messages_is_short() -> None:
    """A drain ends when what it has copied is about what a cache holds, and the next one goes on behind it."""
    queue = ends(Geometry(32, 40016, 1))
    messages = [bytes([number]) * 40_000 for number in range(32)]
    for message in messages:
        queue.router.push(message)
    found = []
    while count := queue.worker.drain(64):
        assert count <= 14
        found += batch(queue.worker, count)
    assert found == messages


def test_a_long_message_lies_where_it_was_written_until_the_next_drain() -> None:
    """It is not copied, its place is nobody else's, and nobody sleeps who has not let go of it."""
    queue = ends(Geometry(2, 8192, 1))
    for number in range(2):
        assert queue.router.push(bytes([number]) * 5000) == 0
    found = queue.worker.drain(1)
    assert batch(queue.worker, found) == [bytes(5000)]
    assert queue.router.push(b"more") == FULL
    view = queue.worker.items[16 : 16 + 5000]
    assert view.readonly
    assert batch(queue.worker, queue.worker.drain(1) & COUNT) == [b"\1" * 5000]
    assert queue.router.push(b"more") == 0
    assert bytes(view[:4]) == b"more"
    assert not queue.worker.doze(0)
    assert batch(queue.worker, queue.worker.drain(1)) == [b"more"]
    assert queue.worker.doze(0)


def test_a_draft_is_pushed_as_far_as_it_is_written(both: Ends) -> None:
    """The front of a draft arrives, and what is written over it later changes nothing of that."""
    draft = Draft(both.router.room + 1)
    end = draft.write(3, b"message")
    draft.write(0, b"one")
    assert both.router.push_draft(draft, end) == 0
    draft.view[:3] = b"two"
    assert both.router.push_draft(draft, 3) == 0
    assert batch(both.worker, both.worker.drain(3)) == [b"onemessage", b"two"]
    with pytest.raises(ValueError, match="does not fit"):
        both.router.push_draft(draft, draft.size)
    with pytest.raises(ValueError, match="of a draft of"):
        both.router.push_draft(draft, draft.size + 1)


def test_a_message_too_long_is_the_callers_mistake(both: Ends) -> None:
    """Room bytes fit, one more does not, and the queue is as it was."""
    assert both.router.push(bytes(both.router.room)) == 0
    with pytest.raises(ValueError, match="does not fit"):
        both.router.push(bytes(both.router.room + 1))
    assert both.worker.drain(10) == 1
    assert both.worker.drain(10) == 0


def test_a_sleeper_is_rung_once(both: Ends) -> None:
    """A push names one sleeper; nobody sleeps on a message; a roused waiter is left alone."""
    assert both.worker.doze(2)
    assert both.router.push(b"x") == 3
    assert both.router.push(b"x") == 0
    assert not both.worker.doze(2)
    both.worker.drain(10)
    assert both.worker.doze(1)
    assert both.router.wake() == 0
    both.worker.rouse(1)
    assert both.router.push(b"x") == 0
    with pytest.raises(ValueError, match="no waiter"):
        both.worker.doze(both.geometry.waiters)


def test_the_ring_of_a_dead_waiter_is_passed_on(both: Ends) -> None:
    """When the waiter that a push named is dead, wake names the next."""
    assert both.worker.doze(0)
    assert both.worker.doze(1)
    assert both.router.push(b"x") == 1
    assert both.router.wake() == 2
    assert both.router.wake() == 0


@pytest.mark.parametrize("first_ticket", [2**32 - 3, 2**64 - 3, 2**64 - 1])
def test_tickets_wrap(first_ticket: int) -> None:
    """Nothing happens where a ticket passes 2**32 or comes back to 0."""
    queue = ends(TINY, first_ticket)
    for number in range(50):
        assert queue.router.push(b"%d" % number) == 0
        assert batch(queue.worker, queue.worker.drain(4)) == [b"%d" % number]
    assert queue.worker.doze(0)


class Shared(NamedTuple):
    """A queue of requests with their tracking words."""

    queue: Ends
    router: Tracking
    worker: Tracking


@pytest.fixture
def shared() -> Shared:
    """Small, but with room for four requests."""
    memory = mmap.mmap(-1, Tracking.bytes_needed(8))
    router = Tracking(memory, slots=8, owner=ROUTER, create=True)
    return Shared(ends(TINY), router, Tracking(memory, slots=8, owner=WORKER, create=False))


def publish(shared: Shared, slot: int) -> int:
    """A request of nothing but its name."""
    stream = shared.router.arm(slot)
    shared.queue.router.push(stream.to_bytes(8, "little"))
    return stream


def test_a_claim_wins_streams_and_passes_over_cancelled_ones(shared: Shared) -> None:
    """Cancelled before the claim means that nobody gets it; the others belong to the claimant."""
    streams = [publish(shared, slot) for slot in range(3)]
    assert shared.router.move(streams[1], Tracking.CANCEL) == Tracking.CANCELLED
    result = shared.queue.worker.claim(shared.worker, 10)
    assert batch(shared.queue.worker, result) == [streams[at].to_bytes(8, "little") for at in (0, 2)]
    assert [shared.router.owner(stream) for stream in streams] == [WORKER, 0, WORKER]


def test_a_claim_takes_its_share_and_leaves_the_baton(shared: Shared) -> None:
    """Two of four for one of two consumers, and a sleeper is named because work is left."""
    for slot in range(4):
        publish(shared, slot)
    shared.queue.router.set_ready(2)
    result = shared.queue.worker.claim(shared.worker, 10)
    assert (result & COUNT, result >> BATON) == (2, 0)
    for waiter in range(3):
        assert not shared.queue.worker.doze(waiter)
    shared.queue.memory[512] = 0b100  # waiter 2 has set its bit and not looked yet
    result = shared.queue.worker.claim(shared.worker, 10)
    assert (result & COUNT, result >> BATON) == (1, 3)


def test_an_answer_is_delivered_or_refused(shared: Shared) -> None:
    """FINISH moves and delivers; a cancelled, a finished and a foreign stream are refused without a trace."""
    streams = [publish(shared, slot) for slot in range(3)]
    shared.queue.worker.claim(shared.worker, 10)
    shared.router.move(streams[1], Tracking.CANCEL)
    shared.router.move(streams[2], Tracking.DIE)
    results = [answer(shared.queue.worker, shared.worker, stream, Tracking.FINISH, b"answer") for stream in streams]
    assert results == [0, CANCELLED, LOST]
    assert batch(shared.queue.router, shared.queue.router.drain(10)) == [b"answer"]
    assert shared.router.state(streams[0]) == Tracking.DONE
    assert shared.router.state(streams[1]) == Tracking.CANCELLING


def test_an_answer_in_two_pieces(shared: Shared) -> None:
    """They arrive as one message; together they may be as long as an item has room, and the outcomes are the same."""
    stream = publish(shared, 0)
    queue, room = shared.queue.worker, shared.queue.worker.room
    queue.claim(shared.worker, 10)
    assert answer_joined(queue, shared.worker, stream, Tracking.RESPOND, b"an", bytes(room - 2)) == 0
    assert batch(shared.queue.router, shared.queue.router.drain(10)) == [b"an" + bytes(room - 2)]
    with pytest.raises(ValueError, match="does not fit"):
        answer_joined(queue, shared.worker, stream, Tracking.RESPOND, b"an", bytes(room - 1))
    shared.router.move(stream, Tracking.CANCEL)
    assert answer_joined(queue, shared.worker, stream, Tracking.RESPOND, b"a", b"b") == CANCELLED
    assert answer_joined(queue, shared.worker, stream + 1, Tracking.RESPOND, b"a", b"b") == LOST
    assert shared.queue.router.drain(10) == 0


def test_an_answer_to_a_full_queue_changes_nothing(shared: Shared) -> None:
    """FULL leaves the stream claimed, and the same answer succeeds when there is room."""
    stream = publish(shared, 0)
    shared.queue.worker.claim(shared.worker, 10)
    while shared.queue.worker.push(b"x") != FULL:
        pass
    assert answer(shared.queue.worker, shared.worker, stream, Tracking.FINISH, b"y") == FULL
    assert shared.router.state(stream) == Tracking.CLAIMED
    shared.queue.router.drain(1)
    assert answer(shared.queue.worker, shared.worker, stream, Tracking.FINISH, b"y") == 0
    with pytest.raises(ValueError, match="does not fit"):
        answer(shared.queue.worker, shared.worker, stream, Tracking.FINISH, bytes(100))


def test_damage_is_the_peers_fault(both: Ends) -> None:
    """A length that no producer writes, and a foreign version, raise; they never reach the caller."""
    both.router.push(b"x")
    cells = len(both.memory) - both.geometry.capacity * both.geometry.item_size
    both.memory[cells + 8 : cells + 12] = b"\xff\xff\xff\xff"
    with pytest.raises(RemoteProtocolError):
        both.worker.drain(1)
    both.memory[0] += 1
    with pytest.raises(RemoteProtocolError):
        Queue(both.memory, **both.geometry._asdict(), owner=WORKER, create=False)


@pytest.mark.parametrize(
    "wrong", [{"capacity": 3}, {"item_size": 17}, {"waiters": 0}, {"owner": 0}, {"owner": 65535}, {"capacity": -1}]
)
def test_wrong_numbers_are_refused(wrong: dict[str, int]) -> None:
    """Geometry that cannot be and ids that nobody can have raise ValueError."""
    memory = mmap.mmap(-1, Queue.bytes_needed(*TINY))
    numbers = {**TINY._asdict(), "owner": WORKER} | wrong
    with pytest.raises(ValueError, match=r"no queue has|owner id"):
        Queue(memory, **numbers, create=True)


def test_unfit_memory_is_refused() -> None:
    """Too small, read-only or unaligned memory raises before anything is written to it."""
    needed = Queue.bytes_needed(*TINY)
    aligned = memoryview(mmap.mmap(-1, needed + 8))
    for memory, error in (
        (aligned[: needed - 1], ValueError),
        (aligned[1:], ValueError),
        (aligned.toreadonly(), BufferError),
    ):
        with pytest.raises(error):
            Queue(memory, **TINY._asdict(), owner=WORKER, create=True)
    assert not any(aligned)


def test_a_queue_keeps_its_memory_alive() -> None:
    """The mapping cannot be closed under a handle."""
    queue = ends(TINY)
    with pytest.raises(BufferError):
        queue.memory.close()
