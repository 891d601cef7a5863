"""Requests whose worker died while it ran them, where the operator says that such a request may be run again."""

from __future__ import annotations

import pytest

from bridge import config
from bridge.ipc.message import UNKNOWN
from bridge.router.framing import Framing
from tests.router.by_hand import WorkerByHand
from tests.router.rig import HEAD, Rig, Worker, echo, pattern, run, settle, until, upload

METHODS = ["GET", "HEAD", "OPTIONS", "TRACE"]
LONG = b"X: " + b"y" * 500 + b"\r\n\r\n"


async def killed(rig: Rig, worker: Worker) -> None:
    """The worker dies, and the router has seen it."""
    worker.die()
    await until(lambda: worker.number not in rig.application.workers)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("rest", [b"\r\n", LONG])
def test_a_safe_method_is_run_again(memory: config.Memory, method: str, rest: bytes) -> None:
    """Another worker gets it, whole, with a long head too."""

    async def test() -> None:
        rig = Rig(memory, retry_safe=True)
        head = HEAD.replace(b"GET", method.encode())[:-2] + rest
        first = rig.worker()
        connection, exchange = rig.request(head=head)
        await until(lambda: first.streams)
        await killed(rig, first)
        assert not connection.ended
        assert exchange.due > rig.application.loop.time()
        second = rig.worker(echo)
        await connection.completed()
        assert second.streams[0].head.endswith(head)
        assert rig.application.tally.repeated == 1
        await rig.idle()
        await rig.close()

    run(test())


@pytest.mark.parametrize("size", [5, 700, 3000])
def test_with_its_body(memory: config.Memory, size: int) -> None:
    """A body that went with the request, and of which nothing was given back, goes with it again."""

    async def test() -> None:
        rig = Rig(memory, retry_safe=True)
        body = pattern(size)
        first = rig.worker()
        await until(lambda: rig.ready)
        connection, exchange = rig.request(body, framing=Framing(size=size))
        await until(lambda: first.streams)
        whole = exchange._is_whole()
        await killed(rig, first)
        rig.worker(echo)
        await until(lambda: connection.ended)
        assert connection.complete == whole
        assert connection.body == (body if whole else b"")
        assert whole or size > memory.window // 2
        await rig.idle()
        await rig.close()

    run(test())


@pytest.mark.parametrize("begun", [True, False])
def test_the_time_that_a_worker_has_had_does_not_count(begun: bool) -> None:
    """Whether it had begun or not: the deadlines of a run are those of the next one."""

    async def test() -> None:
        rig = Rig(retry_safe=True, limits=config.Limits(run_timeout=100.0))
        first = rig.worker(attach=False)
        if not begun:
            first._start = first.streams.append  # type: ignore[assignment, method-assign]  # takes requests, and begins none
        first.attach()
        connection, exchange = rig.request()
        await until(lambda: first.streams)
        deadlines = rig.application._deadlines
        deadlines._look_at_all(rig.application.loop.time())
        assert exchange in deadlines._runs
        await killed(rig, first)
        assert exchange not in deadlines._runs
        rig.worker(echo)
        await connection.completed()
        await rig.idle()
        await rig.close()

    run(test())


def test_at_most_once(memory: config.Memory) -> None:
    """A request that kills a second worker gets its client a 502."""

    async def test() -> None:
        rig = Rig(memory, retry_safe=True)
        connection, exchange = rig.request()
        for _ in range(2):
            worker = rig.worker()
            await until(lambda worker=worker: worker.streams)  # type: ignore[misc]
            await killed(rig, worker)
        assert connection.refused == (502, None)
        assert exchange.status == 502
        assert rig.application.tally.repeated == 1
        await rig.idle()
        await rig.close()

    run(test())


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "get", "GETS"])
def test_other_methods_are_not(method: str) -> None:
    """What may have had an effect is not done a second time."""

    async def test() -> None:
        rig = Rig(retry_safe=True)
        worker = rig.worker()
        connection, _ = rig.request(head=HEAD.replace(b"GET", method.encode()))
        await until(lambda: worker.streams)
        await killed(rig, worker)
        assert connection.refused == (502, None)
        await rig.idle()
        await rig.close()

    run(test())


def test_nothing_is_run_again_unless_the_operator_says_so() -> None:
    """By default a request is begun once."""

    async def test() -> None:
        rig = Rig()
        worker = rig.worker()
        connection, _ = rig.request()
        await until(lambda: worker.streams)
        await killed(rig, worker)
        assert connection.refused == (502, None)
        await rig.idle()
        await rig.close()

    run(test())


def test_not_when_the_answer_has_begun(memory: config.Memory) -> None:
    """What the client has seen of an answer is not followed by another one."""

    async def test() -> None:
        rig = Rig(memory, retry_safe=True)
        worker = rig.worker()
        connection, _ = rig.request()
        await until(lambda: worker.streams)
        worker.streams[0].respond(200, b"", UNKNOWN, 0, b"", False)
        await until(lambda: connection.status)
        await killed(rig, worker)
        assert connection.aborted
        await rig.idle()
        await rig.close()

    run(test())


def test_not_when_the_body_has_been_read() -> None:
    """Bytes that a worker has consumed are gone, and a body that is not there is none to be repeated."""

    async def test() -> None:
        rig = Rig(retry_safe=True)
        worker = rig.worker()
        await until(lambda: rig.ready)
        body = pattern(100_000)
        connection, exchange = rig.request(body[:10], complete=False, framing=Framing(size=len(body)))
        await until(lambda: worker.streams)
        assert worker.streams[0].take()
        reading = rig.application.loop.create_task(worker.streams[0].readable())
        await settle()
        upload(connection, exchange, body, 10)
        await reading
        await killed(rig, worker)
        assert connection.refused == (502, None)
        await rig.idle()
        await rig.close()

    run(test())


def test_a_client_that_leaves_before_it_is_run_again() -> None:
    """Nobody runs it then."""

    async def test() -> None:
        rig = Rig(retry_safe=True)
        first = rig.worker()
        _, exchange = rig.request()
        await until(lambda: first.streams)
        await killed(rig, first)
        exchange.client_gone()
        second = rig.worker()
        await until(lambda: len(rig.ready) == 2)
        await settle()
        assert not second.streams
        await rig.idle()
        await rig.close()

    run(test())


@pytest.mark.parametrize("in_file", [True, False], ids=["in a file", "in chunks"])
def test_a_body_that_was_collected(in_file: bool) -> None:
    """For WSGI: a file is lent to the next worker as it was to the first, chunks are named once more."""

    async def test() -> None:
        http = config.Http(body_buffer_size=100 if in_file else 1 << 20)
        rig = Rig(http=http, protocol="wsgi", retry_safe=True)
        body = pattern(50_000)
        first = WorkerByHand(rig, 2).attach()
        await until(lambda: rig.ready)
        connection, _ = rig.request(body, framing=Framing(size=len(body)))
        taken = await first.request()
        assert await first.body(taken) == body
        first.close()
        await until(lambda: not rig.application.workers)
        assert not connection.ended
        second = WorkerByHand(rig, 3).attach()
        taken = await second.request()
        assert await second.body(taken) == body
        second.respond(taken, 2, b"ok", last=True)
        await connection.completed()
        await rig.idle()
        await rig.close()
        second.close()

    run(test())
