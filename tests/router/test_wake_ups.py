"""Wake-ups: no request waits beside a worker that sleeps, and no worker beside memory."""

from __future__ import annotations

from bridge import config
from bridge.core import BATON as BATON_SHIFT
from bridge.ipc.message import BATON
from tests.router.rig import (
    Rig,
    echo,
    pattern,
    raw,
    reply,
    run,
    settle,
    until,
)


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


def test_what_a_draining_worker_has_ended_makes_no_room() -> None:
    """As its requests end, no more are published than those who stay have room for, however long the last one takes."""

    async def test() -> None:
        rig = Rig()
        leaving = rig.worker(limit=5)
        old = [rig.request()[0] for _ in range(5)]
        await until(lambda: len(leaving.streams) == 5)
        staying = rig.worker(limit=1)
        leaving.attached.drain()
        await until(lambda: not rig.application.workers[leaving.number].limit)
        new = [rig.request()[0] for _ in range(10)]
        await until(lambda: staying.streams)
        published = len(rig.application.exchanges) - 5
        assert published < 5
        for stream in leaving.streams[:4]:
            reply(stream)
        await until(lambda: sum(connection.complete for connection in old) == 4)
        await settle()
        assert len(rig.application.exchanges) - 1 == published
        reply(leaving.streams[4])
        for index in range(10):
            await until(lambda: len(staying.streams) > index)  # noqa: B023 - it is waited for at once
            reply(staying.streams[index])
        await until(lambda: all(connection.complete for connection in old + new))
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
        assert list(rig.application.workers[booting.number].waiters) == [dead.attached._waiter]
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


def test_a_worker_that_waits_for_chunks_is_rung(memory: config.Memory) -> None:
    """When the transport lets go of its bytes, the worker hears that there are free chunks, and from nobody else."""

    async def test() -> None:
        rig = Rig(memory)
        worker = rig.worker()
        connection, _ = rig.request()
        await until(lambda: worker.streams)
        segment = worker.attached.segment
        first, size = segment.claim(segment.count * segment.chunk_size, segment.count * segment.chunk_size)
        view = rig.application.workers[worker.number].take(worker.number, first, size)
        body = pattern(memory.item_size)
        worker.streams[0].respond(200, b"", len(body), 0, body, True)
        await until(lambda: worker.attached._short)
        await settle()
        assert not connection.complete
        del view
        await connection.completed()
        assert connection.body == body
        await rig.idle()
        await rig.close()

    run(test())
