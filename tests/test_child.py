"""Children: what they inherit, and how their end is told."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

import pytest

from bridge.child import Child, describe, environment

PROGRAM = """
import json, os, signal, socket, sys
link = socket.socket(fileno=int(sys.argv[1]))
blocked = sorted(signal.pthread_sigmask(signal.SIG_BLOCK, []))
held = [fd for fd in range(64) if os.path.exists(f"/proc/self/fd/{fd}")]
link.send(json.dumps({"held": held, "blocked": blocked, "inherited": os.environ.get("LISTEN_FDS")}).encode())
"""


def test_a_child_gets_its_link_and_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only the standard files and the link are inherited; the terminal's signals wait until the child is ready."""
    monkeypatch.setenv("LISTEN_FDS", "2")
    passed_on = {fd for fd in range(64) if Path(f"/proc/self/fd/{fd}").exists() and os.get_inheritable(fd)}
    child = Child("child", [sys.executable, "-P", "-c", PROGRAM])
    assert describe(os.waitpid(child.pid, 0)[1]) == "exit status 0"
    received = child.link.receive()
    assert received
    assert received[0] == {
        "held": sorted(passed_on | {3}),
        "blocked": [signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGTERM],
        "inherited": None,
    }
    child.link.close()


def test_a_program_that_does_not_exist(tmp_path: Path) -> None:
    """It is an OSError, and no descriptor stays open."""
    before = len(os.listdir("/proc/self/fd"))
    with pytest.raises(FileNotFoundError):
        Child("child", [str(tmp_path / "nothing")])
    assert len(os.listdir("/proc/self/fd")) == before


def test_environment_keeps_what_is_the_applications(monkeypatch: pytest.MonkeyPatch) -> None:
    """PYTHONPATH and the application's own variables stay; gunicorn's go, and io_uring is off."""
    monkeypatch.setenv("PYTHONPATH", "/x")
    monkeypatch.setenv("GUNICORN_CMD_ARGS", "-w 9")
    found = environment()
    assert (found["PYTHONPATH"], found["UV_USE_IO_URING"]) == ("/x", "0")
    assert "GUNICORN_CMD_ARGS" not in found


@pytest.mark.parametrize(("status", "words"), [(0, "exit status 0"), (3 << 8, "exit status 3"), (9, "signal SIGKILL")])
def test_an_end_in_words(status: int, words: str) -> None:
    """Exit statuses and signals are told apart and named."""
    assert describe(status) == words
