"""One worker as the router sees it: its port, what it is running, and the bytes of it that are still in flight.

Nothing that a worker says is believed: streams are looked up in the router's own record, descriptors are checked
against the segment that the router made for this worker, and a chunk is taken over (worker → router in the chunk
map) before a byte of it is read, so a descriptor that is repeated or made up is noticed.
"""

from __future__ import annotations

import weakref
from typing import Any, Protocol

from bridge.core import COUNT, FULL, Draft
from bridge.errors import RemoteProtocolError
from bridge.ipc.dispatcher import dispatch
from bridge.ipc.doorbell import Doorbell
from bridge.ipc.message import BATON, DATA, HEADER, RECORD, SEGMENT, WINDOW
from bridge.ipc.port import ROUTER, WAITER, Port
from bridge.router.worker_link import Owner, WorkerLink

BATCH = 64  #: messages taken from a worker before other work of the loop gets its turn


class Answered(Protocol):
    """What a worker's messages are handed to: one exchange, or a tunnel."""

    def on_message(  # noqa: PLR0913 - the parts of one message
        self,
        port: WorkerPort,
        kind: int,
        flags: int,
        size: int,
        number: int,
        head: int,
        views: list[Any] | None,
        inline: bytes,
    ) -> None:
        """Handle one checked message; raises RemoteProtocolError when it makes no sense now."""


class Halted(Protocol):
    """Who sends nothing more to a worker before that has made room in its queue."""

    def queue_ready(self) -> None:
        """There is room."""


