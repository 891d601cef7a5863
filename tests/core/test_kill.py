"""Two real processes, one of them killed with -9 in the middle of whatever it was doing."""

from __future__ import annotations

import mmap
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from bridge.core import COUNT, FULL, LOST, Queue, Tracking

HERE = Path(__file__).parent
ROUTER, VICTIM, SLOTS = 1, 2, 8
CAPACITY = 4
GEOMETRY = {"capacity": CAPACITY, "item_size": 48, "waiters": 3}


class Shared:
    """A queue and tracking words in a memory file, and a process at the other end of them."""

    def __init__(self, fd: int, first_ticket: int) -> None:
        self.fd = fd
        self.queue_bytes = Queue.bytes_needed(**GEOMETRY)
        os.ftruncate(fd, self.queue_bytes + Tracking.bytes_needed(SLOTS))
        memory = memoryview(mmap.mmap(fd, 0))
        self.queue = Queue(memory[: self.queue_bytes], **GEOMETRY, owner=ROUTER, create=True, first_ticket=first_ticket)
        self.tracking = Tracking(memory[self.queue_bytes :], slots=SLOTS, owner=ROUTER, create=True)

    def start(self, task: str) -> subprocess.Popen[bytes]:
        """The victim, at work."""
        numbers = [str(number) for number in (self.queue_bytes, *GEOMETRY.values())]
        command = [sys.executable, str(HERE / "victim.py"), str(self.fd), task, *numbers]
        environment = os.environ | {"PYTHONPATH": str(HERE.parent.parent)}
        return subprocess.Popen(command, pass_fds=[self.fd], env=environment)

    def messages(self, limit: int) -> list[bytes]:
        """What one drain brings."""
        count = self.queue.drain(limit) & COUNT
        starts = range(8, 8 + count * self.queue.stride, self.queue.stride)
        return [
            bytes(self.queue.batch[at : at + int.from_bytes(self.queue.batch[at - 8 : at - 4], "little")])
            for at in starts
        ]

    def moves(self) -> bool:
        """Whether the queue, once empty, takes exactly its capacity and gives it back in order."""
        while self.queue.drain(64) & COUNT:
            pass
        numbers = [b"%d" % number for number in range(CAPACITY)]
        pushed = [self.queue.push(number) for number in [*numbers, b"one too many"]]
        return pushed == [0] * CAPACITY + [FULL] and self.messages(64) == numbers


@pytest.fixture(params=range(6))
def shared(request: pytest.FixtureRequest) -> Iterator[Shared]:
    """Six times the same, each killed at another moment, near the wrap of the tickets."""
    fd = os.memfd_create("shared")
    made = Shared(fd, 2**64 - 200)
    yield made
    os.close(fd)


@pytest.fixture
def victim(shared: Shared) -> Iterator[Callable[[str], subprocess.Popen[bytes]]]:
    """Starts victims; whoever is left is killed at the end."""
    started: list[subprocess.Popen[bytes]] = []

    def start(task: str) -> subprocess.Popen[bytes]:
        started.append(shared.start(task))
        return started[-1]

    yield start
    for process in started:
        process.kill()
        process.wait()


def test_a_producer_is_killed(shared: Shared, victim: Callable[[str], subprocess.Popen[bytes]]) -> None:
    """The queue moves after recovery, and nothing but whole messages came out of it."""
    process = victim("push")
    received = 0
    while received < 500:
        messages = shared.messages(3)
        assert set(messages) <= {b"from the victim"}
        received += len(messages)
    process.kill()
    process.wait()
    assert shared.queue.recover(VICTIM) == []
    assert shared.moves()


def test_a_consumer_is_killed(shared: Shared, victim: Callable[[str], subprocess.Popen[bytes]]) -> None:
    """What it had in hand, one message at most, is found whole; the queue moves after recovery."""
    process = victim("drain")
    for number in range(500):
        while shared.queue.push(b"%04d" % number) == FULL:
            pass
    process.kill()
    process.wait()
    found = shared.queue.recover(VICTIM)
    assert len(found) <= 1
    assert all(490 < int(message) < 500 for message in found)
    assert shared.moves()


def test_a_claimant_is_killed(shared: Shared, victim: Callable[[str], subprocess.Popen[bytes]]) -> None:
    """Every request is somewhere exactly once: finished, known to be the dead one's, or still to be claimed."""
    process = victim("claim")
    streams: dict[int, int] = {}
    for turn in range(500):
        while (stream := shared.tracking.arm(turn % SLOTS)) == LOST:
            pass  # the victim is not done with the last one
        streams[turn % SLOTS] = stream
        while shared.queue.push(stream.to_bytes(8, "little")) == FULL:
            pass
    process.kill()
    process.wait()
    for message in shared.queue.recover(VICTIM):
        if shared.tracking.state(int.from_bytes(message, "little")) == Tracking.QUEUED:
            assert shared.queue.push(message) != FULL
    assert set(shared.tracking.recover(VICTIM)) <= {
        (stream, state) for stream in streams.values() for state in (Tracking.CLAIMED, Tracking.DONE)
    }
    while shared.queue.claim(shared.tracking, 10) & COUNT:
        pass
    shared.tracking.recover(ROUTER)
    assert {shared.tracking.state(stream) for stream in streams.values()} == {Tracking.DONE}
    assert shared.moves()
