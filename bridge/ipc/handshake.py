"""How a worker joins the router: one offer with all shared memory in it, one answer.

    router → worker   attach    versions, geometry, ids; descriptors in the order of `FILES`, then the waiters' bells
    router → worker   segment   one more segment of request bodies: before any message names it, or when asked for
    worker → router   attached  the application is ready: its interface, and how many requests it takes at once

A worker is offered as many waiters as its application may have threads. Each thread of a WSGI worker sleeps on its own
bell; an ASGI worker, which wakes for everything in one loop, uses the first, and its bell is the port's.

Nothing is believed that a peer could have got wrong: versions first, then sizes against the mapped objects.
"""

from __future__ import annotations

import os
from dataclasses import asdict, dataclass
from mmap import mmap
from typing import Any, NamedTuple

from bridge.core import BATCH, Queue, Tracking
from bridge.errors import RemoteProtocolError, VersionMismatch
from bridge.ipc.doorbell import Doorbell
from bridge.ipc.link import Link
from bridge.ipc.port import Geometry, Port
from bridge.ipc.segment import Segment, create_memory, map_memory

PROTOCOL = 3  #: grows when a message, a layout or a step of this handshake changes
INTERFACES = ("asgi", "wsgi")  #: what an application can be
FILES = ("application queue", "port", "worker's bell", "router's bell", "response segment")


@dataclass(slots=True)
class Attachment:
    """What a worker holds after the handshake; `queue` and `tracking` are one thread's handles."""

    port: Port
    memory: mmap  #: the application block
    queue: Queue
    tracking: Tracking
    geometry: Geometry
    worker: int
    waiters: list[int]  #: sleeping bits in the application's queue
    bells: list[Doorbell]  #: of the waiters, in the same order

    def handles(self) -> Handles:
        """The handles of one more thread, on the same memory."""
        queue, tracking = _application_handles(self.memory, self.geometry, self.worker, create=False, batch=1)
        outgoing = Port.outgoing_handle(self.port.memory, self.geometry, self.worker)
        return Handles(queue, tracking, outgoing, self.port.segment.handle())


class Handles(NamedTuple):
    """What one thread of a worker works with."""

    queue: Queue  #: the application's, of requests
    tracking: Tracking
    outgoing: Queue  #: to the router
    segment: Segment  #: for response bodies


def create_application_block(geometry: Geometry, *, memfd: bool) -> tuple[int, int]:
    """A new block for an application's queue and tracking words: (descriptor, bytes)."""
    size = geometry.application_queue_bytes + Tracking.bytes_needed(geometry.slots)
    return create_memory(size, memfd=memfd), size


def open_application_block(fd: int, geometry: Geometry, owner: int, *, create: bool) -> tuple[Queue, Tracking]:
    """Map an application block; the descriptor stays the caller's.

    Raises:
        RemoteProtocolError: the block is smaller than the geometry needs.
    """
    return _application_handles(_map_application_block(fd, geometry), geometry, owner, create=create)


def _map_application_block(fd: int, geometry: Geometry) -> mmap:
    return map_memory(fd, geometry.application_queue_bytes + Tracking.bytes_needed(geometry.slots))


def _application_handles(
    memory: mmap, geometry: Geometry, owner: int, *, create: bool, batch: int = BATCH
) -> tuple[Queue, Tracking]:
    queue = Queue(
        memory,
        capacity=geometry.queue,
        item_size=geometry.item_size,
        waiters=geometry.waiters,
        owner=owner,
        create=create,
        batch=batch,
    )
    offset = geometry.application_queue_bytes
    return queue, Tracking(memory, slots=geometry.slots, owner=owner, create=create, offset=offset)


def create_port(geometry: Geometry, owner: int, *, memfd: bool) -> tuple[Port, int]:
    """The router's end of a new port, and the descriptor of its block (the caller closes it after the offer)."""
    size = 2 * geometry.queue_bytes
    fd = create_memory(size, memfd=memfd)
    try:
        return Port(map_memory(fd, size), geometry, owner, create=True), fd
    except BaseException:
        os.close(fd)
        raise


