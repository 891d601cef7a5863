"""The table of a stream's life: complete, closed, and refusing what it does not have."""

from __future__ import annotations

import itertools

import pytest

from bridge.core import Tracking
from bridge.errors import LocalProtocolError
from bridge.ipc.stream import FINAL, TRANSITIONS, Event, State, diagram, next_state

PAIRS = list(itertools.product(State, Event))


@pytest.mark.parametrize(("state", "event"), PAIRS, ids=lambda value: value.name)
def test_every_pair_moves_or_raises(state: State, event: Event) -> None:
    """An event of the table leads to its state; any other raises and leaves the table as it was."""
    before = {state: dict(row) for state, row in TRANSITIONS.items()}
    if event in TRANSITIONS[state]:
        assert next_state(state, event) is TRANSITIONS[state][event]
    else:
        with pytest.raises(LocalProtocolError, match=f"{state.name} has no {event.name}"):
            next_state(state, event)
    assert before == TRANSITIONS


def test_every_state_is_reached_and_left() -> None:
    """No state is a dead end, and only FREE is never come back to."""
    targets = {target for row in TRANSITIONS.values() for target in row.values()}
    assert targets == set(State) - {State.FREE}
    assert all(TRANSITIONS[state] for state in State)


def test_final_states_are_those_that_can_be_armed() -> None:
    """A slot is used again from FREE, CANCELLED and DONE, and from nowhere else."""
    assert {State.FREE, State.CANCELLED, State.DONE} == FINAL


def test_who_cancels_before_the_claim_wins() -> None:
    """A cancelled stream cannot be claimed, a claimed one can only be asked to stop."""
    assert next_state(State.QUEUED, Event.CANCEL) is State.CANCELLED
    assert Event.CLAIM not in TRANSITIONS[State.CANCELLED]
    assert next_state(State.CLAIMED, Event.CANCEL) is State.CANCELLING


def test_a_dead_owner_ends_every_state_that_has_an_owner() -> None:
    """DIE leads to DONE from each state in which a worker holds the stream, and is illegal in the others."""
    held = {state for state, row in TRANSITIONS.items() if row.get(Event.DIE) is State.DONE}
    assert held == {State.CLAIMED, State.RUNNING, State.RESPONDING, State.CANCELLING}
    assert all(Event.DIE not in TRANSITIONS[state] for state in set(State) - held)


def test_the_core_has_the_same_numbers() -> None:
    """The facade of the C core names the same states and events with the same numbers."""
    for member in (*State, *Event):
        assert getattr(Tracking, member.name) == member.value


def test_diagram_shows_every_transition() -> None:
    """Each state has a line, and each line names all its events and targets."""
    lines = dict(zip(State, diagram().splitlines(), strict=True))
    for state, row in TRANSITIONS.items():
        assert lines[state].startswith(state.name)
        for event, target in row.items():
            assert event.name in lines[state]
            assert f"-> {target.name}" in lines[state]
