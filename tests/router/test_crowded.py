"""Many slow clients of one ASGI worker: what they have not taken leaves shared memory, and the worker still waits."""

from __future__ import annotations

from pathlib import Path

import pytest

from bridge import config
from bridge.router.exchange import CROWDED
from tests.router.rig import TINY, FakeConnection, Rig, Worker, answer, pattern, run, settle, until
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
