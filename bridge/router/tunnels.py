"""The WebSockets of one application: those that are open, and how many may be."""

from __future__ import annotations

from typing import Any, Protocol

from bridge.router.tally import EVERY


class Open(Protocol):
    """One of them: `router.tunnel.Tunnel`."""

    @property
    def port(self) -> Any:
        """Of the worker that has it."""

    @property
    def stream(self) -> int:
        """Its number."""

    def pass_on(self, port: Any, flags: int, size: int, data: memoryview) -> bool:
        """Take a DATA message of the worker, if it can be written to the client where it is; False = it cannot."""

    def worker_lost(self) -> None:
        """Its worker is gone."""


class Tunnels(dict[int, Open]):
    """Those that are open, by stream.

    Args:
        most: that may be open, and asked for, at the same time.

    Attributes:
        opened: how many have been open, in all.
        refused: how many were not because of `most`, in all.
    """

    def __init__(self, most: int) -> None:
        super().__init__()
        self.opened = 0
        self.refused = 0
        self._most = most
        self._asked = 0
        self._said = 0  # of those refused
        self._silent = 0.0  # until then

    def ask(self) -> bool:
        """A client asks for one; False = there are too many. Else `open` or `give_up` follows."""
        if len(self) + self._asked >= self._most:
            self.refused += 1
            return False
        self._asked += 1
        return True

    def line(self, now: float) -> str:
        """What is to be said in the log now about those that were refused; empty if nothing is, or was a moment ago.

        Args:
            now: seconds, monotonic.
        """
        new = self.refused - self._said
        if not new or now < self._silent:
            return ""
        self._silent, self._said = now + EVERY, self.refused
        return f"{new} WebSockets refused (503): {self._most} were open, which is limits.websockets"

    def give_up(self) -> None:
        """One that was asked for does not come to be."""
        self._asked -= 1

    def open(self, tunnel: Open) -> None:
        """One that was asked for is open."""
        self._asked -= 1
        self.opened += 1
        self[tunnel.stream] = tunnel

    def of(self, port: Any) -> list[Open]:
        """Those of one worker."""
        return [tunnel for tunnel in self.values() if tunnel.port is port]