def offer(link: Link, version: str, geometry: Geometry, ids: tuple[int, list[int]], fds: tuple[int, ...]) -> None:
    """Send the attach message.

    Args:
        link: to the worker.
        version: release of the router.
        geometry: sizes of everything.
        ids: (worker, waiters): owner id in shared memory, and sleeping bits in the application's queue.
        fds: one descriptor for each of `FILES`, then one for each waiter's bell; they stay the caller's.

    Raises:
        PeerLost: the worker is gone.
    """
    worker, waiters = ids
    link.send(
        {
            "type": "attach",
            "protocol": PROTOCOL,
            "version": version,
            "geometry": asdict(geometry),
            "worker": worker,
            "waiters": waiters,
        },
        fds,
    )


def receive_offer(link: Link, version: str) -> Attachment | None:
    """The worker's side: what the router offers, or None when nothing has come yet.

    Raises:
        PeerLost: the router is gone.
        VersionMismatch, RemoteProtocolError: see `accept`; or it is no offer.
    """
    received = link.receive()
    if received is None:
        return None
    message, fds = received
    if message.get("type") != "attach":
        _close(fds)
        raise RemoteProtocolError(f"unexpected message {message.get('type')!r} from the router")
    return accept(link, version, message, fds)


def accept(link: Link, version: str, message: dict[str, Any], fds: list[int]) -> Attachment:
    """Check an attach message and map everything in it; the descriptors are owned by the result.

    Raises:
        VersionMismatch: the router is of another release.
        RemoteProtocolError: the offer does not hold together.
    """
    try:
        theirs = f"{message.get('version')} (protocol {message.get('protocol')})"
        ours = f"{version} (protocol {PROTOCOL})"
        if theirs != ours:
            raise VersionMismatch(ours, theirs)
        worker, waiters = int(message["worker"]), [int(waiter) for waiter in message["waiters"]]
        files = len(FILES) + len(waiters)
        if len(fds) != files or not waiters:
            raise RemoteProtocolError(f"an attach message with {len(fds)} files instead of {files}")
        geometry = Geometry(**message["geometry"])
        if not all(0 <= waiter < geometry.waiters for waiter in waiters):
            raise RemoteProtocolError(f"waiters {waiters} of {geometry.waiters}")
        block, ports, own_bell, router_bell, responses, *bells = fds
        memory = _map_application_block(block, geometry)
        queue, tracking = _application_handles(memory, geometry, worker, create=False)
        port = Port(map_memory(ports, 2 * geometry.queue_bytes), geometry, worker, create=False)
        cells = geometry.chunk_size, geometry.chunks
        segment = Segment(responses, worker, *cells, worker, create=False, junk=geometry.junk)
    except (KeyError, TypeError, ValueError, OverflowError, OSError) as error:
        _close(fds)
        raise RemoteProtocolError(f"an attach message that cannot be used: {error!r}") from error
    except BaseException:
        _close(fds)
        raise
    port.join(link, Doorbell(own_bell), Doorbell(router_bell), segment)
    _close([block, ports])
    return Attachment(port, memory, queue, tracking, geometry, worker, waiters, [Doorbell(bell) for bell in bells])


def segment_note(number: int) -> dict[str, Any]:
    """What a segment of requests is sent with; without its file it says that there is no such segment."""
    return {"type": "segment", "segment": number}


def attached(limit: int, interface: str) -> dict[str, Any]:
    """The worker's answer.

    Args:
        limit: requests that it takes at once; 0 = it drains and takes no more.
        interface: one of `INTERFACES`.
    """
    return {"type": "attached", "limit": limit, "interface": interface}


def read_attached(message: dict[str, Any], fds: list[int]) -> tuple[int, str]:
    """Limit and interface of a worker's answer.

    Raises:
        RemoteProtocolError: it is no such message.
    """
    limit, interface = message.get("limit"), message.get("interface")
    if message.get("type") != "attached" or fds or not isinstance(limit, int) or interface not in INTERFACES:
        raise RemoteProtocolError(f"unexpected message {message.get('type')!r:.80} on its link")
    return limit, interface


def _close(fds: list[int]) -> None:
    for fd in fds:
        os.close(fd)
