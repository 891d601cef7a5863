"""bridge.router.collected: bodies for WSGI in chunks and in files, in every size and with every shortage."""

from __future__ import annotations

import os
import threading
from pathlib import Path
from typing import Any

import pytest

from bridge.ipc.message import UNKNOWN
from bridge.ipc.pool import SegmentPool
from bridge.router.collected import WAITING, Collected
from bridge.router.disk import Disk
from bridge.router.upload import FIRST_RUN
from tests.router.rig import run, until
from tests.router.test_disk import opened
from tests.router.uploads import STREAM, Source, pattern


class Port:
    """Takes the file that a worker would get, and reads it."""

    def __init__(self) -> None:
        self.files: list[bytes] = []

    def send_file(self, stream: int, reader: int) -> None:
        assert stream == STREAM
        self.files.append(os.pread(reader, 1 << 30, 0))


class Body:
    """One body that is collected, and a socket that it is read from."""

    def __init__(
        self, directory: Path, *, size: int = UNKNOWN, most: int = 1 << 20, pieces: int = 30, chunks: int = 640
    ) -> None:
        self.directory = directory
        self.pool = SegmentPool(64, chunks, 64 * chunks, 1, memfd=True, announce=lambda _: None)
        self.disk = Disk(str(directory))
        self.source = Source()
        self.results: list[OSError | None] = []
        self.port = Port()
        self.collected = Collected(self.source, self.pool, self.disk, most, pieces, size, self.results.append)
        self.collected.stream = STREAM

    async def read(self, data: bytes, piece: int = 1 << 20) -> None:
        """Read all of a body from the socket."""
        self.collected.open()
        while data:
            await until(lambda: not self.source.paused)
            buffer = self.collected.buffer(len(data))
            assert 0 < len(buffer) <= len(data)
            count = min(len(buffer), piece)
            buffer[:count] = data[:count]
            data = data[count:]
            self.collected.filled(count, not data)
        await until(lambda: self.results)

    @property
    def in_chunks(self) -> bytes:
        """The bytes that the REQUEST's descriptors name."""
        pieces, complete = self.collected.first_pieces(99)
        assert complete
        return b"".join(self.pool.segments[number].read(*rest) for number, *rest in pieces)

    @property
    def in_file(self) -> bytes:
        """The bytes of the file that the worker gets, once."""
        self.collected.known(self.port)  # type: ignore[arg-type]
        self.collected.wanted(0)
        self.collected.wanted(0)
        return b"".join(self.port.files)

    async def close(self) -> None:
        """The stream is over: nothing is left."""
        self.collected.close()
        self.collected.close()
        await until(lambda: not self.disk.jobs)
        assert not opened(self.directory)
        assert self.pool.busy() == 0
        self.pool.close()
        self.disk.close()


