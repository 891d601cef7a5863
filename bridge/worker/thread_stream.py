"""One request as a thread sees it: its body, which is all there, its response, and whether anybody still waits.

The last message of a small response stays here until the thread looks for its next request, because both are one call
into the core (`rest`); whoever lets the client wait meanwhile calls `flush`. A larger body is copied into chunks of
this worker's segment, at most `window` bytes of it at a time; then the thread sleeps until the router says that bytes
have left. What neither fits an item nor finds chunks, which is a long head, goes over the link, and so does a file.

Nothing is sent for a stream after its last message, and nothing of the request is looked at that the router frees with
it: what the application has not read of the body is kept before a `flush`, which means that it goes on.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from typing import Protocol

from bridge.errors import PeerLost, StreamCancelled
from bridge.ipc.message import ABORT, ACK, DATA, DESCRIPTOR, FILE, HEADER, LAST, MAX_DESCRIPTORS, PART, RESPONSE
from bridge.ipc.record import LONGEST, fragments
from bridge.ipc.segment import Segment
from bridge.ipc.stream import Event
from bridge.worker.request_body import ReadingSeat, RequestBody

COPIED = 262144  #: bytes of a file that are read at once where the router cannot be given its descriptor

_pack = HEADER.pack
_Head = tuple[int, int, int, bytes]  # flags, size, status, block


class Seat(ReadingSeat, Protocol):
    """What a stream needs, besides, from the thread that runs it: `worker.seat.Seat`."""

    segment: Segment
    room: int  #: payload bytes that fit into a queue item

    def answer(self, stream: int, event: Event, message: bytes) -> None:
        """Change the stream's state and send; raises StreamCancelled when nobody waits any more."""

    def answer_long(self, stream: int, message: bytes) -> None:
        """As `answer`, of more that follows, with a message that fits no queue item."""

    def give_up(self, stream: int, message: bytes) -> None:
        """End the stream in whatever state it is, and send."""


