"""PURE. How long requests are expected to run, by what they ask for: as long as those did that asked for the same.

Only what runs for `LONG` or more is remembered, and only while others wait: an application whose requests are all short
costs nothing here. What is measured begins when a request is published, so it may have waited a little for the one
before it; hence shorter times count for more than longer ones.
"""

from __future__ import annotations

LONG = 0.005  #: seconds: whoever runs for less is not worth an order of their own
MOST = 1.0  #: seconds: nobody is expected to run for longer, and so nobody is overtaken for longer
REMEMBERED = 512  #: things that are asked for
LONGEST = 256  #: bytes of one

_DOWN, _UP = 0.5, 0.125  # how much of the way to a new measurement the expectation goes


class Expected:
    """See the head of the file."""

    __slots__ = ("_seconds",)

    def __init__(self) -> None:
        self._seconds: dict[bytes, float] = {}

    def __bool__(self) -> bool:
        """Whether anything is known to run for long."""
        return bool(self._seconds)

    def of(self, purpose: bytes) -> float:
        """Seconds; 0 for what is not known to run for long."""
        return self._seconds.get(purpose, 0.0)

    def ran(self, purpose: bytes, seconds: float) -> None:
        """A request for `purpose` has run for so many seconds."""
        known = self._seconds.get(purpose)
        if known is None:
            if seconds < LONG or len(purpose) > LONGEST:
                return
            if len(self._seconds) >= REMEMBERED:
                self._seconds.clear()
            self._seconds[purpose] = min(seconds, MOST)
            return
        known += (min(seconds, MOST) - known) * (_DOWN if seconds < known else _UP)
        if known < LONG / 2:
            del self._seconds[purpose]
        else:
            self._seconds[purpose] = known
