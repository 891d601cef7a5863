"""Routers and workers that come and go, and errors of our own."""

from __future__ import annotations

import asyncio
import gc
import itertools
import logging
import os
import resource
from typing import Any

import pytest

from bridge import config
from bridge.errors import StreamCancelled
from bridge.ipc import handshake
from bridge.ipc.link import Link
from bridge.ipc.message import ABORT, LAST
from bridge.ipc.stream import Event, State
from bridge.router.application import Application
from bridge.router.open_files import FILES_OF_WORKER
from bridge.router.worker_port import WorkerPort
from tests.router.rig import (
    UPLOAD,
    FakeConnection,
    Rig,
    answer,
    echo,
    pattern,
    raw,
    read,
    reply,
    run,
    settle,
    until,
)


def test_a_router_that_goes(memory: config.Memory) -> None:
    """When the router is gone every stream of its workers is cancelled, and whoever waits is woken."""

    async def test() -> None:
        rig = Rig(memory)
        worker = rig.worker()
        rig.request(complete=False, framing=UPLOAD)
        rig.request()
        await until(lambda: len(worker.streams) == 2)
        reading = asyncio.ensure_future(read(worker.streams[0]))
        writing = asyncio.ensure_future(answer(worker.streams[1], pattern(memory.window * 3)))
        await settle(2)
        rig.application.loop.call_soon(worker.link.close)  # what the kernel does at the end of the other process
        worker.attached._end()
        assert await reading == b""
        with pytest.raises(StreamCancelled):
            await writing
        for stream in worker.streams:
            stream.finished()
        assert worker.lost == 1
        await rig.close()

    run(test())


def test_a_number_that_is_given_again() -> None:
    """A worker whose predecessor with the same number was not missed yet takes its place."""

    async def test() -> None:
        rig = Rig()
        first = rig.worker()
        connection, _ = rig.request()
        await until(lambda: first.streams)
        second = rig.worker(echo, number=first.number)
        assert connection.refused is not None
        assert connection.refused[0] == 502
        await until(lambda: first.lost)
        other, _ = rig.request()
        await until(lambda: other.complete)
        assert len(second.streams) == 1
        rig.workers.remove(first)
        await rig.idle()
        await rig.close()

    run(test())


def test_a_worker_that_was_cut_off_claims_nothing_for_good() -> None:
    """What a worker claims between its cut and its end goes to another one when main says that it is gone."""

    async def test() -> None:
        rig = Rig()
        bad = rig.worker()
        await until(lambda: rig.ready)
        raw(bad, ABORT, 4711)
        await until(lambda: rig.cut)
        good = rig.worker(limit=5)
        await until(lambda: len(rig.ready) == 2)
        await settle()
        connection, _ = rig.request()
        stream = next(iter(rig.application.exchanges))
        assert rig.application.tracking.move(stream, Event.CLAIM, bad.number) == State.CLAIMED
        await settle()
        rig.application.gone(bad.number, bad.number + 1000)
        await until(lambda: good.streams)
        reply(good.streams[0])
        await until(lambda: connection.complete)
        rig.workers.remove(bad)
        await rig.idle()
        await rig.close()

    run(test())


