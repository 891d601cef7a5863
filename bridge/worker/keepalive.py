"""The WebSockets of a worker, looked at now and then, all in one go: thousands of them have no timer each.

What a look finds, and what follows from it, is the socket's own affair (`worker.websocket`): who is silent is pinged,
who stays silent is given up, and who takes no part in the closing handshake is cut.
"""

from __future__ import annotations

import asyncio
import logging
from typing import Protocol

from bridge import config

PARTS = 8  #: what is due is noticed so many parts of its time too late, …
SOONEST, LATEST = 0.02, 1.0  #: … but no sooner and no later than so many seconds


class Watched(Protocol):
    """A WebSocket."""

    def look(self, now: float) -> None:
        """See what is due.

        Args:
            now: seconds of the loop's clock.
        """

    def leave(self) -> None:
        """The server goes."""


class KeepAlive:
    """See the head of the file.

    Args:
        settings: how long what may take.
        loop: of the worker.
    """

    def __init__(self, settings: config.WebSocket, loop: asyncio.AbstractEventLoop) -> None:
        times = [settings.keepalive_interval, settings.read_timeout, settings.close_timeout]
        self._interval = min(max(min((time for time in times if time), default=0.0) / PARTS, SOONEST), LATEST)
        self.loop = loop
        self._watched: dict[Watched, None] = {}
        self._awake = False

    def __len__(self) -> int:
        return len(self._watched)

    def __contains__(self, socket: Watched) -> bool:
        return socket in self._watched

    @property
    def watched(self) -> list[Watched]:
        """All of them."""
        return list(self._watched)

    def add(self, socket: Watched) -> None:
        """Look at this one too."""
        self._watched[socket] = None
        if not self._awake:
            self._awake = True
            self.loop.call_later(self._interval, self._look)

    def discard(self, socket: Watched) -> None:
        """Look at it no more."""
        self._watched.pop(socket, None)

    def _look(self) -> None:
        now = self.loop.time()
        for socket in self.watched:
            try:
                socket.look(now)
            except Exception:
                # Of one socket or of ours: without a next look nobody else would be pinged or given up.
                logging.getLogger("bridge").exception("a WebSocket cannot be looked at")
                self.discard(socket)
        self._awake = bool(self._watched)
        if self._awake:
            self.loop.call_later(self._interval, self._look)
