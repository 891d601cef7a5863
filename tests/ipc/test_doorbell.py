"""Doorbells: one waiter wakes, only when it was rung, and no end can make the other wait."""

from __future__ import annotations

import fcntl
import os
import select
import threading

import pytest

from bridge.ipc.doorbell import Doorbell
from tests.ipc.rings import heard, ringing, rung


def test_rings_until_it_is_hushed() -> None:
    """Any number of rings is one, and it lasts until the waiter takes it."""
    bell = heard(Doorbell())
    assert not ringing(bell)
    bell.ring()
    bell.ring()
    assert ringing(bell)
    assert ringing(bell)
    bell.hush()
    assert not ringing(bell)
    bell.hush()
    assert not ringing(bell)
    bell.close()


def test_who_begins_to_wait_may_have_been_rung() -> None:
    """A ring before the waiter has listened for the first time is not lost."""
    bell = Doorbell()
    bell.ring()
    assert ringing(bell)
    bell.close()


def test_both_ends_are_one_bell() -> None:
    """A descriptor that went to another process rings the same bell, and lives on when one end is closed."""
    bell = heard(Doorbell())
    other = heard(Doorbell(os.dup(bell.descriptor)))
    other.ring()
    assert rung(bell)
    bell.close()
    other.hush()
    other.ring()
    assert ringing(other)
    other.close()


def test_descriptors_are_not_inherited() -> None:
    """No program that is started from here gets the bell."""
    bell = Doorbell()
    assert not os.get_inheritable(bell.descriptor)
    assert not os.get_inheritable(bell.fileno())
    bell.close()


@pytest.mark.parametrize("counter", [0, 1, (1 << 64) - 2])
def test_nobody_can_be_made_to_wait(counter: int) -> None:
    """Whatever the other end does to what both have open, ringing and hushing return at once."""
    bell = heard(Doorbell())
    os.eventfd_read(bell.descriptor)
    if counter:
        os.eventfd_write(bell.descriptor, counter)
    fcntl.fcntl(bell.descriptor, fcntl.F_SETFL, fcntl.fcntl(bell.descriptor, fcntl.F_GETFL) & ~os.O_NONBLOCK)

    def use() -> None:
        for _ in range(3):
            bell.ring()
            bell.hush()

    thread = threading.Thread(target=use, daemon=True)
    thread.start()
    thread.join(10)
    assert not thread.is_alive()
    bell.close()


def test_edges_wake_threads() -> None:
    """A thread that waits for edges wakes once for each time it is rung, and has nothing to hush."""
    bell = Doorbell()
    waiting = select.epoll()
    waiting.register(bell.descriptor, select.EPOLLIN | select.EPOLLET)
    waiting.poll(0)
    for _ in range(3):
        assert not waiting.poll(0)
        bell.ring()
        assert waiting.poll(10)
    waiting.close()
    bell.close()


def test_a_closed_bell_wakes_nobody() -> None:
    """Closing twice, and ringing who is gone, does nothing; the number may be somebody else's by now."""
    bell = Doorbell()
    number = bell.descriptor
    bell.close()
    other = os.eventfd(0, os.EFD_NONBLOCK)
    assert other == number
    bell.ring()
    bell.hush()
    bell.close()
    assert not select.select([other], [], [], 0)[0]
    os.close(other)
