"""Admission: which requests are published, which of them wait, and which are refused."""

from __future__ import annotations

import asyncio

import pytest

from bridge import config
from bridge.router.exchange import Exchange
from bridge.router.expected import LONG
from tests.router.by_hand import WorkerByHand
from tests.router.rig import UPLOAD, FakeConnection, Rig, Worker, echo, reply, run, settle, until


async def answer_all(pairs: list[tuple[FakeConnection, Exchange]], *workers: Worker) -> None:
    """Let the workers answer whatever they have, until all of these requests are complete."""
    while not all(connection.complete for connection, _ in pairs):
        for worker in workers:
            if worker.streams:
                reply(worker.streams.pop())
        await asyncio.sleep(0)


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
        rig = Rig(queue_timeout=10)
        rig.by_hand()
        worker = rig.worker(limit=1)
        running, _ = rig.request()
        await until(lambda: worker.streams)
        ahead, _ = rig.request()
        assert not rig.application.waiting
        rig.clock.advance(9)
        assert not ahead.ended
        rig.clock.advance(3)
        assert ahead.refused == (503, 1)
        assert not running.ended
        reply(worker.streams[0])
        await until(lambda: running.complete)
        await settle()
        assert len(worker.streams) == 1
        await rig.idle()
        await rig.close()

    run(test())


def test_short_requests_overtake_long_ones() -> None:
    """What ran for long while others waited is known, by its path, and those that have come a little later go first."""

    async def test() -> None:
        rig = Rig()
        rig.by_hand()
        worker = rig.worker(limit=1)
        heads = [b"GET /long?%d HTTP/1.1\r\nHost: t\r\n\r\n" % number for number in range(5)]
        running, *waiting = [rig.request(head=head) for head in heads[:4]]
        await until(lambda: worker.streams)
        rig.clock.advance(3 * LONG)  # it runs so long
        reply(worker.streams.pop())
        await until(lambda: running[0].complete)
        assert rig.application.expected.of(b"GET /long") >= LONG
        late, short = rig.request(head=heads[4]), rig.request()
        # The others: one runs, one lies ready, and nothing was known of the third when it came.
        expected, order = [*waiting, short, late], []
        waiting += [late, short]
        while waiting:
            await until(lambda: worker.streams)
            reply(worker.streams.pop())
            await until(lambda: any(connection.complete for connection, _ in waiting))
            (done,) = (pair for pair in waiting if pair[0].complete)
            waiting.remove(done)
            order.append(done)
        assert order == expected
        await rig.idle()
        await rig.close()

    run(test())


def test_waiting_is_not_running() -> None:
    """What has stood in the line behind a long request is not taken for long itself."""

    async def test() -> None:
        rig = Rig()
        rig.by_hand()
        worker = rig.worker(limit=1)
        pairs = [rig.request(head=b"GET /long HTTP/1.1\r\nHost: t\r\n\r\n"), *(rig.request() for _ in range(9))]
        await until(lambda: worker.streams)
        rig.clock.advance(3 * LONG)
        await answer_all(pairs, worker)
        assert rig.application.expected.of(b"GET /long") >= LONG
        assert rig.application.expected.of(pairs[1][1].purpose()) == 0
        await rig.idle()
        await rig.close()

    run(test())


def test_a_run_that_was_cut_short_says_nothing() -> None:
    """Nothing is learnt from a request whose client has left."""

    async def test() -> None:
        rig = Rig()
        rig.by_hand()
        worker = rig.worker(limit=1)
        (_, left), *pairs = [rig.request() for _ in range(4)]
        await until(lambda: worker.streams)
        rig.clock.advance(3 * LONG)
        left.client_gone()
        await until(lambda: worker.streams[0].cancelled)
        worker.streams.pop().finished()
        await until(lambda: left in rig.over)
        assert rig.application.waiting
        assert not rig.application.expected
        await answer_all(pairs, worker)
        await rig.idle()
        await rig.close()

    run(test())


def test_nobody_is_overtaken_beyond_what_clients_wait_for() -> None:
    """Where they leave early, or the deadline is short, what runs for long stands no further behind than that."""

    async def test() -> None:
        rig = Rig()
        rig.application.expected.ran(b"GET /", 0.9)
        rig.application.line.patience = 0.1
        _, exchange = rig.request(head=b"GET / HTTP/1.1\r\nHost: t\r\n\r\n")
        assert exchange.expected == 0.1
        await rig.close()

    run(test())


def test_little_lies_ready_where_some_are_overtaken() -> None:
    """One for each worker; but one for all of them as soon as it is known that something takes long."""

    async def test() -> None:
        rig = Rig()
        rig.by_hand()
        workers = [rig.worker(limit=1) for _ in range(2)]
        await until(lambda: len(rig.ready) == 2)
        pairs = [rig.request() for _ in range(8)]
        await until(lambda: all(worker.streams for worker in workers))
        assert len(rig.application.exchanges) == 4
        rig.clock.advance(3 * LONG)
        for worker in workers:
            reply(worker.streams.pop())
        await until(lambda: all(worker.streams for worker in workers))
        await settle()
        assert len(rig.application.exchanges) == 3
        await answer_all(pairs, *workers)
        await rig.idle()
        await rig.close()

    run(test())


