"""What a new worker is given: a port of its own, and waiters in the application's queue."""

from __future__ import annotations

from contextlib import ExitStack, closing

from bridge import config
from bridge.ipc import handshake
from bridge.ipc.doorbell import Doorbell
from bridge.ipc.link import Link
from bridge.ipc.port import ROUTER, Geometry, Port
from bridge.ipc.segment import Segment
from bridge.router.waiters import Waiters


def make_port(
    number: int, link: Link, geometry: Geometry, memory: config.Memory, places: Waiters, threads: int
) -> tuple[Port, int, dict[int, Doorbell]]:
    """A worker's port, the descriptor of its block, and its waiters.

    Args:
        number: the worker's id.
        link: to it; the port's from now on.
        geometry: of the application's queues.
        memory: the same of its segments.
        places: where its waiters are taken from.
        threads: how many.

    Raises:
        OSError: there is no room for it: nothing of it is left, nor the link.
    """
    with ExitStack() as made:
        made.callback(link.close)
        waiters = places.take(threads)
        made.callback(places.give_back, waiters)
        if len(waiters) < threads:
            raise OSError("no room for the threads of another worker of this application")
        cells = memory.chunk_size, memory.chunks
        segment = Segment.create(number, *cells, ROUTER, memfd=memory.memfd, junk=memory.junk_fill)
        made.callback(segment.close)
        bell, peer_bell = (made.enter_context(closing(Doorbell())) for _ in range(2))
        bell.fileno()  # now, where it may fail
        port, block = handshake.create_port(geometry, ROUTER, memfd=memory.memfd)
        port.join(link, bell, peer_bell, segment)
        made.pop_all()
    return port, block, waiters
