"""Workers as main knows them."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Iterator

import pytest

from bridge.child import Child, describe
from bridge.errors import PeerLost
from bridge.ipc.link import Link
from bridge.roster import FIRST_WORKER, RANGES, Member, free_range, introduce, read_report

SLEEP = (sys.executable, "-c", "import signal; signal.pause()")


def never(_: float, __: Callable[[], None]) -> None:
    """A loop in which nothing is ever due."""


@pytest.fixture
def child() -> Iterator[Child]:
    """A process that does nothing."""
    child = Child("child", SLEEP, never)
    yield child
    child.link.close()


def test_kill_reaches_the_process_and_never_a_later_one(child: Child) -> None:
    """A member's signal reaches its process; once the member is closed no signal is sent to its number any more."""
    link, other = Link.pair()
    member = Member(2, child.pid, link, child)
    member.kill(signal.SIGKILL)
    assert describe(os.waitpid(child.pid, 0)[1]) == "signal SIGKILL"
    member.kill(signal.SIGKILL)
    member.close()
    impostor = Child("impostor", SLEEP, never)
    member.pid = impostor.pid
    member.kill(signal.SIGKILL)
    assert os.waitpid(impostor.pid, os.WNOHANG) == (0, 0)
    impostor.kill()
    os.waitpid(impostor.pid, 0)
    impostor.link.close()
    other.close()


def test_without_process_descriptors(child: Child) -> None:
    """Where the kernel has no pidfd, a worker is asked by its link and killed by its number."""
    link, other = Link.pair()
    member = Member(2, child.pid, link, child)
    if member.pidfd is not None:
        os.close(member.pidfd)
        member.pidfd = None
    member.kill(signal.SIGTERM)
    assert other.receive() == ({"type": "drain"}, [])
    member.kill(signal.SIGKILL)
    assert describe(os.waitpid(child.pid, 0)[1]) == "signal SIGKILL"
    member.close()
    other.close()


def test_ranges_of_ids() -> None:
    """A new prototype gets ids that no living worker has, as long as there are any."""
    assert free_range([], 64) == FIRST_WORKER
    assert free_range([FIRST_WORKER + 63, FIRST_WORKER + 64], 64) == FIRST_WORKER + 128
    assert free_range([FIRST_WORKER + 64], 64) == FIRST_WORKER
    assert free_range([FIRST_WORKER + index * 64 for index in range(RANGES)], 64) is None


def test_introduction_joins_router_and_worker(child: Child) -> None:
    """Router and worker get the two ends of one link, and main keeps neither."""
    ours, router_end = Link.pair()
    link, worker_end = Link.pair()
    child.kill()
    os.waitpid(child.pid, 0)
    child.link.close()
    child.link = ours
    member = Member(5, os.getpid(), link, child, "shop")
    introduce(member, child)
    to_router, to_worker = router_end.receive(), worker_end.receive()
    assert to_router
    assert to_worker
    assert to_router[0] == {"type": "worker", "application": "shop", "worker": 5, "pid": os.getpid()}
    assert to_worker[0] == {"type": "router"}
    left, right = Link.adopt(to_router[1][0]), Link.adopt(to_worker[1][0])
    left.send({"type": "hello"})
    assert right.receive() == ({"type": "hello"}, [])
    left.close()
    with pytest.raises(PeerLost):
        right.receive()
    for end in (right, router_end, worker_end):
        end.close()
    member.close()


def test_reports_are_read_and_closed() -> None:
    """The text of the first file is returned; every file is closed."""
    fd = os.memfd_create("report")
    os.write(fd, "é\n".encode())
    assert read_report([fd]) == "é\n"
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(fd)
    assert read_report([]) == ""


def test_a_report_that_could_take_long_is_not_read() -> None:
    """What is no memory may make its reader wait: it is closed unread."""
    reader, writer = os.pipe()
    os.write(writer, b"text")
    with open(__file__, "rb") as file:
        assert read_report([reader, os.dup(file.fileno())]) == ""
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(reader)
    os.close(writer)


def test_a_worker_that_cannot_be_introduced(child: Child, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without files for a link the worker is ended, so that its successor is tried again; main lives."""

    def fail() -> tuple[Link, Link]:
        raise OSError(24, "Too many open files")

    link, other = Link.pair()
    member = Member(FIRST_WORKER, child.pid, link, child)
    monkeypatch.setattr(Link, "pair", fail)
    introduce(member, child)
    assert describe(os.waitpid(child.pid, 0)[1]) == "signal SIGKILL"
    member.close()
    other.close()
