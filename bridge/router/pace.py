"""PURE. How many requests lie ready in an application's queue, beyond those that its workers run.

With none a thread sleeps between two requests, and to wake it costs more than a small request does. With many the line
in the router, where cancelling is trivial and the order can be chosen, means nothing. So it is what the workers end in
`AHEAD` seconds: for requests of a second that is one, for those of 20 microseconds enough to keep everyone awake
(measured, WSGI on one thread, 64 connections: 54 microseconds of CPU a request with 8 ready, 35 with 64).
"""

from __future__ import annotations

from collections.abc import Callable

AHEAD = 0.002  #: seconds
MOST = 64  #: requests
EVERY = 32  #: ended requests between two looks at the clock


class Pace:
    """Measures how fast requests end while others wait.

    Args:
        clock: seconds, monotonic.
    """

    __slots__ = ("_clock", "_ended", "_since", "_whole", "ahead")

    def __init__(self, clock: Callable[[], float]) -> None:
        self.ahead = 1  #: requests
        self._clock = clock
        self._ended = 0
        self._whole = 0  # requests before the last look at the clock
        self._since = clock()

    @property
    def total(self) -> int:
        """Requests that have ended while others waited."""
        return self._whole + self._ended

    def ended(self) -> bool:
        """A request has ended while others wait; True if `ahead` is another number now."""
        self._ended += 1
        if self._ended < EVERY:
            return False
        now, before = self._clock(), self.ahead
        elapsed = max(now - self._since, 1e-6)
        self._ended, self._since = 0, now
        self._whole += EVERY
        self.ahead = min(MOST, max(1, int(EVERY * AHEAD / elapsed)))
        return self.ahead != before
