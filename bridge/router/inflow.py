"""What a client sends through a WebSocket, on its way to the worker.

A read that fits a queue item is one message. Where one was longer, the next goes straight into chunks of the
application's request memory, if there are any to spare: the worker copies them and says so (TAKEN), and they are free.
So what is short costs no chunk, what is idle holds none, and without memory it only costs more.

At most `http.websocket.window` bytes are under way. Without credit, and while as many messages wait for the worker's
queue as it holds, the socket is not read; `hangup` watches it.
"""

from __future__ import annotations

import asyncio
from collections import deque
from functools import cache
from typing import Any, Protocol

from bridge import config
from bridge.core import Draft
from bridge.errors import RemoteProtocolError
from bridge.ipc.message import BODY, DESCRIPTOR, HEADER
from bridge.ipc.pool import SegmentPool
from bridge.router.interface import Service
from bridge.router.upload import Run
from bridge.router.worker_port import WorkerPort

READ = 32768  #: bytes taken from a socket at once
_HEAD = HEADER.size
_pack_into = HEADER.pack_into


@cache
def _draft() -> tuple[Draft, memoryview]:
    """Where every socket is read, and a message made of it: one for the whole process, and what of it sockets get.

    What lies there is sent, or copied, before the next socket is read.
    """
    draft = Draft(_HEAD + READ)
    return draft, draft.view[_HEAD:]


class Owner(Protocol):
    """What is needed of the application."""

    room: int  #: payload bytes that fit a queue item
    http: config.Http
    pool: SegmentPool
    loop: asyncio.AbstractEventLoop


class Inflow(asyncio.BufferedProtocol):
    """See the head of the file. Made as `tunnel.Tunnel` only, which says how it ends.

    Args:
        application: whose it is.
        port: of the worker that gets the bytes.
        stream: their stream.
    """

    __slots__ = (
        "_credit",
        "_deaf",
        "_draft",
        "_finished",
        "_flushed",
        "_long",
        "_loop",
        "_paused",
        "_pool",
        "_room",
        "_run",
        "_service",
        "_shipped",
        "_transport",
        "_unacknowledged",
        "_view",
        "_window",
        "port",
        "stream",
    )

    _service: Service
    _transport: asyncio.Transport

    def __init__(self, application: Owner, port: WorkerPort, stream: int) -> None:
        self.port = port
        self.stream = stream
        self._loop = application.loop
        self._pool = application.pool
        self._room = application.room
        self._draft, self._view = _draft()
        self._credit = self._window = application.http.websocket.window  # bytes that may still be sent
        self._long = False  # the last read did not fit a queue item
        self._run: Run | None = None  # what is read into, if it is chunks
        self._shipped: deque[Run] | None = None  # that the worker has yet to copy
        self._paused = False
        self._finished = False  # the client has sent FIN
        self._flushed = True  # the client has taken all that was written to it
        self._unacknowledged = 0  # bytes of the worker whose window has not been given back
        self._deaf = False  # what comes is thrown away: it is read only to be closed

    # The transport calls

    def get_buffer(self, sizehint: int) -> memoryview:  # noqa: ARG002 - the loop's guess is not ours
        """Memory for the bytes that the socket has."""
        credit = self._credit
        if self._long and (run := self._find_run()) is not None:
            return run.buffer(credit)
        return self._view if credit >= READ else self._view[:credit]

    def buffer_updated(self, count: int) -> None:
        """Send `count` bytes out of the memory that `get_buffer` gave."""
        if self._deaf:
            return
        if self._run is not None:
            self._ship(count)
        elif count <= self._room:
            self._credit -= count
            if not self._post(count) or self._credit <= 0:
                self._pause()
        else:
            self._long = True
            self._forward(self._draft.memory[_HEAD : _HEAD + count])

    def _post(self, count: int) -> bool:
        """Send `count` bytes that lie in the draft, and with them what the client has taken."""
        draft, taken = self._draft, 0
        if self._flushed:
            taken, self._unacknowledged = self._unacknowledged, 0
        _pack_into(draft.memory, 0, self.stream, BODY, 0, 0, count, taken, 0, 0)
        return self.port.post(draft, _HEAD + count)

    def _forward(self, data: bytes) -> None:
        # What was read behind the handshake may be more than the window: the rest of the way it counts.
        self._credit -= len(data)
        draft, room = self._draft, min(self._room, READ)
        for start in range(0, len(data), room):
            end = draft.write(_HEAD, data[start : start + room])
            self._post(end - _HEAD)
        if self._credit <= 0 or self.port.port.crowded:
            self._pause()

    # Chunks

    def _find_run(self) -> Run | None:
        if self._run is None:
            pool = self._pool
            claimed = pool.claim(min(self._credit, READ, pool.share(spare=True)), 1, spare=True)
            if claimed is None:
                self._long = False  # until the next one that is
            else:
                self._run = Run(*claimed)
        return self._run

    def _ship(self, count: int) -> None:
        run, self._run = self._run, None
        if run is None:
            raise AssertionError("there is a run")
        if count == run.room:
            self._loop.call_soon(self._tidy)  # the loop asks for memory once more, and perhaps for nothing
        self._credit -= count
        if count <= self._room:
            self._long = False
            self._draft.write(_HEAD, run.buffer(count))
            run.release(self._pool)
            taken = self._post(count)
        else:
            run.filled = count
            first, spare = run.shorten()
            if spare:
                self._pool.release(run.segment, first, spare)
            if self._shipped is None:
                self._shipped = deque()
            self._shipped.append(run)
            draft = self._draft
            _pack_into(draft.memory, 0, self.stream, BODY, 0, 1, 0, 0, 0, 0)
            DESCRIPTOR.pack_into(draft.memory, _HEAD, run.segment.number, run.first, count)
            taken = self.port.post(draft, _HEAD + DESCRIPTOR.size)
        if not taken or self._credit <= 0:
            self._pause()

    def _tidy(self) -> None:
        run, self._run = self._run, None
        if run is not None:
            run.release(self._pool)

    def _on_taken(self) -> None:
        if not self._shipped:
            raise RemoteProtocolError("it has copied what it was not sent")
        self._shipped.popleft().release(self._pool)

    def _free(self) -> None:
        # The worker is done with the stream: it reads none of its chunks any more.
        self._tidy()
        for run in self._shipped or ():
            run.release(self._pool)
        self._shipped = None

    # Reading, or not

    def _on_want(self, size: int) -> None:
        self._credit = min(self._credit + size, self._window)
        if self._paused:
            self.queue_ready()

    def queue_ready(self) -> None:
        """There is room in the worker's queue, or credit: go on reading if there are both."""
        if self._paused and self._credit > 0 and not self._deaf:
            if self.port.port.crowded:
                self.port.halted[self] = None
            else:
                self._resume()

    def _pause(self) -> None:
        if not self._paused and not self._finished:
            self._paused = True
            self._transport.pause_reading()
            self._service.hangups.watch(self._socket.fileno(), self)
        if self.port.port.crowded:
            self.port.halted[self] = None

    def _resume(self) -> None:
        if self._paused:
            self._unwatch()
            self._transport.resume_reading()

    def _unwatch(self) -> None:
        if self._paused:
            self._paused = False
            self._service.hangups.forget(self._socket.fileno(), self)

    @property
    def _socket(self) -> Any:
        return self._transport.get_extra_info("socket")

    def peer_closed(self, *, reset: bool) -> None:
        """The client has left while its socket was paused (called by `hangup`)."""
        raise NotImplementedError