class ThreadStream:
    """See the head of the file; `worker.types.SyncStream` is what the application's side uses of it.

    Args:
        seat: where the request was claimed.
        stream: its number.
        number: version and scheme bits of the REQUEST.
        head: peer block and request head.
        body: the request body; None = there is none.
        complete: whether that is all of it.
    """

    __slots__ = (
        "_acknowledged",
        "_asked",
        "_body",
        "_gone",
        "_registered",
        "_rest",
        "_said",
        "_seat",
        "_sent",
        "_stream",
        "complete",
        "head",
        "number",
        "over",
        "size",
    )

    def __init__(
        self,
        seat: Seat,
        stream: int,
        number: int,
        head: bytes,
        body: RequestBody | None,
        *,
        complete: bool,
    ) -> None:
        self.head = head
        self.number = number
        self.over = False
        self.complete = complete  #: the whole request body has come; a thread runs nothing else
        self.size = body.size if body else 0
        self._seat = seat
        self._stream = stream
        self._body = body
        self._gone = False  # nobody waited any more at the last look
        self._registered = False  # the router has something to say to it
        self._rest = b""  # the last message, if it has not been sent
        self._said = False  # the last message is out
        self._sent = 0  # bytes of the response
        self._acknowledged = 0  # of these have left for the client; the main thread writes it
        self._asked = False  # the router will say when bytes have left

    def cancelled(self) -> bool:
        """Whether nobody waits for the response any more; costs a look at shared memory, no call into C."""
        if self._gone or self._said:
            return self._gone
        self._gone = self._seat.cancelled(self._stream) or not self._seat.router.alive
        return self._gone

    def read(self, offset: int, size: int) -> bytes:
        """`size` bytes of the request body from `offset`: fewer only where the body ends. `offset` never goes back.

        Raises:
            StreamCancelled: nobody waits any more.
        """
        if self._body is None:
            return b""
        if self._gone:
            raise StreamCancelled
        return self._body.read(offset, size)

    # Response

    def respond(self, status: int, block: bytes, size: int, flags: int, body: bytes, last: bool) -> None:
        """Send the head, and the body as far as it is known; waits while there is no room. See `SyncStream`."""
        length = len(block) + len(body)
        if length <= self._seat.room:
            flags |= LAST if last else self._count(len(body))
            self._emit(_pack(self._stream, RESPONSE, flags, 0, length, size, status, len(block)) + block + body, last)
            return
        if len(block) > LONGEST - HEADER.size:
            logging.getLogger("bridge").error("a response head of %d bytes is too long", len(block))
            self.abort()
            raise StreamCancelled
        self._send_large((flags, size, status, block), body, last)

    def send(self, body: bytes, last: bool) -> None:
        """Send more of the body; everything else as `respond`."""
        if len(body) > self._seat.room:
            self._send_large(None, body, last)
            return
        if self._sent - self._acknowledged >= self._seat.router.window:
            self._wait(lambda: self._sent - self._acknowledged < self._seat.router.window)
        flags = LAST if last else self._count(len(body))
        self._emit(_pack(self._stream, DATA, flags, 0, len(body), 0, 0, 0) + body, last)

    def send_file(self, file: int, offset: int, count: int) -> None:
        """The rest of the response is `count` bytes of a regular file from `offset`. See `SyncStream`."""
        port = self._seat.router.port
        message = _pack(self._stream, DATA, FILE | LAST, 0, PART.size, 0, 0, 0) + PART.pack(offset, count)
        ((record, marker),) = fragments(self._stream, message, port.outbox.serial)
        try:
            port.link.send_bytes(record, [file])
        except PeerLost:  # gone, or so busy that its end of the link is full
            self._copy_file(file, offset, count)
            return
        self._emit(marker, last=True)

    def flush(self) -> None:
        """What was given goes out now, not with the thread's next step."""
        if self._rest:
            message, self._rest = self._rest, b""
            try:
                if self._body is not None:
                    self._body.keep()
                self._seat.answer(self._stream, Event.FINISH, message)
            except StreamCancelled:
                self._gone = True  # it is over in any case; `rest` sees to its end
                return
            self._ended()

    def abort(self) -> None:
        """The response cannot be completed: the client must see it broken; harmless when over."""
        if not self.over:
            self.over = self._gone = True
            self._give_up()

    def acknowledged(self, size: int) -> None:
        """`size` bytes of the response have left for the client; the main thread calls it."""
        self._acknowledged += size
        self._asked = False

    def rest(self) -> tuple[int, bytes]:
        """The end of the stream, when the application is through with it: what is left to be sent, or (0, b"")."""
        if self._registered:
            self._seat.router.streams.pop(self._stream, None)
        if self._body is not None:
            self._body.close()
        message, self._rest = self._rest, b""
        if message:
            self._said = True
            return self._stream, message
        if not self._said:
            self.over = True
            self._give_up()
        return 0, b""

    def _ended(self) -> None:
        """The last message is out."""
        self._said = True
        if self._body is not None:
            self._body.detach()

    def _give_up(self) -> None:
        if not self._said:
            self._said = True
            self._seat.give_up(self._stream, _pack(self._stream, ABORT, 0, 0, 0, 0, 0, 0))

    def _emit(self, message: bytes, last: bool) -> None:
        if last:
            self.over = True
            self._rest = message
            return
        self._answer(Event.RESPOND, message)

    def _answer(self, event: Event, message: bytes) -> None:
        try:
            self._seat.answer(self._stream, event, message)
        except StreamCancelled:
            self.over = self._gone = True
            raise

    def _wait(self, ready: Callable[[], bool]) -> None:
        try:
            self._seat.wait(ready, self._stream)
        except StreamCancelled:
            self.over = self._gone = True
            raise

    def _count(self, size: int) -> int:
        """Count bytes that are not the last, and ask to be told when they have left if they are many."""
        self._sent += size
        if (self._sent - self._acknowledged) * 2 < self._seat.router.window:
            return 0
        return self._ask()

    def _ask(self) -> int:
        self._register()
        self._asked = True
        return ACK

    def _register(self) -> None:
        if not self._registered:
            self._registered = True
            self._seat.router.streams[self._stream] = self

    # Through chunks

    def _send_large(self, head: _Head | None, body: bytes, last: bool) -> None:
        """Send what fits no queue item."""
        # Where the router would free some of the request too early, its last message stays here as a small response's.
        ends = last and (self._body is None or not self._body.owed)
        if head is not None and len(head[3]) > self._seat.room - DESCRIPTOR.size:
            self._send_head(head, last=ends and not body)
            if body:
                self._send_pieces(None, body, ends)
        else:
            self._send_pieces(head, body, ends)
        if last and not ends:
            self._emit(_pack(self._stream, DATA, LAST, 0, 0, 0, 0, 0), last=True)

    def _send_pieces(self, head: _Head | None, body: bytes, last: bool) -> None:
        """Send a body through chunks, in front of it a head that fits a queue item."""
        left = memoryview(body)
        segment = self._seat.segment
        while True:
            piece = b""
            size = 0
            if left:
                first, got = self._claim(len(left))
                size = min(got, len(left))
                segment.write(first, left[:size])
                left = left[size:]
                self._sent += size
                piece = DESCRIPTOR.pack(segment.number, first, size)
            flags = LAST if last and not left else self._ask()
            if head is not None:
                own, whole, status, block = head
                fixed = (RESPONSE, flags | own, 1 if piece else 0, len(block), whole, status, len(block))
            else:
                block = b""
                fixed = (DATA, flags, 1 if piece else 0, 0, 0, 0, 0)
            head = None
            self._send_chunks(_pack(self._stream, *fixed) + piece + block, [(first, size)] if size else [], flags)
            if not left:
                return

    def _send_head(self, head: _Head, *, last: bool) -> None:
        """Send a head that is too long for a queue item."""
        flags, size, status, block = head
        segment = self._seat.segment
        runs = segment.place(block, min(self._seat.room // DESCRIPTOR.size, MAX_DESCRIPTORS))
        if runs is None:
            self._seat.router.chunks_released()  # who has looked meanwhile has seen those that were claimed in vain
            header = _pack(self._stream, RESPONSE, flags, 0, len(block), size, status, len(block))
            try:
                self._seat.answer_long(self._stream, header + block)
            except StreamCancelled:
                self.over = self._gone = True
                raise
            if last:
                self.send(b"", True)
            return
        flags |= LAST if last else 0
        message = _pack(self._stream, RESPONSE, flags, len(runs), 0, size, status, len(block))
        message += b"".join(DESCRIPTOR.pack(segment.number, *run) for run in runs)
        self._send_chunks(message, runs, flags)

    def _send_chunks(self, message: bytes, runs: list[tuple[int, int]], flags: int) -> None:
        # Not left for the thread's next step: if nobody waits any more the chunks are still ours, and are freed here.
        last = bool(flags & LAST)
        try:
            self._answer(Event.FINISH if last else Event.RESPOND, message)
        except StreamCancelled:
            self._release(runs)
            self._seat.router.chunks_released()
            raise
        if last:
            self.over = True
            self._ended()

    def _claim(self, wanted: int) -> tuple[int, int]:
        """Chunks for up to `wanted` bytes of body, as many as the window allows: (first, bytes)."""
        segment = self._seat.segment
        first = got = 0

        def claimed() -> bool:
            nonlocal first, got
            allowed = self._allowed()
            if allowed > 0:
                first, got = segment.claim(min(wanted, allowed), 1)
                got = min(got, allowed)
            return got > 0

        if not claimed():
            self._find_memory(claimed)
        return first, got

    def _find_memory(self, claimed: Callable[[], bool]) -> None:
        """Wait for chunks, or for the window that forbids to claim some."""
        chunks = self._seat.segment.chunks

        def found() -> bool:
            # Whoever frees chunks looks for the flag afterwards: so it is set before the last look.
            return claimed() or (self._allowed() > 0 and chunks.wait() and claimed())

        self._wait(found)

    def _allowed(self) -> int:
        """Bytes that may be put into chunks now."""
        seat, under_way = self._seat, self._sent - self._acknowledged
        return seat.segment.allowance(seat.router.window, under_way, asked=self._asked)

    def _release(self, runs: list[tuple[int, int]]) -> None:
        segment = self._seat.segment
        for first, size in runs:
            segment.release(first, segment.chunks_of(size))

    def _copy_file(self, file: int, offset: int, count: int) -> None:
        while count:
            data = os.pread(file, min(count, COPIED), offset)
            if not data:
                raise OSError("the file is shorter than what was to be sent of it")
            offset += len(data)
            count -= len(data)
            self.send(data, not count)
