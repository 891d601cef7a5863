"""PURE. What of an application's requests did not end as they should, counted, and said in the log now and then."""

from __future__ import annotations

EVERY = 10.0  #: seconds between two lines


class Tally:
    """Counts for one application; all of them are totals.

    Args:
        name: of the application.

    Attributes:
        cancelled: requests whose client left before their end.
        unserved: those of them that no worker had begun to answer.
        errors: answers in the application's place.
        expired: requests refused because no worker took them in time.
        turned_away: requests refused because the line was full.
        timed_out: requests that were given up because the application took too long.
        repeated: requests that another worker got when the one that was running them had died.
    """

    __slots__ = (
        "_name",
        "_said",
        "_silent",
        "_since",
        "cancelled",
        "errors",
        "expired",
        "repeated",
        "timed_out",
        "turned_away",
        "unserved",
    )

    def __init__(self, name: str) -> None:
        self.cancelled = 0
        self.unserved = 0
        self.errors = 0
        self.expired = 0
        self.turned_away = 0
        self.timed_out = 0
        self.repeated = 0
        self._name = name
        self._said = (0, 0, 0, 0)
        self._since = 0.0  # when these were counted
        self._silent = 0.0  # until then

    def line(self, now: float, waiting: int, oldest: float, *, stands: bool) -> str:
        """What is to be said now; empty if nothing is, or something was said a short while ago.

        Args:
            now: seconds, monotonic.
            waiting: requests in the line.
            oldest: seconds for which the first of them waits.
            stands: the line has been turned round.
        """
        counts = (self.expired, self.turned_away, self.unserved, self.timed_out)
        if now < self._silent or counts == self._said:
            return ""
        expired, turned_away, unserved, timed_out = (new - old for new, old in zip(counts, self._said, strict=True))
        busy = expired or turned_away or (unserved and stands)
        if not busy and not timed_out:
            if now >= self._since + EVERY:
                self._since, self._said = now, counts  # clients leave for reasons of their own: these are never said
            return ""
        self._silent, self._since, self._said = now + EVERY, now, counts
        parts = []
        if expired:
            parts.append(f"{expired} refused (503): no worker took them in time")
        if turned_away:
            parts.append(f"{turned_away} refused (503): the line was full")
        if unserved:
            parts.append(f"{unserved} given up by their clients before they were answered")
        if timed_out:
            parts.append(f"{timed_out} given up (504): the application took too long")
        order = ", newest first" if stands else ""
        parts.append(f"{waiting} wait{order}, the oldest for {oldest:.1f} s")
        what = "gets more requests than its workers end" if busy else "is too slow"
        return f"{self._name!r} {what}: {'; '.join(parts)}"
