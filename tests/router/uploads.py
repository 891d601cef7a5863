"""An upload between a client and a worker that are made up, over real shared memory."""

from __future__ import annotations

from bridge.ipc.message import BODY, DESCRIPTOR, HEADER, LAST
from bridge.ipc.pool import SegmentPool
from bridge.ipc.segment import Segment
from bridge.router.upload import Upload

MEMORIES = {"tiny": (64, 64, 512), "usual": (16384, 128, 262144)}  # chunk size, chunks, window
STREAM = 7 << 32 | 5


class Source:
    """A client's connection; it minds being paused twice."""

    def __init__(self) -> None:
        self.paused = False

    def pause_body(self) -> None:
        assert not self.paused
        self.paused = True

    def resume_body(self) -> None:
        assert self.paused
        self.paused = False


class FakePort:
    """Takes the messages apart and reads the bytes at once, as a worker does."""

    def __init__(self, pool: SegmentPool) -> None:
        self.pool = pool
        self.body = b""
        self.pieces: list[int] = []
        self.messages = 0
        self.last = False

    def send(self, message: bytes) -> None:
        assert not self.last
        self.messages += 1
        stream, kind, flags, count, length, size, _, _ = HEADER.unpack_from(message)
        assert (stream, kind, length) == (STREAM, BODY, 0)
        assert flags in (0, LAST)
        pieces = list(DESCRIPTOR.iter_unpack(message[HEADER.size :]))
        assert len(pieces) == count
        assert size == sum(piece[2] for piece in pieces)
        self.read(pieces, last=bool(flags))

    def read(self, pieces: list[tuple[int, int, int]], *, last: bool) -> None:
        """Read the bytes of some descriptors."""
        for number, first, size in pieces:
            segment = self.pool.segments[number]
            assert segment.covers(first, size)
            self.body += segment.read(first, size)
            self.pieces.append(size)
        self.last = last


class Rig:
    """One upload and both of its sides."""

    def __init__(self, chunk_size: int, chunks: int, window: int, *, segments: int = 4) -> None:
        self.window = window
        self.chunk_size = chunk_size
        self.pool = SegmentPool(
            chunk_size, chunks, segments * chunk_size * chunks, 1, memfd=True, announce=lambda segment: None
        )
        self.source = Source()
        self.port = FakePort(self.pool)
        self.upload = Upload(self.source, self.pool, window)
        self.upload.stream = STREAM
        self.sent = b""

    def fill(self, data: bytes, *, complete: bool = False, piece: int = 1 << 30) -> bytes:
        """Read from the socket until it is paused; returns what was not read."""
        while data and not self.source.paused:
            buffer = self.upload.buffer(len(data))
            count = min(len(buffer), piece)
            assert 0 < len(buffer) <= len(data)
            buffer[:count] = data[:count]
            self.sent += data[:count]
            data = data[count:]
            self.upload.filled(count, complete and not data)
        return data

    def hog(self, leave: int = 0) -> list[tuple[Segment, int, int]]:
        """Take all memory but `leave` chunks."""
        taken = []
        while run := self.pool.claim(self.chunk_size, 1):
            taken.append(run)
        for _ in range(leave):
            self.give_back(taken)
        return taken

    def give_back(self, taken: list[tuple[Segment, int, int]]) -> None:
        """Free one of the chunks."""
        segment, first, _ = taken.pop()
        self.pool.release(segment, first, 1)

    def close(self) -> None:
        """The stream is over: nothing is left."""
        self.upload.close()
        assert self.pool.busy() == 0
        assert not self.pool._waiting
        self.pool.close()


def pattern(size: int) -> bytes:
    """Bytes in which a mistake shows."""
    return b"".join(number.to_bytes(4, "big") for number in range(size // 4 + 1))[:size]


def known(rig: Rig) -> None:
    """The worker has said something."""
    rig.upload.known(rig.port)  # type: ignore[arg-type]
