"""gunicorn's listening sockets: as the router is told of them, and what a reload opens and closes."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

from gunicorn import sock

from bridge.config import Address
from bridge.router.listener import Listener, SocketFile


def address(opened: Any) -> Address:
    """Where one of them listens."""
    name = opened.getsockname()
    if isinstance(name, tuple):
        return Address(host=name[0], number=name[1])
    if isinstance(name, bytes):
        return Address(path=f"@{os.fsdecode(name[1:])}")
    # Absolute: gunicorn has no other word for an abstract address than its NUL, so this is a file, whatever its name.
    return Address(path=os.path.abspath(name) if name else "unnamed")


def remember_file(opened: Any) -> None:
    """Note which file a socket has, while it is surely there and the current directory is that of its bind."""
    where = address(opened).path
    try:
        found = os.lstat(where) if where.startswith("/") else None
    except OSError:
        found = None
    opened.bridge_address = address(opened)
    opened.bridge_file = SocketFile(where, found.st_dev, found.st_ino) if found else None


def listener(opened: Any, application: str) -> Listener:
    """One of them as the router is told of it.

    Args:
        opened: gunicorn's object, which stays the owner of the socket.
        application: whose requests arrive there.
    """
    opened.set_inheritable(False)  # else the router would have it twice, and it would never close
    return Listener(opened.sock, opened.bridge_address, opened.bridge_file, application)


def open_addresses(cfg: Any, before: Any, sockets: Sequence[Any], log: Any) -> list[Any]:
    """The sockets of a new configuration: those that are open already, and new ones.

    Args:
        cfg: the new configuration.
        before: the one that `sockets` belong to.
        sockets: what is open.
        log: gunicorn's logger.

    Raises:
        SystemExit: gunicorn's way to say that an address cannot be had.
    """
    if cfg.address == before.address:
        return list(sockets)
    known = {opened.cfg_addr: opened for opened in sockets}
    missing = [address for address in cfg.address if address not in known]
    new: list[Any] = []
    try:
        for address in missing:
            new += sock.create_sockets(_Addresses(cfg, [address]), log)
            remember_file(new[-1])
    except BaseException:
        close(new, unlink=True)
        raise
    log.info("Listening at: %s", ",".join(str(opened) for opened in new))
    return [known[address] for address in cfg.address if address in known] + new


def close(sockets: Sequence[Any], *, unlink: bool) -> None:
    """Close them, and remove their files if `unlink` and they are still the ones that were made."""
    for opened in sockets:
        opened.close()
        if unlink and opened.bridge_file:
            opened.bridge_file.unlink()


class _Addresses:
    """gunicorn's configuration with other addresses."""

    def __init__(self, cfg: Any, address: list[Any]) -> None:
        self._cfg = cfg
        self.address = address

    def __getattr__(self, name: str) -> Any:
        return getattr(self._cfg, name)
