"""Clocks that the test turns: what is to come in time comes in time, however busy the machine is."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from typing import Any


class Clock:
    """A clock that is turned by hand, and the timers that hang on it."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.timers: list[Timer] = []
        self.started = 0

    def __call__(self) -> float:
        return self.now

    def call_later(self, delay: float, callback: Callable[..., object], *arguments: Any) -> Timer:
        """As a loop's."""
        self.started += 1
        timer = Timer(self, self.now + delay, partial(callback, *arguments))
        self.timers.append(timer)
        return timer

    def advance(self, seconds: float) -> None:
        """Let time pass, timer by timer."""
        end = self.now + seconds
        while due := [timer for timer in self.timers if timer.when <= end]:
            timer = min(due, key=lambda timer: timer.when)
            self.timers.remove(timer)
            self.now = max(self.now, timer.when)
            timer.callback()
        self.now = end


class Timer:
    """One call that waits."""

    def __init__(self, clock: Clock, when: float, callback: Callable[[], object]) -> None:
        self.clock = clock
        self.when = when
        self.callback = callback

    def cancel(self) -> None:
        """As a loop's handle."""
        if self in self.clock.timers:
            self.clock.timers.remove(self)


class Clocked:
    """A loop in all but its time, which stands until `advance`.

    Args:
        loop: does everything else.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self.time = Clock()
        self.call_later = self.time.call_later
        self.advance = self.time.advance

    def __getattr__(self, name: str) -> Any:
        return getattr(self._loop, name)

    def call_at(self, when: float, callback: Callable[..., object], *arguments: Any) -> Timer:
        """As a loop's."""
        return self.call_later(when - self.time(), callback, *arguments)
