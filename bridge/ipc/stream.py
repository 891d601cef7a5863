"""PURE. The life of one request, as a table: which event leads from which state to which.

Theory of operation. A stream is born QUEUED, when the router arms its slot and publishes it. From there two may move
it at the same time, the router (CANCEL, because the client has gone or a deadline has passed) and a worker (CLAIM);
both try one compare-and-swap of the same word, so exactly one of them wins and the other learns that it lost.

* Cancelled before the claim: CANCELLED is final, no worker ever runs it.
* Cancelled after the claim: CANCELLING is the worker's to end. It notices at its next read or write, or by message, and
  ends the stream with FINISH as any other, or with CONFIRM. Nothing it says about the stream is wanted any more. A
  worker that does not end it dies, or is taken for dead when its grace is over.
* START says that the application has seen the request: only a stream that is still CLAIMED when its worker dies may
  be given to another worker without asking whether that is safe.
* RESPOND and FINISH are legal from every state in which a worker holds the stream, so that an answer of one message
  needs one move, and an answer of many may repeat RESPOND.
* A final state (CANCELLED, DONE) ends a generation; ARM starts the next one of the slot. The generation is part of the
  word, so a late move with an old name fails whatever state the slot is in.

Everything that decides about a stream's state is in `TRANSITIONS`; the C core has the same table, and a test compares
every cell of the two. An event that the table does not have is illegal: it raises here, is LOST there, and changes
nothing in either place.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import IntEnum
from types import MappingProxyType
from typing import Final

from bridge.errors import LocalProtocolError


class State(IntEnum):
    """Where a stream is; the numbers are those in the tracking word."""

    FREE = 0  #: the slot has never been used
    QUEUED = 1  #: published, nobody's
    CLAIMED = 2  #: a worker has it, the application has not seen it
    RUNNING = 3  #: the application has it
    RESPONDING = 4  #: the head of the response has been published
    CANCELLED = 5  #: given up before a worker had it; final
    CANCELLING = 6  #: given up after that; the worker has yet to let go
    DONE = 7  #: over; final


class Event(IntEnum):
    """What happens to a stream; the numbers are those that the core takes."""

    CLAIM = 1  #: by a worker: it takes the request
    START = 2  #: by a worker: the application is called
    RESPOND = 3  #: by a worker: part of the response, more follows
    FINISH = 4  #: by a worker: the last of the response
    CANCEL = 5  #: by the router: nobody waits any more
    CONFIRM = 6  #: by a worker: it has let go of a cancelled request
    DIE = 7  #: by the router: the worker is dead, or counts as dead
    ARM = 8  #: by the router: the slot is used again, in its next generation


_RUNS: Final = {
    Event.RESPOND: State.RESPONDING,
    Event.FINISH: State.DONE,
    Event.CANCEL: State.CANCELLING,
    Event.DIE: State.DONE,
}

#: For each state, the events that are legal in it and the states they lead to.
TRANSITIONS: Final[Mapping[State, Mapping[Event, State]]] = MappingProxyType(
    {
        State.FREE: {Event.ARM: State.QUEUED},
        State.QUEUED: {Event.CLAIM: State.CLAIMED, Event.CANCEL: State.CANCELLED},
        State.CLAIMED: {Event.START: State.RUNNING, **_RUNS},
        State.RUNNING: _RUNS,
        State.RESPONDING: _RUNS,
        State.CANCELLED: {Event.ARM: State.QUEUED},
        State.CANCELLING: {Event.FINISH: State.DONE, Event.CONFIRM: State.DONE, Event.DIE: State.DONE},
        State.DONE: {Event.ARM: State.QUEUED},
    }
)

#: States after which a stream does not move again: its slot may be armed.
FINAL: Final = frozenset(state for state, row in TRANSITIONS.items() if Event.ARM in row)


def next_state(state: State, event: Event) -> State:
    """The state that `event` leads to from `state`.

    Raises:
        LocalProtocolError: the event is illegal in that state.
    """
    try:
        return TRANSITIONS[state][event]
    except KeyError:
        raise LocalProtocolError(f"a stream that is {state.name} has no {event.name}") from None


def diagram() -> str:
    """The table as text, one line for each state: the picture in bridge/README.md, without a final newline."""
    width = max(len(state.name) for state in State)
    lines = []
    for state, row in TRANSITIONS.items():
        ways: dict[State, list[str]] = {}
        for event, target in row.items():
            ways.setdefault(target, []).append(event.name)
        arrows = ", ".join(f"{' | '.join(events)} -> {target.name}" for target, events in ways.items())
        lines.append(f"{state.name:<{width}}  {arrows}")
    return "\n".join(lines)
