"""bridge.router.inflow: what WebSockets' clients send, and when they are not read."""

from __future__ import annotations

import asyncio
from typing import Any, cast

import pytest

from bridge import config
from bridge.core import FULL, Draft, Queue
from bridge.ipc.message import DATA, WANT
from bridge.ipc.pool import SegmentPool
from bridge.router.tunnel import Tunnel
from bridge.worker.tunnel import TunnelStream
from tests.router.rig import TINY, settle, until
from tests.router.websockets import LARGE, WebSockets, echo, raw, run, unread


def test_room_that_is_made_at_the_last_moment(memory: config.Memory) -> None:
    """Nobody is halted whose message has found room after all: no ring would follow for the room that it found."""

    class JustFull:
        """The queue to a worker, which takes something out of it whenever it was found full."""

        def __init__(self, queue: Queue) -> None:
            self._queue = queue

        def push_draft(self, draft: Draft, length: int) -> int:
            return FULL

        def __getattr__(self, name: str) -> Any:
            return getattr(self._queue, name)

    async def test() -> None:
        rig = WebSockets(memory)
        worker = rig.worker()
        client, stream = await rig.open(worker)
        port = rig.application.workers[worker.number].port
        port.outgoing = cast("Queue", JustFull(port.outgoing))
        client.writer.write(bytes(100))  # so little that no credit comes back, which would make it go on too
        await until(lambda: unread(stream) == 100)
        client.writer.write(bytes(100))
        await until(lambda: unread(stream) == 200)
        await rig.end(client, stream)

    run(test())


def test_a_worker_that_does_not_look(memory: config.Memory) -> None:
    """As long as a worker takes nothing out of its queue at all, no more than one read of each socket waits."""

    async def test() -> None:
        rig = WebSockets(memory)
        worker = rig.worker()
        clients = [await rig.open(worker) for _ in range(4)]
        port = rig.application.workers[worker.number].port
        worker.attached._due = True  # no turn follows
        for client, _ in clients:
            client.writer.write(LARGE * 10)
        await until(lambda: len(rig.service.hangups._watched) == len(clients))
        pieces = -(-32768 // rig.application.room)
        assert len(port.backlog) <= len(clients) * pieces
        worker.attached._due = False
        worker.attached.turn()
        for client, stream in clients:
            size = 0
            while size < 10 * len(LARGE):
                await stream.readable()
                size += len(stream.take() or b"")
            stream.abort()
            await client.close()
        await rig.idle()
        await rig.close()

    run(test())


def test_a_full_queue_alone_pauses_nobody() -> None:
    """As many messages wait behind a queue as it holds; whoever has more than that for it is not read meanwhile."""

    async def test() -> None:
        rig = WebSockets(TINY)
        worker = rig.worker()
        clients = [await rig.open(worker) for _ in range(2 * TINY.queue + 2)]
        port = rig.application.workers[worker.number].port
        worker.attached._due = True  # no turn follows

        async def arrived(stream: TunnelStream, size: int) -> None:
            await until(lambda: unread(stream) == size)

        async def sent(count: int) -> None:
            await until(lambda: port.outgoing.length() + len(port.backlog) == count)

        for number, (client, _) in enumerate(clients, 1):
            client.writer.write(b"x")
            await sent(number)
        assert port.outgoing.length() == TINY.queue
        assert len(rig.service.hangups._watched) == 3  # the one that has filled it up, and the two behind
        worker.attached._due = False
        worker.attached.turn()
        for client, stream in clients:
            client.writer.write(b"y")
            await arrived(stream, 2)
            stream.abort()
            await client.close()
        await rig.idle()
        await rig.close()

    run(test())


@pytest.mark.parametrize("window", [65536, 10_000])
def test_an_application_that_does_not_read(window: int) -> None:
    """At most a window is under way: then the client is not read, and others are."""

    async def test() -> None:
        rig = WebSockets(http=config.Http(websocket=config.WebSocket(window=window)))
        worker = rig.worker()
        client, stream = await rig.open(worker)
        other, quick = await rig.open(worker)
        client.writer.write(LARGE * 10)
        await until(lambda: rig.service.hangups._watched)
        await until(lambda: unread(stream) == window)
        await settle()
        assert unread(stream) == window
        other.writer.write(b"hello")
        await until(lambda: quick.take() == b"hello")
        taken = b""
        while len(taken) < 10 * len(LARGE):
            await stream.readable()
            taken += stream.take() or b""
            assert unread(stream) <= window
        assert taken == LARGE * 10
        quick.abort()
        await other.close()
        await rig.end(client, stream)

    run(test())


@pytest.mark.parametrize("kind", [WANT, DATA])
def test_credit_that_was_not_given(kind: int) -> None:
    """A worker that says it has consumed more than it got, gets no more than a window for it."""

    async def test() -> None:
        rig = WebSockets()
        worker = rig.worker()
        client, stream = await rig.open(worker)
        client.writer.write(LARGE * 10)
        await until(lambda: unread(stream) == 65536)
        raw(worker, kind, stream)
        await until(lambda: unread(stream) == 2 * 65536)
        await settle()
        assert unread(stream) == 2 * 65536
        await rig.end(client, stream)

    run(test())


def test_chunks_that_nothing_came_for() -> None:
    """A loop that asks for memory behind a read that has filled it, and finds nothing to read, leaves none held."""

    async def test() -> None:
        rig = WebSockets()
        client, stream = await rig.open(rig.worker())
        (tunnel,) = rig.application.tunnels.values()
        assert isinstance(tunnel, Tunnel)
        client.writer.write(LARGE[:24_000])
        await until(lambda: unread(stream) == 24_000)
        filled = tunnel.get_buffer(0)
        tunnel.buffer_updated(len(filled))
        assert len(tunnel.get_buffer(0)) > 0
        await until(lambda: unread(stream) == 24_000 + len(filled))
        await until(lambda: rig.application.pool.busy() == 0)
        await rig.end(client, stream)

    run(test())


@pytest.mark.parametrize("room", [True, False])
def test_long_reads(monkeypatch: pytest.MonkeyPatch, *, room: bool) -> None:
    """What is long goes into chunks as long as there are some to spare; what is short never does."""

    async def test() -> None:
        rig = WebSockets()
        pool = rig.application.pool
        claims: list[int] = []
        claim = pool.claim

        def spy(size: int, least: int, *, spare: bool = False) -> Any:
            claims.append(size)
            assert spare
            return claim(size, least, spare=spare) if room else None

        monkeypatch.setattr(SegmentPool, "claim", lambda _, *sizes, **how: spy(*sizes, **how))
        client, stream = await rig.open(rig.worker())
        running = asyncio.create_task(echo(stream))
        for _ in range(10):
            client.writer.write(LARGE[:5000])
            assert await client.read(5000) == LARGE[:5000]
        assert not claims
        client.writer.write(LARGE)
        assert await client.read(len(LARGE)) == LARGE
        assert claims
        await until(lambda: pool.busy() == 0)
        client.writer.write(b"x")  # the first short one may find chunks, and gives them back
        assert await client.read(1) == b"x"
        if room:
            claims.clear()
        client.writer.write(b"y")
        assert await client.read(1) == b"y"
        assert not claims or not room
        client.writer.write_eof()
        assert await client.rest() == b""
        await running
        await rig.end(client, stream)

    run(test())
