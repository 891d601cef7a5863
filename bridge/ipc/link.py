"""One end of a SEQPACKET pair between two processes: messages that carry file descriptors.

Links carry what is rare (introductions, settings, readiness, the end of a process as end-of-file), as JSON; requests
and bodies travel through queues and segments. What of a port's messages the queue cannot carry comes over its link
too, as binary records (`record`).
"""

from __future__ import annotations

import array
import json
import os
import socket
import stat
import threading
from collections.abc import Iterable, Sequence
from struct import Struct
from typing import Any, Self

from bridge.errors import FilesLost, LinkFull, PeerLost, RemoteProtocolError

MAX_MESSAGE = 65536  #: bytes
MAX_DESCRIPTORS = 250  #: files in one message; the kernel's own limit is 253
_FD = array.array("i").itemsize

_PID = Struct("i")  # at the front of struct ucred
_ANCILLARY = socket.CMSG_SPACE(12) + socket.CMSG_SPACE(MAX_DESCRIPTORS * _FD)


class Link:
    """A non-blocking message socket to exactly one other process.

    Everything sent arrives whole and in order. Files sent along are duplicated by the kernel: the sender
    still has to close its own copies. Received files are close-on-exec and belong to the caller.
    """

    __slots__ = ("_sender", "_socket")

    def __init__(self, sock: socket.socket, sender: int | None = None) -> None:
        sock.setblocking(False)
        self._socket = sock
        self._sender = sender

    @classmethod
    def pair(cls) -> tuple[Self, Self]:
        """Two connected ends, both close-on-exec; every message that is received there says who has sent it."""
        ends = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        for end in ends:
            end.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
        return cls(ends[0]), cls(ends[1])

    @classmethod
    def adopt(cls, fd: int, *, sender: int | None = None) -> Self:
        """The end behind an inherited or received descriptor, which the link owns from now on.

        Args:
            fd: of one end of a `pair`.
            sender: process id; the kernel says of each message who has sent it, and others may not. None = anybody.
        """
        os.set_inheritable(fd, False)
        return cls(socket.socket(fileno=fd), sender)

    def fileno(self) -> int:
        """Descriptor to wait for readability on."""
        return self._socket.fileno()

    def send(self, message: dict[str, Any], fds: Sequence[int] = ()) -> None:
        """Send one message and its files; raises as `send_bytes`."""
        self.send_bytes(json.dumps(message, separators=(",", ":")).encode(), fds)

    def send_bytes(self, data: bytes, fds: Sequence[int] = ()) -> None:
        """Send one message of any form and its files.

        Raises:
            LinkFull: the other process has not read for so long that its socket is full; nothing was sent.
            PeerLost: it is gone.
        """
        if len(data) > MAX_MESSAGE or len(fds) > MAX_DESCRIPTORS:
            raise ValueError(f"message of {len(data)} bytes with {len(fds)} files is over the limit of a link")
        rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))] if fds else []
        try:
            self._socket.sendmsg([data], rights)
        except BlockingIOError as error:
            raise LinkFull("the other process does not read its link") from error
        except (OSError, ValueError) as error:
            raise PeerLost(f"the other process took no message: {error}") from error

    def receive(self) -> tuple[dict[str, Any], list[int]] | None:
        """The next message and its files, or None when there is none now; raises as `receive_bytes` and `decode`."""
        received = self.receive_bytes()
        return None if received is None else (decode(*received), received[1])

    def receive_bytes(self) -> tuple[bytes, list[int]] | None:
        """The next message in whatever form, and its files; None when there is none now.

        Raises:
            PeerLost: end of file: the other process has closed its end or is dead.
            FilesLost: there were no descriptors left for its files; those that had one are closed.
            RemoteProtocolError: the message is too long, or has too many files; they are closed.
        """
        try:
            data, ancillary, flags, _ = self._socket.recvmsg(MAX_MESSAGE, _ANCILLARY, socket.MSG_CMSG_CLOEXEC)
        except BlockingIOError:
            return None
        except (ConnectionError, ValueError) as error:
            raise PeerLost(f"the other process is gone: {error}") from error
        fds = array.array("i")
        sender = None
        for level, kind, payload in ancillary:
            if level == socket.SOL_SOCKET and kind == socket.SCM_CREDENTIALS:
                sender = _PID.unpack_from(payload)[0]
            elif level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
                fds.frombytes(payload[: len(payload) - len(payload) % _FD])
        if not data and not fds:
            raise PeerLost("the other process has closed its end")
        if self._sender not in (None, sender):
            close_all(fds)
            raise RemoteProtocolError(f"a message on a link was sent by process {sender}, to whom it was not given")
        if flags & (socket.MSG_TRUNC | socket.MSG_CTRUNC) or len(fds) > MAX_DESCRIPTORS:
            close_all(fds)
            # The kernel drops files that find no room here: in the buffer, or, if that was not full, in this process.
            if flags & socket.MSG_TRUNC or len(fds) >= MAX_DESCRIPTORS:
                raise RemoteProtocolError("a message on a link is longer than a link allows")
            raise FilesLost(data)
        return data, list(fds)

    def shut(self) -> None:
        """End it for both sides, whoever holds a duplicate of this end; the descriptor stays until `close`."""
        try:
            self._socket.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass  # the other end is closed already

    def discard(self) -> None:
        """End it for both sides, and let go of what has come and nobody has read.

        The kernel would do that when the last end is closed, and could make its process wait (`close_all`).
        """
        self.shut()
        while True:
            try:
                received = self.receive_bytes()
            except (FilesLost, RemoteProtocolError):
                continue
            except PeerLost:
                return
            if received is None:
                return
            close_all(received[1])

    def close(self) -> None:
        """Close this end; the other one reads end-of-file once no duplicate is left."""
        self._socket.close()


def decode(data: bytes, fds: Sequence[int]) -> dict[str, Any]:
    """A message that is JSON.

    Raises:
        RemoteProtocolError: it is no JSON object; its files are closed.
    """
    try:
        message = json.loads(data)
        if not isinstance(message, dict):
            raise ValueError("not an object")
    except (ValueError, RecursionError) as error:
        close_all(fds)
        raise RemoteProtocolError(f"a message on a link is not what a link carries: {error}") from error
    return message


def close_all(fds: Iterable[int]) -> None:
    """Close files that came with a message and are not wanted; whatever they are, nobody here waits for that.

    To close a socket may take as long as whoever had it before wants it to (SO_LINGER).
    """
    slow = []
    for fd in fds:
        if stat.S_ISSOCK(os.fstat(fd).st_mode):
            slow.append(fd)
        else:
            os.close(fd)
    if slow:
        threading.Thread(target=_close, args=(slow,), daemon=True).start()


def _close(fds: list[int]) -> None:
    for fd in fds:
        os.close(fd)
