"""PURE. Which of the requests that were asked while workers were killed ended as they must not."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

MARGIN = 0.05  #: seconds between a death and the moment that was noted for it


@dataclass(frozen=True, slots=True)
class Asked:
    """One request, as its client saw it."""

    identity: str
    begun: float  #: seconds of the monotonic clock
    ended: float
    outcome: str  #: "right", "left" (by the client), "502", "cut", or what else was wrong


def faults(asked: Sequence[Asked], runs: Mapping[str, Sequence[int]], deaths: Mapping[int, float]) -> Counter[str]:
    """What went wrong, and how often.

    A request may fail if the worker that ran it was killed, and only then. If nothing says who ran it, it was begun
    and had not come to the application yet: then some worker must have been killed while it was under way.

    Args:
        asked: what the clients saw.
        runs: for each request the process ids of the workers that began it.
        deaths: for each worker that was killed, when.
    """
    found: Counter[str] = Counter()
    for request in asked:
        ran = runs.get(request.identity, ())
        if len(ran) > 1:
            found["run twice"] += 1
        if request.outcome == "right":
            found["answered by nobody"] += not ran
        elif request.outcome in ("502", "cut"):
            dying = [pid for pid, at in deaths.items() if request.begun - MARGIN <= at <= request.ended + MARGIN]
            found["failed although its worker lived"] += not set(ran or dying) & set(dying)
        elif request.outcome != "left":
            found[request.outcome] += 1
    return +found


def summary(asked: Sequence[Asked]) -> str:
    """How the requests ended."""
    count = Counter("cut or 502" if request.outcome in ("502", "cut") else request.outcome for request in asked)
    return ", ".join(f"{number:,} {outcome}" for outcome, number in count.most_common())