def test_more_workers_than_bits(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    """A worker for whom there is no sleeping bit is turned away, and sees the end of its link."""

    async def test() -> None:
        monkeypatch.setattr("bridge.router.application.WAITERS", 1)
        rig = Rig()
        for _ in range(4):
            rig.worker()
        ours, theirs = Link.pair()
        rig.application.introduce(9, 9, theirs)
        assert list(rig.application.workers) == [2, 3, 4, 5]
        ours.close()
        await rig.close()

    run(test())
    assert "no room for the threads of another worker" in caplog.text


@pytest.mark.parametrize("processes", [1, 64, 1024])
@pytest.mark.parametrize("threads", [1, 4])
def test_bits_for_workers_that_are_replaced(processes: int, threads: int) -> None:
    """However many are configured, all of them and their successors find a place at the same time."""

    async def test() -> None:
        rig = Rig(processes=processes, threads=threads)
        assert rig.application.geometry.waiters >= max(64, 2 * processes * threads)
        await rig.close()
        rig = Rig(processes=processes, threads=threads, protocol="asgi")
        assert rig.application.geometry.waiters == max(64, 4 * processes)
        await rig.close()

    run(test())


def test_threads_are_waiters_of_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """Until a worker has said what it is, it has a bell for each thread; they all share the work, unlike a loop."""

    async def test() -> None:
        rig = Rig(threads=3)
        loop, threads = rig.worker(), rig.worker(attach=False)
        shares: list[int] = []
        monkeypatch.setattr(type(rig.application.queue), "set_ready", lambda _, count: shares.append(count))
        await until(lambda: rig.ready)
        assert len(rig.application.workers[loop.number].waiters) == 1
        threads.link.send(handshake.attached(3, "wsgi"))
        await until(lambda: len(rig.ready) == 2)
        port = rig.application.workers[threads.number]
        assert len(port.waiters) == 3
        assert shares[-1] == 4
        assert rig.application.interface == "wsgi"
        for bell in port.waiters.values():
            assert bell is not port.port.peer_bell
        await rig.close()

    run(test())


def test_a_machine_without_memory(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    """Where a segment cannot be made, a worker is given back to main and an upload waits; nothing breaks."""

    async def test() -> None:
        rig = Rig()
        rig.worker()
        await until(lambda: rig.ready)

        def fail(*args: object, **keywords: object) -> int:
            raise OSError(12, "Cannot allocate memory")

        monkeypatch.setattr("bridge.ipc.segment.create_memory", fail)
        ours, theirs = Link.pair()
        rig.application.introduce(9, 9, theirs)
        assert rig.cut == [(9, "it could not be taken in")]
        ours.close()
        connection, exchange = rig.request(complete=False, framing=UPLOAD)
        assert connection.paused
        exchange.client_gone()
        monkeypatch.undo()
        await settle()
        for stream in rig.workers[0].streams:
            stream.finished()
        await rig.idle()
        await rig.close()

    run(test())
    assert "no shared memory" in caplog.text


def test_a_router_without_descriptors() -> None:
    """However many are lacking, a worker that cannot be taken in costs none of those that are left."""
    said = set()

    def drop(record: logging.LogRecord) -> bool:
        said.add(record.getMessage())
        return False  # who kept it would keep the error, and that what had been made

    def opened() -> set[int]:
        # The listing's own is gone when it is looked at again.
        return {int(name) for name in os.listdir("/proc/self/fd") if os.path.exists(f"/proc/self/fd/{name}")}

    async def test() -> None:
        rig = Rig(threads=3)
        rig.application.log = logging.getLogger("test")
        rig.application.log.addFilter(drop)
        limits = resource.getrlimit(resource.RLIMIT_NOFILE)
        free = 0
        gc.collect()  # what other tests have left
        while not rig.application.workers:
            ours, theirs = Link.pair()
            before = opened()
            without = before - {theirs.fileno()}
            unused = (number for number in range(limits[0]) if number not in before)
            resource.setrlimit(resource.RLIMIT_NOFILE, (next(itertools.islice(unused, free, None)), limits[1]))
            try:
                rig.application.introduce(9, 9, theirs)
            finally:
                resource.setrlimit(resource.RLIMIT_NOFILE, limits)
            if not rig.application.workers:
                assert rig.cut.pop() == (9, "it could not be taken in")
                assert opened() == without
            ours.close()
            free += 1
        assert free - 1 == FILES_OF_WORKER + 3  # it brings its link along, and the block's file is needed once only
        assert not rig.cut
        await rig.close()

    run(test())
    assert said == {"worker 9 (pid 9) cannot be taken in: [Errno 24] Too many open files"}


def test_an_error_of_ours_does_not_deafen_the_router(memory: config.Memory) -> None:
    """An exception while a message is handled is the loop's to log; the next message is heard all the same."""

    async def test() -> None:
        errors: list[Any] = []
        asyncio.get_running_loop().set_exception_handler(lambda _, context: errors.append(context["exception"]))
        rig = Rig(memory)
        worker = rig.worker()
        _, exchange = rig.request()
        await until(lambda: worker.streams)

        class Broken(FakeConnection):
            def respond(self, *args: Any) -> bool:
                raise AssertionError("a bug")

        exchange.connection = Broken()  # type: ignore[assignment]
        worker.streams[0].respond(200, b"", 0, LAST, b"", True)
        await until(lambda: errors)
        other, _ = rig.request()
        await until(lambda: len(worker.streams) == 2)
        reply(worker.streams[1])
        await until(lambda: other.complete)
        await rig.close()
        assert [str(error) for error in errors] == ["a bug"]

    run(test())


def test_an_application_can_be_closed_with_requests_in_it() -> None:
    """Whatever waits or runs, closing leaves no timer that fires later."""

    async def test() -> None:
        rig = Rig(queue_timeout=0.01)
        rig.request()
        application: Application = rig.application
        application.close()
        timers = [application._deadlines._timer, application._deadlines._look]
        assert all(timer is not None and timer.cancelled() for timer in timers)

    run(test())


@pytest.mark.parametrize("message", [{"type": "nonsense"}, {"type": "segment"}, {"type": "segment", "segment": 5}])
def test_a_router_that_makes_no_sense(message: dict[str, Any], caplog: pytest.LogCaptureFixture) -> None:
    """The worker leaves it, and closes the files that came along."""

    async def test() -> None:
        rig = Rig()
        worker = rig.worker()
        await until(lambda: rig.ready)
        reading, writing = os.pipe()
        rig.application.workers[worker.number].port.link.send(message, [reading])
        os.close(reading)
        await until(lambda: worker.lost)
        await until(lambda: not rig.application.workers)
        with pytest.raises(BrokenPipeError):  # nobody holds the other end
            os.write(writing, b"x")
        os.close(writing)
        await rig.close()

    run(test())
    assert "leaving the router" in caplog.text


def test_the_memory_of_the_dead_goes_with_them(memory: config.Memory) -> None:
    """Nothing holds on to a worker that is gone, a timer as little as a cycle that the collector would have to find."""

    async def test() -> None:
        rig = Rig(memory)
        worker = rig.worker(echo)
        connection = rig.request(b"x")[0]
        await connection.completed()
        rig.worker(echo)
        await settle()
        worker.die()
        await until(lambda: worker.number not in rig.application.workers)
        rig.over.clear()
        connection.exchange = None
        await settle()
        kept = [each.number for each in gc.get_objects() if type(each) is WorkerPort]
        assert kept == list(rig.application.workers)
        await rig.close()

    gc.collect()
    gc.disable()
    try:
        run(test())
    finally:
        gc.enable()
