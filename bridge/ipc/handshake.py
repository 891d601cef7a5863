"""How a worker joins the router: one offer with all shared memory in it, one answer.

    router → worker   attach    versions, geometry, ids; descriptors in the order of `FILES`
    router → worker   segment   one more segment of request bodies, before any message names it
    worker → router   attached  the application is ready: its interface, and how many requests it takes at once

Nothing is believed that a peer could have got wrong: versions first, then sizes against the mapped objects.
"""

from __future__ import annotations

import os
from dataclasses import asdict, dataclass
from typing import Any

from bridge.core import Queue, Tracking
from bridge.errors import RemoteProtocolError, VersionMismatch
from bridge.ipc.doorbell import Doorbell
from bridge.ipc.link import Link
from bridge.ipc.port import Geometry, Port
from bridge.ipc.segment import Segment, create_memory, map_memory

PROTOCOL = 2  #: grows when a message, a layout or a step of this handshake changes
INTERFACES = ("asgi", "wsgi")  #: what an application can be
FILES = ("application queue", "port", "worker's bell", "router's bell", "response segment")


@dataclass(slots=True)
class Attachment:
    """What a worker holds after the handshake."""

    port: Port
    queue: Queue
    tracking: Tracking
    geometry: Geometry
    worker: int
    waiter: int


def create_application_block(geometry: Geometry, *, memfd: bool) -> tuple[int, int]:
    """A new block for an application's queue and tracking words: (descriptor, bytes)."""
    size = geometry.application_queue_bytes + Tracking.bytes_needed(geometry.slots)
    return create_memory(size, memfd=memfd), size


def open_application_block(fd: int, geometry: Geometry, owner: int, *, create: bool) -> tuple[Queue, Tracking]:
    """Map an application block; the descriptor stays the caller's.

    Raises:
        RemoteProtocolError: the block is smaller than the geometry needs.
    """
    size = geometry.application_queue_bytes + Tracking.bytes_needed(geometry.slots)
    memory = map_memory(fd, size)
    split = geometry.application_queue_bytes
    queue = Queue(
        memory,
        capacity=geometry.queue,
        item_size=geometry.item_size,
        waiters=geometry.waiters,
        owner=owner,
        create=create,
    )
    return queue, Tracking(memory, slots=geometry.slots, owner=owner, create=create, offset=split)


def create_port(geometry: Geometry, owner: int, *, memfd: bool) -> tuple[Port, int]:
    """The router's end of a new port, and the descriptor of its block (the caller closes it after the offer)."""
    size = 2 * geometry.queue_bytes
    fd = create_memory(size, memfd=memfd)
    return Port(map_memory(fd, size), geometry, owner, create=True), fd


def offer(link: Link, version: str, geometry: Geometry, ids: tuple[int, int], fds: tuple[int, ...]) -> None:
    """Send the attach message.

    Args:
        link: to the worker.
        version: release of the router.
        geometry: sizes of everything.
        ids: (worker, waiter): owner id in shared memory, and sleeping bit in the application's queue.
        fds: one descriptor for each of `FILES`; they stay the caller's.

    Raises:
        PeerLost: the worker is gone.
    """
    worker, waiter = ids
    link.send(
        {
            "type": "attach",
            "protocol": PROTOCOL,
            "version": version,
            "geometry": asdict(geometry),
            "worker": worker,
            "waiter": waiter,
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
        if len(fds) != len(FILES):
            raise RemoteProtocolError(f"an attach message with {len(fds)} files instead of {len(FILES)}")
        geometry = Geometry(**message["geometry"])
        worker, waiter = int(message["worker"]), int(message["waiter"])
        if not 0 <= waiter < geometry.waiters:
            raise RemoteProtocolError(f"waiter {waiter} of {geometry.waiters}")
        block, ports, own_bell, router_bell, responses = fds
        queue, tracking = open_application_block(block, geometry, worker, create=False)
        port = Port(map_memory(ports, 2 * geometry.queue_bytes), geometry, worker, create=False)
        segment = Segment(responses, worker, geometry.chunk_size, geometry.chunks, worker, create=False)
    except (KeyError, TypeError, ValueError, OverflowError, OSError) as error:
        _close(fds)
        raise RemoteProtocolError(f"an attach message that cannot be used: {error!r}") from error
    except BaseException:
        _close(fds)
        raise
    port.join(link, Doorbell(own_bell), Doorbell(router_bell), segment)
    _close([block, ports])
    return Attachment(port, queue, tracking, geometry, worker, waiter)


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
        raise RemoteProtocolError(f"unexpected message {message.get('type')!r} on its link")
    return limit, interface


def _close(fds: list[int]) -> None:
    for fd in fds:
        os.close(fd)
