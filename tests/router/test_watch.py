"""The watch: what no honest worker writes is noticed, at once or when nobody can be that slow; the rest is let be."""

from __future__ import annotations

import mmap
from dataclasses import dataclass
from types import SimpleNamespace

import pytest

from bridge.core import Queue, Tracking, publish
from bridge.ipc.stream import Event
from bridge.router.watch import BLOCKED, PATIENCE, Watch

WORKER, OTHER = 7, 8


@dataclass
class Request:
    """A request by the router's record."""

    port: SimpleNamespace | None = None
    gone: bool = False


class Side:
    """A queue with tracking words, the router's handles on both, a worker's, and the router's record."""

    def __init__(self) -> None:
        self.memory = mmap.mmap(-1, 1 << 16)
        self.words = mmap.mmap(-1, 1 << 12)
        geometry = {"capacity": 8, "item_size": 128, "waiters": 2}
        self.queue = Queue(self.memory, **geometry, owner=1, create=True)
        self.tracking = Tracking(self.words, slots=16, owner=1, create=True)
        self.taker = Queue(self.memory, **geometry, owner=WORKER, create=False)
        self.mover = Tracking(self.words, slots=16, owner=WORKER, create=False)
        self.requests: dict[int, Request] = {}
        self.watch = Watch(self.queue, self.tracking)

    def publish(self, slot: int) -> int:
        """One more request."""
        stream = publish(self.queue, self.tracking, slot, bytes(16)) & ~0xFFFF0000
        self.requests[stream] = Request()
        return stream

    def look(self, now: float = 0.0, *workers: int) -> str:
        """What the watch says."""
        return self.watch.look(now, self.requests, workers or (WORKER, OTHER))

    def overwrite(self, stream: int, state: int, owner: int, generation: int | None = None) -> None:
        """Write a tracking word."""
        word = (stream >> 32 if generation is None else generation) << 32 | state << 24 | owner
        at = 128 + 8 * (stream & 0xFFFFFFFF)
        self.words[at : at + 8] = word.to_bytes(8, "little")


@pytest.fixture
def side() -> Side:
    """A queue that is in order."""
    return Side()


def test_an_honest_life_is_let_alone(side: Side) -> None:
    """No state that a request goes through is odd, however long it lasts."""
    stream, cancelled = side.publish(0), side.publish(1)
    request = side.requests[stream]
    assert side.look() == ""
    side.taker.claim(side.mover, 2)
    for event in (None, Event.START, Event.RESPOND):
        if event is not None:
            side.mover.move(stream, event)
            request.port = SimpleNamespace(number=WORKER)
        assert side.look() == ""
        assert side.look(1000.0) == ""
    side.tracking.move(cancelled, Event.CANCEL)
    side.requests[cancelled].gone = True
    assert side.look(2000.0) == ""
    side.mover.move(stream, Event.FINISH)
    assert side.look(3000.0) == ""
    del side.requests[stream]
    assert side.look(4000.0) == ""


@pytest.mark.parametrize(
    ("state", "owner", "known", "gone"),
    [
        (0, 0, False, False),  # FREE
        (1, WORKER, False, False),  # QUEUED, and somebody's
        (1, 0, True, False),  # QUEUED again
        (1, 0, False, True),
        (2, 0, False, False),  # CLAIMED by nobody
        (3, OTHER, True, False),  # RUNNING elsewhere
        (3, WORKER, True, True),  # RUNNING again
        (5, 0, False, True),  # CANCELLED, which the router does
        (6, WORKER, False, False),  # CANCELLING, likewise
        (6, OTHER, True, True),
        (7, 0, False, False),  # DONE by nobody
        (7, OTHER, True, False),
        (8, WORKER, False, False),
        (255, 65535, False, False),
    ],
)
def test_a_word_that_cannot_be(side: Side, state: int, owner: int, known: bool, gone: bool) -> None:
    """A state and an owner that contradict the router's record are noticed at the first look."""
    stream = side.publish(3)
    side.overwrite(stream, state, owner)
    side.requests[stream] = Request(SimpleNamespace(number=WORKER) if known else None, gone)
    assert "cannot be" in side.look()


def test_another_generation(side: Side) -> None:
    """A word that names another request of the slot."""
    stream = side.publish(3)
    side.overwrite(stream, 1, 0, generation=9)
    assert "another request" in side.look()


def test_bits_that_are_zero(side: Side) -> None:
    """Bits of a word that nobody uses are zero."""
    stream = side.publish(3)
    side.words[128 + 8 * 3 + 2] = 1
    assert side.tracking.state(stream) == 1
    assert "cannot be" in side.look()


def test_a_damaged_queue(side: Side) -> None:
    """A head that has passed over a message."""
    side.publish(3)
    side.memory[256] = 1
    assert "its queue" in side.look()


@pytest.mark.parametrize("which", ["memory", "words"])
def test_what_cannot_be_joined(side: Side, which: str) -> None:
    """Where no new worker could join, that is noticed although nothing is under way."""
    assert side.look() == ""
    getattr(side, which)[1] = 1
    assert side.look()


def test_a_message_that_has_vanished(side: Side) -> None:
    """A request is never overtaken for long: its message was taken out of the queue, and nobody has claimed it."""
    side.publish(0)
    side.taker.drain(1)
    second = side.publish(1)
    assert side.look(0.0) == side.look(2 * PATIENCE) == ""  # none has overtaken it: its worker may be asleep
    side.taker.claim(side.mover, 1)
    assert side.mover.owner(second) == WORKER
    assert side.look(100.0) == ""
    assert side.look(100.0 + PATIENCE - 1) == ""
    assert "vanished" in side.look(100.0 + PATIENCE)


def test_a_cell_that_is_never_given_back(side: Side) -> None:
    """A consumer that holds a message stands still for a moment, not for long."""
    side.publish(0)
    cell = side.queue.bytes_needed(8, 128, 2) - 8 * 128
    side.memory[cell : cell + 8] = (3 << 16 | OTHER).to_bytes(8, "little")
    assert side.look(0.0) == side.look(PATIENCE - 1) == ""
    assert "given back" in side.look(PATIENCE)


def test_a_request_of_nobody(side: Side) -> None:
    """A worker that was cut off may claim until it is ended; that does not take long."""
    stream = side.publish(0)
    side.overwrite(stream, 2, 99)
    assert side.look(0.0) == side.look(PATIENCE - 1) == ""
    assert "nobody" in side.look(PATIENCE)


def test_a_last_message_that_never_comes(side: Side) -> None:
    """A loop that is blocked may owe a last message for a while, but not for ever."""
    stream = side.publish(0)
    side.overwrite(stream, 7, WORKER)
    assert side.look(0.0) == side.look(BLOCKED - 1) == ""
    assert "last message" in side.look(BLOCKED)


def test_what_stands(side: Side) -> None:
    """A request that nobody has taken between two looks may be one whose ring was lost."""
    side.publish(0)
    side.look()
    assert not side.watch.stands
    side.look()
    assert side.watch.stands
    side.taker.claim(side.mover, 1)
    side.look()
    assert not side.watch.stands
