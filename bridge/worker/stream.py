"""One request as the worker sees it: its body coming in, its response going out, and whether anybody still waits.

Small messages travel in the queue item. A larger body is copied into chunks of this worker's segment, at most
`window` bytes of it at a time; then `writable` waits until the router says that bytes have left for the client. A
larger head takes chunks if there are some, else the way over the link.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from typing import Protocol

from bridge.core import CANCELLED, NONE
from bridge.errors import StreamCancelled
from bridge.ipc.message import ABORT, ACK, DATA, DESCRIPTOR, HEADER, LAST, MAX_DESCRIPTORS, RESPONSE, WANT
from bridge.ipc.record import LONGEST
from bridge.ipc.segment import Segment
from bridge.ipc.stream import Event

JOINED = 65536  #: bytes: pieces of body are joined up to this size

_pack = HEADER.pack
_RESPOND, _FINISH = int(Event.RESPOND), int(Event.FINISH)  # a look-up in an Enum costs as much as a call


class Router(Protocol):
    """What a stream needs from the router that it came from."""

    loop: asyncio.AbstractEventLoop
    segment: Segment  #: where response bodies are put
    room: int  #: payload bytes that fit into a queue item
    window: int  #: bytes of one response that may be on their way

    def begin(self, stream: int) -> bool:
        """The stream's application starts; False when it was cancelled before."""

    def send(self, message: bytes) -> None:
        """Send a message that does not change the stream's state."""

    def answer(self, stream: int, event: int, message: bytes) -> int:
        """Change the stream's state and send; CANCELLED when nobody waits any more (nothing is sent)."""

    def answer_long(self, stream: int, message: bytes) -> int:
        """As `answer`, with a message that fits no queue item, and of which the end may wait until all is `clear`."""

    def give_up(self, stream: int, message: bytes) -> None:
        """End the stream in whatever state it is, and send."""

    def clear(self) -> bool:
        """Whether everything sent so far is in the router's queue."""

    def wait_for_chunks(self, stream: WorkerStream) -> None:
        """Call `stream.pump` when chunks may be free."""

    def wait_for_queue(self, stream: WorkerStream) -> None:
        """Call `stream.pump` when the queue has room."""

    def finished(self, number: int) -> None:
        """Forget the stream: its last message is on its way."""


