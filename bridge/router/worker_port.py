"""One worker as the router sees it: its port, what it is running, and the bytes of it that are still in flight.

Nothing that a worker says is believed: streams are looked up in the router's own record, descriptors are checked
against the segment that the router made for this worker, and a chunk is taken over (worker → router in the chunk
map) before a byte of it is read, so a descriptor that is repeated or made up is noticed.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import stat
import weakref
from collections.abc import Callable
from typing import Any, Protocol

from bridge.errors import FilesLost, LinkFull, PeerLost, RemoteProtocolError
from bridge.ipc.dispatcher import deliver, dispatch
from bridge.ipc.doorbell import Doorbell
from bridge.ipc.handshake import read_attached, segment_note
from bridge.ipc.inbox import MOST_RECORDS
from bridge.ipc.link import close_all, decode
from bridge.ipc.message import BATON, BODY, FILE, HEAD, HEADER, LAST, RECORD, SEGMENT, WINDOW
from bridge.ipc.port import ROUTER, WAITER, Port
from bridge.ipc.record import is_record
from bridge.ipc.segment import Segment

BATCH = 64  #: messages taken from a worker before other work of the loop gets its turn
LINK_BATCH = 16  #: the same for messages of its link, which take longer
_COUNT = 0xFFFF
_STARVED = 1 << 16


class Answered(Protocol):
    """What a worker's messages are handed to: one exchange."""

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


class Owner(Protocol):
    """What a worker's port needs from its application."""

    loop: asyncio.AbstractEventLoop
    log: logging.Logger
    exchanges: dict[int, Any]
    workers: dict[int, WorkerPort]

    def pump(self) -> None:
        """Publish what waits, as far as there is room."""

    def stir(self) -> None:
        """Look at what the workers have sent, after the rest of this round of the loop."""

    def wake(self) -> None:
        """Look at what the workers have sent, now."""

    def ring(self, ring: int) -> None:
        """Ring waiter `ring` - 1 of the application's queue."""

    def ready(self, port: WorkerPort, limit: int, interface: str) -> None:
        """The worker takes up to `limit` requests at once from now on, for an application of this interface."""

    def segment(self, number: int) -> Segment | None:
        """The segment of requests with that number."""

    def lose(self, port: WorkerPort) -> None:
        """The worker is gone."""

    def hung_up(self, port: WorkerPort) -> None:
        """The worker has closed its end of the link."""

    def cut(self, port: WorkerPort, reason: str) -> None:
        """The worker broke the protocol."""


