"""The application: the line, wake-ups that none misses, workers and routers that come and go."""

from __future__ import annotations

import asyncio
import os
from typing import Any

import pytest

from bridge import config
from bridge.core import BATON as BATON_SHIFT
from bridge.errors import StreamCancelled
from bridge.ipc.link import Link
from bridge.ipc.message import ABORT, BATON, LAST
from bridge.ipc.stream import Event, State
from bridge.router.application import Application
from bridge.router.framing import Framing
from tests.router.rig import (
    GEOMETRIES,
    HEAD,
    TINY,
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

UPLOAD = Framing(size=100_000)


@pytest.fixture(params=list(GEOMETRIES))
def memory(request: pytest.FixtureRequest) -> config.Memory:
    """Each test runs on the usual geometry and on the smallest."""
    return GEOMETRIES[request.param]


# The line


def test_requests_wait_until_a_worker_is_ready(memory: config.Memory) -> None:
    """Requests that come before any worker are served in order as soon as there is one."""

    async def test() -> None:
        rig = Rig(memory)
        pairs = [rig.request(b"%d" % index, framing=Framing(size=1)) for index in range(10)]
        assert rig.application.waiting == 10
        worker = rig.worker(echo, attach=False)
        await settle()
        assert rig.application.waiting == 10
        worker.attach()
        await until(lambda: all(connection.complete for connection, _ in pairs))
        assert [connection.body for connection, _ in pairs] == [b"%d" % index for index in range(10)]
        assert rig.ready == [worker.number]
        await rig.idle()
        await rig.close()

    run(test())


def test_no_more_is_published_than_the_limits_allow(memory: config.Memory) -> None:
    """A worker runs as many requests as its limit says; one more is looked ahead, the rest waits in the router."""

    async def test() -> None:
        rig = Rig(memory)
        worker = rig.worker(limit=2)
        pairs = [rig.request() for _ in range(6)]
        await until(lambda: len(worker.streams) == 2)
        await settle()
        assert len(worker.streams) == 2
        assert len(rig.application.exchanges) == 3
        assert rig.application.waiting == 3
        for index in range(6):
            await until(lambda index=index: len(worker.streams) > index)  # type: ignore[misc]
            reply(worker.streams[index])
        await until(lambda: all(connection.complete for connection, _ in pairs))
        await rig.idle()
        await rig.close()

    run(test())


def test_no_worker_in_time() -> None:
    """What waits longer than the queue timeout is refused with 503 and advice to come back."""

    async def test() -> None:
        rig = Rig(queue_timeout=0.05)
        connection, exchange = rig.request()
        other, _ = rig.request(b"x" * 10, complete=False, framing=UPLOAD)
        await until(lambda: connection.ended and other.ended)
        assert connection.refused == other.refused == (503, 1)
        assert exchange.status == 503
        assert rig.over[0] is exchange
        await rig.idle()
        await rig.close()

    run(test())


def test_no_worker_that_looks_in_time() -> None:
    """A published request that a busy worker does not take is refused as well, and never runs."""

    async def test() -> None:
        rig = Rig(queue_timeout=0.05)
        worker = rig.worker(limit=1)
        running, _ = rig.request()
        await until(lambda: worker.streams)
        ahead, _ = rig.request()
        assert not rig.application.waiting
        await until(lambda: ahead.ended)
        assert ahead.refused == (503, 1)
        assert not running.ended
        reply(worker.streams[0])
        await until(lambda: running.complete)
        await settle()
        assert len(worker.streams) == 1
        await rig.idle()
        await rig.close()

    run(test())


def test_a_line_that_is_full(monkeypatch: pytest.MonkeyPatch) -> None:
    """A request that finds too many before it is refused at once."""

    async def test() -> None:
        monkeypatch.setattr("bridge.router.application.MAX_LINE", 2)
        rig = Rig()
        pairs = [rig.request() for _ in range(3)]
        assert [connection.refused for connection, _ in pairs] == [None, None, (503, 1)]
        rig.worker(echo)
        await until(lambda: pairs[1][0].complete)
        await rig.idle()
        await rig.close()

    run(test())


def test_memory_that_is_lacking_for_a_head() -> None:
    """A request whose head finds no chunk keeps its place in the line until there is one."""

    async def test() -> None:
        rig = Rig(TINY)
        worker = rig.worker(echo)
        await until(lambda: rig.ready)
        pool = rig.application.pool
        claimed = pool.claim(4096, 4096)
        assert claimed is not None
        segment, first, size = claimed
        connection, _ = rig.request(head=HEAD[:-2] + b"X: " + b"y" * 500 + b"\r\n\r\n")
        small, _ = rig.request()
        assert rig.application.waiting == 2
        await settle()
        assert not worker.streams
        pool.release(segment, first, segment.chunks_of(size))
        await until(lambda: connection.complete and small.complete)
        await rig.idle()
        await rig.close()

    run(test())


def test_a_queue_that_is_full_when_the_message_was_made(monkeypatch: pytest.MonkeyPatch) -> None:
    """A message that found no room is made again without losing pieces of its body or chunks of its head."""

    async def test() -> None:
        rig = Rig(TINY)
        body = pattern(200)
        head = HEAD[:-2] + b"X: " + b"y" * 500 + b"\r\n\r\n"
        pairs = [rig.request(body, head=head, framing=Framing(size=200)) for _ in range(3)]
        application = rig.application
        push = application.queue.push
        refusals = 5

        class Full:
            room = application.queue.room

            def __getattr__(self, name: str) -> Any:
                return getattr(original, name)

            def push(self, message: bytes) -> int:
                nonlocal refusals
                if refusals:
                    refusals -= 1
                    return -1
                return push(message)

        original = application.queue
        application.queue = Full()  # type: ignore[assignment]
        rig.worker(echo)
        while not all(connection.complete for connection, _ in pairs):
            application.pump()
            await settle(2)
        assert refusals == 0
        assert all(connection.body == body for connection, _ in pairs)
        await rig.idle()
        await rig.close()

    run(test())


# Wake-ups


def test_a_busy_worker_leaves_its_ring_to_others() -> None:
    """A worker at its limit whose sleeping bit was still set passes the ring on: no request waits beside a sleeper."""

    async def test() -> None:
        rig = Rig()
        busy = rig.worker(limit=1)
        idle = rig.worker(limit=1)
        await until(lambda: len(rig.ready) == 2)
        await settle()
        rig.request()
        await until(lambda: busy.streams or idle.streams)
        if idle.streams:
            busy, idle = idle, busy
        for _ in range(4):  # sleepers are rung in turn
            await settle()
            rig.application.queue.doze(busy.attached._waiter)  # the bit that an earlier sleep has left
            other, _ = rig.request()
            await until(lambda: idle.streams)
            reply(idle.streams.pop())
            await other.completed()
        reply(busy.streams[0])
        await rig.idle()
        await rig.close()

    run(test())


def test_a_draining_worker_leaves_its_ring_to_others() -> None:
    """A worker that leaves clears its sleeping bit, and what it is rung for goes to another one."""

    async def test() -> None:
        rig = Rig()
        leaving = rig.worker()
        staying = rig.worker(echo)
        await until(lambda: len(rig.ready) == 2)
        await settle()
        leaving.attached.drain()
        pairs = [rig.request() for _ in range(20)]
        await until(lambda: all(connection.complete for connection, _ in pairs))
        assert not leaving.streams
        await settle()
        for _ in range(3):
            connection, _ = rig.request()
            await connection.completed()
        assert len(staying.streams) == 23
        await rig.idle()
        await rig.close()

    run(test())


def test_a_draining_worker_takes_no_room_from_others() -> None:
    """Requests that still run in a worker that leaves do not count against those who stay."""

    async def test() -> None:
        rig = Rig()
        leaving = rig.worker(limit=3)
        old = [rig.request() for _ in range(3)]
        await until(lambda: len(leaving.streams) == 3)
        rig.worker(echo, limit=1)
        leaving.attached.drain()
        await until(lambda: not rig.application.workers[leaving.number].limit)
        connection, _ = rig.request()
        await until(lambda: connection.complete)
        for stream in leaving.streams:
            reply(stream)
        await until(lambda: all(connection.complete for connection, _ in old))
        await rig.idle()
        await rig.close()

    run(test())


def test_the_dead_may_have_owed_a_ring() -> None:
    """A worker that sleeps without its bit, because the dead had cleared it, is rung when the dead is found."""

    async def test() -> None:
        rig = Rig()
        dead = rig.worker()
        alive = rig.worker(echo)
        await until(lambda: len(rig.ready) == 2)
        await settle()
        queue = rig.application.queue
        queue.rouse(alive.attached._waiter)
        queue.rouse(dead.attached._waiter)
        connection, _ = rig.request()
        await settle()
        assert not connection.complete
        dead.die()
        await until(lambda: connection.complete)
        await rig.idle()
        await rig.close()

    run(test())


def test_a_worker_that_comes_after_the_dead_gets_no_rings_while_it_boots() -> None:
    """The sleeping bit of a dead worker is not the next one's: a ring goes to somebody who takes requests."""

    async def test() -> None:
        rig = Rig()
        dead = rig.worker()
        alive = rig.worker(echo)
        await until(lambda: len(rig.ready) == 2)
        await settle()
        dead.die()
        await until(lambda: len(rig.application.workers) == 1)
        await settle()
        booting = rig.worker(attach=False)
        assert rig.application.workers[booting.number].waiter == dead.attached._waiter
        for _ in range(3):
            connection, _ = rig.request()
            await connection.completed()
            await settle()
        assert len(alive.streams) == 3
        await rig.idle()
        await rig.close()

    run(test())


def test_batons_reach_the_next_sleeper() -> None:
    """A worker that leaves work behind names a sleeper, and the router rings that one."""

    async def test() -> None:
        rig = Rig()
        first, second = rig.worker(), rig.worker(echo)
        await until(lambda: len(rig.ready) == 2)
        await settle()
        for worker in rig.workers:  # nobody is to be rung for the request itself
            rig.application.queue.rouse(worker.attached._waiter)
        connection, _ = rig.request()
        await settle()
        assert not connection.ended
        first.attached._pass_on(second.attached._waiter + 1 << BATON_SHIFT)
        await connection.completed()
        assert second.streams
        await rig.idle()
        await rig.close()

    run(test())


def test_a_baton_for_nobody(memory: config.Memory) -> None:
    """A baton for a waiter that does not exist is dropped."""

    async def test() -> None:
        rig = Rig(memory)
        worker = rig.worker(echo)
        await until(lambda: rig.ready)
        for number in (255, 256, (1 << 32) - 1):
            raw(worker, BATON, number=number)
        connection, _ = rig.request()
        await until(lambda: connection.complete)
        assert not rig.cut
        await rig.idle()
        await rig.close()

    run(test())


# The router and its workers, coming and going


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
        rig.worker()
        ours, theirs = Link.pair()
        rig.application.introduce(9, 9, theirs)
        assert list(rig.application.workers) == [2]
        ours.close()
        await rig.close()

    run(test())
    assert "workers already" in caplog.text


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
        assert rig.cut == [(9, "no shared memory for it")]
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
        assert application._overdue is not None
        assert application._overdue.cancelled()

    run(test())


@pytest.mark.parametrize("message", [{"type": "nonsense"}, {"type": "segment"}, {"type": "segment", "segment": 5}])
def test_a_router_that_makes_no_sense(message: dict[str, Any], caplog: pytest.LogCaptureFixture) -> None:
    """The worker leaves it, and closes the files that came along."""

    async def test() -> None:
        rig = Rig()
        worker = rig.worker()
        await until(lambda: rig.ready)
        before = len(os.listdir("/proc/self/fd"))
        rig.application.workers[worker.number].port.link.send(message, [0])
        await until(lambda: worker.lost)
        await until(lambda: not rig.application.workers)
        assert len(os.listdir("/proc/self/fd")) < before - 3  # link, bells and segment of both sides
        await rig.close()

    run(test())
    assert "leaving the router" in caplog.text


def test_a_request_that_gives_memory_back_while_it_is_published() -> None:
    """Memory that comes free in the middle of publishing publishes nothing twice."""

    async def test() -> None:
        rig = Rig(TINY)
        worker = rig.worker(echo)
        await until(lambda: rig.ready)
        application = rig.application
        claimed = application.pool.claim(4096, 4096)
        assert claimed is not None
        segment, first, size = claimed
        head = HEAD[:-2] + b"X: " + b"y" * 500 + b"\r\n\r\n"
        pairs = [rig.request(b"body", head=head, framing=Framing(size=4)) for _ in range(3)]
        assert application in application.pool._waiting
        # All but one chunk at once, without telling anybody: the first request finds room, and gives some back.
        segment.chunks.release(first + 1, segment.chunks_of(size) - 1)
        application.pump()
        await until(lambda: all(connection.complete for connection, _ in pairs))
        assert len(worker.streams) == 3
        assert all(connection.body == b"body" for connection, _ in pairs)
        application.pool.release(segment, first, 1)
        await rig.idle()
        await rig.close()

    run(test())


def test_memory_in_fragments() -> None:
    """A head that would need more pieces than its message has room for waits for longer runs."""

    async def test() -> None:
        rig = Rig(TINY)
        rig.worker(echo)
        await until(lambda: rig.ready)
        pool = rig.application.pool
        claimed = pool.claim(4096, 4096)
        assert claimed is not None
        segment, first, _ = claimed
        for chunk in range(0, 64, 2):
            pool.release(segment, first + chunk, 1)
        connection, _ = rig.request(head=HEAD[:-2] + b"X: " + b"y" * 900 + b"\r\n\r\n")
        await settle()
        assert rig.application.waiting == 1
        for chunk in range(1, 64, 2):
            pool.release(segment, first + chunk, 1)
        await connection.completed()
        await rig.idle()
        await rig.close()

    run(test())