class WorkerStream:
    """See the head of the file; `worker.types.Stream` is what an application's side uses of it.

    Args:
        router: where the request came from.
        stream: its number.
        number: version and scheme bits of the REQUEST.
        size: announced length of the body, or UNKNOWN.
        head: peer block and request head.
    """

    __slots__ = (
        "_asked",
        "_complete",
        "_consumed",
        "_head",
        "_linked",
        "_parts",
        "_pending",
        "_readers",
        "_router",
        "_stream",
        "_unacknowledged",
        "_writers",
        "cancelled",
        "ended",
        "head",
        "number",
        "over",
        "size",
    )

    def __init__(self, router: Router, stream: int, number: int, size: int, head: bytes) -> None:
        self._router = router
        self._stream = stream
        self.number = number
        self.size = size
        self.head = head
        self.cancelled = False
        self.ended = True  # `take` has given the last byte of the body
        self.over = False  # our last message is on its way
        self._parts: deque[bytes] | None = None  # most requests have none
        self._complete = True  # no more body will arrive
        self._consumed = 0  # bytes taken since the last WANT
        self._readers: list[asyncio.Future[None]] | None = None  # who waits for the body, or for the end
        self._writers: list[asyncio.Future[None]] | None = None  # and who for room
        self._head: tuple[int, int, int, bytes] | None = None  # a head that found no room: flags, size, status, block
        self._linked = False  # the head goes over the link, and nothing may overtake it
        self._pending: deque[tuple[memoryview, bool]] | None = None  # body that found no room: (bytes, last)
        self._asked = False  # the router will say when bytes have left
        self._unacknowledged = 0  # bytes sent that have not left for the client

    def begin(self) -> bool:
        """The application is about to run; False = nobody waits for it any more, so it must not."""
        if not self.cancelled and self._router.begin(self._stream):
            return True
        self.cancelled = True
        return False

    # Body of the request

    def expect_body(self) -> None:
        """Body will arrive that did not come with the head."""
        self._complete = self.ended = False

    def deliver(self, data: bytes, last: bool) -> None:
        """Body bytes have arrived from the router."""
        self._complete = last
        if data:
            if self._parts is None:
                self._parts = deque()
            self._parts.append(data)
        self.ended = last and not self._parts
        self._wake(self._readers)

    def take(self) -> bytes | None:
        """Body bytes that are here now; None = none. Small pieces are joined, large ones are not copied again."""
        parts = self._parts
        if not parts:
            return None
        data = parts.popleft()
        if parts and len(data) < JOINED:
            pieces = [data]
            size = len(data)
            while parts and size + len(parts[0]) <= JOINED:
                pieces.append(parts.popleft())
                size += len(pieces[-1])
            data = b"".join(pieces)
        if self._complete:
            self.ended = not parts
        else:
            self._consumed += len(data)
            if self._consumed * 2 >= self._router.window:
                self._want()
        return data

    async def readable(self) -> None:
        """Wait until `take` has something, the body has ended, or nobody waits for the answer any more."""
        if self._parts or self.ended or self.cancelled or self.over:
            return
        self._want()
        self._readers = self._readers or []
        await self._wait(self._readers)

    async def gone(self) -> None:
        """Wait until nobody waits for the answer any more, or it is complete."""
        while not self.cancelled and not self.over:
            self._readers = self._readers or []
            await self._wait(self._readers)

    async def _wait(self, waiting: list[asyncio.Future[None]]) -> None:
        # Each of several tasks has a future of its own: one that they share would need a shield, and thus one more
        # turn of the loop before anybody hears of anything.
        future = self._router.loop.create_future()
        waiting.append(future)
        try:
            await future
        finally:
            if future in waiting:  # the task was cancelled
                waiting.remove(future)

    @staticmethod
    def _wake(waiting: list[asyncio.Future[None]] | None) -> None:
        if waiting:
            for future in waiting:
                if not future.done():
                    future.set_result(None)
            waiting.clear()

    def _want(self) -> None:
        if not self.over and not self.cancelled:
            consumed, self._consumed = self._consumed, 0
            self._router.send(_pack(self._stream, WANT, 0, 0, 0, consumed, 0, 0))

    # Response

    def respond(self, status: int, block: bytes, size: int, flags: int, body: bytes, last: bool) -> bool:
        """Send the response head and the beginning of its body.

        Returns:
            False when `writable` has to be awaited before more is sent.

        Raises:
            StreamCancelled: nobody waits for it.
        """
        length = len(block) + len(body)
        if length <= self._router.room:
            if last:
                header = _pack(self._stream, RESPONSE, flags | LAST, 0, length, size, status, len(block))
                if self.cancelled or self._router.answer(self._stream, _FINISH, header + block + body) == CANCELLED:
                    self.cancel()
                    raise StreamCancelled
                self._end()
                return True
            self._unacknowledged += len(body)
            header = _pack(self._stream, RESPONSE, flags | self._ack_flag(), 0, length, size, status, len(block))
            self._answer(header + block + body, _RESPOND)
            return self._writable()
        if len(block) > LONGEST - HEADER.size:
            logging.getLogger("bridge").error("a response head of %d bytes is too long", len(block))
            self.abort()
            return False
        self._head = (flags, size, status, block)
        self._pending = deque([(memoryview(body), last)])
        return self.pump()

    def send(self, body: bytes, last: bool) -> bool:
        """Send more of the body; as `respond`."""
        if self._pending is None and len(body) <= self._router.room:
            self._unacknowledged += len(body)
            flags = LAST if last else self._ack_flag()
            self._answer(_pack(self._stream, DATA, flags, 0, len(body), 0, 0, 0) + body, _FINISH if last else _RESPOND)
            if last:
                self._end()
            return self._writable()
        if self._pending is None:
            self._pending = deque()
        self._pending.append((memoryview(body), last))
        return self.pump()

    async def writable(self) -> None:
        """Wait until more may be sent.

        Raises:
            StreamCancelled: nobody waits for it any more.
        """
        while not self._writable() and not self.cancelled:
            if not self._router.clear():
                self._router.wait_for_queue(self)
            self._writers = self._writers or []
            await self._wait(self._writers)
        if self.cancelled:
            raise StreamCancelled

    def abort(self) -> None:
        """End a stream whose response is not complete; does nothing when it is over."""
        if not self.over:
            self._router.give_up(self._stream, _pack(self._stream, ABORT, 0, 0, 0, 0, 0, 0))
            self._end()

    def finished(self) -> None:
        """The application is through with the stream: what it has not completed ends broken."""
        if not self.over:
            self.abort()

    def pump(self) -> bool:
        """Send what found no room, as far as there is some now; as `respond`."""
        try:
            while self._pending and not self.cancelled and not self.over:
                if not self._send_piece():
                    return False
        except StreamCancelled:
            return False  # the next call of the application raises it
        if not self._pending:
            self._pending = None
        if self._writable():
            self._wake(self._writers)
            return True
        if not self._pending and not self._router.clear():
            self._router.wait_for_queue(self)
        return False

    def acknowledged(self, size: int) -> None:
        """`size` bytes of the response have left for the client."""
        self._unacknowledged = max(0, self._unacknowledged - size)
        self._asked = False
        self.pump()

    def cancel(self) -> None:
        """Nobody waits any more: wake whoever waits in this stream."""
        self.cancelled = True
        self._pending = None
        self._head = None
        self._wake(self._readers)
        self._wake(self._writers)

    def _writable(self) -> bool:
        if self.over:
            return True
        return not self._pending and self._unacknowledged < self._router.window and self._router.clear()

    def _ack_flag(self) -> int:
        if self._unacknowledged * 2 < self._router.window:
            return 0
        self._asked = True
        return ACK

    def _end(self) -> None:
        self.over = True
        self._pending = None
        self._head = None
        if self._readers:
            self._wake(self._readers)
        if self._writers:
            self._wake(self._writers)
        self._router.finished(self._stream)

    def _answer(self, message: bytes, event: int) -> None:
        if self.cancelled or self._router.answer(self._stream, event, message) == CANCELLED:
            self.cancel()
            raise StreamCancelled

    def _send_piece(self) -> bool:
        """Send the first pending piece, or the head, as far as possible; False = no room now."""
        if self._head is not None and len(self._head[3]) > self._router.room - DESCRIPTOR.size:
            self._send_large_head(*self._head)
            return True
        if self._linked and not self._router.clear():
            self._router.wait_for_queue(self)
            return False
        self._linked = False
        pending = self._pending
        if not pending:
            return False
        data, last = pending[0]
        segment, window = self._router.segment, self._router.window
        size = min(len(data), segment.allowance(window, self._unacknowledged, asked=self._asked)) if data else 0
        first, got = segment.claim(size, 1) if size > 0 else (NONE, 0)
        if data and not got and self._head is None:
            if size > 0:
                self._router.wait_for_chunks(self)
            return False
        size = min(size, got)
        if size:
            segment.write(first, data[:size])
        self._unacknowledged += size
        whole = size == len(data)
        pieces = [(segment.number, first, size)] if size else []
        if whole:
            pending.popleft()
        else:
            pending[0] = (data[size:], last)
        self._post(pieces, last and whole)
        return True

    def _send_large_head(self, flags: int, size: int, status: int, block: bytes) -> None:
        segment = self._router.segment
        runs = segment.place(block, min(self._router.room // DESCRIPTOR.size, MAX_DESCRIPTORS))
        if runs is not None:
            self._post([(segment.number, *run) for run in runs], last=False)
            return
        self._head, self._linked = None, True
        message = _pack(self._stream, RESPONSE, flags, 0, len(block), size, status, len(block)) + block
        if self.cancelled or self._router.answer_long(self._stream, message) == CANCELLED:
            self.cancel()
            raise StreamCancelled

    def _post(self, pieces: list[tuple[int, int, int]], last: bool) -> None:
        flags = LAST if last else 0
        if self._unacknowledged and not last:
            # Of no bytes nothing would be said: who waits for that waits for ever.
            flags = ACK
            self._asked = True
        inline = b""
        if self._head is not None:
            head_flags, size, status, block = self._head
            self._head = None
            inline = block if len(block) <= self._router.room - DESCRIPTOR.size else b""
            fixed = (RESPONSE, flags | head_flags, len(pieces), len(inline), size, status, len(block))
        else:
            fixed = (DATA, flags, len(pieces), 0, 0, 0, 0)
        message = _pack(self._stream, *fixed) + b"".join(DESCRIPTOR.pack(*piece) for piece in pieces) + inline
        try:
            self._answer(message, _FINISH if last else _RESPOND)
        except StreamCancelled:
            self._release(pieces)
            raise
        if last:
            self._end()

    def _release(self, pieces: list[tuple[int, int, int]]) -> None:
        segment = self._router.segment
        for _, first, size in pieces:
            segment.release(first, segment.chunks_of(size))
