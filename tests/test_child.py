"""Children: what they inherit, and how their end is told."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from bridge.child import Child, describe, environment, hold_standard_files

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


def test_standard_files_that_are_closed() -> None:
    """Whoever starts the server without them gets /dev/null there: no socket may take the number of standard error."""
    program = (
        "import os\n"
        "from bridge.child import hold_standard_files\n"
        "link = os.dup(2)\n"
        "os.closerange(0, 3)\n"
        "hold_standard_files()\n"
        "found = [os.readlink(f'/proc/self/fd/{fd}') for fd in range(3)]\n"
        "found += [os.get_inheritable(fd) for fd in range(3)]\n"
        "os.write(link, repr(found).encode())\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True)
    assert done.stderr.decode() == repr(["/dev/null"] * 3 + [True] * 3)


def test_standard_files_that_are_open() -> None:
    """Those are left alone."""
    before = [os.fstat(number) for number in range(3)]
    hold_standard_files()
    assert [os.path.samestat(old, os.fstat(number)) for number, old in enumerate(before)] == [True] * 3
