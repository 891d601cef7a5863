"""PURE. How many requests a loop claims at once: as many as it begins within `AHEAD` seconds.

What a loop has claimed waits behind everything that it runs before, and no other worker can take it. Where handlers
await at once that does not matter, and to claim many in one go is cheap; one that computes for a tenth of a second
would hold up all that were claimed with it while another worker has nothing to do.
"""

from __future__ import annotations

from collections.abc import Callable

AHEAD = 0.001  #: seconds
WEIGHT = 0.25  #: of the newest measurement


class Appetite:
    """Measures how long a loop takes to come round after it has claimed requests.

    Args:
        clock: seconds, monotonic.
        most: requests that are claimed at once at most.

    Attributes:
        requests: that may be claimed now; one at first, since nothing is known of them.
        waits: requests were claimed, and the loop has not come round since: `turned` is to be called.
    """

    __slots__ = ("_clock", "_each", "_most", "_since", "requests", "waits")

    def __init__(self, clock: Callable[[], float], most: int) -> None:
        self.requests = 1
        self.waits = 0
        self._clock = clock
        self._most = most
        self._each = AHEAD  # seconds
        self._since = 0.0

    def claimed(self, count: int) -> None:
        """So many requests were claimed, and are about to begin."""
        if not self.waits:
            self._since = self._clock()
        self.waits += count

    def turned(self) -> None:
        """They have begun: the loop has come round."""
        each = (self._clock() - self._since) / self.waits
        self.waits = 0
        self._each += (each - self._each) * WEIGHT
        self.requests = min(self._most, max(1, int(AHEAD / max(self._each, 1e-9))))
