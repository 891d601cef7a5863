"""PURE. How many requests are published to loops that do not take them as soon as they said they would.

A worker with a loop takes a thousand requests at once, because most of them wait for something. One whose handlers
compute begins them one after the other, and what is published to it waits in a queue where the order cannot be chosen.
So when requests are left to wait there, no more are published than workers have begun, and a few that lie ready.

Where all run for about the same time, more and more follow when none are left to wait. Where some are known to run for
long, the order matters: more follow only when the workers have taken what lay ready, for as long as it might happen
again.
"""

from __future__ import annotations

from math import inf
from typing import NamedTuple

HOLD = 10.0  #: seconds from the last time that requests were left to wait: so long it might happen again


class Seen(NamedTuple):
    """What there is at one look."""

    now: float  #: seconds, monotonic
    unclaimed: frozenset[int]  #: streams that no worker has claimed
    begun: int  #: how many others are published and not over
    ahead: int  #: how many are to lie ready
    most: int  #: how many the workers say that they take; a ceiling above that is none
    wait: bool  #: others wait behind the ceiling
    differ: bool  #: some are known to run for long


class Ceiling:
    """See the head of the file.

    Attributes:
        requests: that may be published and not over at the same time; inf = there is no ceiling.
    """

    __slots__ = ("_held", "_unclaimed", "requests")

    def __init__(self) -> None:
        self.requests = inf
        self._held = 0.0  # until when it might happen again
        self._unclaimed: frozenset[int] = frozenset()

    def look(self, seen: Seen) -> bool:
        """Move it, now and then: what is unclaimed at two looks has been left to wait.

        Returns:
            True if it is to be looked at again soon; else when a request comes.
        """
        late = not self._unclaimed.isdisjoint(seen.unclaimed)
        self._unclaimed = seen.unclaimed
        if late:
            self.requests = seen.begun + seen.ahead
            self._held = seen.now + HOLD
        elif self.requests < inf:
            self.requests = self._raised(seen)
        return bool(seen.unclaimed) or (self.requests < inf and not seen.differ)

    def _raised(self, seen: Seen) -> float:
        requests = self.requests
        if not seen.differ:
            requests += max(seen.ahead, requests // 4)
        elif seen.now >= self._held:
            return inf
        elif seen.wait and not seen.unclaimed:
            requests += max(seen.ahead, requests)
        return requests if requests < seen.most else inf
