"""PURE. The line of requests that wait for a worker, and which of them is next.

First in, first out is fair, and right as long as everybody is served in time. When more comes than the workers end, it
is the worst order that there is: the line grows until clients give up, and then it is always the turn of one that is
about to. So the line is turned round when it *stands*: when its oldest request has waited for longer than `patience`.
Then the newest is next. Most of those that are served have hardly waited, and the rest waits on, until there is less to
do, the client leaves, or the deadline is over.

Among those that wait in order, who is expected to be done first is next, counted from their arrival (`expected`): a
request that runs for long is overtaken by shorter ones, but only by those that come within the time that it will run
itself. So short ones need not wait behind several long ones, and long ones wait hardly longer.

Nobody says how patient clients are, but those who leave show it. Where too many have left before their answer began,
`patience` is half the time after which they did; else it is `PATIENCE` of the deadline, for whoever waits is a client
that still wants its answer, and in a line of such clients the newest must not overtake the others for ever.
"""

from __future__ import annotations

from collections import OrderedDict
from itertools import islice
from typing import Generic, Protocol, TypeVar

PATIENCE = 0.25  #: of the deadline
TOO_MANY = 16  #: one in so many that leaves turns the line round …
STILL_TOO_MANY = 64  #: … and one in so many keeps it so: in the other order hardly anybody has to leave
FRONT = 32  #: of the line: who stands further behind overtakes nobody, so to choose costs the same for every line
REMEMBERED = 64  #: requests after which what was counted before is worth half


class Waiting(Protocol):
    """A request, to the line."""

    due: float  #: seconds of the clock that `Line.look` is told: when it is refused
    expected: float  #: seconds that it will run, as far as anybody knows


Request = TypeVar("Request", bound=Waiting)


def _done(request: Waiting) -> float:
    return request.due + request.expected


class Line(Generic[Request]):
    """See the head of the file.

    Args:
        timeout: seconds between a request's arrival and its `due`.

    Attributes:
        requests: the line itself, oldest first. Whoever comes is put in, whoever leaves is taken out, each at once.
        newest_first: it has been turned round.
        patience: seconds for which the oldest may have waited before it is.
    """

    __slots__ = ("_ended", "_left", "_longest", "_timeout", "_waited", "newest_first", "patience", "requests")

    def __init__(self, timeout: float) -> None:
        self.requests: OrderedDict[Request, None] = OrderedDict()
        self.newest_first = False
        self.patience = self._longest = timeout * PATIENCE
        self._timeout = timeout
        self._ended = 0.0  # requests that have ended while others waited
        self._left = 0.0  # requests whose clients have left
        self._waited = 0.0  # seconds that these had waited, together

    def next(self, *, differ: bool) -> Request:
        """Take out who is next; there must be somebody.

        Args:
            differ: they are not all expected to run for the same time.
        """
        requests = self.requests
        if self.newest_first or not differ:
            return requests.popitem(self.newest_first)[0]
        first = min(islice(requests, FRONT), key=_done)
        del requests[first]
        return first

    def put_back(self, request: Request) -> None:
        """`request` was next, and still is."""
        self.requests[request] = None
        self.requests.move_to_end(request, self.newest_first)

    def left(self, request: Request, now: float) -> None:
        """A client has left before its answer began, in the line or later."""
        self._left += 1
        self._waited += now - request.due + self._timeout

    def overdue(self, now: float) -> list[Request]:
        """Those whose deadline is over."""
        # Not only at the front: who was put back may stand behind others that came later.
        return [request for request in self.requests if request.due <= now]

    def waited(self, now: float) -> float:
        """Seconds for which the oldest request has waited."""
        for request in self.requests:
            return now - request.due + self._timeout
        return 0.0

    def look(self, now: float, ended: int) -> None:
        """Decide about the order; called now and then while somebody waits.

        Args:
            now: seconds.
            ended: requests that have ended since the last look.
        """
        self._ended += ended
        often = STILL_TOO_MANY if self.newest_first else TOO_MANY
        self.patience = self._longest
        if self._left * often > self._ended:
            self.patience = min(self._longest, self._waited / self._left / 2)
        self.newest_first = self.waited(now) > self.patience
        if self._ended + self._left > REMEMBERED:
            self._ended /= 2
            self._left /= 2
            self._waited /= 2
