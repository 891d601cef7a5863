"""A request body on its way through shared memory, for requests whose body does not fit into the queue item.

The client's socket is read straight into runs of chunks. A run is shipped to the worker when it is full, when the
body ends, or when the application is waiting for bytes; its chunks are free again when the worker has said (WANT)
that the bytes were consumed, or when the stream is over. At most `window` bytes are under way; then, and while there
is no memory for the next run, the socket is not read.

As long as nothing can be shipped because no worker has the request, a run that is full grows in place where it can, and
runs whose bytes touch are one descriptor: one piece for the worker to read instead of many to join.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from typing import Protocol

from bridge.ipc.message import BODY, DESCRIPTOR, HEADER, LAST, UNKNOWN
from bridge.ipc.pool import SegmentPool
from bridge.ipc.segment import Segment
from bridge.router.worker_port import WorkerPort

FIRST_RUN = 32768  #: bytes


class Source(Protocol):
    """What an upload needs from the client's connection."""

    def pause_body(self) -> None:
        """Stop reading the socket."""

    def resume_body(self) -> None:
        """Read the socket again; `Upload.buffer` has room from now on."""


class Run:
    """Contiguous chunks: being filled, then shipped, then consumed."""

    __slots__ = ("_memory", "filled", "first", "room", "segment")

    def __init__(self, segment: Segment, first: int, room: int) -> None:
        start = segment.data_offset + first * segment.chunk_size
        self._memory = memoryview(segment.memory)[start : start + room]
        self.segment = segment
        self.first = first
        self.room = room  # bytes
        self.filled = 0  # bytes

    def buffer(self, most: int) -> memoryview:
        """Where the next bytes go, at most `most`."""
        return self._memory[self.filled : min(self.filled + most, self.room)]

    def full(self, lacking: int) -> bool:
        """Whether the next bytes go elsewhere: what is left is not worth a read, and not enough for the rest."""
        left = self.room - self.filled
        return not left or (left * 16 < self.room and left < lacking)

    def grow(self, pool: SegmentPool, size: int, *, spare: bool = False) -> int:
        """Make the run longer by up to `size` bytes, where it lies: by how many; 0 = what is behind it is taken."""
        segment = self.segment
        got = pool.grow(segment, self.first + self.room // segment.chunk_size, size, spare=spare)
        if got:
            self.room += got
            start = segment.data_offset + self.first * segment.chunk_size
            self._memory = memoryview(segment.memory)[start : start + self.room]
        return got

    def content(self) -> memoryview:
        """What has been filled."""
        return self._memory[: self.filled]

    def release(self, pool: SegmentPool) -> None:
        """Give the chunks back."""
        pool.release(self.segment, self.first, self.room // self.segment.chunk_size)

    def shorten(self) -> tuple[int, int]:
        """Let go of the chunks that nothing was put into; they are the caller's: the first one, and how many."""
        chunk_size = self.segment.chunk_size
        chunks = self.room // chunk_size
        used = self.segment.chunks_of(self.filled)
        self.room = used * chunk_size
        return self.first + used, chunks - used


def describe(runs: Iterable[Run]) -> list[tuple[int, int, int]]:
    """The descriptors of `runs`, in order: where the bytes of two touch, one names both."""
    pieces: list[tuple[int, int, int]] = []
    for run in runs:
        if pieces:
            number, first, size = pieces[-1]
            chunks, rest = divmod(size, run.segment.chunk_size)
            if number == run.segment.number and not rest and first + chunks == run.first:
                pieces[-1] = (number, first, size + run.filled)
                continue
        pieces.append((run.segment.number, run.first, run.filled))
    return pieces


class Upload:
    """The body of one request.

    Args:
        source: the connection that the bytes come from.
        pool: the application's request memory.
        window: bytes that may be under way.
        size: bytes of the whole body, or UNKNOWN.
    """

    __slots__ = (
        "_complete",
        "_held",
        "_hungry",
        "_lacking",
        "_longest",
        "_next",
        "_paused",
        "_pool",
        "_run",
        "_shipped",
        "_source",
        "_surplus",
        "_under_way",
        "_unsent",
        "_window",
        "consumed",
        "port",
        "stream",
    )

    def __init__(self, source: Source, pool: SegmentPool, window: int, size: int = UNKNOWN) -> None:
        self.stream = 0
        self.consumed = 0  #: bytes, as far as the worker has said it
        self.port: WorkerPort | None = None  # known once the worker has said something
        self._source = source
        self._pool = pool
        self._window = window
        self._lacking = size  # bytes that have not arrived
        self._longest = max(window // 4, 1)  # bytes of a run
        self._next = min(FIRST_RUN, self._longest)  # bytes of the next one
        self._run: Run | None = None  # the one being filled
        self._shipped: deque[Run] = deque()  # handed to the worker, not consumed
        self._unsent: list[tuple[Run | None, bool]] = []  # shipped before the worker was known: (run, last)
        self._under_way = 0  # bytes filled and not consumed
        self._surplus = 0  # bytes consumed of the first shipped run
        self._held = b""  # decoded bytes that found no memory
        self._complete = False
        self._hungry = False  # the application waits for bytes
        self._paused = False

    def open(self) -> None:
        """Get room for the first bytes before the socket is read."""
        if not self._room():
            self._pause()

    def buffer(self, lacking: int) -> memoryview:
        """Where the next bytes from the socket go: at most `lacking` bytes, never empty."""
        run = self._run
        if run is None:
            raise AssertionError("the socket is read although there is no room")
        return run.buffer(lacking)

    def filled(self, count: int, complete: bool) -> None:
        """`count` bytes have arrived in the last buffer; `complete`: they were the last."""
        run = self._run
        if run is None:
            raise AssertionError("bytes arrived without a buffer")
        run.filled += count
        self._lacking -= count
        self._under_way += count
        if complete:
            self._complete = True
            self._ship(last=True)
            return
        if self._hungry or (run.full(self._lacking) and not self._grow(run)):
            self._ship(last=False)
        self._keep_room()

    def feed(self, data: bytes, complete: bool) -> None:
        """Take decoded bytes; what finds no memory is held here while the socket rests."""
        self._complete = complete
        data = self._held + data if self._held else data
        self._held = b""
        position = 0
        while position < len(data):
            if not self._room():
                self._held = data[position:]
                self._pause()
                return
            buffer = self.buffer(len(data) - position)
            size = len(buffer)
            buffer[:] = data[position : position + size]
            position += size
            run = self._run
            if run is None:
                raise AssertionError("a run cannot vanish while it is filled")
            run.filled += size
            self._lacking -= size
            self._under_way += size
            if run.full(self._lacking) and not self._grow(run):
                self._ship(last=False)
        if complete or (self._hungry and position):
            self._ship(last=complete)
        self._keep_room()

    def wanted(self, consumed: int) -> None:
        """The worker has consumed `consumed` bytes since the last time, and asks for more."""
        if consumed:
            self.consumed += consumed
            self._under_way = max(0, self._under_way - consumed)
            self._free(consumed)
        self._hungry = True
        if not self._complete and self._run is not None and self._run.filled:
            self._ship(last=False)
        if self._paused:
            self._resume()
        else:
            self._keep_room()

    @property
    def hungry(self) -> bool:
        """Whether the application waits for bytes that the client may send: there is memory for them."""
        return self._hungry and not self._paused

    def known(self, port: WorkerPort) -> None:
        """The worker that runs the request is known: send what was shipped so far."""
        self.port = port
        unsent, self._unsent = self._unsent, []
        for run, last in unsent:
            self._send(run, last)
        if self._paused or self._held:
            self.memory_ready()  # it runs: there may be some for it now

    def first_pieces(self, most: int) -> tuple[list[tuple[int, int, int]], bool]:
        """What is here already, to travel with the REQUEST: (at most `most` descriptors, whether that is all).

        Each piece is given once: the caller keeps them until the REQUEST is published.
        """
        if self._run is not None and self._run.filled:
            self._ship(last=False)
            self._keep_room()
        runs: list[Run] = []
        while self._unsent:
            run, last = self._unsent[0]
            if run is not None:
                if len(describe([*runs, run])) > most:
                    break
                runs.append(run)
            self._unsent.pop(0)
            if last:
                return describe(runs), True
        return describe(runs), False

    def memory_ready(self) -> None:
        """There is memory again."""
        if self._held:
            self.feed(b"", self._complete)
        self._resume()

    def stop(self) -> None:
        """Nobody waits for the answer: no more is read, for the connection may be at the next request already."""
        self._pool.forget(self)
        self._complete = True
        self._paused = False
        self._held = b""

    def close(self) -> None:
        """The stream is over: all chunks are free again."""
        self._pool.forget(self)
        if self._run is not None:
            self._run.release(self._pool)
            self._run = None
        for run in self._shipped:
            run.release(self._pool)
        self._shipped.clear()
        self._unsent.clear()
        self._held = b""

    def _room(self) -> bool:
        if self._run is None:
            spare = self.port is None
            size = min(self._next, self._lacking, self._pool.share(spare=spare))
            claimed = self._pool.claim(size or 1, 1, spare=spare)
            if claimed is None:
                self._pool.wait(self, 1, spare=spare)
                return False
            self._run = Run(*claimed)
            # A client that is slow holds little memory; one that is fast fills runs and gets longer ones.
            self._next = min(2 * self._next, self._longest)
        return True

    def _grow(self, run: Run) -> bool:
        # Who waits for the bytes gets them in a run of its own: only before that is a longer run better than the next.
        if self.port is not None or run.room >= self._longest or self._full():
            return False
        size = min(self._next, self._longest - run.room, self._lacking, self._pool.share(spare=True))
        if not size or not run.grow(self._pool, size, spare=True):
            return False
        self._next = min(2 * self._next, self._longest)
        return True

    def _keep_room(self) -> None:
        # The next run is there before the socket is read again: `buffer` never has to say no.
        if not self._complete and (self._full() or not self._room()):
            self._pause()

    def _full(self) -> bool:
        return self._under_way >= min(self._window, self._pool.share(spare=self.port is None))

    def _ship(self, *, last: bool) -> None:
        run, self._run = self._run, None
        self._hungry = False
        if run is not None:
            first, spare = run.shorten()
            if spare and last:
                self._pool.release(run.segment, first, spare)
            elif spare:  # chunks behind the last byte never leave: they are the next run
                self._run = Run(run.segment, first, spare * run.segment.chunk_size)
            if run.filled:
                self._shipped.append(run)
            else:
                run = None
        if self.port is None:
            self._unsent.append((run, last))
        else:
            self._send(run, last)

    def _send(self, run: Run | None, last: bool) -> None:
        if self.port is None:
            raise AssertionError("nothing is sent before the worker is known")
        flags = LAST if last else 0
        if run is None:
            self.port.send(HEADER.pack(self.stream, BODY, flags, 0, 0, 0, 0, 0))
        else:
            piece = DESCRIPTOR.pack(run.segment.number, run.first, run.filled)
            self.port.send(HEADER.pack(self.stream, BODY, flags, 1, 0, run.filled, 0, 0) + piece)

    def _free(self, consumed: int) -> None:
        self._surplus += consumed
        while self._shipped and self._surplus >= self._shipped[0].filled:
            run = self._shipped.popleft()
            self._surplus -= run.filled
            run.release(self._pool)

    def _pause(self) -> None:
        if not self._paused and not self._complete:
            self._paused = True
            self._source.pause_body()

    def _resume(self) -> None:
        if self._paused and not self._held and not self._full() and self._room():
            self._paused = False
            self._source.resume_body()
