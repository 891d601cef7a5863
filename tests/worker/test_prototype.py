"""The prototype alone, with the test in main's place; what its workers run is the stand-in."""

from __future__ import annotations

import os
import select
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from bridge import config
from bridge.child import Child, describe
from bridge.ipc.link import Link
from bridge.ipc.status import STARTED, Page, State
from bridge.worker.keeper import POLL

STAND_IN = Path(__file__).parent.parent / "stand_in.py"
WATCHDOG = 20.0  #: seconds; only a failing test waits that long


class Prototype:
    """Main's view of a prototype."""

    def __init__(self, place: Path) -> None:
        self.place = place
        self.page = Page.create(66)
        self.links: dict[int, Link] = {}
        self.pids: dict[int, int] = {}
        self.child: Child | None = None

    def start(self, **application: Any) -> None:
        """Start and configure it; the arguments are settings of the application."""
        settings = config.Application(module="m", path=(str(self.place),), **application)
        self.child = Child("prototype", [sys.executable, "-P", str(STAND_IN), "prototype"], lambda _, __: None)
        message = {
            "type": "configure",
            "name": settings.name,
            "mounted_at": settings.mounted_at,
            "log_level": "info",
            "first_worker": 2,
            "workers": 64,
            "rows": 66,
            "first_row": 0,
        }
        self.child.configure(message, config.to_json(settings), [self.page.fd])

    def tell(self, **message: Any) -> None:
        """Send it a message."""
        assert self.child
        self.child.link.send(message)

    def next(self) -> dict[str, Any]:
        """Its next message; a new worker's link is kept."""
        assert self.child
        assert select.select([self.child.link], [], [], WATCHDOG)[0], "the prototype says nothing"
        received = self.child.link.receive()
        assert received
        message, fds = received
        if message["type"] == "worker":
            self.links[message["worker"]] = Link.adopt(fds[0])
            self.pids[message["worker"]] = message["pid"]
        return message

    def worker(self) -> int:
        """The id of the next worker that it starts, once that worker has said that it is ready."""
        number = int(self.next()["worker"])
        assert select.select([self.links[number]], [], [], WATCHDOG)[0], "the worker says nothing"
        received = self.links[number].receive()
        assert received
        assert received[0] == {"type": "ready"}
        self.tell(type="ready", worker=number)
        return number

    def ended(self) -> int:
        """Wait for its end; the status as `os.waitpid` gives it."""
        assert self.child
        child, self.child = self.child, None
        status = os.waitpid(child.pid, 0)[1]
        child.link.close()
        return status

    def close(self) -> None:
        """Kill what is left."""
        if self.child:
            self.child.link.close()
            self.child.kill()
            os.waitpid(self.child.pid, 0)
        for link in self.links.values():
            link.close()
        self.page.close()


@pytest.fixture
def prototype(tmp_path: Path) -> Iterator[Prototype]:
    """A prototype to start."""
    one = Prototype(tmp_path)
    yield one
    one.close()


def sockets(pid: int) -> set[str]:
    """The sockets that a process holds."""
    found = set()
    for fd in Path(f"/proc/{pid}/fd").iterdir():
        try:
            target = str(fd.readlink())
        except OSError:
            continue
        if target.startswith("socket:"):
            found.add(target)
    return found


def test_workers_are_announced_with_their_own_ids(prototype: Prototype) -> None:
    """Each worker comes with an id, its process, and main's end of its control link."""
    prototype.start(processes=3)
    assert sorted(prototype.worker() for _ in range(3)) == [2, 3, 4]
    rows = [prototype.page.row(number).words for number in (2, 3, 4)]
    assert [row[0] for row in rows] == [prototype.pids[number] for number in (2, 3, 4)]
    assert {row[1] for row in rows} == {State.BOOTING}


def test_worker_holds_its_own_link_only(prototype: Prototype) -> None:
    """A worker has one socket, its control link: neither a sibling's nor the prototype's."""
    prototype.start(processes=3)
    numbers = [prototype.worker() for _ in range(3)]
    held = [sockets(prototype.pids[number]) for number in numbers]
    inherited = sockets(os.getpid())
    ours = [own - inherited for own in held]
    assert [len(own) for own in ours] == [1, 1, 1]
    assert len(set.union(*ours)) == 3
    assert prototype.child
    assert len(sockets(prototype.child.pid) - inherited) == 1


def test_killed_worker_is_reported_and_replaced(prototype: Prototype) -> None:
    """After kill -9 main is told, and another worker with another id follows."""
    prototype.start()
    number = prototype.worker()
    os.kill(prototype.pids[number], signal.SIGKILL)
    message = prototype.next()
    assert message["type"] == "reaped"
    assert (message["worker"], message["ready"], message["expected"]) == (number, True, False)
    assert describe(message["status"]) == "signal SIGKILL"
    assert prototype.worker() == number + 1


def test_hanging_boot_is_killed(prototype: Prototype) -> None:
    """A worker that never comes to beat is killed after `start_timeout`."""
    (prototype.place / "stuck").touch()
    prototype.start(start_timeout=0.2)
    assert prototype.next()["type"] == "worker"
    message = prototype.next()
    assert message["reason"] == "it was not ready after 0.2 seconds"
    assert describe(message["status"]) == "signal SIGABRT"


