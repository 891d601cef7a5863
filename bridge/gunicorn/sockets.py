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
    path = os.fsdecode(name)
    return Address(path=f"@{path[1:]}" if path.startswith("\0") else path or "unnamed")


def listener(opened: Any, application: str, *, inherited: bool) -> Listener:
    """One of them as the router is told of it.

    Args:
        opened: gunicorn's object, which stays the owner of the socket.
        application: whose requests arrive there.
        inherited: its file is somebody else's to remove.
    """
    opened.set_inheritable(False)  # else the router would have it twice, and it would never close
    where, file = address(opened), None
    if where.path.startswith("/") and not inherited:
        found = os.lstat(where.path)
        file = SocketFile(where.path, found.st_dev, found.st_ino)
    return Listener(opened.sock, where, file, application)


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
    new = sock.create_sockets(_Addresses(cfg, missing), log) if missing else []
    log.info("Listening at: %s", ",".join(str(opened) for opened in new))
    return [known[address] for address in cfg.address if address in known] + new


def close(sockets: Sequence[Any], *, unlink: bool) -> None:
    """Close them, and remove their files if they are ours."""
    sock.close_sockets(sockets, unlink)


class _Addresses:
    """gunicorn's configuration with other addresses."""

    def __init__(self, cfg: Any, address: list[Any]) -> None:
        self._cfg = cfg
        self.address = address

    def __getattr__(self, name: str) -> Any:
        return getattr(self._cfg, name)
