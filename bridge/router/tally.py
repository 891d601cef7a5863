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
    """

    __slots__ = ("_name", "_said", "_silent", "cancelled", "errors", "expired", "turned_away", "unserved")

    def __init__(self, name: str) -> None:
        self.cancelled = 0
        self.unserved = 0
        self.errors = 0
        self.expired = 0
        self.turned_away = 0
        self._name = name
        self._said = (0, 0, 0)
        self._silent = 0.0  # until then

    def line(self, now: float, waiting: int, oldest: float, *, stands: bool) -> str:
        """What is to be said now; empty if nothing is, or something was said a short while ago.

        Args:
            now: seconds, monotonic.
            waiting: requests in the line.
            oldest: seconds for which the first of them waits.
            stands: the line has been turned round.
        """
        counts = (self.expired, self.turned_away, self.unserved)
        if now < self._silent or counts == self._said:
            return ""
        expired, turned_away, unserved = (new - old for new, old in zip(counts, self._said, strict=True))
        if not expired and not turned_away and not stands:
            return ""  # clients leave for reasons of their own
        self._silent, self._said = now + EVERY, counts
        parts = []
        if expired:
            parts.append(f"{expired} refused (503): no worker took them in time")
        if turned_away:
            parts.append(f"{turned_away} refused (503): the line was full")
        if unserved:
            parts.append(f"{unserved} given up by their clients before they were answered")
        order = ", newest first" if stands else ""
        parts.append(f"{waiting} wait{order}, the oldest for {oldest:.1f} s")
        return f"{self._name!r} gets more requests than its workers end: {'; '.join(parts)}"
