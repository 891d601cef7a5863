"""The stream of a WebSocket: an ordinary one until it is accepted, then bytes both ways until one side ends it.

Its bytes are handed over where they arrive, without a future in between, as long as there is somebody who decodes them
(`eager`). Otherwise they wait here, their credit is not given back, and the router soon reads no more of that client.
"""

from __future__ import annotations

from collections import deque
from typing import Protocol

from bridge.core import CANCELLED, NONE
from bridge.errors import StreamCancelled
from bridge.ipc.message import DATA, DESCRIPTOR, HEADER, LAST, UNKNOWN
from bridge.ipc.stream import Event
from bridge.worker.stream import Router, WorkerStream

#: Bytes up to which what waits is joined at once: an object for each short piece would be many times as long.
_SHORT = 1024
#: Bytes from which a frame is joined in its message only, and the bell is not rung for each: the worker is as long busy
#: with it as the router, or longer if it is packed, and the router would fall asleep after every one.
_LONG = 1024
_RESPOND, _FINISH = int(Event.RESPOND), int(Event.FINISH)


class Sink(Protocol):
    """Who decodes the bytes: `worker.websocket.WebSocketCycle`."""

    heard: bool  #: something has come from the client, or was taken by it, since this was last looked at

    def arrived(self, data: bytes | memoryview) -> None:
        """Bytes have come, or the end of them; a view is only good until this returns."""

    def relieved(self) -> None:
        """There is room again, for which it has asked."""

    def lost(self) -> None:
        """Nobody is there any more."""

    def leave(self) -> None:
        """The router ends, and the connection with it."""


class CountingRouter(Router, Protocol):
    """What they need of a router beyond other streams."""

    def answer_soon(self, stream: int, message: bytes, rest: bytes) -> int:
        """As `answer`, with RESPOND, of a message in two pieces, which the router may hear of a little later."""

    def count_tunnels(self, change: int) -> None:
        """So many more of the streams are WebSockets, or fewer."""


class Tunnels:
    """A router, as the streams of its WebSockets see it: with a window of their own.

    Args:
        router: where they come from.
        window: bytes of one that may be under way, in each direction.
    """

    def __init__(self, router: CountingRouter, window: int) -> None:
        self.loop = router.loop
        self.segment = router.segment
        self.room = router.room
        self.window = window
        self.count = router.count_tunnels
        self.begin = router.begin
        self.send = router.send
        self.answer = router.answer
        self.answer_soon = router.answer_soon
        self.answer_long = router.answer_long
        self.give_up = router.give_up
        self.clear = router.clear
        self.wait_for_chunks = router.wait_for_chunks
        self.wait_for_queue = router.wait_for_queue
        self.finished = router.finished


