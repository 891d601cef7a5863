"""JSON of any length in a file."""

from __future__ import annotations

import os

import pytest

from bridge.errors import RemoteProtocolError
from bridge.ipc import parcel


@pytest.mark.parametrize("memfd", [True, False])
def test_round_trip(memfd: bool) -> None:
    """What is packed is unpacked by several receivers, each from its own descriptor, far beyond a link's message."""
    value = {"a": ["é" * 100000, None, 1.5]}
    fd = parcel.pack(value, memfd=memfd)
    assert parcel.unpack(os.dup(fd)) == parcel.unpack(os.dup(fd)) == value
    assert parcel.unpack(fd) == value
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(fd)


def test_what_is_no_parcel() -> None:
    """Other contents are the sender's fault, and the descriptor is closed all the same."""
    fd = os.memfd_create("x")
    os.write(fd, b"{")
    with pytest.raises(RemoteProtocolError, match="no JSON"):
        parcel.unpack(fd)
    fd = os.memfd_create("x")
    os.truncate(fd, parcel.LONGEST + 1)
    with pytest.raises(RemoteProtocolError, match="bytes"):
        parcel.unpack(fd)
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(fd)
