"""Whether an application's shared memory can be what honest workers have made of it.

All workers of an application write its queue and its tracking words, so any of them can overwrite those. The router
frees and answers by its own record, so nothing worse comes of that than requests which nobody can take or end any more.
Once a second it compares that record with what lies in shared memory; what no process of ours writes is noticed at the
first look. What could also be a process that stands still between two steps has to stay like that for `PATIENCE`.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Protocol

from bridge.core import Queue, Tracking
from bridge.errors import RemoteProtocolError
from bridge.ipc.stream import State

PATIENCE = 5.0  #: seconds that a process may stand still in the middle of a step which takes microseconds
BLOCKED = 60.0  #: seconds that a loop may be blocked by its application, with messages that found no room yet
_KEPT = "a place of its queue is never given back"
_VANISHED = "a request has vanished from its queue"
_UNKNOWN = "a request was taken by nobody"
_UNSAID = "a request has ended without its last message"
_PATIENCE_WITH = {_KEPT: PATIENCE, _VANISHED: PATIENCE, _UNKNOWN: PATIENCE, _UNSAID: BLOCKED}
_HELD = (State.CLAIMED, State.RUNNING, State.RESPONDING)


class Numbered(Protocol):
    """A worker."""

    number: int


class Published(Protocol):
    """A request by the router's own record."""

    @property
    def port(self) -> Numbered | None:
        """The worker that has said something about it."""

    @property
    def gone(self) -> bool:
        """Whether nobody waits for it any more, so that its word was moved by a CANCEL."""


class Watch:
    """See the head of the file.

    Args:
        queue: the application's, with the router as its only producer.
        tracking: the application's.

    Attributes:
        stands: a request that was QUEUED at the last look is so still: whoever sleeps may have missed a ring.
    """

    __slots__ = ("_queue", "_queued", "_since", "_tracking", "stands")

    def __init__(self, queue: Queue, tracking: Tracking) -> None:
        self.stands = False
        self._queue = queue
        self._tracking = tracking
        self._queued: set[int] = set()  # at the last look
        self._since: dict[tuple[str, int], float] = {}  # what was odd then, and since when

    def look(self, now: float, requests: Mapping[int, Published], workers: Collection[int]) -> str:
        """Compare; called about once a second.

        Args:
            now: seconds of any clock.
            requests: those that are published, by stream, in the order of their publishing.
            workers: numbers of the workers.

        Returns:
            Why the memory cannot be used any more; empty if it can.
        """
        try:
            taken = self._queue.audit()
        except RemoteProtocolError:
            return "its queue holds what no worker leaves there"
        if not self._tracking.intact():
            return "its tracking words cannot be joined any more"
        odd: list[tuple[str, int]] = [] if taken is None else [(_KEPT, taken)]
        queued: list[int] = []
        overtaken = 0
        for stream, request in requests.items():
            generation, state, owner = self._tracking.word(stream)
            if generation != stream >> 32:
                return "a tracking word names another request"
            if not _possible(state, owner, request):
                return f"a tracking word says {state} of {owner}, which cannot be"
            if state == State.QUEUED:
                queued.append(stream)
                continue
            overtaken = len(queued)
            if state == State.DONE:
                odd.append((_UNSAID, stream))
            elif owner not in workers:
                odd.append((_UNKNOWN, stream))
        odd += [(_VANISHED, stream) for stream in queued[:overtaken]]
        self.stands = not self._queued.isdisjoint(queued)
        self._queued = set(queued)
        self._since = {what: self._since.get(what, now) for what in odd}
        return next((what for (what, _), since in self._since.items() if now - since >= _PATIENCE_WITH[what]), "")


def _possible(state: int, owner: int, request: Published) -> bool:
    port = request.port
    if state == State.QUEUED:
        return owner == 0 and port is None and not request.gone
    if owner == 0 or (port is not None and owner != port.number):
        return False
    if state == State.CANCELLING:
        return request.gone
    return state == State.DONE or (state in _HELD and not request.gone)
