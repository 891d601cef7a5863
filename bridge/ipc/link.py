"""One end of a SEQPACKET pair between two processes: JSON messages that carry file descriptors.

Links carry what is rare (introductions, settings, readiness, the end of a process as end-of-file); requests
and bodies travel through queues and segments.
"""

from __future__ import annotations

import array
import json
import os
import socket
from collections.abc import Sequence
from typing import Any, Self

from bridge.errors import PeerLost, RemoteProtocolError

MAX_MESSAGE = 65536  #: bytes of JSON
MAX_DESCRIPTORS = 250  #: files in one message; the kernel's own limit is 253
_FD = array.array("i").itemsize


class Link:
    """A non-blocking message socket to exactly one other process.

    Everything sent arrives whole and in order. Files sent along are duplicated by the kernel: the sender
    still has to close its own copies. Received files are close-on-exec and belong to the caller.
    """

    __slots__ = ("_socket",)

    def __init__(self, sock: socket.socket) -> None:
        sock.setblocking(False)
        self._socket = sock

    @classmethod
    def pair(cls) -> tuple[Self, Self]:
        """Two connected ends, both close-on-exec."""
        left, right = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        return cls(left), cls(right)

    @classmethod
    def adopt(cls, fd: int) -> Self:
        """The end behind an inherited or received descriptor, which the link owns from now on."""
        os.set_inheritable(fd, False)
        return cls(socket.socket(fileno=fd))

    def fileno(self) -> int:
        """Descriptor to wait for readability on."""
        return self._socket.fileno()

    def send(self, message: dict[str, Any], fds: Sequence[int] = ()) -> None:
        """Send one message and its files.

        Raises:
            PeerLost: the other process is gone, or has not read for so long that its socket is full.
        """
        data = json.dumps(message, separators=(",", ":")).encode()
        if len(data) > MAX_MESSAGE or len(fds) > MAX_DESCRIPTORS:
            raise ValueError(f"message of {len(data)} bytes with {len(fds)} files is over the limit of a link")
        rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))] if fds else []
        try:
            self._socket.sendmsg([data], rights)
        except (OSError, ValueError) as error:
            raise PeerLost(f"the other process took no message: {error}") from error

    def receive(self) -> tuple[dict[str, Any], list[int]] | None:
        """The next message and its files, or None when there is none now.

        Raises:
            PeerLost: end of file: the other process has closed its end or is dead.
            RemoteProtocolError: the message is no JSON object, or too long; its files are closed.
        """
        try:
            data, ancillary, flags, _ = self._socket.recvmsg(
                MAX_MESSAGE, socket.CMSG_SPACE(MAX_DESCRIPTORS * _FD), socket.MSG_CMSG_CLOEXEC
            )
        except BlockingIOError:
            return None
        except (ConnectionError, ValueError) as error:
            raise PeerLost(f"the other process is gone: {error}") from error
        fds = array.array("i")
        for level, kind, payload in ancillary:
            if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
                fds.frombytes(payload[: len(payload) - len(payload) % _FD])
        if not data and not fds:
            raise PeerLost("the other process has closed its end")
        try:
            if flags & (socket.MSG_TRUNC | socket.MSG_CTRUNC):
                raise ValueError("longer than a link allows")
            message = json.loads(data)
            if not isinstance(message, dict):
                raise ValueError("not an object")
        except (ValueError, RecursionError) as error:
            for fd in fds:
                os.close(fd)
            raise RemoteProtocolError(f"a message on a link is not what a link carries: {error}") from error
        return message, list(fds)

    def shut(self) -> None:
        """End it for both sides, whoever holds a duplicate of this end; the descriptor stays until `close`."""
        try:
            self._socket.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass  # the other end is closed already

    def close(self) -> None:
        """Close this end; the other one reads end-of-file once no duplicate is left."""
        self._socket.close()
