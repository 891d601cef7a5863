"""One router, as all threads of a WSGI worker share it.

Requests never pass through here: each thread takes them from the application's queue itself (`seat`). What does is
the rest of what a router says: that nobody waits for a request any more, that bytes of a response have left, that
there is room again, and over the link segments and files. The main thread receives all that and tells the threads which
wait for it, through one condition.
"""

from __future__ import annotations

import contextlib
import logging
import select
import threading
from collections.abc import Callable, Iterator
from typing import Protocol

from bridge.core import BATCH
from bridge.errors import FilesLost, LinkFull, PeerLost, RemoteProtocolError, StreamCancelled
from bridge.ipc.dispatcher import deliver
from bridge.ipc.doorbell import Doorbell
from bridge.ipc.handshake import Attachment, Handles, attached
from bridge.ipc.link import close_all, decode
from bridge.ipc.message import BODY, FILE, HEAD, RECORD, WINDOW
from bridge.ipc.port import WAITER
from bridge.ipc.record import AT_ONCE, is_record
from bridge.worker.segments import Segments, SegmentUnknown

LOOK = 0.1  #: seconds after which somebody who waits for room in the link looks whether he still needs it
PATIENCE = 1.0  #: seconds that the main thread waits for room in the link


class Response(Protocol):
    """A response that goes on when the client has taken some of it."""

    def acknowledged(self, size: int) -> None:
        """`size` bytes of it have left for the client."""


class Body(Protocol):
    """A request body that lies in a file."""

    def file_arrived(self, file: int) -> None:
        """Its descriptor, which is the body's from now on; -1 = this process may open no more files."""


