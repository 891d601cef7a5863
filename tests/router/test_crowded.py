"""Many slow clients of ASGI workers: what they have not taken leaves memory, and the workers still wait."""

from __future__ import annotations

from pathlib import Path

import pytest

from bridge import config
from bridge.ipc.message import UNKNOWN
from bridge.router.outflow import CROWDED
from bridge.worker.stream import WorkerStream
from tests.router.rig import NORMAL, TINY, FakeConnection, Rig, Worker, answer, pattern, run, settle, until
from tests.router.test_disk import opened

SIZE = 5000
SLOW = 12


async def big(worker: Worker, stream: object) -> None:
    """An answer that is longer than a window."""
    await answer(stream, pattern(SIZE))  # type: ignore[arg-type]


def slow_clients(rig: Rig) -> list[FakeConnection]:
    """Requests whose clients take nothing."""
    clients = [rig.request()[0] for _ in range(SLOW)]
    for client in clients:
        client.stalled = True
    return clients


@pytest.mark.parametrize("path", ["there", "missing"])
def test_slow_clients_leave_memory_to_others(tmp_path: Path, path: str) -> None:
    """They hold about the fourth part of it, the rest lies in files, up to a window of each; all come to their end.

    Where there is no place for a file they wait for one another.
    """

    async def test() -> None:
        rig = Rig(TINY, config.Http(body_temp_path=str(tmp_path if path == "there" else tmp_path / path)))
        worker = rig.worker(big)
        segment = rig.application.workers[worker.number].port.segment
        clients = slow_clients(rig)
        if path == "there":
            most = TINY.chunks // CROWDED + 2 * TINY.window // TINY.chunk_size
            await until(lambda: opened(tmp_path) > SLOW // 3 and segment.chunks.busy() <= most)
            for _ in range(20):
                await until(lambda: not rig.application.disk.jobs)
                await settle()
            assert max(stream._unacknowledged for stream in worker.streams) <= TINY.window + TINY.chunk_size
            assert not any(stream.over for stream in worker.streams)
        while not all(client.complete for client in clients):
            for client in clients:
                client.take()
            await settle()
        assert all(client.body == pattern(SIZE) for client in clients)
        await rig.idle()
        assert not opened(tmp_path)
        await rig.close()

    run(test())


@pytest.mark.parametrize("crowded", [True, False])
def test_small_pieces(tmp_path: Path, crowded: bool) -> None:
    """What needs no chunks waits in the router's memory as long as there is little of it, then in a file."""

    async def test() -> None:
        rig = Rig(http=config.Http(body_temp_path=str(tmp_path)))
        size, piece = 2 * NORMAL.window, 4000
        body = pattern(size)

        async def drip(worker: Worker, stream: WorkerStream) -> None:
            stream.respond(200, b"", UNKNOWN, 0, b"", False)
            for start in range(0, size, piece):
                if not stream.send(body[start : start + piece], start + piece >= size):
                    await stream.writable()

        worker = rig.worker(drip)
        connection, _ = rig.request()
        connection.stalled = True
        await until(lambda: sum(map(len, connection.held)) > 10 * piece)
        connection.crowded = crowded
        await until(lambda: worker.streams[0]._unacknowledged >= NORMAL.window)
        if crowded:
            await until(lambda: opened(tmp_path) and not rig.application.disk.jobs)
            assert sum(map(len, connection.held)) < NORMAL.window // 2
        else:
            await until(lambda: sum(map(len, connection.held)) >= NORMAL.window)
        while not connection.complete:
            connection.take()
            await settle()
        assert connection.body == body
        await rig.idle()
        assert not opened(tmp_path)
        await rig.close()

    run(test())
