"""One generation of the memory that an application's workers share: its queue, its tracking words, their waiters.

Any worker of the application can write all of it. When it holds what no process of ours writes (`watch`) the generation
is given up: nothing of it is repaired or believed, and the application goes on in another one, with other workers.
Request bodies are not part of it: no worker can write those.
"""

from __future__ import annotations

import os

from bridge.ipc import handshake
from bridge.ipc.port import ROUTER, Geometry
from bridge.router.waiters import Waiters
from bridge.router.watch import Watch


class Generation:
    """See the head of the file.

    Args:
        geometry: sizes of everything.
        memfd: see `ipc.segment.create_memory`.

    Attributes:
        block: descriptor of the memory.
        slots: tracking words that no request has.

    Raises:
        OSError: there is no memory for it.
    """

    __slots__ = ("block", "queue", "slots", "tracking", "waiters", "watch")

    def __init__(self, geometry: Geometry, *, memfd: bool) -> None:
        self.block, _ = handshake.create_application_block(geometry, memfd=memfd)
        try:
            self.queue, self.tracking = handshake.open_application_block(self.block, geometry, ROUTER, create=True)
        except OSError:
            os.close(self.block)
            raise
        self.slots = list(range(geometry.slots - 1, -1, -1))
        self.waiters = Waiters(self.queue, geometry.waiters)
        self.watch = Watch(self.queue, self.tracking)

    def close(self) -> None:
        """Nobody is given this memory any more."""
        os.close(self.block)
