"""The main thread of a WSGI worker: its life from ready to its end, what main says, and routers that come and go."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from functools import partial
from typing import Any

import pytest

from bridge import __version__
from bridge.config import Application
from bridge.errors import PeerLost
from bridge.ipc import handshake
from bridge.ipc.link import Link
from bridge.ipc.message import LAST
from bridge.ipc.status import ACTIVE, REQUESTS, ROW, STATE, Row, State
from bridge.worker.main_link import MainLink
from bridge.worker.seat import Seat
from bridge.worker.thread_stream import ThreadStream
from bridge.worker.types import SyncStream
from bridge.worker.wsgi_server import WsgiServer
from tests.worker.thread_rig import PATIENCE, RouterSide, Side, until


class Worker:
    """A server with two threads, and main's end of its link."""

    def __init__(self, **settings: Any) -> None:
        self.main, self.control = Link.pair()
        self.row = Row(memoryview(bytearray(ROW)).cast("Q"))
        self.gate = threading.Event()
        self.began = threading.Semaphore(0)
        application = Application(module="none", threads=2, **settings)
        self.server = WsgiServer(application, MainLink(self.control), self.row, self)

    def run(self, stream: SyncStream) -> None:
        """The gateway: answers when the gate is open."""
        self.began.release()
        assert self.gate.wait(PATIENCE)
        stream.respond(200, b"", 2, 0, b"ok", True)

    def heard(self) -> dict[str, Any]:
        """The next message to main."""
        received = None

        def look() -> bool:
            nonlocal received
            received = self.main.receive()
            return received is not None

        until(look)
        assert received
        return received[0]


@pytest.fixture
def worker() -> Iterator[Worker]:
    """A server that has not run yet."""
    worker = Worker()
    yield worker
    worker.gate.set()
    worker.main.close()
    worker.control.close()


def test_told_to_leave_before_it_runs(worker: Worker) -> None:
    """A signal during the import is not lost: it does not even say that it is ready."""
    worker.server.stop(graceful=True)
    assert worker.server.run() == 0
    assert worker.main.receive() is None


def test_main_that_is_gone(worker: Worker) -> None:
    """Without main the worker leaves by itself."""
    worker.main.close()
    assert worker.server.run() == 0
    assert worker.row.words[STATE] == State.DRAINING


def test_ready_then_drained(worker: Worker) -> None:
    """It says when it is ready, and when it begins to leave because main asked."""
    running = Side(worker.server.run)
    assert worker.heard() == {"type": "ready"}
    assert worker.row.words[STATE] == State.READY
    worker.main.send({"type": "drain"})
    assert worker.heard() == {"type": "draining"}
    assert running.join() == 0


def introduce(worker: Worker, side: RouterSide) -> None:
    """Have the server join a router, which has made its offer."""
    worker.main.send({"type": "router"}, [side.theirs.fileno()])
    side.theirs.close()


def test_a_router_is_served(worker: Worker) -> None:
    """Its requests run, the row counts them, and one that is gone is forgotten while the server goes on."""
    running = Side(worker.server.run)
    for number in range(2):
        with RouterSide(threads=2, version=__version__, join=False) as side:
            introduce(worker, side)
            until(side.attached)
            worker.gate.clear()
            side.publish()
            assert worker.began.acquire(timeout=PATIENCE)
            until(lambda: worker.row.words[ACTIVE] == 1)
            worker.gate.set()
            assert side.receive()[0].flags & LAST
            until(partial(counted, worker, number + 1))
    worker.server.stop(graceful=True)
    assert running.join() == 0


def counted(worker: Worker, requests: int) -> bool:
    """Whether the row says so."""
    return bool(worker.row.words[REQUESTS] == requests)


def test_graceful(worker: Worker) -> None:
    """Told to leave it tells the router, takes no more, and ends when what runs has ended."""
    running = Side(worker.server.run)
    with RouterSide(threads=2, version=__version__, join=False) as side:
        introduce(worker, side)
        until(side.attached)
        side.publish()
        assert worker.began.acquire(timeout=PATIENCE)
        worker.server.stop(graceful=True)
        until(lambda: side.link.receive() == (handshake.attached(0, "wsgi"), []))
        side.publish()
        assert running.waits
        worker.gate.set()
        assert side.receive()[0].flags & LAST
        assert running.join() == 0
        assert side.queue.length() == 1


