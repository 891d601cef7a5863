"""What a worker hears from main."""

from __future__ import annotations

import pytest

from bridge.ipc.link import Link
from bridge.worker.main_link import MainLink
from tests.ipc.test_link import few_files


def test_a_router_that_cannot_be_joined(caplog: pytest.LogCaptureFixture) -> None:
    """A worker that has no descriptor left for the link to a router is of no use: it leaves, and is replaced."""
    main, worker = Link.pair()
    main.send({"type": "router"}, [0])
    introduced: list[Link] = []
    stopped: list[bool] = []
    with few_files(0):
        assert MainLink(worker).hear(introduced.append, stopped.append)
    assert (introduced, stopped) == ([], [True])
    assert "cannot join a router" in caplog.text
    main.close()
    worker.close()
