"""bridge.router.tunnel: every way in which a WebSocket ends, as client and worker see it."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import cast

import pytest

from bridge import config
from bridge.ipc.message import ABORT, DATA, FILE, TAKEN
from bridge.router import tunnel as module
from tests.router.rig import TINY, Sink, pattern, read, until
from tests.router.websockets import WebSockets, raw, run

LARGE = pattern(300_000)


def test_fin_of_the_client() -> None:
    """It comes behind the client's last bytes, and what the worker says then still arrives."""

    async def test() -> None:
        rig = WebSockets()
        client, stream = await rig.open(rig.worker())
        client.writer.write(b"goodbye")
        client.writer.write_eof()
        assert await read(stream) == b"goodbye"
        assert not stream.cancelled
        stream.send(b"farewell", True)
        assert await client.rest() == b"farewell"
        await rig.end(client, stream)

    run(test())


def test_fin_behind_bytes_that_find_no_room() -> None:
    """A client that has left while it was not read: its bytes come first."""

    async def test() -> None:
        rig = WebSockets()
        client, stream = await rig.open(rig.worker())
        client.writer.write(LARGE[:70_000])
        client.writer.write_eof()
        await until(lambda: rig.service.hangups._watched)
        await until(lambda: not rig.service.hangups._watched)  # it has been noticed
        assert not stream.cancelled
        assert await read(stream) == LARGE[:70_000]
        await rig.end(client, stream)

    run(test())


@pytest.mark.parametrize("paused", [False, True])
def test_a_client_that_is_reset(*, paused: bool) -> None:
    """The worker is told to stop, also while the client is not read."""

    async def test() -> None:
        rig = WebSockets()
        client, stream = await rig.open(rig.worker())
        if paused:
            client.writer.write(LARGE)
            await until(lambda: rig.service.hangups._watched)
        client.reset()
        await until(lambda: stream.cancelled)
        assert rig.application.tunnels
        await rig.end(client, stream)

    run(test())


def test_chunks_that_the_worker_has_not_copied() -> None:
    """They are its own until it is done with the stream, although the client is gone."""

    async def test() -> None:
        rig = WebSockets()
        worker = rig.worker()
        client, stream = await rig.open(worker)
        worker.attached._due = True  # no turn follows
        client.writer.write(LARGE)
        await until(rig.application.pool.busy)
        client.reset()
        await until(lambda: not rig.service.connections)
        assert rig.application.pool.busy()
        worker.attached._due = False
        worker.attached.turn()
        await until(lambda: stream.cancelled)
        await rig.end(client, stream)

    run(test())


def test_the_end_that_the_worker_makes() -> None:
    """The client gets all bytes and FIN, no reset, although it goes on sending."""

    async def test() -> None:
        rig = WebSockets()
        client, stream = await rig.open(rig.worker())
        client.writer.write(LARGE)
        await until(lambda: rig.service.hangups._watched)
        stream.send(b"enough", True)
        await rig.idle()
        client.writer.write(LARGE)
        await client.writer.drain()
        assert await client.rest() == b"enough"
        await rig.end(client, stream)

    run(test())


def test_a_client_that_does_not_close(monkeypatch: pytest.MonkeyPatch) -> None:
    """The client's FIN is waited for, but not for ever."""
    monkeypatch.setattr(module, "LINGER_TIME", 0.05)

    async def test() -> None:
        rig = WebSockets()
        client, stream = await rig.open(rig.worker())
        stream.send(b"bye", True)
        assert await client.rest() == b"bye"
        await until(lambda: not rig.service.connections)
        await rig.end(client, stream)

    run(test())


@pytest.mark.parametrize("how", ["abort", "death", "nonsense", "renewal"])
def test_an_end_that_nobody_wanted(how: str) -> None:
    """A worker that gives up, dies or is cut off, and memory that is given up, close the socket with FIN."""

    async def test() -> None:
        rig = WebSockets()
        worker = rig.worker()
        client, stream = await rig.open(worker)
        client.writer.write(LARGE)
        stream.send(b"some", False)
        assert await client.read(4) == b"some"
        if how == "abort":
            stream.abort()
        elif how == "death":
            worker.die()
        elif how == "nonsense":
            raw(worker, TAKEN, stream)
        else:
            rig.application.damaged("a test")
        assert await client.rest() == b""
        await client.close()
        await rig.idle()
        await rig.close()

    run(test())


@pytest.mark.parametrize("what", ["file", "foreign", "flood"])
def test_nonsense_of_a_worker(what: str) -> None:
    """Files, another worker's tunnels, and more bytes than the client takes cost the worker its link."""

    async def test() -> None:
        rig = WebSockets(TINY if what == "flood" else config.Memory())
        worker = rig.worker()
        client, stream = await rig.open(worker)
        if what == "file":
            raw(worker, DATA, stream, FILE)
        elif what == "foreign":
            worker = rig.worker()
            await until(lambda: len(rig.ready) == 2)
            raw(worker, ABORT, stream)
        else:
            for _ in range(500_000):
                raw(worker, DATA, stream, 0, bytes(60))
                if rig.cut:
                    break
                await asyncio.sleep(0)
        await until(lambda: rig.cut)
        assert rig.cut[0][0] == worker.number
        await rig.end(client, stream)

    run(test())


def test_a_client_that_takes_nothing() -> None:
    """After `send_timeout` without a byte taken the connection is closed, and the worker hears of it."""

    async def test() -> None:
        rig = WebSockets(http=config.Http(send_timeout=0.2))
        client, stream = await rig.open(rig.worker())
        client.writer.transport.pause_reading()  # type: ignore[attr-defined]
        while not stream.cancelled:
            if not stream.send(LARGE, False):
                await until(lambda: stream._writable() or stream.cancelled)
        await until(lambda: not rig.service.connections)
        await rig.end(client, stream)

    run(test())


def test_the_router_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each worker is told, and what it does not end then is closed with FIN."""
    monkeypatch.setattr(module, "LEAVE_TIME", 0.05)

    async def test() -> None:
        rig = WebSockets()
        worker = rig.worker()
        client, stream = await rig.open(worker)
        late = await rig.client()
        asked = await rig.asked(worker)
        rig.service.draining = True
        for connection in list(rig.service.connections):
            connection.drain()
        asked.respond(101, b"", 0, 0, b"", False)
        assert (await late.head()).startswith(b"HTTP/1.1 101 ")
        sinks = cast("list[Sink]", [stream.sink, asked.sink])
        await until(lambda: all(sink.left for sink in sinks))
        stream.send(b"bye", True)
        assert await client.rest() == b"bye"
        assert await late.rest() == b""
        assert asked.cancelled
        asked.abort()
        await late.close()
        await rig.end(client, stream)

    run(test())


def test_the_access_log(tmp_path: Path) -> None:
    """There is one line for a WebSocket, when both sides are done with it, with the bytes that were sent."""
    path = tmp_path / "log"

    async def test() -> None:
        rig = WebSockets(access_log=str(path))
        client, stream = await rig.open(rig.worker())
        stream.send(b"12345", False)
        assert await client.read(5) == b"12345"
        client.writer.write_eof()
        await until(lambda: stream.ended)
        stream.send(b"67", True)
        assert await client.rest() == b"67"
        await rig.end(client, stream)

    run(test())
    (line,) = path.read_text().splitlines()
    assert ' "GET /chat HTTP/1.1" 101 7 ' in line
