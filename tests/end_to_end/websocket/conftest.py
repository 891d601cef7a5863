"""The server that most tests of a file share, and a WebSocket to it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.end_to_end.server import Server
from tests.end_to_end.websocket.client import Client, connect


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    """One worker of applications/sockets.py."""
    with Server("sockets:app") as running:
        yield running


@pytest.fixture
def client(server: Server) -> Iterator[Client]:
    """An open WebSocket whose messages come back."""
    with connect(server) as opened:
        yield opened
