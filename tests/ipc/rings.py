"""Whether a bell was rung, as the tests ask."""

from __future__ import annotations

import select

from bridge.ipc.doorbell import Doorbell


def heard(bell: Doorbell) -> Doorbell:
    """The same bell, listened to from now on: what was rung before counts no more."""
    bell.fileno()
    bell.hush()
    return bell


def ringing(bell: Doorbell) -> bool:
    """Whether a wait on the bell would return now."""
    return bool(select.select([bell], [], [], 0)[0])


def rung(bell: Doorbell) -> bool:
    """Whether it was rung since the last look."""
    was = ringing(bell)
    bell.hush()
    return was
