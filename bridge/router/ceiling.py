"""PURE. How many requests are published to loops that do not take them as soon as they said they would.

A worker with a loop takes a thousand requests at once, because most of them wait for something. One whose handlers
compute begins them one after the other, and what is published to it waits in a queue where the order cannot be chosen.
So when requests are left to wait there, no more are published than workers have begun, and a few that lie ready; when
they are not any more, others follow, more and more of them.
"""

from __future__ import annotations

from math import inf


class Ceiling:
    """See the head of the file.

    Attributes:
        requests: that may be published and not over at the same time; inf = there is no ceiling.
    """

    __slots__ = ("_unclaimed", "requests")

    def __init__(self) -> None:
        self.requests = inf
        self._unclaimed: frozenset[int] = frozenset()

    def look(self, unclaimed: frozenset[int], begun: int, ahead: int, most: int) -> bool:
        """Move it, now and then.

        Args:
            unclaimed: streams that no worker has claimed; those that are still here at the next look wait for long.
            begun: how many others are not over.
            ahead: how many are to lie ready.
            most: how many the workers say that they take; a ceiling above that is none.

        Returns:
            True if it is to be looked at again soon.
        """
        late = not self._unclaimed.isdisjoint(unclaimed)
        self._unclaimed = unclaimed
        if late:
            self.requests = begun + ahead
        elif self.requests < inf:
            self.requests += max(ahead, self.requests // 4)
            if self.requests >= most:
                self.requests = inf
        return bool(unclaimed) or self.requests < inf