class TunnelStream(WorkerStream):
    """See the head of the file.

    Args:
        tunnels: of the router that it came from.
        stream: its number.
        number: version and scheme bits of the REQUEST.
        head: peer block and request head.
    """

    __slots__ = ("_open", "_relief", "_tunnels", "eager", "sink")

    sink: Sink  #: to be set before the first byte arrives

    def __init__(self, tunnels: Tunnels, stream: int, number: int, head: bytes) -> None:
        super().__init__(tunnels, stream, number, UNKNOWN, head)
        self.expect_body()
        self.eager = False  #: what arrives goes to the sink at once; nothing may wait here then
        self._tunnels = tunnels
        self._open = False
        self._relief = False  # the sink waits for room

    def opened(self) -> None:
        """It was accepted: no request any more, and the head is only good for a line in the log."""
        self._open = True
        self.head = self.head.partition(b"\r\n")[0] + b"\r\n"
        self._tunnels.count(1)

    @property
    def congested(self) -> bool:
        """Whether the client, or the router, has so much to take that nothing should be added without need."""
        return not self._writable()

    def ask_for_room(self) -> None:
        """Call `relieved` of the sink when nothing is congested any more."""
        self._relief = True
        if not self._tunnels.clear():
            self._tunnels.wait_for_queue(self)

    def pump(self) -> bool:
        """As `WorkerStream`."""
        if not super().pump():
            return False
        if self._relief:
            self._relief = False
            self.sink.relieved()
        return self._writable()

    def deliver(self, data: bytes, last: bool) -> None:
        """As `WorkerStream`; `last` is the client's FIN."""
        if not self.eager:
            parts = self._parts
            if parts and len(parts[-1]) + len(data) <= _SHORT:
                parts[-1] += data
                data = b""
            super().deliver(data, last)
            return
        if last:
            self._complete = self.ended = True
        self._consume(len(data))
        self.sink.arrived(data)

    def look(self, data: memoryview, credit: int) -> bool:
        """As `credited` and `deliver`, of what is not the last, and only there until this returns; False = do that."""
        if not self.eager:
            return False
        if credit:
            self.credited(credit)
        self._consume(len(data))
        self.sink.arrived(data)
        return True

    def take(self) -> bytes | None:
        """Bytes that have waited; None = there are none."""
        parts = self._parts
        if not parts:
            return None
        data = parts.popleft()
        self.ended = self._complete and not parts
        self._consume(len(data))
        return data

    def _consume(self, size: int) -> None:
        self._consumed += size
        if self._consumed * 2 >= self._tunnels.window and not self._complete:
            self._want()

    def send(self, body: bytes, last: bool) -> bool:
        """As `WorkerStream`; what does not fit a queue item but the window is sent in one message too."""
        if last or self._pending is not None:
            return super().send(body, last)
        return self.send_frame(b"", body)

    def send_frame(self, head: bytes, payload: bytes) -> bool:
        """As `send`, of what is not the last: two pieces, which are first joined in the message that takes them.

        Without room in the window or the queue they wait here, for many tasks may not wait for one another.
        """
        tunnels, size, under_way = self._tunnels, len(head) + len(payload), self._unacknowledged
        if size > tunnels.room or self._pending is not None or under_way >= tunnels.window:
            return self._send_long(head, payload)
        self._unacknowledged = under_way = under_way + size
        flags = 0 if under_way * 2 < tunnels.window else self._ack_flag()
        consumed, self._consumed = self._consumed, 0
        message = HEADER.pack(self._stream, DATA, flags, 0, size, consumed, 0, 0) + head
        if self.cancelled:
            result = CANCELLED
        elif size < _LONG:
            result = tunnels.answer(self._stream, _RESPOND, message + payload)
        else:
            result = tunnels.answer_soon(self._stream, message, payload)
        if result == CANCELLED:
            self.cancel()
            raise StreamCancelled
        if self._writable():
            return True
        self._pending = deque()  # what follows waits, even if whoever sends it does not
        return False

    def _send_long(self, head: bytes, payload: bytes) -> bool:
        size, segment = len(payload), self._tunnels.segment
        rest = size % segment.chunk_size  # for so little a chunk would be too much
        if len(head) + rest > self._tunnels.room - DESCRIPTOR.size:
            rest = 0
        first, got = NONE, 0
        allowance = segment.allowance(self._tunnels.window, self._unacknowledged, asked=self._asked)
        if self._pending is None and rest < size and len(head) + size <= allowance:
            first, got = segment.claim(size - rest, size - rest)
        if not got:
            if self._pending is None:
                self._pending = deque()
            self._pending.append((memoryview(head + payload), False))
            return self.pump()
        segment.write(first, memoryview(payload)[rest:])
        inline = head + payload[:rest]
        self._unacknowledged += len(head) + size
        header = HEADER.pack(self._stream, DATA, self._ack_flag(), 1, len(inline), 0, 0, 0)
        try:
            self._answer(header + DESCRIPTOR.pack(segment.number, first, size - rest) + inline, _RESPOND)
        except StreamCancelled:
            segment.release(first, segment.chunks_of(size - rest))
            raise
        return self._writable()

    def _send_piece(self) -> bool:
        tunnels, pending = self._tunnels, self._pending
        if not pending or len(pending[0][0]) > tunnels.room or self._head is not None or self._linked:
            return super()._send_piece()
        # What fits a queue item takes no chunk, or a few short messages would take all that there are.
        if not tunnels.clear():
            tunnels.wait_for_queue(self)
            return False
        if self._unacknowledged >= tunnels.window and not pending[0][1]:
            return False
        data, last = pending.popleft()
        size = len(data)
        self._unacknowledged += size
        flags, event = (LAST, _FINISH) if last else (self._ack_flag(), _RESPOND)
        self._answer(HEADER.pack(self._stream, DATA, flags, 0, size, 0, 0, 0) + data, event)
        if last:
            self._end()
        return True

    def acknowledged(self, size: int) -> None:
        """As `WorkerStream`; a client that takes something lives."""
        self.sink.heard = True
        super().acknowledged(size)

    def credited(self, size: int) -> None:
        """As `acknowledged`, by a message that came anyway: what was asked for is still to come."""
        self._unacknowledged = max(0, self._unacknowledged - size)
        if self._writers or self._pending is not None or self._relief:
            self.pump()

    def cancel(self) -> None:
        """As `WorkerStream`."""
        if not self.cancelled:
            super().cancel()
            self.sink.lost()

    def leave(self) -> None:
        """The router ends."""
        self.sink.leave()

    def _end(self) -> None:
        super()._end()
        if self._open:
            self._open = False
            self._tunnels.count(-1)
