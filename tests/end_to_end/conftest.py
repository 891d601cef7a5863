"""The server that most tests of a file share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.end_to_end.server import Server
from tests.end_to_end.wire import Wire


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    """One worker of applications/plain.py; the file's last test is followed by a graceful end."""
    with Server("plain:app") as running:
        yield running


@pytest.fixture
def wire(server: Server) -> Iterator[Wire]:
    """A new connection to `server`."""
    with Wire(server.address) as connection:
        yield connection
