"""What is too long for a link's message: JSON in a memory file, whose descriptor travels in its place."""

from __future__ import annotations

import json
import os
from typing import Any

from bridge.errors import RemoteProtocolError
from bridge.ipc.segment import create_memory

LONGEST = 1 << 26  #: bytes that a receiver reads


def pack(value: object, *, memfd: bool = True) -> int:
    """A descriptor of a file that holds `value`; it may be sent to several processes, and the caller closes it.

    Raises:
        OSError: no memory.
    """
    data = json.dumps(value, separators=(",", ":")).encode()
    fd = create_memory(len(data), memfd=memfd)
    try:
        written = 0
        while written < len(data):
            written += os.pwrite(fd, data[written:], written)
    except OSError:
        os.close(fd)
        raise
    return fd


def unpack(fd: int) -> Any:
    """The value in a file that `pack` made; closes the descriptor.

    Raises:
        RemoteProtocolError: it holds no JSON, or too much of it.
    """
    try:
        size = os.fstat(fd).st_size
        if size > LONGEST:
            raise RemoteProtocolError(f"a parcel of {size} bytes")
        data = b""
        while part := os.pread(fd, size, len(data)):
            data += part
        return json.loads(data)
    except ValueError as error:
        raise RemoteProtocolError(f"a parcel that holds no JSON: {error}") from error
    finally:
        os.close(fd)