def test_a_line_that_is_full() -> None:
    """A request that finds too many before it is refused at once, and counted."""

    async def test() -> None:
        rig = Rig(limits=config.Limits(queue_length=2))
        pairs = [rig.request() for _ in range(3)]
        assert [connection.refused for connection, _ in pairs] == [None, None, (503, 1)]
        assert rig.application.tally.turned_away == 1
        rig.worker(echo)
        await until(lambda: pairs[1][0].complete)
        await rig.idle()
        await rig.close()

    run(test())


def test_a_line_that_is_full_and_stands() -> None:
    """Where the newest is next, the oldest makes room for it."""

    async def test() -> None:
        rig = Rig(limits=config.Limits(queue_length=2))
        pairs = [rig.request() for _ in range(2)]
        rig.application.line.newest_first = True
        pairs.append(rig.request())
        assert [connection.refused for connection, _ in pairs] == [(503, 1), None, None]
        await rig.close()

    run(test())


def test_a_line_that_stands() -> None:
    """When clients leave the line before it is their turn, the newest request goes to a worker first."""

    async def test() -> None:
        rig = Rig()
        worker = rig.worker(limit=1)
        pairs = [rig.request() for _ in range(2)]
        await until(lambda: worker.streams)
        line = [rig.request() for _ in range(5)]
        await asyncio.sleep(0.01)
        line[1][1].client_gone()
        assert rig.application.tally.unserved == 1
        await until(lambda: rig.application.line.newest_first)
        newest = rig.request()
        reply(worker.streams[0])
        await until(lambda: len(worker.streams) == 2)
        reply(worker.streams[1])
        await until(lambda: len(worker.streams) == 3)
        reply(worker.streams[2])
        await newest[0].completed()
        assert not any(connection.ended for connection, _ in line)
        for index in range(3, 7):
            await until(lambda index=index: len(worker.streams) > index)  # type: ignore[misc]
            reply(worker.streams[index])
        await until(lambda: all(connection.complete for connection, _ in [*pairs, line[0], *line[2:]]))
        await rig.idle()
        await rig.close()

    run(test())


def test_a_loop_that_computes() -> None:
    """What an ASGI worker does not claim is not published to it: it waits in the line, and goes on when it does."""

    async def test() -> None:
        rig = Rig(queue_timeout=60)
        application = rig.application
        worker = rig.worker(limit=100)
        await until(lambda: rig.ready)
        loop = worker.attached.loop
        loop.remove_reader(worker.attached.port.bell.fileno())  # it computes: it neither hears nor looks
        turn, worker.attached._turn = worker.attached._turn, lambda: None
        pairs = [rig.request() for _ in range(20)]
        assert not application.line.requests
        assert application._deadlines.looking  # also where nobody waits in the line
        await until(lambda: application._room < 20)
        pairs += [rig.request() for _ in range(20)]
        assert application.waiting == 20
        worker.attached._turn = turn
        loop.add_reader(worker.attached.port.bell.fileno(), worker.attached._on_bell)
        worker.attached.turn()
        await until(lambda: len(worker.streams) == 40)
        for stream in worker.streams:
            reply(stream)
        await until(lambda: all(connection.complete for connection, _ in pairs))
        await until(lambda: application._room == application._most)
        await rig.idle()
        await rig.close()

    run(test())


def test_threads_in_place_of_loops_that_computed() -> None:
    """An application that has become one of WSGI gets as many requests as its threads take."""

    async def test() -> None:
        rig = Rig()
        application = rig.application
        rig.worker()
        await until(lambda: rig.ready)
        application._ceiling.requests = 1
        worker = WorkerByHand(rig, 9, limit=5).attach()
        await until(lambda: len(rig.ready) == 2)
        assert application.interface == "wsgi"
        assert application._room == application._most
        await rig.close()
        worker.close()

    run(test())


def test_what_was_refused_is_said(caplog: pytest.LogCaptureFixture) -> None:
    """Who reads the log learns how many were refused, and why."""

    async def test() -> None:
        rig = Rig(limits=config.Limits(queue_length=1), queue_timeout=0.02)
        connection, _ = rig.request()
        rig.request()
        await until(lambda: connection.ended)
        assert (rig.application.tally.expired, rig.application.tally.turned_away) == (1, 1)
        rig.application.report()
        rig.application.report()
        await rig.close()

    run(test())
    (record,) = caplog.records
    assert "1 refused (503): no worker took them in time; 1 refused (503): the line was full" in record.getMessage()
