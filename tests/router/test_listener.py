"""Listening sockets: how they are opened, described and given back."""

from __future__ import annotations

import json
import os
import socket
from pathlib import Path

import pytest

from bridge.config import parse
from bridge.errors import AddressError
from bridge.router.listener import SocketFile, bind


def test_bind_picks_a_free_number() -> None:
    """Number 0 listens on a number that the kernel chose, and the listener says which."""
    listener = bind(parse("127.0.0.1:0"), 5)
    assert listener.address.number > 0
    assert not listener.socket.getblocking()
    assert not listener.socket.get_inheritable()
    socket.create_connection((listener.address.host, listener.address.number)).close()
    listener.close()


def test_localhost_listens_on_ipv4() -> None:
    """A name with several addresses gets the IPv4 one."""
    listener = bind(parse("localhost:0"), 5)
    assert listener.address.host == "127.0.0.1"
    listener.close()


def test_address_in_use() -> None:
    """An address that somebody listens on is refused in one line."""
    listener = bind(parse("127.0.0.1:0"), 5)
    with pytest.raises(AddressError, match=f"cannot listen on {listener.address}: address already in use"):
        bind(listener.address, 5)
    listener.close()


def test_unknown_host() -> None:
    """A name that does not resolve is called so."""
    with pytest.raises(AddressError, match=r"unknown host 'nowhere\.invalid'"):
        bind(parse("nowhere.invalid:1"), 5)


def test_all_interfaces_without_ipv6(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the machine has no IPv6, [::] means every interface that there is."""
    real = socket.socket

    def without_ipv6(family: int = -1, *rest: int, **named: int) -> socket.socket:
        if family == socket.AF_INET6:
            raise OSError(97, "Address family not supported by protocol")
        return real(family, *rest, **named)

    monkeypatch.setattr(socket, "socket", without_ipv6)
    listener = bind(parse("[::]:0"), 5)
    assert listener.address.host == "0.0.0.0"
    listener.close()


def test_socket_file_is_made_and_removed(tmp_path: Path) -> None:
    """A unix socket can be connected to by everyone, and its file goes with the listener."""
    path = tmp_path / "socket"
    listener = bind(parse(f"unix:{path}"), 5)
    assert path.stat().st_mode & 0o777 == 0o666
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(str(path))
    listener.close()
    assert not path.exists()


def test_stale_socket_file_is_replaced(tmp_path: Path) -> None:
    """The file of a dead server does not keep the next one from starting."""
    path = tmp_path / "socket"
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
    listener = bind(parse(f"unix:{path}"), 5)
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(str(path))
    listener.close()


def test_socket_file_in_use(tmp_path: Path) -> None:
    """The file of a living server is left alone, also when its backlog is full."""
    path = tmp_path / "socket"
    listener = bind(parse(f"unix:{path}"), 0)
    clients = [socket.socket(socket.AF_UNIX) for _ in range(3)]
    for client in clients:
        client.setblocking(False)
        client.connect_ex(str(path))
    with pytest.raises(AddressError, match="address already in use"):
        bind(parse(f"unix:{path}"), 5)
    for client in clients:
        client.close()
    listener.close()


def test_other_files_are_not_removed(tmp_path: Path) -> None:
    """A path that is an ordinary file is refused and stays as it was."""
    path = tmp_path / "precious"
    path.write_text("data")
    with pytest.raises(AddressError, match="a file that is no socket has this name"):
        bind(parse(f"unix:{path}"), 5)
    assert path.read_text() == "data"


def test_missing_directory(tmp_path: Path) -> None:
    """A socket cannot be made in a directory that does not exist."""
    with pytest.raises(AddressError, match="the directory does not exist"):
        bind(parse(f"unix:{tmp_path}/no/socket"), 5)


def test_successor_keeps_its_socket_file(tmp_path: Path) -> None:
    """A listener that closes late does not remove the file that another server has put there."""
    path = tmp_path / "socket"
    first = bind(parse(f"unix:{path}"), 5)
    kept = os.open(path.parent, os.O_RDONLY)
    os.rename(path, tmp_path / "moved")  # so that its inode number is not used again
    second = bind(parse(f"unix:{path}"), 5)
    first.close()
    assert path.is_socket()
    second.close()
    os.close(kept)
    assert not path.exists()


def test_description_for_the_router(tmp_path: Path) -> None:
    """What the router is told survives JSON, and lets it remove the file."""
    path = tmp_path / "socket"
    listener = bind(parse(f"unix:{path}"), 5)
    described = json.loads(json.dumps(listener.to_json()))
    assert described["address"] == f"unix:{path}"
    SocketFile.from_json(described["file"]).unlink()
    assert not path.exists()
    listener.close()
    plain = bind(parse("127.0.0.1:0"), 5)
    assert plain.to_json()["file"] is None
    plain.close()


def test_abstract_name(tmp_path: Path) -> None:
    """A name of the abstract namespace is the kernel's alone: there is no file, and it is free again once closed."""
    text = f"unix:@{tmp_path.name}-{os.getpid()}"
    for _ in range(2):
        listener = bind(parse(text), 5)
        assert (listener.file, str(listener.address)) == (None, text)
        with socket.socket(socket.AF_UNIX) as client:
            client.connect("\0" + text.removeprefix("unix:@"))
        with pytest.raises(AddressError, match="already in use"):
            bind(parse(text), 5)
        listener.close()
