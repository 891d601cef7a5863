"""A worker's ends, as a fuzzer that runs inside it holds them."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from bridge.ipc.link import Link


@dataclass
class Ends:
    """A worker's ends."""

    attachment: Any
    main: Link  #: its link to main
    page: Any  #: the status page
    random: random.Random
    broken: Callable[[str], None]  #: called with what should not have been possible

    @property
    def port(self) -> Any:
        """The port to the router."""
        return self.attachment.port

    @property
    def streams(self) -> list[int]:
        """Streams of this application that are under way now, its own and others'."""
        tracking = self.attachment.tracking
        found = []
        for slot in range(64):
            generation, state, _ = tracking.word(slot)
            if 0 < state < 7:
                found.append(generation << 32 | slot)
        return found or [1 << 32]

    def send(self, message: bytes) -> None:
        """Put a message into the router's queue and ring."""
        self.port.outgoing.push(message[: self.port.outgoing.room])
        self.port.peer_bell.ring()

    def number(self) -> int:
        """A number that is likely to be at the edge of something."""
        exact = self.random.choice((0, 1, 63, 64, 255, 640, 16384, 65535, (1 << 31) - 1, (1 << 32) - 1))
        return self.random.choice((exact, self.random.randrange(1 << 32)))
