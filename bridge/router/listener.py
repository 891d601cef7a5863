"""Listening sockets: opening them, describing them to another process, removing their files.

Main opens the sockets, so that neither a crash of the router nor its restart loses a waiting connection. The
router gets duplicates, and the identity of every socket file: when main is gone it removes them.
"""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import stat
from dataclasses import asdict, dataclass
from typing import Any, Self

from bridge.config import Address
from bridge.errors import AddressError

_EVERYWHERE = ("0.0.0.0", "::")


@dataclass(frozen=True, slots=True)
class SocketFile:
    """The file of a unix socket that we made, told apart from one that another server put there later."""

    path: str
    device: int
    inode: int

    def unlink(self) -> None:
        """Remove the file if it is still ours; says nothing if it is not or cannot be removed."""
        with contextlib.suppress(OSError):
            found = os.lstat(self.path)
            if (found.st_dev, found.st_ino) == (self.device, self.inode):
                os.unlink(self.path)

    def to_json(self) -> dict[str, Any]:
        """As `from_json` takes it."""
        return asdict(self)

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> Self:
        """What `to_json` gave, in another process."""
        return cls(str(value["path"]), int(value["device"]), int(value["inode"]))


@dataclass(frozen=True, slots=True)
class Listener:
    """An open listening socket, the address it really has, its file if it has one, and whose requests it takes.

    A `backlog` of 0 is that of the settings.
    """

    socket: socket.socket
    address: Address
    file: SocketFile | None = None
    application: str = ""
    backlog: int = 0

    def to_json(self) -> dict[str, Any]:
        """What the router is told about it."""
        file = self.file.to_json() if self.file else None
        address = str(self.address)
        return {"address": address, "file": file, "application": self.application, "backlog": self.backlog}

    def close(self) -> None:
        """Stop listening (once the router has stopped too) and remove the file."""
        self.socket.close()
        if self.file:
            self.file.unlink()


def bind(address: Address, backlog: int) -> Listener:
    """Open a listening socket, non-blocking and close-on-exec.

    Args:
        address: from `config.parse`.
        backlog: connections the kernel keeps until they are accepted.

    Raises:
        AddressError: it is in use, not this machine's, not permitted, or unknown: one line that says which.
    """
    try:
        if address.abstract:
            return Listener(_listen(socket.AF_UNIX, socket.SOCK_STREAM, 0, f"\0{address.path[1:]}", backlog), address)
        return _bind_path(address.path, backlog) if address.path else _bind_host(address, backlog)
    except OSError as error:
        raise AddressError(f"cannot listen on {address}: {_reason(error, address)}") from error


def _bind_host(address: Address, backlog: int) -> Listener:
    flags = socket.AI_PASSIVE
    found = socket.getaddrinfo(address.host, address.number, type=socket.SOCK_STREAM, flags=flags)
    # A name such as localhost has several addresses: the IPv4 one is what most clients try in the end.
    family, kind, protocol, _, where = min(found, key=lambda item: item[0] != socket.AF_INET)
    try:
        sock = _listen(family, kind, protocol, where, backlog)
    except OSError as error:
        no_v6 = error.errno in (errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL)
        if address.host != "::" or not no_v6:
            raise
        # Containers without IPv6: [::] asks for every interface, and these are IPv4 then.
        return _bind_host(Address(host="0.0.0.0", number=address.number), backlog)
    host = address.host if address.host in _EVERYWHERE else str(sock.getsockname()[0])
    return Listener(sock, Address(host=host, number=int(sock.getsockname()[1])))


def _listen(family: int, kind: int, protocol: int, where: Any, backlog: int) -> socket.socket:
    sock = socket.socket(family, kind, protocol)
    try:
        if family != socket.AF_UNIX:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            # [::] means every interface, IPv4 too, whatever the machine's default is.
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        sock.bind(where)
        sock.listen(backlog)
        sock.setblocking(False)
    except BaseException:
        sock.close()
        raise
    return sock


def _bind_path(path: str, backlog: int) -> Listener:
    _remove_stale(path)
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        sock.bind(path)
        found = os.lstat(path)
        # Everyone may connect, as with a TCP address: a proxy in front runs under another user.
        os.chmod(path, 0o666)  # noqa: S103 - see above
        sock.listen(backlog)
        sock.setblocking(False)
    except BaseException:
        sock.close()
        raise
    return Listener(sock, Address(path=path), SocketFile(path, found.st_dev, found.st_ino))


def _remove_stale(path: str) -> None:
    """Remove the socket file of a server that is gone; one that still answers is left alone."""
    try:
        if not stat.S_ISSOCK(os.lstat(path).st_mode):
            raise OSError(errno.EEXIST, "a file that is no socket has this name")
    except FileNotFoundError:
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.setblocking(False)
        try:
            probe.connect(path)
        except ConnectionRefusedError:
            os.unlink(path)
            return
        except FileNotFoundError:
            return
        except BlockingIOError:
            pass  # alive, with a full backlog
    raise OSError(errno.EADDRINUSE, "address already in use")


def _reason(error: OSError, address: Address) -> str:
    if isinstance(error, socket.gaierror):
        return f"unknown host {address.host!r}"
    if error.errno == errno.EADDRINUSE:
        return "address already in use"
    if error.errno in (errno.EACCES, errno.EPERM):
        privileged = " (numbers below 1024 need root or CAP_NET_BIND_SERVICE)" if 0 < address.number < 1024 else ""
        return f"permission denied{privileged}"
    if error.errno == errno.EADDRNOTAVAIL:
        return "this machine has no such address"
    if error.errno == errno.ENOENT:
        return "the directory does not exist"
    return error.strerror or str(error)
