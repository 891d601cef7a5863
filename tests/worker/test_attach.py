"""Requests that a loop takes from a router, where the router is another worker's too."""

from __future__ import annotations

import asyncio

import pytest

from bridge.ipc import handshake
from bridge.ipc.message import ABORT, FILE, LAST
from bridge.ipc.stream import State
from bridge.worker.attach import Attached
from bridge.worker.stream import WorkerStream
from tests.worker.thread_rig import RouterSide


def test_a_body_in_a_file_is_not_an_empty_one(caplog: pytest.LogCaptureFixture) -> None:
    """A request that was made for a WSGI worker, before a reload, ends visibly; the application does not see it."""
    started: list[WorkerStream] = []
    with RouterSide(join=False) as side:

        async def worker() -> None:
            attachment = handshake.receive_offer(side.theirs, "1")
            assert attachment
            router = Attached(attachment, 4, started.append, lambda _: None)
            router.open()
            side.port.link.close()

        stream = side.publish(flags=LAST | FILE, size=1000)
        following = side.publish()
        asyncio.run(worker())
        (message,) = side.receive()
        assert (message.stream, message.kind) == (stream, ABORT)
        assert side.tracking.state(stream) == State.DONE
        assert side.tracking.state(following) == State.CLAIMED
        assert len(started) == 1
    assert "body in a file" in caplog.text
