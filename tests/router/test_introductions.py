"""What the router hears from main, when it has no descriptor left for a worker's link."""

from __future__ import annotations

import asyncio

import pytest

from bridge.ipc.link import Link
from bridge.router.process import Router
from tests.ipc.test_link import few_files


def test_a_worker_that_cannot_be_taken_in(caplog: pytest.LogCaptureFixture) -> None:
    """Main is told, for nobody will ever ask that worker for anything; the router goes on."""
    main, ours = Link.pair()

    async def test() -> None:
        router = Router(ours)
        main.send({"type": "worker", "application": "a", "worker": 7, "pid": 4711}, [0])
        main.send({"type": "quit"})
        with few_files(0):
            router._on_link()
        assert main.receive() == ({"type": "cut", "worker": 7, "reason": "it could not be taken in"}, [])
        await router._ended.wait()
        router.close()

    asyncio.run(test())
    assert "worker 7 (pid 4711) cannot be taken in" in caplog.text
    main.close()
