"""The call with which a thread goes from one request to the next: what Python sees of it."""

from __future__ import annotations

import mmap
from typing import NamedTuple

import pytest

from bridge.core import BATON, CANCELLED, COUNT, FULL, LOST, RING, STARVED, Queue, Tracking, next_request, publish
from bridge.errors import RemoteProtocolError

ROUTER, WORKER = 1, 2
WAITER = 1


class Side(NamedTuple):
    """One process's handles."""

    requests: Queue
    answers: Queue
    tracking: Tracking

    def next(self, stream: int = 0, message: bytes = b"") -> int:
        """As the thread that is `WAITER`."""
        return next_request(self.requests, self.answers, self.tracking, stream, message, WAITER)

    def publish(self, slot: int) -> int:
        """Arm a stream and push a request that is nothing but its number."""
        stream = self.tracking.arm(slot)
        assert self.requests.push(stream.to_bytes(8, "little")) >= 0
        return stream


@pytest.fixture(params=[(128, 1040, 70), (4, 48, 3)], ids=["normal", "tiny"])
def sides(request: pytest.FixtureRequest) -> tuple[Side, Side]:
    """A router and a worker."""
    geometry = dict(zip(("capacity", "item_size", "waiters"), request.param, strict=True))
    size = Queue.bytes_needed(*request.param)
    memories = [mmap.mmap(-1, size), mmap.mmap(-1, size), mmap.mmap(-1, Tracking.bytes_needed(8))]
    router, worker = (
        Side(
            Queue(memories[0], **geometry, owner=owner, create=owner == ROUTER),
            Queue(memories[1], **geometry, owner=owner, create=owner == ROUTER),
            Tracking(memories[2], slots=8, owner=owner, create=owner == ROUTER),
        )
        for owner in (ROUTER, WORKER)
    )
    return router, worker


def test_from_one_request_to_the_next(sides: tuple[Side, Side]) -> None:
    """The finished one is answered, the next one is claimed and started, and without one the waiter dozes."""
    router, worker = sides
    first, second = router.publish(0), router.publish(1)
    assert worker.next() == 1
    assert router.tracking.state(first) == Tracking.RUNNING
    assert router.answers.doze(0)
    assert worker.next(first, b"done") == 1 | STARVED  # the router sleeps
    assert int.from_bytes(worker.requests.batch[8:16], "little") == second
    assert router.tracking.state(first) == Tracking.DONE
    assert router.answers.drain(8) & COUNT == 1
    assert bytes(router.answers.batch[8:12]) == b"done"
    assert worker.next(second, b"done") == 0
    assert router.requests.push(b"x" * 8) == WAITER + 1


def test_what_is_refused_claims_nothing(sides: tuple[Side, Side]) -> None:
    """A full queue, a cancelled and a foreign stream are results, and the next request stays where it is."""
    router, worker = sides
    running = router.publish(0)
    assert worker.next() == 1
    router.publish(1)
    while worker.answers.push(b"x") != FULL:
        pass
    assert worker.next(running, b"done") == FULL
    assert router.tracking.state(running) == Tracking.RUNNING
    while router.answers.drain(8) & COUNT:
        pass
    router.tracking.move(running, Tracking.CANCEL)
    assert worker.next(running, b"done") == CANCELLED
    worker.tracking.move(running, Tracking.CONFIRM)
    assert worker.next(running, b"done") == LOST
    assert router.requests.length() == 1
    assert worker.next() >> BATON == 0


def test_faults_are_exceptions(sides: tuple[Side, Side]) -> None:
    """A message that does not fit is the caller's fault, a waiter that does not exist nobody's business."""
    router, worker = sides
    stream = router.publish(0)
    assert worker.next() == 1
    with pytest.raises(ValueError, match="does not fit"):
        worker.next(stream, bytes(worker.answers.room + 1))
    with pytest.raises(RemoteProtocolError):
        next_request(worker.requests, worker.answers, worker.tracking, 0, b"", 70)


def test_publish(sides: tuple[Side, Side]) -> None:
    """A request is armed and pushed in one call; its first bytes become the stream, and a slot in use is LOST."""
    router, worker = sides
    stream = publish(router.requests, router.tracking, 3, bytes(8) + b"head")
    assert router.tracking.state(stream) == Tracking.QUEUED
    assert publish(router.requests, router.tracking, 3, bytes(8)) == LOST
    assert worker.requests.claim(worker.tracking, 1) & COUNT == 1
    assert bytes(worker.requests.batch[8:20]) == stream.to_bytes(8, "little") + b"head"
    with pytest.raises(ValueError, match="does not fit"):
        publish(router.requests, router.tracking, 2, b"short")


def test_publish_says_whom_to_ring(sides: tuple[Side, Side]) -> None:
    """The sleeper stands in bits of their own, and the stream without them is the right one."""
    router, worker = sides
    assert worker.requests.doze(WAITER)
    result = publish(router.requests, router.tracking, 2, bytes(8))
    assert (result & RING) >> 16 == WAITER + 1
    assert router.tracking.state(result & ~RING) == Tracking.QUEUED
