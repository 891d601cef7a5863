"""Tracking words through the facade: every move against the table, generations, owners."""

from __future__ import annotations

import itertools
import mmap

import pytest

from bridge.core import LOST, Tracking
from bridge.ipc.stream import TRANSITIONS, Event, State

ROUTER, WORKER, OTHER = 1, 2, 3
WAYS: dict[State, list[Event]] = {  #: how a new slot gets into each state
    State.FREE: [],
    State.QUEUED: [Event.ARM],
    State.CLAIMED: [Event.ARM, Event.CLAIM],
    State.RUNNING: [Event.ARM, Event.CLAIM, Event.START],
    State.RESPONDING: [Event.ARM, Event.CLAIM, Event.RESPOND],
    State.CANCELLED: [Event.ARM, Event.CANCEL],
    State.CANCELLING: [Event.ARM, Event.CLAIM, Event.CANCEL],
    State.DONE: [Event.ARM, Event.CLAIM, Event.FINISH],
}


@pytest.fixture
def memory() -> mmap.mmap:
    """Zeroed memory for a few words."""
    return mmap.mmap(-1, Tracking.bytes_needed(16))


@pytest.fixture
def router(memory: mmap.mmap) -> Tracking:
    """The end that laid the words out."""
    return Tracking(memory, slots=16, owner=ROUTER, create=True)


@pytest.fixture
def worker(memory: mmap.mmap, router: Tracking) -> Tracking:
    """The end that claims."""
    return Tracking(memory, slots=16, owner=WORKER, create=False)


def brought_to(router: Tracking, worker: Tracking, state: State) -> int:
    """A stream of slot 5 in that state."""
    stream = 5
    for event in WAYS[state]:
        if event is Event.ARM:
            stream = router.arm(5)
        else:
            assert worker.move(stream, event) != LOST
    assert router.state(stream) == state
    return stream


@pytest.mark.parametrize(("state", "event"), list(itertools.product(State, Event)), ids=lambda value: value.name)
def test_every_move_is_that_of_the_table(
    memory: mmap.mmap, router: Tracking, worker: Tracking, state: State, event: Event
) -> None:
    """The C functions allow what the table has, lead where it leads, and change nothing else."""
    stream = brought_to(router, worker, state)
    before = memory[:]
    target = TRANSITIONS[state].get(event)
    if event is Event.ARM:
        assert worker.move(stream, event) == LOST
        assert memory[:] == before
        result = router.arm(5)
        assert (result == LOST) == (target is None)
        if target is not None:
            assert (result >> 32, result & 0xFFFFFFFF) == ((stream >> 32) + 1, 5)
            assert router.state(result) == target
    else:
        result = worker.move(stream, event)
        assert result == (LOST if target is None else target)
        assert router.state(stream) == (state if target is None else target)
    if target is None:
        assert memory[:] == before


@pytest.mark.parametrize("event", [0, 9, 100, -1])
@pytest.mark.parametrize("state", State, ids=lambda value: value.name)
def test_what_is_no_event_is_lost(router: Tracking, worker: Tracking, state: State, event: int) -> None:
    """Numbers outside the table move nothing."""
    stream = brought_to(router, worker, state)
    assert worker.move(stream, event, WORKER) == LOST
    assert router.state(stream) == state


def test_an_old_name_moves_nothing(router: Tracking, worker: Tracking) -> None:
    """Once a slot is armed again, its last stream is lost for every event, and for questions."""
    old = brought_to(router, worker, State.DONE)
    new = router.arm(5)
    assert [worker.move(old, event) for event in Event] == [LOST] * len(Event)
    assert (worker.state(old), worker.owner(old)) == (LOST, LOST)
    assert router.state(new) == State.QUEUED


def test_the_claimant_owns(router: Tracking, worker: Tracking) -> None:
    """A claim writes its maker's id, or the one it names; others may be refused by theirs."""
    stream = router.arm(1)
    assert router.owner(stream) == 0
    assert worker.move(stream, Event.CLAIM) == State.CLAIMED
    assert router.owner(stream) == WORKER
    assert worker.move(stream, Event.START, owner=OTHER) == LOST
    assert worker.move(stream, Event.START, owner=WORKER) == State.RUNNING
    other = router.arm(2)
    assert worker.move(other, Event.CLAIM, owner=OTHER) == State.CLAIMED
    assert router.owner(other) == OTHER


def test_recovery_finds_what_the_dead_held(router: Tracking, worker: Tracking) -> None:
    """Every word of one owner is reported with its state, and is nobody's after that; the others stay."""
    streams = [router.arm(slot) for slot in range(6)]
    for stream in streams[:4]:
        worker.move(stream, Event.CLAIM)
    worker.move(streams[1], Event.RESPOND)
    worker.move(streams[2], Event.FINISH)
    router.move(streams[3], Event.CANCEL)
    worker.move(streams[4], Event.CLAIM, owner=OTHER)
    states = [State.CLAIMED, State.RESPONDING, State.DONE, State.CANCELLING]
    assert router.recover(WORKER) == list(zip(streams[:4], states, strict=True))
    assert router.recover(WORKER) == []
    assert [router.state(stream) for stream in streams] == [State.DONE] * 4 + [State.CLAIMED, State.QUEUED]
    assert all(router.owner(stream) == 0 for stream in streams[:4])


def test_slots_outside_are_lost(router: Tracking) -> None:
    """There is no word beyond the last."""
    assert router.arm(16) == LOST
    assert router.state(1 << 32 | 16) == LOST
    assert router.move(1 << 32 | 0xFFFFFFFF, Event.CLAIM) == LOST


@pytest.mark.parametrize("state", State, ids=lambda state: state.name)
def test_a_look_without_a_call(router: Tracking, worker: Tracking, state: State) -> None:
    """Who runs a request sees in its word that nobody waits for it."""
    stream = brought_to(router, worker, state)
    assert worker.cancelled(stream) == (state in (State.CANCELLED, State.CANCELLING))
