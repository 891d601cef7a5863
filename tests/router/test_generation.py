"""Generations: damaged shared memory costs its application what was running in it, and nothing else."""

from __future__ import annotations

import asyncio
import os
from typing import Any

import pytest

from bridge import config
from bridge.ipc.stream import State
from bridge.router import application as application_module
from bridge.router.framing import Framing
from tests.router.rig import UPLOAD, Rig, echo, pattern, reply, run, settle, until, upload


def overwrite(rig: Rig, stream: int, word: int) -> None:
    """Write a tracking word as any worker could."""
    rig.application.tracking._words[stream & 0xFFFFFFFF] = word


def test_a_new_generation(memory: config.Memory, caplog: pytest.LogCaptureFixture) -> None:
    """What runs gets a 502, what has not begun is run by a new worker, every worker is ended, and it is said why."""

    async def test() -> None:
        rig = Rig(memory)
        application = rig.application
        workers = [rig.worker(limit=1), rig.worker(limit=1)]
        await until(lambda: rig.ready)
        running = [rig.request() for _ in range(2)]
        await until(lambda: all(worker.streams for worker in workers))
        waiting = [rig.request(b"some body" * 20, framing=Framing(size=180)) for _ in range(4)]
        large, exchange = rig.request(pattern(300), complete=False, framing=UPLOAD)
        before = application._generation
        overwrite(rig, running[0][1].stream, 0xFFFFFFFFFFFFFFFF)
        application.look()
        application.look()
        await until(lambda: len(rig.cut) == 2)
        assert {number for number, _ in rig.cut} == {2, 3}
        assert not application.workers
        assert [connection.refused for connection, _ in running] == [(502, None)] * 2
        assert not any(connection.ended for connection, _ in waiting)
        await until(lambda: all(worker.lost for worker in workers))
        assert application._generation is not before
        for worker in workers:
            application.gone(worker.number, worker.number + 1000)
        rig.worker(echo)
        position = 300
        while position < UPLOAD.size:
            await until(lambda: not large.paused)
            position = upload(large, exchange, pattern(UPLOAD.size), position)
        await until(lambda: large.complete and all(connection.complete for connection, _ in waiting))
        assert {connection.body for connection, _ in waiting} == {b"some body" * 20}
        assert large.body == pattern(UPLOAD.size)
        await rig.idle()
        await rig.close()

    run(test())
    assert caplog.text.count("is given up, and its workers are ended: a tracking word") == 1


def test_an_answer_that_was_published_counts(memory: config.Memory) -> None:
    """What a worker has put into its own queue before the memory was given up reaches the client."""

    async def test() -> None:
        rig = Rig(memory)
        worker = rig.worker()
        pairs = [rig.request() for _ in range(2)]
        await until(lambda: len(worker.streams) == 2)
        reply(worker.streams[0])
        rig.application.damaged("a test says so")
        await until(lambda: all(connection.ended for connection, _ in pairs))
        assert pairs[0][0].complete
        assert pairs[1][0].refused == (502, None)
        await rig.idle()
        await rig.close()

    run(test())


def test_a_tail_that_was_moved(memory: config.Memory) -> None:
    """The request that finds it is not lost."""

    async def test() -> None:
        rig = Rig(memory)
        rig.worker(limit=1)
        await until(lambda: rig.ready)
        os.pwrite(rig.application._generation.block, bytes([2]), 128)
        connection, _ = rig.request()
        await until(lambda: rig.cut)
        rig.worker(echo, number=9)
        await connection.completed()
        await rig.idle()
        await rig.close()

    run(test())


def test_a_worker_that_leaves_damaged_memory(memory: config.Memory) -> None:
    """Who finds the queue damaged leaves, and that is looked into at once, also while nothing is under way."""

    async def test() -> None:
        rig = Rig(memory)
        worker = rig.worker()
        await until(lambda: rig.ready)
        os.pwrite(rig.application._generation.block, (1 << 20).to_bytes(8, "little"), 256)
        worker.attached.turn()
        await until(lambda: worker.lost)
        before = rig.application._generation
        await until(lambda: rig.application._generation is not before)
        rig.worker(echo, number=9)
        connection, _ = rig.request()
        await connection.completed()
        await rig.close()

    run(test())


