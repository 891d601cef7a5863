"""bridge.router.tunnels: how many WebSockets are open, and what is said about those that find no place."""

from __future__ import annotations

from typing import Any

from bridge.router.tally import EVERY
from bridge.router.tunnels import Tunnels


class Stand:
    """Stands in for one that is open."""

    port: Any = None

    def __init__(self, stream: int) -> None:
        self.stream = stream

    def worker_lost(self) -> None:
        raise AssertionError("nobody calls this")

    def pass_on(self, port: object, flags: int, size: int, data: memoryview) -> bool:
        raise AssertionError("nor this")


def test_places() -> None:
    """Those that are open and those that are asked for take a place each, until they end or are given up."""
    tunnels = Tunnels(2)
    assert tunnels.ask()
    assert tunnels.ask()
    assert not tunnels.ask()
    tunnels.open(Stand(1))
    assert not tunnels.ask()
    tunnels.give_up()
    assert tunnels.ask()
    del tunnels[1]
    assert tunnels.ask()
    assert (tunnels.opened, tunnels.refused) == (1, 2)


def test_what_is_said() -> None:
    """Refusals are said together, with the limit that they met, and not again before some time has passed."""
    tunnels = Tunnels(1)
    assert tunnels.line(1000.0) == ""
    tunnels.ask()
    tunnels.open(Stand(1))
    for _ in range(3):
        tunnels.ask()
    assert tunnels.line(1000.0) == "3 WebSockets refused (503): 1 were open, which is limits.websockets"
    tunnels.ask()
    assert tunnels.line(1000.0 + EVERY / 2) == ""
    assert tunnels.line(1000.0 + EVERY).startswith("1 WebSockets refused")
    assert tunnels.line(1000.0 + 3 * EVERY) == ""