class WorkerPort(WorkerLink):
    """The router's end of one worker's port.

    Args:
        number: the worker's id, which is its owner id in shared memory.
        pid: its process id, for the log.
        port: the joined port.
        waiters: its sleeping bits in the application's queue, and the bell behind each.
        application: owner of the streams; see `Owner`.
    """

    __slots__ = ("_flying", "consumers", "halted", "held", "leaving", "limit", "waiters")

    def __init__(self, number: int, pid: int, port: Port, waiters: dict[int, Doorbell], application: Owner) -> None:
        super().__init__(number, pid, port, application)
        self.waiters = waiters
        self.consumers = 0  # how many claim from the queue: its threads, or its one loop
        self.limit = 0  # requests at once; 0 until the worker says that it is ready
        self.leaving = 0  # requests that it was running when it began to drain, and that are not over
        self.halted: dict[Halted, None] = {}
        self._flying: dict[int, tuple[weakref.ref[Any], int, int]] = {}
        self.held = 0  # chunks on their way to clients

    def start(self) -> None:
        """Listen to the worker: its bell, and its link for the answer to the offer and for its end."""
        self.loop.add_reader(self.port.bell.fileno(), self.on_bell)
        self.loop.add_reader(self.port.link.fileno(), self.on_link)
        self.port.on_blocked = self._watch_link
        self._watch_link(not self.port.outbox.clear)
        self.application.stir()

    def on_bell(self) -> None:
        """The worker has put something into an empty queue, or has made room in a full one."""
        self.port.bell.hush()
        self._try(self.port.flush)
        if self.halted and self.port.clear:
            halted, self.halted = self.halted, {}
            for each in halted:
                each.queue_ready()
        self.application.wake()
        self.application.pump()

    def take_batch(self) -> int:
        """Handle one batch of messages; returns how many there were."""
        try:
            return self.port.take(BATCH, self._handle, self._pass_on)
        except RemoteProtocolError as error:
            self.application.cut(self, str(error))
            return 0

    def doze(self) -> bool:
        """Ask to be rung for the next message; False = there is one already."""
        try:
            return self.port.incoming.doze(WAITER)
        except RemoteProtocolError as error:
            self.application.cut(self, str(error))
            return True

    def rouse(self) -> None:
        """Ask not to be rung any more."""
        self.port.incoming.rouse(WAITER)

    def drain_all(self) -> None:
        """Handle everything that the worker published before it died."""
        queue = self.port.incoming
        try:
            queue.recover(self.number)  # what a thread was writing holds up what others have published behind it
            # Not until it is empty: whoever closed his link and lives on could go on publishing.
            left = queue.length() + BATCH
            while left > 0 and (count := queue.drain(BATCH) & COUNT):
                dispatch(queue, count, self._handle)
                left -= count
        except RemoteProtocolError as error:
            self.application.log.error("worker %d (pid %d): %s", self.number, self.pid, error)

    def _pass_on(self, stream: int, kind: int, flags: int, size: int, data: memoryview) -> bool:
        """Hand the bytes of a WebSocket on from where they are."""
        tunnel = self.application.tunnels.get(stream) if kind == DATA else None
        return tunnel is not None and tunnel.pass_on(self, flags, size, data)

    def _handle(  # noqa: PLR0913 - the parts of one message
        self,
        stream: int,
        kind: int,
        flags: int,
        size: int,
        number: int,
        head: int,
        descriptors: list[tuple[int, int, int]] | None,
        inline: bytes,
    ) -> None:
        exchange: Answered | None = self.application.exchanges.get(stream) or self.application.tunnels.get(stream)
        if exchange is None:
            self._on_note(stream, kind, number)
            return
        views = None if descriptors is None else [self.take(*descriptor) for descriptor in descriptors]
        exchange.on_message(self, kind, flags, size, number, head, views, inline)

    def _on_note(self, stream: int, kind: int, number: int) -> None:
        if kind == BATON:
            self.application.ring(number + 1)
        elif kind == RECORD and not stream:
            self._on_record(number)
        elif kind == SEGMENT and not stream:
            self._on_unknown_segment(number)
        else:
            raise RemoteProtocolError(f"message {kind} for stream {stream:#x}, which it does not have")

    def take(self, segment_id: int, first: int, size: int) -> Any:
        """Take over the chunks of one descriptor and return a view of their bytes.

        The chunks are free again when the last reference to the view is gone.

        Raises:
            RemoteProtocolError: the descriptor names another segment, lies outside, or chunks that it may not name.
        """
        segment = self.port.segment
        if segment_id != segment.number or not segment.covers(first, size):
            raise RemoteProtocolError(f"descriptor ({segment_id}, {first}, {size}) lies outside its segment")
        count = segment.chunks_of(size)
        if not segment.chunks.transfer(first, count, self.number, ROUTER):
            raise RemoteProtocolError(f"descriptor ({segment_id}, {first}, {size}) names chunks that it does not hold")
        view = segment.view(first, size)
        reference = weakref.ref(view, self._landed)
        self.held += count
        self._flying[id(reference)] = (reference, first, count)  # buffers cannot be hashed, nor can references to them
        return view

    def _landed(self, reference: weakref.ref[Any]) -> None:
        _, first, count = self._flying.pop(id(reference))
        self.held -= count
        segment = self.port.segment
        chunks = segment.chunks
        if segment.junk:
            segment.spoil(first, count)
        chunks.release(first, count)
        if chunks.take_waiting():
            self.port.peer_bell.ring()

    def acknowledge(self, stream: int, size: int) -> None:
        """Tell the worker that `size` bytes of a response have left."""
        self.send(HEADER.pack(stream, WINDOW, 0, 0, 0, size, 0, 0))

    def send(self, message: bytes) -> None:
        """Send one message to the worker; one that has stopped reading altogether is cut off."""
        try:
            self.port.send(message)
        except RemoteProtocolError as error:
            self._cut_soon(error)

    def post(self, draft: Draft, length: int) -> bool:
        """As `send`, and rings behind the callbacks of this round of the loop: what many sockets have is one ring.

        Args:
            draft: holds the message, at its front.
            length: of the message, in bytes.

        Returns:
            False: nothing more should follow before `Halted.queue_ready`. Not as soon as the queue is full: to pause
            one socket after the other, and to resume them, costs more than that their messages wait.
        """
        port = self.port
        try:
            if not port.backlog:
                ring = port.outgoing.push_draft(draft, length)
                if ring != FULL:
                    if ring:
                        self.loop.call_soon(self._ring)
                    return True
            port.send(draft.memory[:length])  # it may find the room that has just been made
        except RemoteProtocolError as error:
            self._cut_soon(error)
            return False
        return not port.crowded

    def _ring(self) -> None:
        if self.application.workers.get(self.number) is self:
            self.port.peer_bell.ring()

    def stop(self) -> None:
        """Stop listening and close this end; views in flight keep their mapping."""
        self.loop.remove_reader(self.port.bell.fileno())
        self.loop.remove_reader(self.port.link.fileno())
        self.loop.remove_writer(self.port.link.fileno())
        self.port.link.discard()
        self.port.close()
