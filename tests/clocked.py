"""A loop whose clock the test turns: what is to come in time comes in time, however busy the machine is."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from typing import Any


class Timer:
    """What the loop's `call_later` returns."""

    def __init__(self, when: float, call: Callable[[], object]) -> None:
        self.when = when
        self.call = call
        self._cancelled = False

    def cancel(self) -> None:
        """As a loop's handle."""
        self._cancelled = True

    def cancelled(self) -> bool:
        """As a loop's handle."""
        return self._cancelled


class Clocked:
    """A loop in all but its clock, which stands until `advance`.

    Args:
        loop: does everything else.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._now = 1000.0
        self._timers: list[Timer] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._loop, name)

    def time(self) -> float:
        """Seconds."""
        return self._now

    def call_later(self, seconds: float, callback: Callable[..., object], *arguments: Any) -> Timer:
        """As a loop's."""
        return self.call_at(self._now + seconds, callback, *arguments)

    def call_at(self, when: float, callback: Callable[..., object], *arguments: Any) -> Timer:
        """As a loop's."""
        timer = Timer(when, partial(callback, *arguments))
        self._timers.append(timer)
        return timer

    def advance(self, seconds: float) -> None:
        """Let time pass, and call what is due by then, in its order."""
        end = self._now + seconds
        while due := [timer for timer in self._timers if timer.when <= end]:
            timer = min(due, key=lambda each: each.when)
            self._timers.remove(timer)
            self._now = timer.when
            if not timer.cancelled():
                timer.call()
        self._now = end
