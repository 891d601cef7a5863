"""The request half of an exchange: what the worker gets, as a REQUEST message and as the body behind it.

A request that fits the queue item is one message, body and all. A longer body goes through `upload`, or is `collected`
first, which depends on what the application is: before the first worker has said that, the body is not read. A longer
head is put into chunks that are free again when the worker says that it has copied it; if there are none, it goes over
the link of the worker that claims the request.
"""

from __future__ import annotations

import errno

from bridge.errors import RemoteProtocolError
from bridge.ipc.message import (
    DESCRIPTOR,
    EXPECT,
    FILE,
    HEAD,
    HEADER,
    HTTP_1_0,
    LAST,
    LINKED,
    MAX_DESCRIPTORS,
    REQUEST,
    TAKEN,
)
from bridge.ipc.segment import Segment
from bridge.router.application import Application
from bridge.router.collected import Collected
from bridge.router.framing import Framing
from bridge.router.http1 import Connection
from bridge.router.upload import Upload
from bridge.router.worker_port import WorkerPort


class Request:
    """See the head of the file.

    Args:
        application: where it goes.
        connection: where its body comes from.
        block: peer block and request head, as the worker gets them.
        framing: what the router has read from the head.
        bits: HTTPS, if the client's side is that, and the way to the application, as a REQUEST has them.
    """

    __slots__ = (
        "_bits",
        "_block",
        "_body",
        "_complete",
        "_continue",
        "_first",
        "_framing",
        "_head_runs",
        "_upload",
        "application",
        "begun",
        "connection",
        "due",
        "expected",
        "port",
        "stream",
    )

    def __init__(
        self, application: Application, connection: Connection, block: bytes, framing: Framing, bits: int
    ) -> None:
        self.application = application
        self.connection = connection
        self.stream = 0
        self.port: WorkerPort | None = None
        self.due = 0.0
        self._block = block
        self._body = b""
        self._complete = True
        self._framing = framing
        self._bits = bits
        self._continue = framing.expect
        self._upload: Upload | Collected | None = None
        self._head_runs: list[tuple[Segment, int, int]] | None = None
        self._first: tuple[list[tuple[int, int, int]], bool] | None = None  # body that travels with the REQUEST

    begun: float  # since it was admitted
    expected: float  # since it waits

    def purpose(self) -> bytes:
        """What it asks for: method and path, or more of the head where that is not so simple."""
        start = self._block.find(b"\n") + 1
        return self._block[start : self._block.find(b" ", self._block.find(b" ", start) + 1)].partition(b"?")[0]

    def parts(self) -> tuple[bytes, bytes]:
        """Peer block and request head."""
        peer, _, head = self._block.partition(b"\n")
        return peer, head

    @property
    def gone(self) -> bool:
        """Whether nobody waits for the answer any more."""
        raise NotImplementedError

    def worker_lost(self, state: int) -> bool:
        """Its worker is gone; True = it has not begun and may be published again."""
        raise NotImplementedError

    def refuse(self, status: int) -> None:
        """Answer in the application's place; nobody has begun to run it."""
        raise NotImplementedError

    def _prepare_body(self) -> bool:
        """See to a body that is not complete, or need not fit; False = the request is admitted when it is."""
        interface = self.application.interface
        if interface == "wsgi":
            self._collect()
            return False
        if not self._complete:
            if interface is None:
                self.connection.pause_body()
            else:
                self._begin_upload()
        return True

    def decide(self) -> None:
        """It is known now what the application is, and with that what becomes of the body."""
        if self._upload is not None or (self._complete and self._fits()):
            return
        if not self._complete:
            self.connection.resume_body()
        if self.application.interface == "wsgi":
            self.application.withdraw(self)
            self._collect()
        elif not self._complete:
            self._begin_upload()

    def _collect(self) -> None:
        application, body, room = self.application, self._body, self.application.room
        if self._complete and self._fits():
            application.admit(self)
            return
        if self._continue:
            self._continue = False
            self.connection.send_continue()
        head = self._inline_head()
        pieces = min((room - len(head)) // DESCRIPTOR.size, MAX_DESCRIPTORS)
        self._upload = collected = Collected(
            self.connection,
            application.pool,
            application.disk,
            application.http.body_buffer_size,
            pieces if head else pieces // 2,
            self._framing.size,
            self._collected,
        )
        self._body = b""
        if body or self._complete:
            collected.feed(body, self._complete)
        else:
            collected.open()

    def _fits(self) -> bool:
        return len(self._block) + len(self._body) <= self.application.room

    def _collected(self, error: OSError | None) -> None:
        if error is None:
            self.application.admit(self)
        else:
            self.refuse(507 if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG) else 503)

    def _is_whole(self) -> bool:
        # Whether all of the body is still here, and went with the REQUEST: it may go with another one.
        upload = self._upload
        return upload is None or (self._first is not None and self._first[1] and not upload.consumed)

    def _inline_head(self) -> bytes:
        # What of the head travels in the queue item of a request with descriptors: all of it, or nothing.
        return self._block if len(self._block) + 2 * DESCRIPTOR.size <= self.application.room else b""

    def _begin_upload(self) -> None:
        application = self.application
        self._upload = upload = Upload(self.connection, application.pool, application.memory.window, self._framing.size)
        if self._body or self._complete:
            upload.feed(self._body, self._complete)
        else:
            upload.open()
        self._body = b""

    def message(self) -> bytes:
        """The REQUEST message, but for its stream."""
        block, body = self._block, self._body
        room = self.application.room
        framing = self._framing
        number = self._bits | (HTTP_1_0 if framing.minor == 0 else 0)
        flags = EXPECT if self._continue else 0
        length = len(block) + len(body)
        if self._upload is None and length <= room:
            return HEADER.pack(0, REQUEST, flags | LAST, 0, length, len(body), number, len(block)) + block + body
        if self._upload is None:
            self._begin_upload()
        return self._large_message(flags, number)

    def _large_message(self, flags: int, number: int) -> bytes:
        upload, block = self._upload, self._block
        if upload is None:
            raise AssertionError("a large request has an upload")
        room = self.application.room
        inline = self._inline_head()
        pieces: list[tuple[int, int, int]] = []
        if not inline:
            # A message that was not published is made again, and its pieces are still where they were.
            if self._head_runs is None:
                most = min(room // DESCRIPTOR.size, MAX_DESCRIPTORS)
                if self._first is not None:
                    most -= len(self._first[0])
                elif isinstance(upload, Collected):
                    most -= most // 2  # the rest is for the body, which travels with it or in a file
                self._head_runs = self.application.heads.place(block, most)
            if self._head_runs is None:
                flags |= LINKED
            pieces = [(segment.number, first, size) for segment, first, size in self._head_runs or ()]
        if self._first is None:
            space = (room - len(inline)) // DESCRIPTOR.size
            self._first = upload.first_pieces(min(space, MAX_DESCRIPTORS) - len(pieces))
        body, complete = self._first
        pieces += body
        flags |= LAST if complete else 0
        size = self._framing.size
        if isinstance(upload, Collected):
            size = upload.size
            flags |= FILE if upload.in_file else 0
        fixed = (flags, len(pieces), len(inline), size, number, len(block))
        header = HEADER.pack(0, REQUEST, *fixed)
        return header + b"".join(DESCRIPTOR.pack(*piece) for piece in pieces) + inline

    def body_buffer(self, lacking: int) -> memoryview:
        """Where the next bytes of the body go; see `Upload.buffer`."""
        if self._upload is None:
            raise AssertionError("a body that is complete is not read")
        return self._upload.buffer(lacking)

    def body_filled(self, count: int, complete: bool) -> None:
        """Bytes have arrived in the last buffer."""
        if self._upload is not None:
            self._upload.filled(count, complete)

    def body_bytes(self, data: bytes, complete: bool) -> None:
        """Decoded bytes of a transfer-chunked body."""
        if self._upload is not None:
            self._upload.feed(data, complete)

    def _serve_head(self, port: WorkerPort, kind: int) -> bool:
        """A worker that has claimed the request, and not begun it: another one could still run it. True = handled."""
        if kind not in (TAKEN, HEAD):
            return False
        if not self.application.tracking.held_by(self.stream, port.number):
            raise RemoteProtocolError(f"stream {self.stream:#x} was not claimed by it")
        if kind == TAKEN:
            self._free_head()
        elif self.stream in port.linked:  # who reads none of them would have us keep any number of copies
            raise RemoteProtocolError(f"the head of stream {self.stream:#x} was asked for before")
        else:
            port.send_head(self.stream, self._block)
        return True

    def _free_head(self) -> None:
        runs, self._head_runs = self._head_runs, None
        for segment, first, size in runs or ():
            self.application.heads.release(segment, first, segment.chunks_of(size))