class ThreadRouter:
    """See the head of the file. Methods are the main thread's, but for those of which it is said.

    Args:
        attachment: what the handshake brought.
        wake: makes the main thread look at `failed`; called by any thread.
    """

    def __init__(self, attachment: Attachment, wake: Callable[[], None]) -> None:
        self.port = attachment.port
        self.window = attachment.geometry.window
        self.waiters = dict(zip(attachment.waiters, attachment.bells, strict=True))
        self.alive = True  #: nobody waits for anything otherwise; threads read it
        self.failed = False  #: the main thread is to end this router
        self.left = False  #: it may live, but this worker cannot serve it any more
        self.changed = threading.Condition()  #: something has happened that a thread may wait for
        self.streams: dict[int, Response] = {}  #: those that asked to be told when bytes have left
        self.bodies: dict[int, Body] = {}  #: those that asked for a file
        self.heads: dict[int, bytes] = {}  #: of requests that asked for theirs, as they come
        self.segments = Segments(attachment.geometry, attachment.worker)
        self._attachment = attachment
        self._wake = wake
        self._receiving = threading.Lock()
        self._files: list[int] = []  # of the message over the link that is being handled
        self._long = threading.BoundedSemaphore(AT_ONCE)
        self._holders = 1  # threads that have a seat here, and the main thread

    def open(self, limit: int) -> None:
        """Tell the router that the application is ready, and how many requests it takes at once."""
        self._say(limit)
        self.on_bell()

    def drain(self) -> None:
        """Tell the router that no more requests are taken; those that run go on."""
        self._say(0)

    def _say(self, limit: int) -> None:
        try:
            try:
                self.port.link.send(attached(limit, "wsgi"))
            except LinkFull:
                self._wait_for_link(PATIENCE)
                self.port.link.send(attached(limit, "wsgi"))
        except PeerLost:
            self.failed = True

    def on_bell(self) -> None:
        """The router has put something into an empty queue, made room in a full one, or freed memory."""
        self.port.bell.hush()
        try:
            while self.port.take(BATCH, self._on_message) or not self.port.incoming.doze(WAITER):
                pass
        except PeerLost:
            self.failed = True
        except (RemoteProtocolError, OSError) as error:
            self.fail(error)
        with self.changed:
            self.changed.notify_all()

    def _on_message(  # noqa: PLR0913 - the parts of one message
        self,
        stream: int,
        kind: int,
        flags: int,
        size: int,
        number: int,
        head: int,  # noqa: ARG002 - as every handler of messages
        descriptors: list[tuple[int, int, int]] | None,  # noqa: ARG002
        inline: bytes,
    ) -> None:
        # That a stream is cancelled stands in its word, where its thread looks; it has to be woken, no more.
        if kind == WINDOW and (response := self.streams.get(stream)) is not None:
            response.acknowledged(size)
        elif kind == RECORD and not stream:
            self._on_record(number)
        elif kind == HEAD:
            with self.changed:
                if stream in self.heads:
                    self.heads[stream] = inline
        elif kind == BODY and flags & FILE:
            self._on_file(stream)

    def _on_record(self, serial: int) -> None:
        with self._receiving:
            if serial not in self.port.inbox:
                self._read_link()
            arrived = self.port.inbox.take(serial, self._waits)
        if arrived is not None:
            self._files = [-1] if arrived.lost else arrived.files
            try:
                deliver(arrived.message, self._on_message)
            finally:
                files, self._files = self._files, []
                close_all(file for file in files if file >= 0)

    def _waits(self, stream: int) -> bool:
        # Whether anybody does for what comes over the link about it.
        return stream in self.heads or stream in self.bodies

    def on_link(self) -> None:
        """The link is readable: segments and files, or the router's end."""
        try:
            self._receive()
        except PeerLost:
            self.failed = True
        except (RemoteProtocolError, OSError) as error:
            self.fail(error)
        with self.changed:
            self.changed.notify_all()

    def end(self) -> None:
        """The router is gone or left: nobody waits for anything that came from it."""
        with self.changed:
            self.alive = False
            self.changed.notify_all()
        self.port.link.shut()  # a router that lives hears it now, not when the last thread lets go
        self.let_go()

    # Of any thread

    def handles(self) -> Handles:
        """Handles for one thread, which calls `let_go` when it needs nothing of this router any more.

        Raises:
            PeerLost: the router is gone, and its bells may be closed.
            RemoteProtocolError, OSError, ValueError: the shared memory cannot be used.
        """
        with self.changed:
            if not self.alive:
                raise PeerLost("the router is gone")
            handles = self._attachment.handles()
            self._holders += 1
        return handles

    def let_go(self) -> None:
        """The last one to let go closes everything: no thread may ring a number that is another file's by then."""
        with self.changed:
            self._holders -= 1
            if self._holders:
                return
        self.port.close()
        self.segments.close()
        for bell in self.waiters.values():
            bell.close()

    def bell_of(self, waiter: int) -> Doorbell | None:
        """The bell of one of this worker's own threads."""
        return self.waiters.get(waiter)

    def view(self, number: int, first: int, size: int) -> memoryview:
        """The bytes behind a descriptor, in place.

        Raises:
            SegmentUnknown: they are in a segment that has not come.
            RemoteProtocolError: it names nothing that there is.
            OSError: what has come cannot be mapped.
        """
        try:
            segment = self.segments.find(number, first, size)
        except SegmentUnknown:
            try:
                self._receive()  # it was sent before the message, over the link
            except PeerLost:
                self.failed = True  # by its own end: what follows of that is no reason to leave
                self._wake()
            segment = self.segments.find(number, first, size)
        start = segment.data_offset + first * segment.chunk_size
        return memoryview(segment.memory)[start : start + size]

    @contextlib.contextmanager
    def head_over_link(self, stream: int) -> Iterator[None]:
        """While it is open, the head of that request is awaited; it will be in `heads`."""
        self.heads[stream] = b""
        try:
            yield
        finally:
            with self.changed:
                del self.heads[stream]
            with self._receiving:
                self.port.inbox.drop(stream)

    def chunks_released(self) -> None:
        """A thread has given chunks of responses back: those that wait for some look again."""
        if self.port.segment.chunks.take_waiting():
            with self.changed:
                self.changed.notify_all()

    @contextlib.contextmanager
    def long_message(self, gone: Callable[[], bool]) -> Iterator[None]:
        """One of those who send a long message at the same time; the others wait here.

        Raises:
            StreamCancelled: `gone()`, or the router is.
        """
        while not self._long.acquire(timeout=LOOK):
            if not self.alive or gone():
                raise StreamCancelled
        try:
            yield
        finally:
            self._long.release()

    def send_record(self, record: bytes, gone: Callable[[], bool]) -> None:
        """Send a record; waits for room in the link. Raises as `long_message`."""
        while self.alive and not gone():
            try:
                self.port.link.send_bytes(record)
            except LinkFull:
                self._wait_for_link(LOOK)
            except PeerLost:
                break
            else:
                return
        raise StreamCancelled

    def _wait_for_link(self, seconds: float) -> None:
        room = select.poll()
        room.register(self.port.link.fileno(), select.POLLOUT)
        room.poll(seconds * 1000)

    def fail(self, error: Exception) -> None:
        """The router cannot be served any more, whoever is to blame; the main thread leaves it. Of any thread."""
        if not self.failed:
            self.failed = self.left = True
            logging.getLogger("bridge").error("leaving the router: %s", error)
        self._wake()

    def _receive(self) -> None:
        with self._receiving:
            self._read_link()
        with self.changed:
            self.changed.notify_all()  # another thread may wait for what this one has found

    def _read_link(self) -> None:
        while True:
            try:
                received = self.port.link.receive_bytes()
            except FilesLost as error:
                logging.getLogger("bridge").error("%s", error)
                if is_record(error.data):
                    self.port.inbox.put(error.data, [], lost=True)
                else:
                    self.segments.missed(error.data)
                continue
            if received is None:
                return
            data, fds = received
            if is_record(data):
                self.port.inbox.put(data, fds)
            else:
                self.segments.add(decode(data, fds), fds)

    def _on_file(self, stream: int) -> None:
        with self.changed:
            body = self.bodies.get(stream)
            if body is not None:
                body.file_arrived(self._files.pop() if self._files else -1)  # without: the router has no room for it
                self.changed.notify_all()
        # Else the request has ended meanwhile, and the file is closed.
