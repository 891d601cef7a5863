"""The link of one worker as the router sees it: what the worker says of itself, and what no queue carries.

Records of long messages, files, segments that a message names before they are known; and its end, which is the
worker's. Nobody waits here: what the link does not take at once goes when there is room.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import stat
from collections.abc import Callable, Mapping
from typing import Any, Protocol

from bridge.errors import FilesLost, LinkFull, PeerLost, RemoteProtocolError
from bridge.ipc.dispatcher import deliver
from bridge.ipc.handshake import read_attached, segment_note
from bridge.ipc.inbox import MOST_RECORDS
from bridge.ipc.link import close_all, decode
from bridge.ipc.message import BODY, FILE, HEAD, HEADER, LAST
from bridge.ipc.port import Port
from bridge.ipc.record import is_record
from bridge.ipc.segment import Segment

LINK_BATCH = 16  #: messages taken from a link before other work of the loop gets its turn


class Owner(Protocol):
    """What a worker's port needs from its application. Where a port is meant it is a `worker_port.WorkerPort`."""

    loop: asyncio.AbstractEventLoop
    log: logging.Logger
    exchanges: dict[int, Any]

    workers: dict[int, Any]

    @property
    def tunnels(self) -> Mapping[int, Any]:
        """Those that are open, by stream."""

    def pump(self) -> None:
        """Publish what waits, as far as there is room."""

    def stir(self) -> None:
        """Look at what the workers have sent, after the rest of this round of the loop."""

    def wake(self) -> None:
        """Look at what the workers have sent, now."""

    def ring(self, ring: int) -> None:
        """Ring waiter `ring` - 1 of the application's queue."""

    def ready(self, port: Any, limit: int, interface: str) -> None:
        """The worker takes up to `limit` requests at once from now on, for an application of this interface."""

    def segment(self, number: int) -> Segment | None:
        """The segment of requests with that number."""

    def lose(self, port: Any) -> None:
        """The worker is gone."""

    def hung_up(self, port: Any) -> None:
        """The worker has closed its end of the link."""

    def cut(self, port: Any, reason: str) -> None:
        """The worker broke the protocol."""


class WorkerLink:
    """See the head of the file.

    Args:
        number: the worker's id, which is its owner id in shared memory.
        pid: its process id, for the log.
        port: the joined port.
        application: owner of the streams; see `Owner`.
    """

    __slots__ = (
        "_files",
        "_files_lost",
        "application",
        "draining",
        "interface",
        "linked",
        "loop",
        "number",
        "pid",
        "port",
    )

    def __init__(self, number: int, pid: int, port: Port, application: Owner) -> None:
        self.number = number
        self.pid = pid
        self.port = port
        self.application = application
        self.loop = application.loop
        self.draining = False  # it takes no more requests, and will say nothing else
        self.interface = ""  # of what it runs: "asgi" or "wsgi", as it has said
        self.linked: set[int] = set()  # streams of which something is held on its way over the link
        self._files: list[int] = []  # that have come with the message that is being handled
        self._files_lost = False  # it had some, for which this process has no room

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

    def _try(self, send: Callable[[], object]) -> None:
        # Never from within: who sends is in the middle of something that ends when its worker does.
        try:
            send()
        except PeerLost:
            self.loop.call_soon(self.application.lose, self)
        except RemoteProtocolError as error:
            self._cut_soon(error)

    def _cut_soon(self, error: RemoteProtocolError) -> None:
        self.loop.call_soon(self.application.cut, self, str(error))

    def _watch_link(self, blocked: bool) -> None:
        number = self.port.link.fileno()
        if blocked:
            self.loop.add_writer(number, self._try, self.port.outbox.advance)
        else:
            self.loop.remove_writer(number)

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
        """Check one message, and hand it on."""
        raise NotImplementedError
