"""A router's link, as an ASGI worker's loop sees it, and the messages that wait for what comes over it.

A message that names a segment which has not come is parked, and with it everything of the inbox behind it, until the
segment was asked for and is here. Records take their places among the messages of the inbox by their markers.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable
from typing import Any, Protocol

from bridge.errors import FilesLost, PeerLost, RemoteProtocolError
from bridge.ipc.dispatcher import Handler, deliver
from bridge.ipc.handshake import Attachment
from bridge.ipc.link import close_all, decode
from bridge.ipc.message import HEADER, SEGMENT
from bridge.ipc.record import is_record
from bridge.worker.segments import RETRY, Segments, SegmentUnknown


class Owner(Protocol):
    """Whose link it is: `worker.attach.Attached`."""

    def send(self, message: bytes) -> None:
        """Send a message through the queue."""

    def resume(self) -> None:
        """Let those go on that wait for room; raises PeerLost, RemoteProtocolError."""

    def schedule(self) -> None:
        """Take a turn soon."""

    def leave(self, error: Exception | None) -> None:
        """The router is gone, or is to be left because of this error."""


class LoopLink:
    """See the head of the file.

    Args:
        owner: see `Owner`.
        attachment: what the handshake brought.
    """

    def __init__(self, owner: Owner, attachment: Attachment) -> None:
        self.parked: deque[tuple[Handler, tuple[Any, ...]]] = deque()  #: messages that wait for segments
        self._loop = asyncio.get_running_loop()
        self._owner = owner
        self._port = attachment.port
        self._segments = Segments(attachment.geometry, attachment.worker)
        self._asked: set[int] = set()  # segments that are on their way

    def open(self) -> None:
        """Begin to listen."""
        self._loop.add_reader(self._port.link.fileno(), self._on_readable)
        self._port.on_blocked = self._watch

    def close(self) -> None:
        """The router is gone."""
        self._asked.clear()
        self.parked.clear()
        self._loop.remove_reader(self._port.link.fileno())
        self._loop.remove_writer(self._port.link.fileno())
        self._segments.close()

    def note(self, message: dict[str, Any]) -> None:
        """Send a JSON message; it may wait for room."""
        self._try(lambda: self._port.outbox.note(message))

    def send_long(self, stream: int, message: bytes) -> None:
        """Send a message that fits no queue item; it may wait for room."""
        self._try(lambda: self._port.outbox.send(stream, message))

    def resume(self) -> None:
        """There may be room again, for whoever waits for some."""
        self._try(self._owner.resume)

    def read(self, number: int, first: int, size: int) -> bytes:
        """The bytes of a descriptor.

        Raises:
            SegmentUnknown: of a segment that has not come.
            PeerLost, RemoteProtocolError, OSError: what came over the link cannot be used.
        """
        try:
            segment = self._segments.find(number, first, size)
        except SegmentUnknown:
            self._read()  # it was sent before the message
            segment = self._segments.find(number, first, size)
        return segment.read(first, size)

    def record(self, serial: int, handle: Handler, wanted: Callable[[int], bool]) -> None:
        """A marker has come: if a message is complete with its record, that goes to `handle`. Raises as `read`.

        Args:
            serial: of the record.
            handle: takes the message.
            wanted: whether anybody waits for what comes over the link of a stream.
        """
        inbox = self._port.inbox
        if serial not in inbox:
            self._read()
        arrived = inbox.take(serial, wanted)
        if arrived is not None:
            close_all(arrived.files)  # a loop asks for none
            deliver(arrived.message, handle)

    def park(self, segment: int, handle: Handler, *parts: Any) -> None:
        """A message waits for a segment; it is handed to `handle` again when that is here."""
        self.parked.append((handle, parts))
        if segment not in self._asked:
            self._asked.add(segment)
            self._ask(segment)

    def go_on(self) -> bool:
        """Handle what was parked, as far as that goes; False = something still waits."""
        if all(segment in self._segments for segment in self._asked):
            self._asked.clear()
            parked, self.parked = self.parked, deque()
            for handle, parts in parked:
                handle(*parts)
        return not self.parked

    def _ask(self, segment: int) -> None:
        if segment in self._asked:
            self._owner.send(HEADER.pack(0, SEGMENT, 0, 0, 0, 0, segment, 0))

    def _on_readable(self) -> None:
        self._try(self._read)

    def _read(self) -> None:
        while True:
            try:
                received = self._port.link.receive_bytes()
            except FilesLost as error:
                self._on_files_lost(error)
                continue
            if received is None:
                return
            data, fds = received
            if is_record(data):
                self._port.inbox.put(data, fds)
            else:
                self._segments.add(decode(data, fds), fds)
                if self.parked:  # also when another message has looked for its own
                    self._owner.schedule()

    def _on_files_lost(self, error: FilesLost) -> None:
        logging.getLogger("bridge").error("%s", error)
        if is_record(error.data):
            self._port.inbox.put(error.data, [], lost=True)
        elif (segment := self._segments.missed(error.data)) in self._asked:
            self._loop.call_later(RETRY, self._ask, segment)

    def _try(self, step: Callable[[], object]) -> None:
        try:
            step()
        except PeerLost:
            self._owner.leave(None)
        except (RemoteProtocolError, OSError) as error:
            self._owner.leave(error)

    def _watch(self, blocked: bool) -> None:
        if blocked:
            self._loop.add_writer(self._port.link.fileno(), self.resume)
        else:
            self._loop.remove_writer(self._port.link.fileno())
