"""One worker as the router sees it: its port, what it is running, and the bytes of it that are still in flight.

Nothing that a worker says is believed: streams are looked up in the router's own record, descriptors are checked
against the segment that the router made for this worker, and a chunk is taken over (worker → router in the chunk
map) before a byte of it is read, so a descriptor that is repeated or made up is noticed.
"""

from __future__ import annotations

import asyncio
import logging
import os
import stat
import weakref
from typing import Any, Protocol

from bridge.errors import PeerLost, RemoteProtocolError
from bridge.ipc.dispatcher import dispatch
from bridge.ipc.doorbell import Doorbell
from bridge.ipc.handshake import read_attached
from bridge.ipc.message import BATON, HEADER, WINDOW
from bridge.ipc.port import ROUTER, WAITER, Port

BATCH = 64  #: messages taken from a worker before other work of the loop gets its turn
LINK_BATCH = 16  #: the same for messages of its link, which take longer
MOST_FILES = 256  #: of a worker that no message has named yet
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
        "_flying",
        "application",
        "consumers",
        "draining",
        "files",
        "interface",
        "leaving",
        "limit",
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
        self.leaving = 0  # requests that it was running when it began to drain
        self.loop = application.loop
        self.files: dict[int, int] = {}  # stream → what is to end its response
        self._flying: dict[int, tuple[weakref.ref[Any], int, int]] = {}

    def start(self) -> None:
        """Listen to the worker: its bell, and its link for the answer to the offer and for its end."""
        self.loop.add_reader(self.port.bell.fileno(), self.on_bell)
        self.loop.add_reader(self.port.link.fileno(), self.on_link)
        self.application.stir()

    def on_bell(self) -> None:
        """The worker has put something into an empty queue, or has made room in a full one."""
        self.port.bell.hush()
        self.port.flush()
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
            # Not until it is empty: whoever closed his link and lives on could go on publishing.
            for _ in range(0, queue.length() + BATCH, BATCH):
                count = queue.drain(BATCH) & _COUNT
                dispatch(queue, count, self._handle)
        except RemoteProtocolError as error:
            self.application.log.error("worker %d (pid %d): %s", self.number, self.pid, error)

    def on_link(self) -> None:
        """The link is readable: the worker is ready, or gone."""
        try:
            for _ in range(LINK_BATCH):  # then others get their turn; the loop looks again
                received = self.port.link.receive()
                if received is None:
                    return
                self._on_link_message(*received)
        except PeerLost:
            self.application.hung_up(self)
        except RemoteProtocolError as error:
            self.application.cut(self, str(error))

    def _on_link_message(self, message: dict[str, Any], fds: list[int]) -> None:
        if message.get("type") == "file" and len(fds) == 1:
            self._keep_file(message.get("stream"), fds[0])
            return
        for fd in fds:
            os.close(fd)
        limit, interface = read_attached(message, fds)
        if self.interface and (limit or self.draining):
            raise RemoteProtocolError("it is attached already")
        self.draining = not limit
        self.application.ready(self, limit, interface)

    def _keep_file(self, stream: object, file: int) -> None:
        exchange = self.application.exchanges.get(stream) if isinstance(stream, int) else None
        if exchange is None or not isinstance(stream, int):
            os.close(file)  # the message that ended the stream has overtaken it
        elif stream in self.files or len(self.files) >= MOST_FILES or exchange.port not in (None, self):
            os.close(file)
            raise RemoteProtocolError(f"a file for stream {stream:#x}, which may have none")
        else:
            self.files[stream] = file

    def take_file(self, stream: int, offset: int, count: int) -> int:
        """The file that came over the link for a stream; its descriptor is the caller's from now on.

        Raises:
            RemoteProtocolError: none has come, it is no regular file, or no file has such a part.
        """
        try:
            while stream not in self.files and (received := self.port.link.receive()):
                self._on_link_message(*received)
        except PeerLost:
            pass  # whoever reads the link next will see it too
        file = self.files.pop(stream, None)
        if file is None:
            raise RemoteProtocolError(f"the file of stream {stream:#x} has not come")
        if not stat.S_ISREG(os.fstat(file).st_mode) or offset + count >= 1 << 63:
            os.close(file)
            raise RemoteProtocolError(f"the file of stream {stream:#x} cannot be sent")
        return file

    def drop_file(self, stream: int) -> None:
        """Close the file of a stream that has ended otherwise, if there is one."""
        file = self.files.pop(stream, None)
        if file is not None:
            os.close(file)

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
        self._flying[id(reference)] = (reference, first, count)  # buffers cannot be hashed, nor can references to them
        return view

    def _landed(self, reference: weakref.ref[Any]) -> None:
        _, first, count = self._flying.pop(id(reference))
        chunks = self.port.segment.chunks
        chunks.release(first, count)
        if chunks.take_waiting():
            self.port.peer_bell.ring()

    def acknowledge(self, stream: int, size: int) -> None:
        """Tell the worker that `size` bytes of a response have left."""
        self.send(HEADER.pack(stream, WINDOW, 0, 0, 0, size, 0, 0))

    def send_file(self, stream: int, reader: int) -> None:
        """Send the worker a file that holds a request's body."""
        try:
            self.port.link.send({"type": "body", "stream": stream}, [reader])
        except PeerLost:
            self.loop.call_soon(self.application.lose, self)

    def send(self, message: bytes) -> None:
        """Send one message to the worker; one that has stopped reading altogether is cut off."""
        try:
            self.port.send(message)
        except RemoteProtocolError as error:
            self.loop.call_soon(self.application.cut, self, str(error))

    def stop(self) -> None:
        """Stop listening and close this end; views in flight keep their mapping."""
        for stream in list(self.files):
            self.drop_file(stream)
        self.loop.remove_reader(self.port.bell.fileno())
        self.loop.remove_reader(self.port.link.fileno())
        self.port.close()
