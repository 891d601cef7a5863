"""Children: what they inherit, and how their end is told."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from bridge.child import Child, describe, environment, hold_standard_files
from bridge.ipc.link import Link

PROGRAM = """
import json, os, signal, socket, sys
link = socket.socket(fileno=int(sys.argv[1]))
blocked = sorted(signal.pthread_sigmask(signal.SIG_BLOCK, []))
held = [fd for fd in range(64) if os.path.exists(f"/proc/self/fd/{fd}")]
link.send(json.dumps({"held": held, "blocked": blocked, "inherited": os.environ.get("LISTEN_FDS")}).encode())
"""

SLEEP = "import signal; signal.pause()"


def never(_: float, __: Callable[[], None]) -> None:
    """A loop in which nothing is ever due."""


class Full:
    """A child that reads nothing until the test does, and what main's loop has to do later."""

    def __init__(self) -> None:
        self.due: list[Callable[[], None]] = []
        self.child = Child("child", [sys.executable, "-P", "-c", SLEEP], lambda _, call: self.due.append(call))
        self.child.link.close()
        self.child.link, self.other = Link.pair()

    def read(self) -> Iterator[tuple[dict[str, Any], list[int]]]:
        """What the child would get, until there is no more."""
        while True:
            while received := self.other.receive():
                yield received
            if not self.due:
                return
            self.due.pop()()

    def end(self) -> int:
        """Let go of all; the status that the child has ended with."""
        self.child.close()
        self.other.close()
        return os.waitpid(self.child.pid, 0)[1]


def test_messages_for_a_child_that_does_not_read_yet() -> None:
    """However many there are, all come, in order, with their files, and main keeps none of these."""
    full = Full()
    before = len(os.listdir("/proc/self/fd"))
    for number in range(600):
        full.child.tell({"type": "worker", "worker": number}, [0])
    assert len(full.due) == 1
    numbers = []
    for message, (file,) in full.read():
        numbers.append(message["worker"])
        os.close(file)
    assert numbers == list(range(600))
    assert len(os.listdir("/proc/self/fd")) == before
    full.child.kill()
    full.end()


def test_a_child_that_never_reads(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is ended when too much waits for it, and nothing is kept for it."""
    monkeypatch.setattr("bridge.child.MOST_WAITING", 10)
    full = Full()
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(600):
        full.child.tell({"type": "worker"}, [0])
    full.child.forget()
    assert len(os.listdir("/proc/self/fd")) == before
    assert describe(full.end()) == "signal SIGKILL"


def test_a_child_gets_its_link_and_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only the standard files and the link are inherited; the terminal's signals wait until the child is ready."""
    monkeypatch.setenv("LISTEN_FDS", "2")
    passed_on = {fd for fd in range(64) if Path(f"/proc/self/fd/{fd}").exists() and os.get_inheritable(fd)}
    child = Child("child", [sys.executable, "-P", "-c", PROGRAM], never)
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
        Child("child", [str(tmp_path / "nothing")], never)
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
