"""A worker joins the router: claims requests from the application's queue and hands them to the application.

`Attached` is one router's side: it lives from that router's offer to its death, after which the worker serves on
with the next one. A turn takes one batch from the inbox and one from the application's queue; after a turn that
found something the next one follows behind the tasks that it started, and the worker sleeps only when a turn
found nothing.

While messages are parked because a segment has not come (`loop_link`) nothing new is taken. A request counts as running
until it ends, or becomes a WebSocket.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import OrderedDict
from collections.abc import Callable

from bridge.core import BATCH, BATON, CANCELLED, COUNT, FULL, LOST, STARVED, answer, answer_joined
from bridge.errors import PeerLost, RemoteProtocolError
from bridge.ipc.dispatcher import dispatch
from bridge.ipc.handshake import Attachment, attached
from bridge.ipc.message import ABORT, BODY, CANCEL, HEAD, HEADER, LAST, LEAVE, RECORD, TAKEN, WINDOW
from bridge.ipc.message import BATON as BATON_MESSAGE
from bridge.ipc.port import WAITER
from bridge.ipc.stream import Event
from bridge.worker.appetite import Appetite
from bridge.worker.arrivals import Arrivals, Openings
from bridge.worker.loop_link import LoopLink
from bridge.worker.segments import SegmentUnknown
from bridge.worker.stream import WorkerStream
from bridge.worker.tunnel import TunnelStream

#: Messages of one round of the loop, however long it is, after which a router that sleeps begins with them: so that it
#: neither falls asleep after each one nor waits for the last.
_TOGETHER = 8
_RESPOND = int(Event.RESPOND)


class Attached:
    """One router, as long as it lives.

    Args:
        attachment: what the handshake brought.
        limit: requests that run at once.
        start: called with each new stream.
        lost: called once when the router is gone, or `left`.
        websockets: gets those streams that ask for one; None = they end at once.
    """

    def __init__(
        self,
        attachment: Attachment,
        limit: int,
        start: Callable[[WorkerStream], None],
        lost: Callable[[Attached], None],
        websockets: Openings | None = None,
    ) -> None:
        self.loop = asyncio.get_running_loop()
        self.port = attachment.port
        self.segment = attachment.port.segment
        self.window = attachment.geometry.window
        self.room = attachment.port.outgoing.room - HEADER.size
        self.streams: dict[int, WorkerStream] = {}
        self.taken = 0  # requests so far
        self.left = False  # the router may live, but this worker cannot serve it any more
        for bell in attachment.bells:
            bell.close()  # those are for threads: a loop waits with the port's
        self._waiter = attachment.waiters[0]
        self._queue = attachment.queue
        self._tracking = attachment.tracking
        self._limit = limit
        self._appetite = Appetite(time.perf_counter, BATCH)
        self._lost = lost
        self._link = LoopLink(self, attachment)
        self._arrivals = Arrivals(self, self._link, self.streams, start, websockets)
        self._headless = self._arrivals.headless
        self._tunnels = 0  # WebSockets among the streams
        self._short: OrderedDict[WorkerStream, None] = OrderedDict()  # streams that wait for chunks
        self._blocked: OrderedDict[WorkerStream, None] = OrderedDict()  # streams that wait for room in the queue
        self._accepting = True
        self._full = False  # the limit has bound: the next stream that ends looks at the queue again
        self._alive = True
        self._turn = self._next_turn
        self._unrung = 0  # messages in the router's queue for which a ring is due
        self._due = False  # a turn is on its way
        self._bound = False

    def open(self) -> None:
        """Tell the router that the application is ready, and begin to take requests."""
        self.loop.add_reader(self.port.bell.fileno(), self._on_bell)
        self._link.open()
        self._link.note(attached(self._limit, "asgi"))
        self.turn()

    def drain(self) -> None:
        """Take no more requests; those that run go on."""
        if self._accepting and self._alive:
            self._accepting = False
            self._link.note(attached(0, "asgi"))

    def close(self) -> None:
        """Let go of the router: this worker ends."""
        self._end()

    # Taking

    def _on_bell(self) -> None:
        self.port.bell.hush()
        if not self._due:  # else one is on its way, behind the requests that the last one has claimed
            self.turn()

    def schedule(self) -> None:
        """Take a turn behind what the loop has to do now."""
        if not self._due:
            self._due = True
            self.loop.call_soon(self._turn)

    def _next_turn(self) -> None:
        self._due = False
        if self._appetite.waits:
            self._appetite.turned()
        self.turn()

    def turn(self) -> None:
        """Take one batch from each queue; see the head of the file."""
        if not self._alive:
            return
        try:
            found = self._take()
            if not self._link.parked and (found or not self._doze()):
                self.schedule()
        except PeerLost:
            self._end()
        except (RemoteProtocolError, OSError) as error:
            # The memory is shared with the other workers of this application: any of them may have broken it.
            self.leave(error)

    def _take(self) -> int:
        if self._link.parked and not self._link.go_on():
            self.resume()  # the question for the segment may be among what waits for room
            self._leave_it()
            return 0
        found = self.port.take(BATCH, self._on_message, self._look)
        if self._blocked or self._short or not self.port.clear:
            self.resume()
        room = self._limit - len(self.streams) - len(self._headless) + self._tunnels
        if self._link.parked:
            self._leave_it()
        elif self._accepting and room > 0:
            result = self._queue.claim(self._tracking, min(room, self._appetite.requests))
            count = result & COUNT
            if result > COUNT:
                self._pass_on(result)
            if count:
                dispatch(self._queue, count, self._arrivals.take)
                found += count
                self.taken += count
                self._appetite.claimed(count)
        else:
            if self._accepting:
                self._at_limit()
            self._leave_it()
        return found

    def _doze(self) -> bool:
        if not self.port.incoming.doze(WAITER):
            return False
        return not self._accepting or self._full or self._queue.doze(self._waiter)

    def _leave_it(self) -> None:
        # A ring that came because of this worker's sleeping bit belongs to somebody who takes requests.
        self._queue.rouse(self._waiter)
        if other := self._queue.wake():
            self._send_baton(other - 1)

    def _send_baton(self, waiter: int) -> None:
        self.send(HEADER.pack(0, BATON_MESSAGE, 0, 0, 0, 0, waiter, 0))

    def _pass_on(self, result: int) -> None:
        if result & STARVED:
            self.port.peer_bell.ring()
        if result >> BATON:
            self._send_baton((result >> BATON) - 1)

    def _at_limit(self) -> None:
        self._full = True
        if not self._bound:
            self._bound = True
            logging.getLogger("bridge").warning(
                "%d requests run at once, the limit of this worker: others wait in the router", self._limit
            )

    def resume(self) -> None:
        """Let the streams that wait for room try again; raises as `Port.flush`."""
        if not self._alive:
            return
        blocked, short = self._blocked, self._short
        if self.port.flush():
            while blocked and self.clear():
                blocked.popitem(last=False)[0].pump()  # if that fills the queue, it waits behind all others
        while short:
            stream, _ = short.popitem(last=False)
            stream.pump()
            if stream in short:
                break  # it has taken what there was

    def _look(self, stream: int, kind: int, flags: int, size: int, data: memoryview) -> bool:
        """Let a WebSocket read what has come for it where it is."""
        if kind != BODY or flags or self._link.parked:
            return False
        request = self.streams.get(stream)
        return isinstance(request, TunnelStream) and request.look(data, size)

    def _on_message(  # noqa: PLR0913 - the parts of one message
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
        if self._link.parked:
            parts = (stream, kind, flags, size, number, head, descriptors, inline)
            self._link.parked.append((self._on_message, parts))
            return
        request = self.streams.get(stream)
        if request is None:
            self._on_rare(stream, kind, number, inline)
        elif kind == BODY:
            if size and isinstance(request, TunnelStream):
                request.credited(size)
            if descriptors:
                try:
                    inline += b"".join([self._link.read(*descriptor) for descriptor in descriptors])
                except SegmentUnknown as unknown:
                    parts = (stream, kind, flags, size, number, head, descriptors, inline)
                    self._link.park(unknown.number, self._on_message, *parts)
                    return
                if isinstance(request, TunnelStream):
                    self.send(HEADER.pack(stream, TAKEN, 0, 0, 0, 0, 0, 0))
            request.deliver(inline, bool(flags & LAST))
        elif kind == WINDOW:
            request.acknowledged(size)
        elif kind == CANCEL:
            request.cancel()
        elif kind == LEAVE and isinstance(request, TunnelStream):
            request.leave()

    def _on_rare(self, stream: int, kind: int, number: int, inline: bytes) -> None:
        if kind == RECORD and not stream:
            self._link.record(number, self._on_message, self._headless.__contains__)
        elif kind == HEAD:
            self._arrivals.complete(stream, inline)
        elif kind == CANCEL and self._headless.pop(stream, None) is not None:
            self.port.inbox.drop(stream)
            self.give_up(stream, HEADER.pack(stream, ABORT, 0, 0, 0, 0, 0, 0))
        # Else it has ended here while the message was on its way.

    # Sending, for the streams

    def begin(self, stream: int) -> bool:
        """The stream's application starts; False when it was cancelled before.

        Not before: what was claimed but has not begun when this worker dies is run by another one.
        """
        return self._alive and self._tracking.start(stream)

    def send(self, message: bytes) -> None:
        """Send a message that does not change its stream's state."""
        if not self._alive:
            return
        try:
            self.port.send(message)
        except RemoteProtocolError as error:
            self.leave(error)

    def answer(self, stream: int, event: int, message: bytes) -> int:
        """Change the stream's state and send; CANCELLED when nobody waits any more."""
        if not self._alive:
            return CANCELLED
        port = self.port
        if not port.backlog:
            result = answer(port.outgoing, self._tracking, stream, event, message)
            if result > 0:
                port.peer_bell.ring()
                return 0
            if result != FULL:
                return CANCELLED if result == LOST else result
        if self._tracking.move(stream, event) == LOST:
            return CANCELLED
        self.send(message)
        return 0

    def answer_soon(self, stream: int, message: bytes, rest: bytes) -> int:
        """As `answer`, of more that follows, in two pieces.

        Rings behind the callbacks of this round of the loop, or with the last of so many that are enough.
        """
        port = self.port
        if self._alive and not port.backlog:
            result = answer_joined(port.outgoing, self._tracking, stream, _RESPOND, message, rest)
            if result >= 0:
                if result:
                    self._unrung = 1
                    self.loop.call_soon(self._ring)
                elif self._unrung:
                    self._unrung += 1
                    if self._unrung == _TOGETHER:
                        self._ring()
                return 0
            if result != FULL:
                return CANCELLED if result == LOST else result
        return self.answer(stream, _RESPOND, message + rest)

    def _ring(self) -> None:
        if self._unrung:
            self._unrung = 0
            self.port.peer_bell.ring()

    def give_up(self, stream: int, message: bytes) -> None:
        """End the stream in whatever state it is, and send the message that says so."""
        if not self._alive:
            return
        self._tracking.move(stream, Event.FINISH)  # legal whoever has cancelled it
        if not self.port.outbox.clear:
            self.port.outbox.drop(stream)
        self.send(message)

    def answer_long(self, stream: int, message: bytes) -> int:
        """As `answer`, of more that follows, with a message for which there is no other way than the link."""
        if not self._alive or self._tracking.move(stream, Event.RESPOND) == LOST:
            return CANCELLED
        self._link.send_long(stream, message)
        return 0

    def clear(self) -> bool:
        """Whether everything sent so far is in the router's queue."""
        port = self.port
        return not port.backlog and port.outbox.clear

    def wait_for_chunks(self, stream: WorkerStream) -> None:
        """Call `stream.pump` when chunks may be free."""
        self._short[stream] = None
        if self.segment.chunks.wait():
            self.loop.call_soon(self._link.resume)

    def wait_for_queue(self, stream: WorkerStream) -> None:
        """Call `stream.pump` when the queue has room."""
        self._blocked[stream] = None

    def count_tunnels(self, change: int) -> None:
        """So many more of the streams are WebSockets, or fewer."""
        self._tunnels += change
        if self._full and change > 0:
            self._full = False
            self.schedule()

    def finished(self, number: int) -> None:
        """A stream's last message is on its way."""
        self.streams.pop(number, None)
        if self._full:
            self._full = False
            self.schedule()

    # The router's end

    def leave(self, error: Exception | None) -> None:
        """The router is gone, or cannot be served any more, whoever is to blame."""
        if error is not None and self._alive:
            self.left = True
            logging.getLogger("bridge").error("leaving the router: %s", error)
        self._end()

    def _end(self) -> None:
        """The router is gone or left: nobody waits for anything that came from it."""
        if not self._alive:
            return
        self._alive = False
        self.loop.remove_reader(self.port.bell.fileno())
        for stream in list(self.streams.values()):
            stream.cancel()
        self.streams.clear()
        self._headless.clear()
        self._link.close()
        self.port.link.shut()  # what the application has forked may hold a duplicate
        self.port.close()
        self._lost(self)
