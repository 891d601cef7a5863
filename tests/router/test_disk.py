"""bridge.router.disk: temporary files without names, and what becomes of them when the disk is full."""

from __future__ import annotations

import asyncio
import errno
import gc
import os
import tempfile
import threading
from pathlib import Path
from typing import Any

import pytest

from bridge.router.disk import Disk, Spool
from tests.router.rig import run, until


def opened(directory: Path) -> int:
    """Files of this process that lie in `directory`, named or not."""
    found = 0
    for number in os.listdir("/proc/self/fd"):
        try:
            found += os.readlink(f"/proc/self/fd/{number}").startswith(str(directory))
        except FileNotFoundError:
            continue
    return found


@pytest.mark.parametrize("nameless", [True, False], ids=["O_TMPFILE", "unlinked"])
def test_what_was_written_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, nameless: bool) -> None:
    """Pieces of any kind and number lie in the file in order, and the file has no name, wherever it is made."""
    monkeypatch.setattr(tempfile, "_O_TMPFILE_WORKS", nameless)

    async def test() -> None:
        disk = Disk(str(tmp_path))
        spool = Spool(disk)
        pieces: list[Any] = [bytes([index % 251]) * 3 for index in range(1500)]
        pieces.insert(700, memoryview(b"view"))
        expected = b"".join(pieces)
        written: list[Any] = []
        read: list[Any] = []
        spool.append(pieces, written.append)
        assert spool.busy
        await until(lambda: written)
        assert pieces == []
        assert os.listdir(tmp_path) == []
        spool.append([b"more"], written.append)
        await until(lambda: len(written) == 2)
        spool.fetch(1, 1 << 20, read.append)
        await until(lambda: read)
        assert (written, read, spool.end) == ([None, None], [(expected + b"more")[1:]], len(expected) + 4)
        assert not spool.busy
        spool.close()
        await until(lambda: not disk.jobs)
        assert not opened(tmp_path)
        disk.close()

    run(test())


def test_the_descriptor_that_is_lent_cannot_write(tmp_path: Path) -> None:
    """A worker gets the bytes, and cannot make the file grow."""

    async def test() -> None:
        disk = Disk(str(tmp_path))
        spool = Spool(disk)
        written: list[Any] = []
        spool.append([b"hello"], written.append)
        await until(lambda: written)

        def use(number: int) -> None:
            assert os.pread(number, 10, 0) == b"hello"
            with pytest.raises(OSError, match="Bad file descriptor"):
                os.write(number, b"x")

        spool.lend(use)
        assert opened(tmp_path) == 1
        spool.close()
        await until(lambda: not disk.jobs)
        assert not opened(tmp_path)
        disk.close()

    run(test())


def test_a_file_that_is_closed_while_it_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is let go of behind the job that is under way, and nobody is told of that."""
    begun, go_on = threading.Event(), threading.Event()
    write = os.pwritev

    def slow(*arguments: Any) -> int:
        begun.set()
        assert go_on.wait(30)
        return write(*arguments)

    monkeypatch.setattr(os, "pwritev", slow)

    async def test() -> None:
        disk = Disk(str(tmp_path))
        spool = Spool(disk)
        spool.append([b"hello"], lambda _: pytest.fail("it was closed"))
        await until(begun.is_set)
        spool.close()
        assert opened(tmp_path) == 1
        go_on.set()
        await until(lambda: not disk.jobs)
        assert not opened(tmp_path)
        disk.close()
        late = Spool(disk)
        late.close()

    run(test())


def test_a_disk_that_is_full(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    """The owner is told each time, the log once until it works again; and no piece is kept."""
    full = True
    write = os.pwritev

    def fails(*arguments: Any) -> int:
        if full:
            raise OSError(errno.ENOSPC, "No space left on device")
        return write(*arguments)

    monkeypatch.setattr(os, "pwritev", fails)

    async def test() -> None:
        nonlocal full
        disk = Disk(str(tmp_path))
        spool = Spool(disk)
        results: list[Any] = []
        for broken in (True, True, False, True):
            full = broken
            spool.append([b"hello"], results.append)
            await until(lambda: not spool.busy)
        assert [result and result.errno for result in results] == [errno.ENOSPC, errno.ENOSPC, None, errno.ENOSPC]
        assert spool.end == 5
        spool.close()
        await until(lambda: not disk.jobs)
        assert not opened(tmp_path)
        disk.close()

    run(test())
    assert caplog.messages == [f"a temporary file in {tmp_path}: [Errno 28] No space left on device"] * 2


def test_a_directory_that_is_not_there(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """That is an error of the first write, and the log names the directory."""

    async def test() -> None:
        disk = Disk(str(tmp_path / "missing"))
        spool = Spool(disk)
        results: list[Any] = []
        spool.append([b"hello"], results.append)
        await until(lambda: results)
        assert results[0].errno == errno.ENOENT
        spool.close()
        disk.close()

    run(test())
    assert "missing" in caplog.text


def test_the_last_reference_to_a_piece_ends_in_the_loops_thread(tmp_path: Path) -> None:
    """What hangs on the end of a piece, as chunks of a worker do, is no other thread's business."""
    threads: list[int] = []

    class Piece(bytearray):
        def __del__(self) -> None:
            threads.append(threading.get_ident())

    async def test() -> None:
        disk = Disk(str(tmp_path))
        spool = Spool(disk)
        for _ in range(200):
            spool.append([Piece(b"x" * 100)], lambda _: None)
            await until(lambda: not spool.busy)
        spool.close()
        disk.close()
        gc.collect()
        await asyncio.sleep(0)

    run(test())
    assert threads == [threading.get_ident()] * 200
