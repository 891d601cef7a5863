"""A worker that cannot serve its router any more: it is replaced, and the application goes on."""

from __future__ import annotations

import resource
from pathlib import Path

import pytest

from tests.end_to_end.server import Server, until
from tests.end_to_end.wire import Wire

BODY = bytes(300_000)  # needs the first segment of request bodies
LITTLE = 4 << 20  #: bytes; a segment is larger


@pytest.mark.parametrize("target", ["plain:app", "wsgi_plain:app"])
def test_out_of_memory(target: str) -> None:
    """A worker that cannot map a segment leaves; the next one serves that application, also if it has but one."""
    with Server(target) as server:
        (worker,) = server.workers
        pages = int(Path(f"/proc/{worker}/statm").read_text().split()[0])
        most = pages * resource.getpagesize() + LITTLE
        resource.prlimit(worker, resource.RLIMIT_AS, (most, most))
        with Wire(server.address) as wire:
            # Who loses a request that it had begun costs the client a 502; what it had not begun is another one's.
            assert wire.post("/pid", BODY).answer().status in (200, 502)
        server.log.take(r"[^\n]*\[error\] leaving the router: \[Errno 12\][^\n]*\n")
        server.log.take(r"[^\n]*\[error\] this worker leaves: [^\n]*\n")
        until(lambda: server.workers != [worker], "the worker has ended")
        with Wire(server.address) as wire:
            assert int(wire.post("/pid", BODY).answer().text) != worker
