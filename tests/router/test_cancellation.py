"""A client that leaves before a worker has its request: what that held is back before anything else happens."""

from __future__ import annotations

from bridge import config
from bridge.ipc.stream import State
from bridge.router.exchange import Exchange
from bridge.router.framing import Framing
from tests.router.rig import HEAD, Rig, echo, pattern, run, settle, until, upload

LONG = HEAD[:-2] + b"X: " + b"y" * 500 + b"\r\n\r\n"
BODY = pattern(2000)


def nothing_is_held(rig: Rig, exchange: Exchange) -> bool:
    """Whether its chunks, its tracking word and its place are free, and it is over."""
    application = rig.application
    assert application.pool.busy() == application.heads.busy() == 0
    assert len(application._slots) == application.geometry.slots
    assert not application.exchanges
    assert not application.waiting
    return rig.over == [exchange]


async def never_runs(rig: Rig) -> None:
    """The next request is the first that a worker sees."""
    worker = rig.workers[0] if rig.workers else rig.worker(echo)
    connection, _ = rig.request(b"next", framing=Framing(size=4))
    await connection.completed()
    assert len(worker.streams) == 1
    await rig.idle()
    await rig.close()


def test_in_the_line_with_half_of_its_body(memory: config.Memory) -> None:
    """No worker is there yet; what has come of the body lies in chunks."""

    async def test() -> None:
        rig = Rig(memory, protocol="asgi")
        connection, exchange = rig.request(BODY[:200], complete=False, head=LONG, framing=Framing(size=len(BODY)))
        await settle()
        upload(connection, exchange, BODY, 200)
        assert rig.application.waiting == 1
        assert rig.application.pool.busy()
        exchange.client_gone()
        assert nothing_is_held(rig, exchange)
        await never_runs(rig)

    run(test())


def test_in_the_shared_queue_with_head_and_body_in_chunks(memory: config.Memory) -> None:
    """It was published, and no worker has claimed it: the cancel wins the word."""

    async def test() -> None:
        rig = Rig(memory)
        rig.worker(echo)
        await until(lambda: rig.ready)
        connection, exchange = rig.request(BODY[:200], complete=False, head=LONG, framing=Framing(size=len(BODY)))
        exchange._admit()  # what the loop would do in its next turn, in which the worker would claim it
        upload(connection, exchange, BODY, 200)
        stream = exchange.stream
        assert rig.application.is_queued(stream)
        assert rig.application.pool.busy()
        exchange.client_gone()
        assert rig.application.tracking.state(stream) == State.CANCELLED
        assert nothing_is_held(rig, exchange)
        await settle()
        assert not rig.workers[0].streams
        await never_runs(rig)

    run(test())


def test_while_its_body_is_collected(memory: config.Memory) -> None:
    """No worker would have got it before the body is whole."""

    async def test() -> None:
        rig = Rig(memory, protocol="wsgi")
        connection, exchange = rig.request(BODY[:200], complete=False, framing=Framing(size=len(BODY)))
        buffer = exchange.body_buffer(100)
        buffer[:] = bytes(len(buffer))
        exchange.body_filled(len(buffer), False)
        exchange.client_gone()
        assert not connection.ended
        await until(lambda: not rig.application.disk.jobs)
        assert nothing_is_held(rig, exchange)
        await rig.close()

    run(test())


def test_many_that_come_and_go() -> None:
    """Clients that give up before their turn cost the worker nothing, however many there are."""

    async def test() -> None:
        rig = Rig()
        worker = rig.worker(limit=1)
        running, _ = rig.request()
        await until(lambda: worker.streams)
        for _ in range(1000):
            _, exchange = rig.request(b"x" * 100, framing=Framing(size=100))
            exchange.client_gone()
            assert len(rig.application.exchanges) == 1
        assert len(rig.over) == 1000
        last, _ = rig.request()
        worker.streams[0].finished()
        await until(lambda: len(worker.streams) == 2)
        worker.streams[1].finished()
        await until(lambda: running.ended and last.ended)
        assert len(worker.streams) == 2
        assert rig.application.tally.unserved == 1000
        await rig.idle()
        await rig.close()

    run(test())
