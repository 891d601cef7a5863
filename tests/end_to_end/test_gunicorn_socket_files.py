"""Whose the socket files are: of a gunicorn master that ends, dies, or hands its sockets to another one by USR2."""

from __future__ import annotations

import os
import signal
import socket
from pathlib import Path

import pytest

from tests.end_to_end.gunicorn_server import Gunicorn
from tests.end_to_end.server import APPLICATIONS, until
from tests.end_to_end.wire import Wire


def answers(path: Path) -> bool:
    """Whether somebody answers at this address."""
    with Wire(str(path)) as wire:
        return wire.get("/hello").answer().text == "hello\n"


def second_master(server: Gunicorn, pidfile: Path) -> int:
    """Have it start another master; returns the process id once that one serves."""
    server.main.send_signal(signal.SIGUSR2)
    server.log.take("bridged [^ ]+ serves [^\n]*\n")
    return int(Path(f"{pidfile}.2").read_text())


def test_term_without_the_socket_file(tmp_path: Path) -> None:
    """Somebody has removed the file: TERM still answers what runs, and removes the pid file."""
    path, pid = tmp_path / "s", tmp_path / "pid"
    with Gunicorn("plain:app", "--pid", str(pid), bind=(f"unix:{path}",)) as server, Wire(str(path)) as busy:
        busy.get("/hold?gate=g")
        server.log.take(r"hold at g in \d+\n")
        path.unlink()
        server.main.send_signal(signal.SIGTERM)
        server.log.take("Stopping")
        server.open("g")
        assert busy.answer().status == 200
        server.finish()
        assert not pid.exists()


def test_term_leaves_the_file_of_another_server(tmp_path: Path) -> None:
    """Another server has taken the path over: its file stays, whoever of us ends."""
    path = tmp_path / "s"
    with Gunicorn("plain:app", config=f"bind = 'unix:{path}'", bind=()) as server:
        path.unlink()
        with socket.socket(socket.AF_UNIX) as other:
            other.bind(str(path))
            server.finish()
            assert path.is_socket()


@pytest.mark.parametrize("name", ["relative", "@sign"])
def test_killed_master_and_a_relative_path(tmp_path: Path, name: str) -> None:
    """The router finds the file of a relative address too, also of one that looks abstract and, to gunicorn, is not."""
    environment = {"PYTHONPATH": str(APPLICATIONS)}
    with Gunicorn("plain:app", bind=(f"unix:{name}",), chdir=tmp_path, environment=environment) as server:
        assert server.url == f"unix:{tmp_path / name}"
        assert answers(tmp_path / name)
        server.status = -signal.SIGKILL
        server.main.kill()
        until(lambda: not server.living(), "everybody has left")
        assert not (tmp_path / name).exists()


def test_usr2_and_the_end_of_both_masters(tmp_path: Path) -> None:
    """The file stays as long as one of them serves there, and goes with the last."""
    path, pid = tmp_path / "s", tmp_path / "pid"
    with Gunicorn("plain:app", "--pid", str(pid), bind=(f"unix:{path}",)) as server:
        new = second_master(server, pid)
        server.main.send_signal(signal.SIGTERM)
        assert server.main.wait(20) == 0
        server.log.take("Master has been promoted.")
        assert answers(path)
        os.kill(new, signal.SIGTERM)
        until(lambda: not server.living(), "everybody has left")
        assert not path.exists()


def test_usr2_and_the_death_of_the_old_master(tmp_path: Path) -> None:
    """The routers of a killed master leave the file to the next one, whose routers remove it when it dies too."""
    path, pid = tmp_path / "s", tmp_path / "pid"
    with Gunicorn("plain:app", "--pid", str(pid), bind=(f"unix:{path}",)) as server:
        new = second_master(server, pid)
        old_routers = server.routers
        server.status = -signal.SIGKILL
        server.main.kill()
        server.main.wait()  # a zombie would be taken for the owner of the pid file
        server.log.take("Master has been promoted.")
        until(lambda: not set(old_routers) & {process.pid for process in server.living()}, "its router has left")
        assert answers(path)
        os.kill(new, signal.SIGKILL)
        until(lambda: not server.living(), "everybody has left")
        assert not path.exists()


def test_usr2_and_the_end_of_the_new_master(tmp_path: Path) -> None:
    """The new one is taken back: the file is the old one's again."""
    path, pid = tmp_path / "s", tmp_path / "pid"
    with Gunicorn("plain:app", "--pid", str(pid), bind=(f"unix:{path}",)) as server:
        new = second_master(server, pid)
        os.kill(new, signal.SIGTERM)
        until(lambda: not Path(f"/proc/{new}").exists(), "it has left and was reaped")
        assert answers(path)
        server.main.send_signal(signal.SIGTTIN)
        server.log.take("Handling signal: ttin\n")
        server.status = -signal.SIGKILL
        until(lambda: len(server.workers) == 2, "the master has gone round once more")
        server.main.kill()
        until(lambda: not server.living(), "everybody has left")
        assert not path.exists()
