"""A response on its way to a client that is made up, and takes as much as it is told to."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from bridge.router.disk import Disk
from bridge.router.outflow import COPIED, Outflow
from tests.router.rig import until
from tests.router.test_disk import opened


class Sink:
    """A client that takes `quota` bytes: from the socket at once, else from the transport, which keeps the rest."""

    def __init__(self, quota: float = float("inf"), *, direct: bool = True) -> None:
        self.quota = quota
        self.direct = direct
        self.received = b""
        self.kept = 0
        self.flushed = True
        self.complete = False
        self.aborted = False
        self.length_kept = True
        self.files: list[tuple[int, int, int]] = []
        self.writes = 0
        self.outflow: Outflow

    def write(self, data: Any, last: bool) -> bool:
        assert not self.complete
        assert not self.aborted
        assert self.flushed
        assert isinstance(data, bytes)
        assert len(data) <= COPIED
        self.writes += 1
        if not self.length_kept:
            return False
        self.received += data
        taken = int(min(self.quota, len(data)))
        self.quota -= taken
        self.kept = len(data) - taken
        self.flushed = not self.kept
        self.complete = last
        return True

    def send_now(self, data: Any) -> int:
        assert self.flushed
        taken = int(min(self.quota, len(data))) if self.direct else 0
        self.quota -= taken
        self.received += bytes(memoryview(data)[:taken])
        return taken

    def send_file(self, file: int, offset: int, count: int) -> bool:
        assert self.flushed
        self.files.append((file, offset, count))
        self.complete = True
        return True

    def abort(self) -> None:
        self.aborted = True

    def take(self, quota: float = float("inf")) -> None:
        """The client takes what the transport keeps, and up to `quota` bytes more."""
        self.kept = 0
        self.flushed = True
        self.quota = quota
        self.outflow.advance()


class Flow:
    """One response on its way to a sink."""

    def __init__(self, sink: Sink, directory: Path, most: int = 1 << 30) -> None:
        self.sink = sink
        self.disk = Disk(str(directory))
        self.directory = directory
        self.cleared = 0
        self.ended: list[bool | None] = []
        self.outflow = sink.outflow = Outflow(sink, self.disk, most, self._on_clear, self.ended.append)

    def _on_clear(self) -> None:
        assert self.outflow.clear
        self.cleared += 1

    def push(self, *pieces: bytes, last: bool = False) -> None:
        """More of the body."""
        for piece in pieces:
            self.outflow.push(piece)
        if last:
            self.outflow.finish()
        self.outflow.advance()

    async def close(self) -> None:
        """The response is over."""
        self.outflow.close()
        self.outflow.close()
        await until(lambda: not self.disk.jobs)
        assert not opened(self.directory)
        self.disk.close()
