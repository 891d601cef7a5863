"""Doorbells: one waiter wakes, and only when it was rung."""

from __future__ import annotations

import os
import select

from bridge.ipc.doorbell import Doorbell


def ringing(bell: Doorbell) -> bool:
    """Whether a wait on the bell would return now."""
    return bool(select.select([bell], [], [], 0)[0])


def test_rings_until_it_is_hushed() -> None:
    """Any number of rings is one, and it lasts until the waiter takes it."""
    bell = Doorbell()
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


def test_both_ends_are_one_bell() -> None:
    """A descriptor that went to another process rings the same bell, and lives on when one end is closed."""
    bell = Doorbell()
    other = Doorbell(os.dup(bell.fileno()))
    other.ring()
    assert ringing(bell)
    bell.hush()
    assert not ringing(other)
    bell.close()
    other.ring()
    assert ringing(other)
    other.close()


def test_descriptor_is_not_inherited_and_never_blocks() -> None:
    """No program that is started from here gets the bell, and an empty one is no reason to wait."""
    bell = Doorbell()
    assert not os.get_inheritable(bell.fileno())
    assert not os.get_blocking(bell.fileno())
    bell.close()


def test_a_counter_that_is_full_still_rings() -> None:
    """More rings than the kernel counts are no error."""
    bell = Doorbell()
    os.eventfd_write(bell.fileno(), (1 << 64) - 2)
    bell.ring()
    assert ringing(bell)
    bell.hush()
    assert not ringing(bell)
    bell.close()


def test_a_closed_bell_wakes_nobody() -> None:
    """Closing twice, and ringing who is gone, does nothing; the number may be somebody else's by now."""
    bell = Doorbell()
    number = bell.fileno()
    bell.close()
    other = os.eventfd(0, os.EFD_NONBLOCK)
    assert other == number
    bell.ring()
    bell.close()
    assert not select.select([other], [], [], 0)[0]
    os.close(other)
