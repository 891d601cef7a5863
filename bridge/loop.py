"""What main sleeps in: descriptors with a callback each, and timers. No asyncio: main has nothing to await."""

from __future__ import annotations

import heapq
import itertools
import selectors
import time
from collections.abc import Callable
from typing import Any, Protocol

from bridge.errors import FilesLost, PeerLost, RemoteProtocolError
from bridge.ipc.link import Link
from bridge.log import log


class _HasFileno(Protocol):
    def fileno(self) -> int: ...


class Loop:
    """Runs callbacks when descriptors are readable and when times have come."""

    def __init__(self) -> None:
        self._selector = selectors.DefaultSelector()
        self._timers: list[tuple[float, int, Callable[[], None]]] = []
        self._numbers = itertools.count()

    def watch(self, source: int | _HasFileno, call: Callable[[], None]) -> None:
        """Call `call` whenever `source` is readable, until `forget`."""
        self._selector.register(source, selectors.EVENT_READ, call)

    def forget(self, source: int | _HasFileno) -> None:
        """Stop watching, before `source` is closed; does nothing if it is not watched."""
        fd = source if isinstance(source, int) else source.fileno()
        if fd in self._selector.get_map():
            self._selector.unregister(fd)

    def after(self, seconds: float, call: Callable[[], None]) -> None:
        """Call `call` once, that much later."""
        heapq.heappush(self._timers, (time.monotonic() + seconds, next(self._numbers), call))

    def turn(self, most: float | None = None) -> None:
        """Sleep until there is something, at most `most` seconds, then run what is due."""
        pause = max(0.0, self._timers[0][0] - time.monotonic()) if self._timers else most
        if most is not None and pause is not None:
            pause = min(pause, most)
        for key, _ in self._selector.select(pause):
            # An earlier callback of this turn may have forgotten it, and its number may be someone else's now.
            if self._selector.get_map().get(key.fd) is key:
                key.data()
        while self._timers and self._timers[0][0] <= time.monotonic():
            heapq.heappop(self._timers)[2]()

    def close(self) -> None:
        """Let go of the selector."""
        self._selector.close()


def read_all(link: Link, handle: Callable[[dict[str, Any], list[int]], None], most: int | None = None) -> bool:
    """Hand over every message that is there; False when the link has ended or the other process talks nonsense.

    Args:
        link: where they come from.
        handle: takes a message and its files.
        most: messages, from who is not trusted to send no more than can be read: others have their turn in between.
    """
    handled = 0
    try:
        while handled != most and (received := _receive(link)):
            handle(*received)
            handled += 1
    except PeerLost:
        return False
    except (RemoteProtocolError, LookupError, ValueError, TypeError) as error:
        log.error("a process sent main what it does not understand: %r", error)
        return False
    return True


def _receive(link: Link) -> tuple[dict[str, Any], list[int]] | None:
    while True:
        try:
            return link.receive()
        except FilesLost as error:
            # Who sent it is well. What it sent is of no use without its files; a link's other end reads end-of-file.
            log.error("%s", error)
