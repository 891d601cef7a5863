"""The waiters of an application's queue, and who is rung."""

from __future__ import annotations

import mmap
import os
import resource

import pytest

from bridge.core import Queue
from bridge.ipc.doorbell import Doorbell
from bridge.router.waiters import Waiters
from tests.ipc.rings import heard, rung


def queue_of(waiters: int) -> Queue:
    """A queue for so many."""
    memory = mmap.mmap(-1, Queue.bytes_needed(4, 32, waiters))
    return Queue(memory, capacity=4, item_size=32, waiters=waiters, owner=1, create=True)


def test_each_thread_has_a_bell() -> None:
    """Numbers and bells are given away once, come back when they are not needed, and are then others' to have."""
    waiters = Waiters(queue_of(5), 5)
    first, second = waiters.take(2), waiters.take(3)
    assert [*first, *second] == [0, 1, 2, 3, 4]
    assert waiters.take(1) == {}
    for bell in (*first.values(), *second.values()):
        heard(bell)
    waiters.ring(4)
    assert [rung(bell) for bell in (*first.values(), *second.values())] == [False, False, False, True, False]
    waiters.give_back(first)
    assert list(waiters.take(3)) == [0, 1]


def test_the_dead_are_not_rung() -> None:
    """A ring for a waiter that has died goes to another sleeper, if there is something to do."""
    queue = queue_of(3)
    waiters = Waiters(queue, 3)
    dead, alive = waiters.take(1), waiters.take(1)
    heard(alive[1])
    assert queue.doze(1)
    assert queue.doze(0)
    ring = queue.push(b"x")
    assert ring == 1
    waiters.give_back(dead)
    waiters.ring(ring)
    assert rung(alive[1])
    waiters.ring(3)
    waiters.ring(77)
    waiters.ring(0)
    assert not rung(alive[1])
    waiters.ring_all()
    assert rung(alive[1])


def test_bits_of_the_dead_that_come_back() -> None:
    """Whoever goes on setting the sleeping bits of waiters that there are not does not keep the router looking."""

    class Queue:
        looks = 0

        def wake(self) -> int:
            self.looks += 1
            assert self.looks < 100
            return 2

    queue = Queue()
    Waiters(queue, 5).ring(1)  # type: ignore[arg-type]
    assert queue.looks <= 5


def test_a_loop_is_one_waiter() -> None:
    """The others are free again, and the first has the bell of the port, which rings once for what was missed."""
    waiters = Waiters(queue_of(3), 3)
    taken, port = waiters.take(3), heard(Doorbell())
    waiters.join(taken, port)
    assert taken == {0: port}
    assert rung(port)
    waiters.join(taken, port)
    assert not rung(port)
    waiters.ring(1)
    assert rung(port)
    assert list(waiters.take(3)) == [1, 2]


def test_the_bit_of_a_predecessor() -> None:
    """Who has just been given a number does not sleep on it."""
    queue = queue_of(1)
    assert queue.doze(0)
    Waiters(queue, 1).take(1)
    assert queue.push(b"x") == 0


def test_without_descriptors_nothing_is_taken() -> None:
    """What could not be given whole is not given in part."""
    waiters = Waiters(queue_of(9), 9)
    before = len(os.listdir("/proc/self/fd"))
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    lowest = os.dup(0)
    os.close(lowest)
    resource.setrlimit(resource.RLIMIT_NOFILE, (lowest + 2, hard))
    try:
        with pytest.raises(OSError, match="Too many open files"):
            waiters.take(9)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert len(os.listdir("/proc/self/fd")) == before
    assert len(waiters.take(9)) == 9