def test_standing_loop_is_killed(prototype: Prototype) -> None:
    """A worker whose heartbeat stops is killed after `liveness_timeout`."""
    (prototype.place / "frozen").touch()
    prototype.start(liveness_timeout=0.2)
    prototype.worker()
    assert prototype.next()["reason"] == "its loop stood still for 0.2 seconds"


def test_beating_worker_lives(prototype: Prototype) -> None:
    """A worker that beats outlives `liveness_timeout`, and the next look at it."""
    prototype.start(liveness_timeout=2)
    number = prototype.worker()
    ready = time.monotonic()
    end = ready + WATCHDOG
    while prototype.page.row(number).last_beat < ready + 2 + 1.5 * POLL:
        assert time.monotonic() < end
        time.sleep(0.01)
    assert prototype.child
    assert not select.select([prototype.child.link], [], [], 0)[0]


def test_failing_boot_is_tried_again_later(prototype: Prototype) -> None:
    """Workers that end at boot are replaced after a pause that grows, one at a time, and never stop the server."""
    (prototype.place / "dead").touch()
    prototype.start(processes=1)
    times = []
    for _ in range(3):
        number = prototype.next()["worker"]
        assert describe(prototype.next()["status"]) == "exit status 7"
        times.append(prototype.page.row(number).words[STARTED] / 1e9)
    assert times[1] - times[0] >= 0.45
    assert times[2] - times[1] >= 0.95
    (prototype.place / "dead").unlink()
    prototype.worker()


def test_reload_keeps_old_workers_until_new_ones_are_ready(prototype: Prototype) -> None:
    """The first phase starts new workers; the old one is retired only when main has heard that they are ready."""
    prototype.start()
    old = prototype.worker()
    prototype.tell(type="reload")
    new = prototype.worker()
    assert prototype.next() == {"type": "reloaded", "ok": True, "leaving": [old]}
    message = prototype.next()
    assert (message["type"], message["worker"], message["expected"]) == ("reaped", old, True)
    assert os.path.exists(f"/proc/{prototype.pids[new]}")


def test_failed_reload_keeps_the_old_worker(prototype: Prototype) -> None:
    """When the new version ends at boot, the old worker stays and main is told."""
    prototype.start()
    old = prototype.worker()
    (prototype.place / "dead").touch()
    prototype.tell(type="reload")
    assert [prototype.next()["type"] for _ in range(3)] == ["worker", "reaped", "reloaded"]
    os.kill(prototype.pids[old], 0)


def test_straggler_is_killed_after_a_reload(prototype: Prototype) -> None:
    """An old worker that does not leave within the graceful timeout is killed."""
    (prototype.place / "stubborn").touch()
    prototype.start(graceful_timeout=0.1)
    old = prototype.worker()
    prototype.tell(type="reload")
    prototype.worker()
    assert prototype.next()["type"] == "reloaded"
    message = prototype.next()
    assert (message["worker"], describe(message["status"])) == (old, "signal SIGKILL")


def test_stop_right_after_the_fork(prototype: Prototype) -> None:
    """A worker obeys a stop that comes before it has done anything: the signal is not lost."""
    (prototype.place / "stuck").touch()
    prototype.start()
    assert prototype.next()["type"] == "worker"
    prototype.tell(type="stop", graceful=True, timeout=300)
    assert describe(prototype.next()["status"]) == "exit status 0"
    assert describe(prototype.ended()) == "exit status 0"


@pytest.mark.parametrize("name", ["INT", "HUP", "QUIT", "TERM", "USR2", "TTIN"])
def test_signals_are_mains_business(prototype: Prototype, name: str) -> None:
    """What a terminal, a service manager or a gunicorn user sends to the prototype changes nothing."""
    prototype.start()
    worker = prototype.worker()
    assert prototype.child
    prototype.child.kill(signal.Signals[f"SIG{name}"])
    prototype.tell(type="reload")
    prototype.worker()
    assert prototype.next()["type"] == "reloaded"
    assert prototype.next()["worker"] == worker


def test_ends_with_main(prototype: Prototype) -> None:
    """At the end of the link to main the prototype ends its workers and itself."""
    prototype.start()
    number = prototype.worker()
    assert prototype.child
    prototype.child.link.close()
    assert describe(prototype.ended()) == "exit status 0"
    with pytest.raises(ProcessLookupError):
        os.kill(prototype.pids[number], 0)


def test_worker_outlives_the_prototype(prototype: Prototype) -> None:
    """Kill -9 of the prototype leaves the worker running, and its link to main open."""
    prototype.start()
    number = prototype.worker()
    assert prototype.child
    prototype.child.kill()
    prototype.ended()
    beat = prototype.page.row(number).last_beat
    end = time.monotonic() + WATCHDOG
    while prototype.page.row(number).last_beat == beat:
        assert time.monotonic() < end
    prototype.links[number].send({"type": "anything"})  # somebody still holds the other end
    prototype.links.pop(number).close()