def test_left_behind(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    """A thread that does not come back cannot keep the process: it ends with status 0 whatever still runs."""

    class Ended(BaseException):
        pass

    def end(status: int) -> None:
        assert status == 0
        raise Ended

    monkeypatch.setattr(os, "_exit", end)
    worker = Worker(graceful_timeout=0.05)
    running = Side(worker.server.run)
    with RouterSide(threads=2, version=__version__, join=False) as side:
        introduce(worker, side)
        until(side.attached)
        side.publish()
        assert worker.began.acquire(timeout=PATIENCE)
        worker.server.stop(graceful=True)
        with pytest.raises(Ended):
            running.join()
        worker.gate.set()
        side.receive()
    assert "1 requests still run and are left behind" in caplog.text
    worker.main.close()
    worker.control.close()


def test_a_thread_that_fails(worker: Worker, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    """A worker that has lost a thread finishes what runs and leaves, for another one to take its place."""

    def fail(seat: Seat, _: ThreadStream | None) -> None:
        raise SystemExit(f"as set from another thread for {seat}")

    running = Side(worker.server.run)
    with RouterSide(threads=2, version=__version__, join=False) as side:
        introduce(worker, side)
        until(side.attached)
        side.publish()
        assert worker.began.acquire(timeout=PATIENCE)
        until(lambda: side.sleeping() == 1)  # the other thread would take the next request as it is used to
        monkeypatch.setattr(Seat, "next", fail)
        side.publish()
        assert [worker.heard()["type"], worker.heard()["type"]] == ["ready", "draining"]
        worker.gate.set()
        assert running.join() == 0
    assert "a thread for requests has failed" in caplog.text
    assert "1 of its threads have failed" in caplog.text


def test_a_router_of_another_release(worker: Worker, caplog: pytest.LogCaptureFixture) -> None:
    """The worker cannot serve it, says so, and leaves: main starts another one."""
    running = Side(worker.server.run)
    with RouterSide(threads=2, version="other", join=False) as side:
        introduce(worker, side)
        assert running.join() == 0
    assert "cannot join the router" in caplog.text


def test_a_router_that_cannot_be_served(worker: Worker, caplog: pytest.LogCaptureFixture) -> None:
    """A worker that has left a living router leaves altogether: nobody would introduce it to that router again."""
    running = Side(worker.server.run)
    with RouterSide(threads=2, version=__version__, join=False) as side:
        introduce(worker, side)
        until(side.attached)
        side.publish()
        assert worker.began.acquire(timeout=PATIENCE)
        side.link.send({"type": "what no router says"})
        until(side.lost)
        assert [worker.heard()["type"], worker.heard()["type"]] == ["ready", "draining"]
        assert running.waits
        worker.gate.set()
        assert running.join() == 0
    assert "this worker leaves" in caplog.text


def test_an_offer_to_a_worker_that_leaves(worker: Worker) -> None:
    """A router whose offer comes too late gets no worker that takes nothing any more."""
    running = Side(worker.server.run)
    ours, theirs = Link.pair()
    with RouterSide(threads=2, version=__version__, join=False) as side:
        introduce(worker, side)
        until(side.attached)
        side.publish()
        assert worker.began.acquire(timeout=PATIENCE)
        worker.main.send({"type": "router"}, [theirs.fileno()])
        theirs.close()
        worker.main.send({"type": "drain"})
        assert [worker.heard()["type"], worker.heard()["type"]] == ["ready", "draining"]
        with RouterSide(threads=2, version=__version__, join=False) as late:
            pass_on_the_offer(late, ours)
            until(lambda: refused(ours))
        worker.gate.set()
        assert running.join() == 0
    ours.close()


def test_a_router_with_fewer_waiters_than_threads(worker: Worker, caplog: pytest.LogCaptureFixture) -> None:
    """One that was started with other settings gets as many threads as it can tell apart, and nothing fails."""
    running = Side(worker.server.run)
    worker.gate.set()
    with RouterSide(threads=1, version=__version__, join=False) as few:
        introduce(worker, few)
        until(few.attached)
        with RouterSide(threads=2, version=__version__, join=False) as enough:
            introduce(worker, enough)
            until(enough.attached)
            for side in (few, enough, enough, few):
                side.publish()
                assert side.receive()[0].flags & LAST
            until(lambda: (few.sleeping(), enough.sleeping()) == (1, 2))
            worker.server.stop(graceful=True)
            assert running.join() == 0
    assert not caplog.records


def pass_on_the_offer(side: RouterSide, link: Link) -> None:
    """Make the offer of a router over another link than its own."""
    received = side.theirs.receive()
    assert received
    message, files = received
    link.send(message, files)
    for file in files:
        os.close(file)
    side.theirs.close()


def refused(link: Link) -> bool:
    """Whether the worker has closed its end; it may have said nothing."""
    try:
        assert link.receive() is None
    except PeerLost:
        return True
    return False


def test_a_router_that_is_gone_before_its_offer(worker: Worker) -> None:
    """Nothing happens."""
    running = Side(worker.server.run)
    ours, theirs = Link.pair()
    worker.main.send({"type": "router"}, [theirs.fileno()])
    theirs.close()
    ours.close()
    with RouterSide(threads=2, version=__version__, join=False) as side:
        introduce(worker, side)
        until(side.attached)
        worker.server.stop(graceful=False)
        assert running.join() == 0
