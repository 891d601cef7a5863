"""Requests that nobody waits for any more and that do not end by themselves: their tasks are cancelled after a grace.

Only where the operator asks for it, because code that is cancelled in the middle may leave connections to a database
behind that nobody can use. No request has a timer: one looks at all of them, now and then, as long as there are some.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from math import inf
from typing import Protocol

PARTS = 8  #: the end of a grace is noticed so many parts of it too late, but no sooner …
SOONEST, LATEST = 0.02, 1.0  #: … and no later than so many seconds


class Stream(Protocol):
    """Of a request, or a WebSocket."""

    @property
    def cancelled(self) -> bool:
        """Nobody waits for the response any more, or listens."""


class Grace:
    """See the head of the file.

    Args:
        tasks: the requests that run.
        seconds: that they have to end by themselves.
        loop: runs them.

    Attributes:
        awake: a timer is on its way; else `wake` is to be called when a request begins.
    """

    __slots__ = ("_interval", "_loop", "_seconds", "_since", "_tasks", "awake")

    def __init__(
        self, tasks: Mapping[asyncio.Task[None], Stream], seconds: float, loop: asyncio.AbstractEventLoop
    ) -> None:
        self.awake = False
        self._tasks = tasks
        self._seconds = seconds
        self._interval = min(max(seconds / PARTS, SOONEST), LATEST)
        self._loop = loop
        self._since: dict[asyncio.Task[None], float] = {}  # when it was first seen; inf = its task has been cancelled

    def wake(self) -> None:
        """A request has begun."""
        self.awake = True
        self._loop.call_later(self._interval, self._look)

    def _look(self) -> None:
        now = self._loop.time()
        before, self._since = self._since, {}
        for task, stream in self._tasks.items():
            if stream.cancelled:
                since = before.get(task, now)
                # Never at first sight: a task that is cancelled before its first step leaves its stream unfinished.
                if task in before and now - since >= self._seconds:
                    since = inf  # once: what goes on in spite of it is not stopped by another one
                    task.cancel()
                self._since[task] = since
        self.awake = False
        if self._tasks:
            self.wake()
