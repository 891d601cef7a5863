"""One process's end of the port between the router and one worker.

A port is two queues in shared memory (one per direction), a bell for each side, the segment that the worker writes
responses to, and the link that carries files and what fits no queue item, and whose end-of-file is the other side's
death.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from mmap import mmap

from bridge.core import COUNT, FULL, STARVED, Queue
from bridge.errors import RemoteProtocolError
from bridge.ipc.dispatcher import Handler, Look, dispatch
from bridge.ipc.doorbell import Doorbell
from bridge.ipc.inbox import Inbox
from bridge.ipc.link import Link
from bridge.ipc.outbox import Outbox
from bridge.ipc.segment import Segment

ROUTER = 1  #: the router's owner id in every queue, tracking word and chunk map
WAITER = 0  #: each queue of a port has a single consumer
MAX_BACKLOG = 65536  #: messages that may wait for a full queue before the other side counts as broken


@dataclass(frozen=True, slots=True)
class Geometry:
    """Numbers that both ends must agree on, and that nobody reads back from shared memory."""

    item_size: int  #: bytes of a queue cell
    queue: int  #: cells of a queue
    slots: int  #: tracking words of the application
    waiters: int  #: most threads (WSGI) or workers (ASGI) of the application
    chunk_size: int  #: bytes of a chunk
    chunks: int  #: chunks of a segment
    window: int  #: bytes of one response that may wait in shared memory
    junk: bool = False  #: fill what is freed; see `Segment`

    @property
    def queue_bytes(self) -> int:
        """Bytes of one queue of a port, rounded so that the next one starts on a page."""
        return _page(Queue.bytes_needed(self.queue, self.item_size, 1))

    @property
    def application_queue_bytes(self) -> int:
        """Bytes of the application's queue, rounded so that the tracking words start on a page."""
        return _page(Queue.bytes_needed(self.queue, self.item_size, self.waiters))


def _page(size: int) -> int:
    return (size + 4095) // 4096 * 4096


def _ignore(_: bool) -> None:
    pass


class Port:
    """Send and receive for one side; nothing here blocks.

    Args:
        memory: the block that holds both queues: router → worker first, then worker → router.
        geometry: sizes of the queues.
        owner: this process's owner id.
        create: True for the router, which lays the queues out.
    """

    __slots__ = (
        "_capacity",
        "backlog",
        "bell",
        "inbox",
        "incoming",
        "link",
        "memory",
        "on_blocked",
        "outbox",
        "outgoing",
        "peer_bell",
        "segment",
    )

    def __init__(self, memory: mmap, geometry: Geometry, owner: int, *, create: bool) -> None:
        self.memory = memory
        self._capacity = geometry.queue
        size = geometry.queue_bytes
        inbox, outbox = (
            Queue(
                memory,
                capacity=geometry.queue,
                item_size=geometry.item_size,
                waiters=1,
                owner=owner,
                create=create,
                offset=start,
            )
            for start in (0, size)
        )
        router = owner == ROUTER
        self.outgoing, self.incoming = (inbox, outbox) if router else (outbox, inbox)
        self.backlog: deque[bytes] = deque()  # messages that wait for room; empty = the next one goes straight in
        self.inbox = Inbox()
        self.outbox = Outbox(self)
        self.on_blocked: Callable[[bool], None] = _ignore  #: told whether something waits for room in the link
        self.bell: Doorbell
        self.peer_bell: Doorbell
        self.link: Link
        self.segment: Segment

    @staticmethod
    def outgoing_handle(memory: mmap, geometry: Geometry, owner: int) -> Queue:
        """A further thread's handle on the queue from this worker to the router."""
        size = geometry.queue_bytes
        cells = {"capacity": geometry.queue, "item_size": geometry.item_size, "waiters": 1, "batch": 1}
        return Queue(memory, **cells, owner=owner, create=False, offset=size)

    def join(self, link: Link, bell: Doorbell, peer_bell: Doorbell, segment: Segment) -> None:
        """Complete the port with what the handshake brought; the port owns all four."""
        self.link = link
        self.bell = bell
        self.peer_bell = peer_bell
        self.segment = segment

    def send(self, message: bytes) -> bool:
        """Send one message; False = it waits here until the other side has made room (order is kept).

        Raises:
            RemoteProtocolError: the other side has not read for `MAX_BACKLOG` messages.
        """
        if not self.backlog:
            ring = self.outgoing.push(message)
            if ring != FULL:
                if ring:
                    self.peer_bell.ring()
                return True
        if len(self.backlog) >= MAX_BACKLOG:
            raise RemoteProtocolError("the other side of the port has stopped reading")
        self.backlog.append(message)
        return False

    @property
    def clear(self) -> bool:
        """Whether no message waits for the queue: one that is sent now goes straight into it."""
        return not self.backlog

    @property
    def crowded(self) -> bool:
        """Whether as many messages wait here as the queue holds: who can should add no more."""
        return len(self.backlog) >= self._capacity

    def flush(self) -> bool:
        """Send what waits here, as far as there is room; True = nothing waits any more.

        Raises:
            PeerLost, RemoteProtocolError: as `Outbox.send`.
        """
        backlog = self.backlog
        while backlog:
            ring = self.outgoing.push(backlog[0])
            if ring == FULL:
                return False
            backlog.popleft()
            if ring:
                self.peer_bell.ring()
        return self.outbox.clear or (self.outbox.advance() and not backlog)

    def take(self, limit: int, handle: Handler, look: Look | None = None) -> int:
        """Handle up to `limit` messages of the other side, and ring it if it waits for the room that this has made.

        Args:
            limit: most messages.
            handle: takes them.
            look: see `dispatch`.

        Returns:
            How many there were.

        Raises:
            RemoteProtocolError: the queue or a message is not what the other side should write.
        """
        queue = self.incoming
        result = queue.drain(limit)
        if result & STARVED:
            self.peer_bell.ring()
        count = result & COUNT
        # Long messages lie in the queue until they have been handled; their room is not to wait for the next batch.
        if count and dispatch(queue, count, handle, look) and queue.drain(0) & STARVED:
            self.peer_bell.ring()
        return count

    def close(self) -> None:
        """Close every descriptor of this end; the mappings go with their last view."""
        self.on_blocked = _ignore
        self.outbox.close()
        self.inbox.close()
        self.link.close()
        self.bell.close()
        self.peer_bell.close()
        self.segment.close()
