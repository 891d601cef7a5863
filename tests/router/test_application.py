"""The application: the line, its deadlines, and memory that is lacking."""

from __future__ import annotations

from typing import Any

import pytest

from bridge import config
from bridge.core import FULL, publish
from bridge.ipc.segment import Segment
from bridge.router.application import MOST_AT_ONCE
from bridge.router.framing import Framing
from bridge.router.pace import EVERY, MOST, Pace
from tests.router.rig import (
    HEAD,
    PEER,
    TINY,
    Rig,
    Worker,
    echo,
    pattern,
    reply,
    run,
    settle,
    until,
)


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
        assert rig.ready == [worker.number + 1000]
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


def test_what_lies_ready_follows_the_pace_at_which_requests_end() -> None:
    """Fast requests have many ready and slow ones one more; what else a worker rings for does not count."""

    async def test() -> None:
        rig = Rig()
        application = rig.application
        now = 0.0
        application.pace = Pace(lambda: now)
        worker = rig.worker(limit=1)
        pairs = [rig.request() for _ in range(2 * EVERY + MOST + 2)]
        await until(lambda: worker.streams)
        assert len(application.exchanges) == 2
        for _ in range(2 * EVERY):
            application.workers[worker.number].on_bell()
        assert len(application.exchanges) == 2
        await end(worker, range(EVERY))
        assert len(application.exchanges) == 1 + MOST
        now += EVERY
        await end(worker, range(EVERY, 2 * EVERY))
        assert application._room == 2
        assert len(application.exchanges) == MOST
        await end(worker, range(2 * EVERY, len(pairs)))
        await rig.idle()
        await rig.close()

    async def end(worker: Worker, which: range) -> None:
        for index in which:
            await until(lambda index=index: len(worker.streams) > index)  # type: ignore[misc]
            reply(worker.streams[index])
        await settle()

    run(test())


def test_a_limit_that_no_worker_can_mean() -> None:
    """A number that fits no machine word is cut to the most that one worker gets."""

    async def test() -> None:
        rig = Rig()
        worker = rig.worker(limit=1 << 80)
        await until(lambda: rig.ready)
        assert rig.application.workers[worker.number].limit == MOST_AT_ONCE
        connection, _ = rig.request()
        await until(lambda: worker.streams)
        reply(worker.streams[0])
        await until(lambda: connection.complete)
        await rig.close()

    run(test())


def no_chunks_for_heads(rig: Rig, leave: int = 0) -> tuple[Segment, int, int]:
    """Take all but every second of the last `leave` chunks for heads."""
    pool = rig.application.heads
    claimed = pool.claim(4096, 4096)
    assert claimed is not None
    segment, first, size = claimed
    for chunk in range(64 - leave, 64, 2):
        pool.release(segment, first + chunk, 1)
    return segment, first, size


def give_back(rig: Rig, taken: tuple[Segment, int, int], leave: int = 0) -> None:
    """Undo it."""
    segment, first, _ = taken
    for chunk in range(64):
        if chunk < 64 - leave or (64 - chunk) % 2:
            rig.application.heads.release(segment, first + chunk, 1)


@pytest.mark.parametrize("leave", [0, 16], ids=["no memory", "memory in fragments"])
@pytest.mark.parametrize("length", [500, 2000, 50_000])
def test_a_head_without_chunks(leave: int, length: int) -> None:
    """A head that finds none, or too scattered ones, goes over the link; it overtakes nobody and waits for nobody."""

    async def test() -> None:
        rig = Rig(TINY)
        worker = rig.worker(echo)
        await until(lambda: rig.ready)
        taken = no_chunks_for_heads(rig, leave)
        head = HEAD[:-2] + b"X: " + b"y" * length + b"\r\n\r\n"
        body = pattern(3000)
        connection, _ = rig.request(head=head)
        large, _ = rig.request(body, head=head, framing=Framing(size=3000))
        small, _ = rig.request()
        assert rig.application.waiting == 0
        await until(lambda: connection.complete and small.complete and large.complete)
        assert (connection.body, large.body) == (b"", body)
        assert sorted(len(stream.head) for stream in worker.streams) == [
            len(PEER + HEAD),
            len(PEER + head),
            len(PEER + head),
        ]
        give_back(rig, taken, leave)
        await rig.idle()
        await rig.close()

    run(test())


def test_a_client_that_leaves_while_its_head_is_on_the_way() -> None:
    """The worker lets go of a request that it has not begun, and the application does not see it."""

    async def test() -> None:
        rig = Rig(TINY)
        worker = rig.worker(echo)
        await until(lambda: rig.ready)
        taken = no_chunks_for_heads(rig)
        _, exchange = rig.request(head=HEAD[:-2] + b"X: " + b"y" * 50_000 + b"\r\n\r\n")
        await until(lambda: worker.attached._headless)
        exchange.client_gone()
        await until(lambda: rig.over)
        assert not worker.streams
        assert not worker.attached._headless
        give_back(rig, taken)
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
        refusals = 5

        def reluctant(*message: Any) -> int:
            nonlocal refusals
            if refusals:
                refusals -= 1
                return FULL
            return publish(*message)

        monkeypatch.setattr("bridge.router.application.publish", reluctant)
        rig.worker(echo)
        while not all(connection.complete for connection, _ in pairs):
            application.pump()
            await settle(2)
        assert refusals == 0
        assert all(connection.body == body for connection, _ in pairs)
        await rig.idle()
        await rig.close()

    run(test())


def test_nobody_waits_for_an_application_that_does_not_start() -> None:
    """Who waits is refused when main says so, and whoever comes, until a worker is there; with workers nobody is."""

    async def test() -> None:
        rig = Rig()
        waiting, _ = rig.request()
        rig.application.set_broken(broken=True)
        assert waiting.refused == (503, 1)
        late, _ = rig.request()
        assert late.refused == (503, 1)
        rig.worker(echo)
        await until(lambda: rig.ready)
        served, _ = rig.request()
        await served.completed()
        rig.application.set_broken(broken=False)
        await rig.idle()
        await rig.close()

    run(test())


def test_published_requests_are_refused_too() -> None:
    """What was published to a worker that has gone is not left in the queue of an application that does not start."""

    async def test() -> None:
        rig = Rig()
        worker = rig.worker(limit=5)
        connection, _ = rig.request()
        worker.die()
        await until(lambda: not rig.application.workers)
        assert connection.refused is None
        rig.application.set_broken(broken=True)
        assert connection.refused == (503, 1)
        await settle()
        await rig.close()

    run(test())