def test_a_word_that_is_not_final(memory: config.Memory) -> None:
    """A slot that cannot be used again gives the generation up; the next request runs in another one."""

    async def test() -> None:
        rig = Rig(memory)
        rig.worker(echo)
        first, _ = rig.request()
        await first.completed()
        stream = next(iter(rig.application._slots[-1:]))
        overwrite(rig, stream, 1 << 32 | State.RUNNING << 24 | 2)
        second, _ = rig.request()
        await until(lambda: rig.cut)
        rig.worker(echo, number=9)
        await second.completed()
        await rig.idle()
        await rig.close()

    run(test())


def test_sleeping_bits_that_were_cleared(memory: config.Memory) -> None:
    """A worker that sleeps and was not rung is rung at the second look."""

    async def test() -> None:
        rig = Rig(memory)
        rig.worker(echo)
        await until(lambda: rig.ready)
        await settle()
        os.pwrite(rig.application._generation.block, bytes(8), 512)
        connection, _ = rig.request()
        await settle(100)
        assert not connection.ended
        rig.application.look()
        rig.application.look()
        await connection.completed()
        assert not rig.cut
        await rig.idle()
        await rig.close()

    run(test())


def test_a_word_that_claims_what_another_worker_runs(memory: config.Memory) -> None:
    """The death of a worker ends what it has answered itself, not what a word says of it."""

    async def test() -> None:
        rig = Rig(memory)
        liar, victim = rig.worker(limit=1), rig.worker(limit=1)
        await until(lambda: len(rig.ready) == 2)
        pairs = [rig.request() for _ in range(2)]
        await until(lambda: liar.streams and victim.streams)
        victim.streams[0].respond(200, b"", 1000, 0, b"part", False)
        await until(lambda: any(connection.status for connection, _ in pairs))
        found = [pair for pair in pairs if pair[0].status]
        (connection, exchange), *_ = found
        overwrite(rig, exchange.stream, exchange.stream >> 32 << 32 | State.RUNNING << 24 | liar.number)
        liar.die()
        await until(lambda: liar.number not in rig.application.workers)
        assert not connection.aborted
        rig.application.look()
        await until(lambda: connection.aborted)  # the word is damaged: the whole generation is
        await rig.idle()
        await rig.close()

    run(test())


def test_no_memory_for_another_generation(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    """Where a new one cannot be had it is tried again."""

    async def test() -> None:
        rig = Rig()
        rig.worker()
        await until(lambda: rig.ready)
        made = application_module.__dict__["Generation"]
        monkeypatch.setattr(application_module, "RETRY", 0.01)

        def fail(*_: Any, **__: Any) -> None:
            monkeypatch.setattr(application_module, "Generation", made)
            raise OSError(12, "Cannot allocate memory")

        monkeypatch.setattr(application_module, "Generation", fail)
        rig.application.damaged("a test says so")
        await until(lambda: rig.cut)
        await rig.close()

    run(test())
    assert "Cannot allocate memory" in caplog.text


def test_a_worker_that_leaves_and_lives_on(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    """One that has closed its link is ended when main does not say that it has; one that main has seen is not."""

    async def test() -> None:
        monkeypatch.setattr(application_module, "REMAINS", 1.0)
        rig = Rig()
        first, second = rig.worker(), rig.worker()
        await until(lambda: len(rig.ready) == 2)
        first.die()
        second.die()
        await until(lambda: not rig.application.workers)
        rig.application.gone(first.number, first.number + 1000)
        await until(lambda: rig.cut)
        await asyncio.sleep(0.1)
        assert [number for number, _ in rig.cut] == [second.number]
        await rig.close()

    run(test())
    assert caplog.text.count("lives on") == 1