class WorkerPort:
    """The router's end of one worker's port.

    Args:
        number: the worker's id, which is its owner id in shared memory.
        pid: its process id, for the log.
        port: the joined port.
        waiters: its sleeping bits in the application's queue, and the bell behind each.
        application: owner of the streams; see `Owner`.
    """

    __slots__ = (
        "_files",
        "_files_lost",
        "_flying",
        "application",
        "consumers",
        "draining",
        "held",
        "interface",
        "leaving",
        "limit",
        "linked",
        "loop",
        "number",
        "pid",
        "port",
        "waiters",
    )

    def __init__(self, number: int, pid: int, port: Port, waiters: dict[int, Doorbell], application: Owner) -> None:
        self.number = number
        self.pid = pid
        self.port = port
        self.waiters = waiters
        self.application = application
        self.consumers = 0  # how many claim from the queue: its threads, or its one loop
        self.draining = False  # it takes no more requests, and will say nothing else
        self.interface = ""  # of what it runs: "asgi" or "wsgi", as it has said
        self.limit = 0  # requests at once; 0 until the worker says that it is ready
        self.leaving = 0  # requests that it was running when it began to drain, and that are not over
        self.loop = application.loop
        self.linked: set[int] = set()  # streams of which something is held on its way over the link
        self._files: list[int] = []  # that have come with the message that is being handled
        self._files_lost = False  # it had some, for which this process has no room
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
        self.application.wake()
        self.application.pump()

    def take_batch(self) -> int:
        """Handle one batch of messages; returns how many there were."""
        queue = self.port.incoming
        try:
            result = queue.drain(BATCH)
            if result & _STARVED:
                self.port.peer_bell.ring()
            count = result & _COUNT
            if count:
                dispatch(queue, count, self._handle)
        except RemoteProtocolError as error:
            self.application.cut(self, str(error))
            return 0
        return count

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
            for _ in range(0, queue.length() + BATCH, BATCH):
                count = queue.drain(BATCH) & _COUNT
                dispatch(queue, count, self._handle)
        except RemoteProtocolError as error:
            self.application.log.error("worker %d (pid %d): %s", self.number, self.pid, error)

    def on_link(self) -> None:
        """The link is readable: the worker is ready, has sent records, or is gone."""
        try:
            for _ in range(LINK_BATCH):  # then others get their turn; the loop looks again
                if not self._take_from_link():
                    return
        except PeerLost:
            self.application.hung_up(self)
        except RemoteProtocolError as error:
            self.application.cut(self, str(error))

    def _take_from_link(self) -> bool:
        """Handle one message of the link; False = there is none."""
        lost = False
        try:
            received = self.port.link.receive_bytes()
        except FilesLost as error:
            received, lost = (error.data, []), True
        if received is None:
            return False
        data, fds = received
        if is_record(data):
            self._suspend(self.port.inbox.put(data, fds, lost=lost))
            return True
        message = decode(data, fds)
        close_all(fds)
        limit, interface = read_attached(message, fds)
        if self.interface and (limit or self.draining):
            raise RemoteProtocolError("it is attached already")
        self.draining = not limit
        self.application.ready(self, limit, interface)
        return True

    def _suspend(self, stream: int) -> None:
        exchange = self.application.exchanges.get(stream)
        if exchange is None:
            self.port.inbox.forget(stream)  # the message that ended the stream has overtaken it
        elif exchange.port not in (None, self):
            raise RemoteProtocolError(f"a record of stream {stream:#x}, which another worker has")
        else:
            self.linked.add(stream)

    def _on_record(self, serial: int) -> None:
        """The marker of a record: if the message is complete with it, this is its place."""
        inbox = self.port.inbox
        try:
            for _ in range(MOST_RECORDS):  # who goes on sending what nobody has asked for does not keep us here
                if serial in inbox or not self._take_from_link():
                    break
        except PeerLost:
            pass  # whoever reads the link next will see it too
        arrived = inbox.take(serial)
        if arrived is None:
            return
        self._files, self._files_lost = arrived.files, arrived.lost
        try:
            deliver(arrived.message, self._handle)
            if self._files:
                raise RemoteProtocolError("a file with a message that has none")
        finally:
            files, self._files = self._files, []
            close_all(files)

    def take_file(self, offset: int, count: int) -> int | None:
        """The file that has come with the message that is being handled; it is the caller's from now on.

        Returns:
            None: one has come, but this process may open no more, which is said in the log.

        Raises:
            RemoteProtocolError: none has come, it is no regular file, or no file has such a part.
        """
        if self._files_lost:
            self.application.log.error("no room for the file of a response: the limit of open files is reached")
            return None
        if not self._files or not stat.S_ISREG(os.fstat(self._files[0]).st_mode) or offset + count >= 1 << 63:
            raise RemoteProtocolError("the end of a response without a file that can be sent")
        return self._files.pop()

    def forget(self, stream: int) -> None:
        """The stream has ended: what is still on its way over the link is not wanted."""
        if stream in self.linked:
            self.linked.remove(stream)
            self.port.inbox.forget(stream)
            self.port.outbox.drop(stream)

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
        exchange = self.application.exchanges.get(stream)
        if exchange is None:
            if kind == BATON:
                self.application.ring(number + 1)
                return
            if kind == RECORD and not stream:
                self._on_record(number)
                return
            if kind == SEGMENT and not stream:
                self._on_unknown_segment(number)
                return
            raise RemoteProtocolError(f"message {kind} for stream {stream:#x}, which it does not have")
        views = None if descriptors is None else [self.take(*descriptor) for descriptor in descriptors]
        exchange.on_message(self, kind, flags, size, number, head, views, inline)

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

    def send_file(self, stream: int, reader: int) -> None:
        """Send the worker a file that holds a request's body; the descriptor stays the caller's."""
        message = HEADER.pack(stream, BODY, FILE | LAST, 0, 0, 0, 0, 0)
        try:
            self._send_linked(stream, message, reader)
        except OSError as error:  # our own shortage: who reads the body hears of it, and nobody else
            self.application.log.error("a request's body cannot be sent to its worker: %s", error)
            self._send_linked(stream, message)

    def send_head(self, stream: int, block: bytes) -> None:
        """Send the worker the head of a request that it has claimed."""
        self._send_linked(stream, HEADER.pack(stream, HEAD, 0, 0, len(block), 0, 0, len(block)) + block)

    def _send_linked(self, stream: int, message: bytes, *files: int) -> None:
        self.linked.add(stream)
        self._try(lambda: self.port.outbox.send(stream, message, files))

    def _on_unknown_segment(self, number: int) -> None:
        segment = self.application.segment(number)
        self._try(lambda: self.port.outbox.note(segment_note(number), [segment.fd] if segment else []))

    def announce(self, segment: Segment) -> None:
        """Send a segment before a message names it; raises PeerLost. Without room: the worker asks when it meets it."""
        with contextlib.suppress(LinkFull):
            self.port.link.send(segment_note(segment.number), [segment.fd])

    def send(self, message: bytes) -> None:
        """Send one message to the worker; one that has stopped reading altogether is cut off."""
        try:
            self.port.send(message)
        except RemoteProtocolError as error:
            self.loop.call_soon(self.application.cut, self, str(error))

    def _try(self, send: Callable[[], object]) -> None:
        # Never from within: who sends is in the middle of something that ends when its worker does.
        try:
            send()
        except PeerLost:
            self.loop.call_soon(self.application.lose, self)
        except RemoteProtocolError as error:
            self.loop.call_soon(self.application.cut, self, str(error))

    def _watch_link(self, blocked: bool) -> None:
        number = self.port.link.fileno()
        if blocked:
            self.loop.add_writer(number, self._try, self.port.outbox.advance)
        else:
            self.loop.remove_writer(number)

    def stop(self) -> None:
        """Stop listening and close this end; views in flight keep their mapping."""
        self.loop.remove_reader(self.port.bell.fileno())
        self.loop.remove_reader(self.port.link.fileno())
        self.loop.remove_writer(self.port.link.fileno())
        self.port.link.discard()
        self.port.close()
