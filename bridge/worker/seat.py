"""One thread of a WSGI worker at one router: its own handles on the shared memory, its waiter and its bell.

Between two requests a thread makes one call into the core: it finishes the one, claims and starts the next, and
is dozing if there is none. Everything else here is for what does not fit that: a full queue, a response of
many messages, a request that nobody waits for any more.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from bridge.core import BATON, CANCELLED, COUNT, FULL, LOST, STARVED, answer, next_request
from bridge.errors import RemoteProtocolError, StreamCancelled
from bridge.ipc.dispatcher import dispatch
from bridge.ipc.message import ABORT, FILE, HEAD, HEADER, LAST, LINKED, REQUEST, SEGMENT, TAKEN
from bridge.ipc.message import BATON as BATON_MESSAGE
from bridge.ipc.record import fragments
from bridge.ipc.stream import Event
from bridge.worker.request_body import RequestBody
from bridge.worker.segments import RETRY, SegmentUnknown
from bridge.worker.thread_router import ThreadRouter
from bridge.worker.thread_stream import ThreadStream

_pack = HEADER.pack


class Seat:
    """See the head of the file.

    Args:
        router: where it is.
        index: number of the thread, from 0.

    Raises:
        RemoteProtocolError, OSError, ValueError: the shared memory cannot be used.
    """

    __slots__ = (
        "_outgoing",
        "_queue",
        "_stream",
        "_tracking",
        "_waiter",
        "bell",
        "cancelled",
        "room",
        "router",
        "segment",
    )

    def __init__(self, router: ThreadRouter, index: int) -> None:
        self._waiter, self.bell = list(router.waiters.items())[index]
        self._queue, self._tracking, self._outgoing, self.segment = router.handles()
        self.router = router
        self.room = self._outgoing.room - HEADER.size  #: payload bytes that fit into a queue item
        self.cancelled = self._tracking.cancelled  #: whether nobody waits for a stream any more, at a look
        self._stream: ThreadStream | None = None  # what the last claim has brought

    def next(self, done: ThreadStream | None) -> ThreadStream | None:
        """Finish a request, and take the next one; None = there is none, and this seat dozes.

        Args:
            done: it has ended, and its last message may not have been sent.

        Raises:
            RemoteProtocolError: the shared memory is damaged.
        """
        stream, message = (0, b"") if done is None else done.rest()
        result = next_request(self._queue, self._outgoing, self._tracking, stream, message, self._waiter)
        if result < 0:
            self.finish(stream, message)
            result = next_request(self._queue, self._outgoing, self._tracking, 0, b"", self._waiter)
        if result > COUNT:
            self._ring(result)
        while result & COUNT:
            dispatch(self._queue, 1, self._on_request)
            if self._stream is not None:
                return self._stream
            # Nobody waits for it any more, as has shown before all of it was here.
            result = next_request(self._queue, self._outgoing, self._tracking, 0, b"", self._waiter)
            if result > COUNT:
                self._ring(result)
        return None

    def finish(self, stream: int, message: bytes) -> None:
        """Send the last message of a stream; waits while there is no room."""
        try:
            self.answer(stream, Event.FINISH, message)
        except StreamCancelled:
            self.give_up(stream, message)

    def leave(self) -> None:
        """Take no more requests: a ring that came because of this seat's sleeping bit is somebody else's."""
        self._queue.rouse(self._waiter)
        if ring := self._queue.wake():
            self._pass_on(ring - 1)

    def close(self) -> None:
        """Nothing of the router is needed any more."""
        self.router.let_go()

    # For the streams

    def answer(self, stream: int, event: Event, message: bytes) -> None:
        """Change the stream's state and send; waits while there is no room.

        Raises:
            StreamCancelled: nobody waits for the stream any more; nothing was sent.
        """
        result = FULL
        if self.router.alive:
            result = answer(self._outgoing, self._tracking, stream, event, message)
            if result == FULL:

                def has_room() -> bool:
                    nonlocal result
                    result = answer(self._outgoing, self._tracking, stream, event, message)
                    return result != FULL

                self.wait(has_room)
        if result in (CANCELLED, LOST) or not self.router.alive:
            # What other threads have published behind this message may have become visible only now.
            if self._outgoing.wake():
                self.router.port.peer_bell.ring()
            raise StreamCancelled
        if result:
            self.router.port.peer_bell.ring()

    def answer_long(self, stream: int, message: bytes) -> None:
        """As `answer`, of more that follows, with a message for which there is no other way than the link."""
        router = self.router
        with router.long_message(lambda: self.cancelled(stream)):
            first = True
            for record, marker in fragments(stream, message, router.port.outbox.serial):
                router.send_record(record, lambda: self.cancelled(stream))
                if first:
                    self.answer(stream, Event.RESPOND, marker)
                    first = False
                else:
                    self.send(marker)

    def give_up(self, stream: int, message: bytes) -> None:
        """End the stream in whatever state it is, and send the message that says so."""
        if self.router.alive:
            self._tracking.move(stream, Event.FINISH)  # legal whoever has cancelled it
        self.send(message)

    def send(self, message: bytes) -> None:
        """Send a message that does not change its stream's state; waits while there is no room."""
        result = FULL

        def has_room() -> bool:
            nonlocal result
            result = self._outgoing.push(message)
            return result != FULL

        if (has_room() or self.wait(has_room)) and result:
            self.router.port.peer_bell.ring()

    def wait(self, ready: Callable[[], bool], stream: int = 0) -> bool:
        """Sleep until `ready()`; it is asked again whenever the router has said something.

        Args:
            ready: asked under the lock of `ThreadRouter.changed`.
            stream: whose sake it is for; 0 = nobody can cancel it.

        Returns:
            False when the router is gone.

        Raises:
            StreamCancelled: nobody waits for the stream any more.
        """
        changed = self.router.changed
        with changed:
            while self.router.alive:
                if stream and self.cancelled(stream):
                    raise StreamCancelled
                if ready():
                    return True
                changed.wait()
        if stream:
            raise StreamCancelled
        return False

    # Bells

    def _ring(self, result: int) -> None:
        if result & STARVED:
            self.router.port.peer_bell.ring()
        if result >> BATON:
            self._pass_on((result >> BATON) - 1)

    def _pass_on(self, waiter: int) -> None:
        bell = self.router.bell_of(waiter)
        if bell is not None:
            bell.ring()
        else:
            self.send(_pack(0, BATON_MESSAGE, 0, 0, 0, 0, waiter, 0))

    # Requests

    def _on_request(  # noqa: PLR0913 - the parts of one message
        self,
        stream: int,
        kind: int,
        flags: int,
        size: int,
        number: int,
        head: int,
        descriptors: list[tuple[int, int, int]] | None,
        payload: bytes,
    ) -> None:
        if kind != REQUEST:
            raise RemoteProtocolError(f"message {kind} in the application's queue")
        if descriptors is None and len(payload) == head and not flags & FILE:
            self._stream = ThreadStream(self, stream, number, payload, None, complete=bool(flags & LAST))
            return
        self._stream = None
        try:
            pieces = [self._view(stream, *descriptor) for descriptor in descriptors or ()]
            if flags & LINKED:
                payload = self._linked_head(stream)
        except StreamCancelled:
            self.give_up(stream, _pack(stream, ABORT, 0, 0, 0, 0, 0, 0))
            return
        if len(payload) < head:
            payload = self._head_in_chunks(pieces, head)
            self.send(_pack(stream, TAKEN, 0, 0, 0, 0, 0, 0))
        shared = bool(pieces)
        if len(payload) > head:
            pieces.insert(0, memoryview(payload)[head:])
        body = RequestBody(self, stream, pieces, size if flags & FILE else None, shared=shared)
        self._stream = ThreadStream(self, stream, number, payload[:head], body, complete=bool(flags & LAST))

    def _view(self, stream: int, number: int, first: int, size: int) -> memoryview:
        """The bytes of a descriptor; a segment that has not come is asked for, and waited for."""
        router = self.router
        while True:
            try:
                return router.view(number, first, size)
            except SegmentUnknown:
                if number in router.segments.lost:
                    router.segments.lost.discard(number)
                    time.sleep(RETRY)
                self.send(_pack(0, SEGMENT, 0, 0, 0, 0, number, 0))
                self.wait(lambda: number in router.segments or number in router.segments.lost, stream)

    def _linked_head(self, stream: int) -> bytes:
        """The head of a request for which there were no chunks: it comes over the link."""
        router = self.router
        with router.head_over_link(stream):
            self.send(_pack(stream, HEAD, 0, 0, 0, 0, 0, 0))
            self.wait(lambda: bool(router.heads[stream]), stream)
            return router.heads[stream]

    @staticmethod
    def _head_in_chunks(pieces: list[memoryview], head: int) -> bytes:
        """A head that fits no queue item, taken off the front of the pieces."""
        block = b""
        while pieces and len(block) < head:
            piece = pieces.pop(0)
            lacking = head - len(block)
            block += piece[:lacking]
            if len(piece) > lacking:
                pieces.insert(0, piece[lacking:])
        return block
