"""Temporary files of the router, and the threads that wait for the disk in the loop's place.

A file has no name: it is gone with the router, however that ends. Where the file system cannot make one without a
name, the name is removed right after.
"""

from __future__ import annotations

import asyncio
import logging
import os
import tempfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

THREADS = 4  #: they wait for the disk, each for one file
_MOST_PIECES = 512  # of one system call; the kernel takes 1024


class Disk:
    """Where temporary files are made, and who waits for them.

    Attributes:
        jobs: how many are under way.

    Args:
        directory: for the files; None = the system's.
    """

    __slots__ = ("_complained", "_loop", "_threads", "directory", "jobs")

    def __init__(self, directory: str | None) -> None:
        self.directory = directory
        self._loop = asyncio.get_running_loop()
        self._threads = ThreadPoolExecutor(THREADS, "disk")  # starts a thread when there is something to do
        self._complained = False
        self.jobs = 0

    def run(self, work: Callable[[], Any], done: Callable[[Any], None]) -> None:
        """Have a thread do `work`, then call `done` here, with the result or with the OSError that it ended with."""

        def finished(future: asyncio.Future[Any]) -> None:
            self.jobs -= 1
            if not future.cancelled():
                done(future.result())

        self._loop.run_in_executor(self._threads, _work, work).add_done_callback(finished)
        self.jobs += 1

    def complain(self, error: OSError) -> None:
        """Say that a file could not be made, written or read, once until one can be written."""
        if not self._complained:
            self._complained = True
            place = self.directory or "the system's directory for temporary files"
            logging.getLogger("bridge").error("a temporary file in %s: %s", place, error)

    def recovered(self) -> None:
        """It works."""
        self._complained = False

    def close(self) -> None:
        """Take no more work; what is under way ends in its own time."""
        self._threads.shutdown(wait=False)


def _work(work: Callable[[], Any]) -> Any:
    try:
        return work()
    except OSError as error:
        # A new one: a traceback would keep what the work has used, and that is to end in the loop's thread.
        return OSError(error.errno, error.strerror)


class Spool:
    """One temporary file, which grows at its end; at most one job of it is under way at a time.

    Attributes:
        end: bytes written.
        busy: a job is under way.

    Args:
        disk: see `Disk`.
    """

    __slots__ = ("_closed", "_disk", "_file", "busy", "end")

    def __init__(self, disk: Disk) -> None:
        self.end = 0
        self.busy = False
        self._disk = disk
        self._file: Any = None
        self._closed = False

    def append(self, pieces: list[Any], done: Callable[[OSError | None], None]) -> None:
        """Write `pieces`, bytes-like, behind the end. The list is cleared before `done` is called.

        The loop's thread drops the last reference to each piece: what a piece's end sets off happens here.
        """

        def written(result: int | OSError) -> None:
            pieces.clear()
            if self._finished():
                return
            if isinstance(result, OSError):
                self._disk.complain(result)
                done(result)
                return
            self._disk.recovered()
            self.end += result
            done(None)

        self.busy = True
        self._disk.run(lambda: self._write(pieces, self.end), written)

    def fetch(self, position: int, size: int, done: Callable[[bytes | OSError], None]) -> None:
        """Read up to `size` bytes at `position`, none behind `end`: what lies there was written before a restart."""
        size = min(size, self.end - position)

        def read(result: bytes | OSError) -> None:
            if self._finished():
                return
            if isinstance(result, OSError):
                self._disk.complain(result)
            done(result)

        self.busy = True
        self._disk.run(lambda: os.pread(self._file.fileno(), size, position), read)

    def restart(self) -> None:
        """Everything that was written has been read: begin at the front again."""
        self.end = 0

    def lend(self, use: Callable[[int], None]) -> None:
        """Call `use` with a descriptor of the file: one that cannot write, unless there is no /proc or no file left."""
        number: int = self._file.fileno()
        try:
            reader = os.open(f"/proc/self/fd/{number}", os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            use(number)
            return
        try:
            use(reader)
        finally:
            os.close(reader)

    def close(self) -> None:
        """Let go of the file, when no job is under way any more; no `done` is called from now on."""
        if not self._closed:
            self._closed = True
            if not self.busy:
                self._discard()

    def _write(self, pieces: list[Any], position: int) -> int:
        if self._file is None:
            self._file = tempfile.TemporaryFile(buffering=0, prefix="bridge-", dir=self._disk.directory)  # noqa: SIM115
        number = self._file.fileno()
        total = 0
        for index in range(0, len(pieces), _MOST_PIECES):
            group = [memoryview(piece).cast("B") for piece in pieces[index : index + _MOST_PIECES]]
            while group:
                size = os.pwritev(number, group, position + total)
                total += size
                while group and size >= len(group[0]):
                    size -= len(group.pop(0))
                if group and size:
                    group[0] = group[0][size:]
        return total

    def _finished(self) -> bool:
        self.busy = False
        if self._closed:
            self._discard()
        return self._closed

    def _discard(self) -> None:
        # Freeing the blocks of a long file takes its time.
        file, self._file = self._file, None
        if file is not None:
            try:
                self._disk.run(file.close, lambda _: None)
            except RuntimeError:  # the router ends
                file.close()