@pytest.mark.parametrize("piece", [1, 63, 100, 1 << 20])
@pytest.mark.parametrize("size", [1, 63, 64, 65, 1000, 4096])
@pytest.mark.parametrize("known", [True, False], ids=["announced", "not announced"])
def test_a_body_in_chunks(tmp_path: Path, size: int, piece: int, known: bool) -> None:
    """A body that fits is read into chunks, of which it keeps no more than it needs."""

    async def test() -> None:
        body = Body(tmp_path, size=size if known else UNKNOWN, most=4097)
        await body.read(pattern(size), piece)
        assert body.results == [None]
        assert not body.collected.in_file
        assert body.in_chunks == pattern(size)
        assert body.collected.size == size
        assert body.pool.busy() == -(-size // 64)
        assert body.in_file == b""
        await body.close()

    run(test())


@pytest.mark.parametrize("piece", [1, 100, 1 << 20])
@pytest.mark.parametrize("known", [True, False], ids=["announced", "not announced"])
def test_a_body_that_is_longer_than_chunks_may_take(tmp_path: Path, piece: int, known: bool) -> None:
    """All of it goes to a file; the chunks that it began in are free again."""

    async def test() -> None:
        size = 3000 if piece == 1 else 3 * WAITING
        body = Body(tmp_path, size=size if known else UNKNOWN, most=1024)
        await body.read(pattern(size), piece)
        assert body.results == [None]
        assert body.collected.in_file
        assert body.pool.busy() == 0
        assert body.in_file == pattern(size)
        assert len(body.port.files) == 1
        await body.close()

    run(test())


@pytest.mark.parametrize("known", [True, False], ids=["announced", "not announced"])
def test_runs_grow_with_what_has_arrived(tmp_path: Path, known: bool) -> None:
    """However slow a client is, it holds no more than three times what it has sent, and few runs in the end."""

    async def test() -> None:
        size = 1 << 19
        body = Body(tmp_path, size=size if known else UNKNOWN, most=size, chunks=8 * size // 64)
        body.collected.open()
        left = size
        while left:
            assert body.pool.busy() * 64 <= max(3 * (size - left), FIRST_RUN)
            buffer = body.collected.buffer(left)
            left -= len(buffer)
            body.collected.filled(len(buffer), not left)
        assert len(body.collected.first_pieces(99)[0]) == 1
        await body.close()

    run(test())


def test_a_run_that_is_nearly_full_is_full(tmp_path: Path) -> None:
    """A few bytes at its end are worth no system call, unless the body ends in them."""

    async def test() -> None:
        body = Body(tmp_path, size=FIRST_RUN + 50, chunks=8192)
        body.collected.open()
        body.collected.filled(FIRST_RUN - 100, False)
        assert len(body.collected.buffer(150)) == 150
        await body.close()
        body = Body(tmp_path, size=FIRST_RUN, chunks=8192)
        body.collected.open()
        body.collected.filled(FIRST_RUN - 100, False)
        assert len(body.collected.buffer(100)) == 100
        assert body.pool.busy() * 64 == FIRST_RUN
        await body.close()

    run(test())


@pytest.mark.parametrize(
    "shortage", [{"chunks": 8}, {"chunks": 64, "pieces": 1, "most": 4096}], ids=["chunks", "descriptors"]
)
def test_a_body_that_finds_no_room_in_shared_memory(tmp_path: Path, shortage: dict[str, int]) -> None:
    """When chunks or room for descriptors run out the body goes on in a file instead of waiting."""

    async def test() -> None:
        body = Body(tmp_path, size=3000, **shortage)
        await body.read(pattern(3000), 50)
        assert body.in_file == pattern(3000)
        await body.close()

    run(test())


def test_a_file_from_the_first_byte(tmp_path: Path) -> None:
    """When there is not one free chunk, or the length is known to be too much, no chunk is asked for."""

    async def test() -> None:
        body = Body(tmp_path, size=500, chunks=4)
        hogs = [body.pool.claim(64, 1) for _ in range(4)]
        await body.read(pattern(500))
        assert body.in_file == pattern(500)
        for hog in hogs:
            assert hog
            body.pool.release(hog[0], hog[1], 1)
        await body.close()

    run(test())


@pytest.mark.parametrize("most", [0, 200, 4096])
def test_decoded_bytes(tmp_path: Path, most: int) -> None:
    """A transfer-chunked body comes as bytes of any length, and the end may come alone."""

    async def test() -> None:
        body = Body(tmp_path, most=most)
        data = pattern(700)
        for start, end in ((0, 1), (1, 400), (400, 700)):
            body.collected.feed(data[start:end], False)
        body.collected.feed(b"", True)
        await until(lambda: body.results)
        assert body.in_file or body.in_chunks == data
        assert body.collected.in_file is (most < 700)
        await body.close()

    run(test())


@pytest.mark.parametrize("most", [0, 4096])
def test_a_body_that_is_empty_after_all(tmp_path: Path, most: int) -> None:
    """No chunk and no file is kept for nothing."""

    async def test() -> None:
        body = Body(tmp_path, most=most)
        body.collected.open()
        body.collected.feed(b"", True)
        assert body.results == [None]
        assert body.collected.first_pieces(9) == ([], True)
        assert not body.collected.in_file
        assert body.pool.busy() == 0
        await body.close()

    run(test())


def test_the_socket_rests_while_the_disk_is_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No more than a bounded number of bytes waits for the disk, and reading goes on when it has caught up."""
    write = os.pwritev
    go_on = threading.Event()

    def later(*arguments: Any) -> int:
        assert go_on.wait(30)
        return write(*arguments)

    monkeypatch.setattr(os, "pwritev", later)

    async def test() -> None:
        body = Body(tmp_path, size=1 << 30, most=1024)
        body.collected.open()
        count = 0
        while not body.source.paused:
            assert count <= WAITING + 2 * 65536
            buffer = body.collected.buffer(1 << 30)
            body.collected.filled(len(buffer), False)
            count += len(buffer)
        go_on.set()
        await until(lambda: not body.source.paused)
        assert body.results == []
        await body.close()

    run(test())


def test_chunks_are_free_as_the_worker_reads(tmp_path: Path) -> None:
    """What was consumed is given back run by run."""

    async def test() -> None:
        size = 100_000
        body = Body(tmp_path, size=size, chunks=8192)
        body.collected.open()
        behind = body.pool.claim(64, 1)  # so that the run cannot grow
        assert behind
        left = size
        while left:
            count = len(body.collected.buffer(left))
            left -= count
            body.collected.filled(count, not left)
        assert len(body.collected.first_pieces(99)[0]) == 2
        busy = body.pool.busy()
        body.collected.wanted(1)
        assert body.pool.busy() == busy
        body.collected.wanted(size - 2)
        assert 1 < body.pool.busy() < busy
        body.collected.wanted(1)
        assert body.pool.busy() == 1
        body.collected.wanted(1 << 40)
        body.pool.release(*behind[:2], 1)
        await body.close()

    run(test())


def test_a_file_that_cannot_be_made(tmp_path: Path) -> None:
    """The owner is told, once, and lets go of everything."""

    async def test() -> None:
        body = Body(tmp_path / "missing", size=5000, most=100)
        body.collected.open()
        body.collected.filled(len(body.collected.buffer(5000)), False)
        await until(lambda: body.results)
        assert isinstance(body.results[0], FileNotFoundError)
        await body.close()
        assert len(body.results) == 1

    run(test())
