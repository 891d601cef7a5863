"""A request body that is collected before any worker gets the request, so that a slow upload holds no thread.

The client's socket is read straight into chunks, as for `upload`, up to `most` bytes. A body that is longer, or one
that finds no chunks, goes to a temporary file: what has been read is written there by a thread, and the rest behind
it. While more waits for the disk than is good for our memory, the socket is not read.
"""

from __future__ import annotations

from collections.abc import Callable

from bridge.ipc.message import UNKNOWN
from bridge.ipc.pool import SegmentPool
from bridge.router.disk import Disk, Spool
from bridge.router.scratch import scratch
from bridge.router.upload import FIRST_RUN, Run, Source, describe
from bridge.router.worker_port import WorkerPort

WAITING = 262144  #: bytes that may wait for the disk, beside those that are being written
_READ = 65536  # bytes taken from a socket at once on their way to a file


def _nobody(error: OSError | None) -> None:
    """It is over."""


class Collected:
    """The body of one request; see the head of the file.

    Attributes:
        size: bytes that have arrived.
        stream, port, consumed, hungry: as of an `Upload`.

    Args:
        source: the connection that the bytes come from.
        pool: the application's request memory.
        disk: where files are made.
        most: bytes that may be collected in chunks.
        pieces: descriptors that the REQUEST has room for.
        size: bytes of the whole body, or UNKNOWN.
        done: called once: all of it is here (None), or it cannot be kept.
    """

    hungry = False  # everything is here

    __slots__ = (
        "_complete",
        "_consumed",
        "_disk",
        "_done",
        "_held",
        "_most",
        "_next",
        "_paused",
        "_pieces",
        "_pool",
        "_runs",
        "_sent",
        "_source",
        "_spool",
        "_total",
        "_waiting",
        "_waits",
        "consumed",
        "port",
        "size",
        "stream",
    )

    def __init__(  # noqa: PLR0913 - where it comes from, where it may go
        self,
        source: Source,
        pool: SegmentPool,
        disk: Disk,
        most: int,
        pieces: int,
        size: int,
        done: Callable[[OSError | None], None],
    ) -> None:
        self.stream = 0
        self.consumed = 0
        self.port: WorkerPort | None = None
        self.size = 0
        self._source = source
        self._pool = pool
        self._disk = disk
        self._most = most
        self._pieces = pieces
        self._total = size
        self._done = done
        self._next = FIRST_RUN  # bytes of the next one
        self._runs: list[Run] = []  # all but the last are as good as full
        self._held = 0  # bytes of room in them
        self._spool: Spool | None = None
        self._waiting: list[bytes] = []  # for the disk
        self._waits = 0  # bytes of it
        self._consumed = 0  # by the worker, of the first run
        self._complete = False
        self._paused = False
        self._sent = False  # the worker has the file

    @property
    def in_file(self) -> bool:
        """Whether the body lies in a file, all of it; else in chunks."""
        return self._spool is not None and self.size > 0

    def open(self) -> None:
        """Get room for the first bytes before the socket is read."""
        if not self._room():
            self._spill()

    def buffer(self, lacking: int) -> memoryview:
        """Where the next bytes from the socket go: at most `lacking` bytes, never empty."""
        if self._spool is not None:
            return scratch(_READ)[1][:lacking]
        return self._runs[-1].buffer(lacking)

    def filled(self, count: int, complete: bool) -> None:
        """`count` bytes have arrived in the last buffer; `complete`: they were the last."""
        if self._spool is not None:
            self._queue(scratch(_READ)[0][:count], complete)
            return
        self._runs[-1].filled += count
        self.size += count
        if complete:
            self._collected()
        elif not self._room():
            self._spill()

    def feed(self, data: bytes, complete: bool) -> None:
        """Take decoded bytes."""
        position = 0
        while position < len(data) and self._spool is None:
            if self._room():
                buffer = self.buffer(len(data) - position)
                size = len(buffer)
                buffer[:] = data[position : position + size]
                self._runs[-1].filled += size
                self.size += size
                position += size
            else:
                self._spill()
        if self._spool is not None:
            self._queue(data[position:], complete)
        elif complete:
            self._collected()
        elif not self._room():
            self._spill()

    def first_pieces(self, most: int) -> tuple[list[tuple[int, int, int]], bool]:  # noqa: ARG002 - as of an upload
        """What travels with the REQUEST: the descriptors of the chunks, and that there is nothing else."""
        return describe(self._runs), True

    def known(self, port: WorkerPort) -> None:
        """The worker that runs the request is known."""
        self.port = port
        self._sent = False

    def wanted(self, consumed: int) -> None:
        """The worker reads: it gets the file; or it has consumed so many bytes, and their chunks are free."""
        if self._spool is not None:
            self._send_file(self._spool)
            return
        self.consumed += consumed
        self._consumed += consumed
        while self._runs and self._consumed >= self._runs[0].filled:
            run = self._runs.pop(0)
            self._consumed -= run.filled
            run.release(self._pool)

    def stop(self) -> None:
        """As of an upload: everything is here."""

    def close(self) -> None:
        """The stream is over: chunks and file are free again."""
        runs, self._runs = self._runs, []
        if self._spool is not None:
            self._spool.close()
        for run in runs:
            run.release(self._pool)
        self._waiting.clear()
        self._done = _nobody  # who was told is free without the collector of cycles, and with it a worker that died

    def _room(self) -> bool:
        """Whether there is room for the next byte in chunks; claims some if need be."""
        lacking, left = self._total - self.size, self._most - self.size
        if left <= 0 or (self._total != UNKNOWN and lacking > left):
            return False
        if self._runs and not self._runs[-1].full(min(lacking, left)):
            return True
        share = self._pool.share()
        if self._held >= share:
            return False
        # A client that is slow holds little memory; one that is fast fills runs and gets longer ones.
        wanted, self._next = self._next, 2 * self._next
        if lacking <= self._next:
            wanted = lacking  # one run instead of two for the rest
        got = self._claim(min(wanted, left, share))
        self._held += got
        return got > 0

    def _claim(self, wanted: int) -> int:
        """Make the last run longer, or begin another one: by how many bytes."""
        got = self._runs[-1].grow(self._pool, wanted) if self._runs else 0
        if got or len(self._runs) >= self._pieces:
            return got
        claimed = self._pool.claim(wanted, 1)
        if claimed is None:
            return 0
        self._runs.append(Run(*claimed))
        return claimed[2]

    def _collected(self) -> None:
        self._complete = True
        if self._runs:
            run = self._runs[-1]
            first, spare = run.shorten()
            if not run.filled:
                self._runs.pop()
            if spare:
                self._pool.release(run.segment, first, spare)
        self._done(None)

    def _spill(self) -> None:
        """From here on everything goes to a file, and what lies in chunks goes first."""
        self._spool = Spool(self._disk)
        self._write(self._spool)

    def _queue(self, data: bytes, complete: bool) -> None:
        self._complete = complete
        if data:
            self._waiting.append(data)
            self._waits += len(data)
            self.size += len(data)
        if self._waits >= WAITING and not complete and not self._paused:
            self._paused = True
            self._source.pause_body()
        if self._spool is not None and not self._spool.busy:
            self._write(self._spool)

    def _write(self, spool: Spool) -> None:
        pieces: list[memoryview | bytes] = [run.content() for run in self._runs if run.filled]
        if not pieces:
            self._free_runs()
            pieces += self._waiting
            self._waiting = []
            self._waits = 0
        if pieces:
            spool.append(pieces, self._written)
        elif self._complete:
            self._done(None)

    def _written(self, error: OSError | None) -> None:
        if error is not None:
            self._done(error)
            return
        self._free_runs()
        if self._spool is not None:
            self._write(self._spool)
        if self._paused and self._waits < WAITING:
            self._paused = False
            self._source.resume_body()

    def _free_runs(self) -> None:
        runs, self._runs = self._runs, []
        for run in runs:
            run.release(self._pool)

    def _send_file(self, spool: Spool) -> None:
        port = self.port
        if self.in_file and port is not None and not self._sent:
            self._sent = True
            spool.lend(lambda reader: port.send_file(self.stream, reader))
