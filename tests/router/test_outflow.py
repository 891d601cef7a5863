"""bridge.router.outflow: a slow client costs a file instead of shared memory, and a quick one neither."""

from __future__ import annotations

import asyncio
import errno
import gc
import os
import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from bridge.router import outflow as module
from bridge.router.outflow import COPIED
from tests.clocked import Clocked
from tests.router.flows import Flow, Sink
from tests.router.rig import pattern, run, until
from tests.router.test_disk import opened


@pytest.fixture
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing waits in shared memory for longer than a moment."""
    monkeypatch.setattr(module, "PATIENCE", 0.0001)


@pytest.mark.parametrize("direct", [True, False], ids=["direct", "copied"])
@pytest.mark.parametrize("sizes", [[1], [100_000], [1_000_000, 5, 5], [5, 1_000_000], [16_384] * 9, []])
def test_a_client_that_takes_everything(tmp_path: Path, sizes: list[int], direct: bool) -> None:
    """All of it goes out at once, in order, and the end with it; no file is made, nothing is held."""

    async def test() -> None:
        sink = Sink(direct=direct)
        flow = Flow(sink, tmp_path)
        body = pattern(sum(sizes))
        position = 0
        for size in sizes:
            flow.push(body[position : position + size])
            position += size
            assert flow.outflow.clear
        flow.push(last=True)
        assert (sink.received, sink.complete, flow.ended) == (body, True, [True])
        assert not flow.disk.jobs
        assert flow.cleared == 0
        await flow.close()

    run(test())


def test_the_last_piece_ends_the_body_by_itself(tmp_path: Path) -> None:
    """No empty piece is written behind it: the end of a transfer-chunked body goes out with its last chunk."""

    async def test() -> None:
        sink = Sink(direct=False)
        flow = Flow(sink, tmp_path)
        flow.push(b"a" * 20_000, last=True)
        assert (sink.writes, sink.complete) == (1, True)
        await flow.close()

    run(test())


@pytest.mark.parametrize("direct", [True, False], ids=["direct", "copied"])
@pytest.mark.parametrize("quota", [0, 1, 70_000, 500_000])
def test_a_client_that_takes_its_time(tmp_path: Path, hasty: None, quota: int, direct: bool) -> None:
    """What it does not take goes to a file, from there to the client piece by piece, and nothing is lost or moved."""

    async def test() -> None:
        sink = Sink(quota, direct=direct)
        flow = Flow(sink, tmp_path)
        body = pattern(1_500_000)
        for start in range(0, 1_500_000, 300_000):
            flow.push(body[start : start + 300_000], last=start == 1_200_000)
            await until(lambda: flow.outflow.clear)
        assert flow.cleared >= 1
        assert len(sink.received) <= quota + COPIED
        assert opened(tmp_path) == 1
        while not sink.complete:
            await until(lambda: not sink.flushed)
            sink.take(quota)
            await until(lambda: sink.complete or not sink.flushed)
        assert sink.received == body
        assert flow.ended == [True]
        await flow.close()

    run(test())


def test_bytes_that_come_while_the_file_is_read(tmp_path: Path, hasty: None) -> None:
    """They go behind what is in the file, whether the client takes anything meanwhile or not."""

    async def test() -> None:
        sink = Sink(10)
        flow = Flow(sink, tmp_path)
        body = pattern(400 * 997)
        for index in range(400):
            flow.push(body[index * 997 : index * 997 + 997], last=index == 399)
            if index % 7 == 0:
                await until(lambda: not flow.disk.jobs)
            if index % 3 == 0 and not sink.flushed:
                sink.take(1000)
        while not sink.complete:
            await until(lambda: sink.complete or not sink.flushed)
            if not sink.complete:
                sink.take(50_000)
        assert sink.received == body
        assert flow.ended == [True]
        await flow.close()

    run(test())


def test_a_client_that_catches_up_in_time(tmp_path: Path) -> None:
    """What waited for a moment only goes out of shared memory; it is held until then."""

    async def test() -> None:
        sink = Sink(10)
        flow = Flow(sink, tmp_path)
        flow.push(pattern(500_000))
        assert not flow.outflow.clear
        sink.take()
        assert flow.outflow.clear
        assert not flow.disk.jobs
        assert sink.received == pattern(500_000)
        await flow.close()

    run(test())


def test_a_client_that_falls_behind_often_but_never_for_long(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The time that counts is that of what waits now, however long the response has been going on."""

    async def test() -> None:
        clock = Clocked(asyncio.get_running_loop())
        monkeypatch.setattr(module, "asyncio", SimpleNamespace(get_running_loop=lambda: clock))
        sink = Sink(10)
        flow = Flow(sink, tmp_path)
        body = pattern(200_000)
        for _ in range(20):
            flow.push(body)
            assert not flow.outflow.clear
            clock.advance(0.9 * module.PATIENCE)
            sink.take()
            sink.quota = 10
        assert flow.outflow._spool is None
        await flow.close()

    run(test())


def test_a_client_that_was_slow_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """When it has caught up it is given the same time again, and a short rest costs no file."""
    monkeypatch.setattr(module, "PATIENCE", 0.0001)

    async def test() -> None:
        sink = Sink(0)
        flow = Flow(sink, tmp_path)
        body = pattern(300_000)
        flow.push(body[:100_000])
        await until(lambda: flow.outflow.clear)
        while len(sink.received) < 100_000:
            sink.take(0)
            await until(lambda: not sink.flushed and not flow.disk.jobs)
        sink.take()
        monkeypatch.setattr(module, "PATIENCE", 60.0)
        flow.push(body[100_000:101_000])
        sink.quota = 10
        flow.push(body[101_000:])
        assert not flow.outflow.clear
        assert not flow.disk.jobs
        sink.take()
        assert sink.received == body
        await flow.close()

    run(test())


def test_the_file_has_a_limit(tmp_path: Path, hasty: None) -> None:
    """What would be too much for it waits in shared memory, and goes on when the client takes it."""

    async def test() -> None:
        sink = Sink(0)
        flow = Flow(sink, tmp_path, most=300_000)
        body = pattern(800_000)
        flow.push(body[:200_000])
        await until(lambda: flow.outflow.clear)
        flow.push(body[200_000:], last=True)
        for _ in range(50):
            await until(lambda: not flow.disk.jobs)
        assert not flow.outflow.clear
        while not sink.complete:
            await until(lambda: sink.complete or not sink.flushed)
            if not sink.complete:
                sink.take(100_000)
        assert sink.received == body
        await flow.close()

    run(test())


def test_the_file_is_used_again(tmp_path: Path, hasty: None) -> None:
    """A long response whose client falls behind again and again needs no longer a file than it was behind at once."""

    async def test() -> None:
        sink = Sink(0)
        flow = Flow(sink, tmp_path, most=200_000)
        body = pattern(1_000_000)
        for start in range(0, 1_000_000, 100_000):
            flow.push(body[start : start + 100_000])
            await until(lambda: flow.outflow.clear)
            while len(sink.received) < start + 100_000:
                sink.take(0)
                await until(lambda: not sink.flushed or flow.outflow.clear)
                await until(lambda: not flow.disk.jobs)
        assert sink.received == body
        await flow.close()

    run(test())


def test_a_shorter_round_behind_a_longer_one(tmp_path: Path, hasty: None) -> None:
    """What the file holds from the time before, behind its new end, is not sent again."""

    async def test() -> None:
        sink = Sink(0)
        flow = Flow(sink, tmp_path)
        rounds = [b"a" * 100, b"b" * 50_000, b"c" * 100, b"d" * 10]
        for body in rounds:  # the first waits in the transport, and each of the others in the file
            flow.push(body)
            await until(lambda: flow.outflow.clear and not flow.disk.jobs)
            if body is not rounds[0]:
                sink.take(0)
                await until(lambda: not flow.disk.jobs)
        sink.take()
        flow.push(last=True)
        assert sink.received == b"".join(rounds)
        assert flow.ended == [True]
        await flow.close()

    run(test())


def test_a_disk_that_is_full(tmp_path: Path, hasty: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """The bytes stay in shared memory and the client gets all of them: only the thread waits."""

    def full(*_: Any) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "pwritev", full)

    async def test() -> None:
        sink = Sink(1000)
        flow = Flow(sink, tmp_path)
        body = pattern(300_000)
        flow.push(body[:150_000], body[150_000:], last=True)
        await until(lambda: flow.disk.jobs)
        await until(lambda: not flow.disk.jobs)
        assert not flow.outflow.clear
        sink.take()
        assert sink.received == body
        assert flow.ended == [True]
        await flow.close()

    run(test())


def test_a_file_that_cannot_be_read(tmp_path: Path, hasty: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """The connection is cut: the client must not take what it has for the whole."""

    def broken(*_: Any) -> bytes:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(os, "pread", broken)

    async def test() -> None:
        sink = Sink(0)
        flow = Flow(sink, tmp_path)
        flow.push(pattern(100_000), last=True)
        await until(lambda: flow.outflow.clear)
        sink.take()
        await until(lambda: flow.ended)
        assert (sink.aborted, sink.complete, flow.ended) == (True, False, [None])
        await flow.close()

    run(test())


def test_a_body_of_the_wrong_length(tmp_path: Path) -> None:
    """The owner is told that the connection has been cut."""

    async def test() -> None:
        sink = Sink(direct=False)
        sink.length_kept = False
        flow = Flow(sink, tmp_path)
        flow.push(pattern(100_000), last=True)
        assert flow.ended == [False]
        assert flow.outflow.over
        await flow.close()

    run(test())


@pytest.mark.parametrize("when", ["held", "moving", "in the file", "reading"])
def test_the_client_leaves(tmp_path: Path, hasty: None, when: str) -> None:
    """Whatever is under way, nothing is left: no view, no file, no call."""

    async def test() -> None:
        sink = Sink(0)
        flow = Flow(sink, tmp_path)
        flow.push(pattern(400_000))
        if when != "held":
            await until(lambda: flow.disk.jobs)
        if when in ("in the file", "reading"):
            await until(lambda: not flow.disk.jobs)
        if when == "reading":
            sink.take()
            assert flow.disk.jobs
        received = sink.received
        read, write = os.pipe()
        flow.outflow.finish((read, 0, 1))
        await flow.close()
        os.close(write)
        with pytest.raises(OSError, match="Bad file descriptor"):
            os.fstat(read)
        assert (sink.received, flow.ended) == (received, [])

    run(test())


def test_a_file_ends_the_response(tmp_path: Path, hasty: None) -> None:
    """It is sent when everything in front of it has left."""

    async def test() -> None:
        sink = Sink(10)
        flow = Flow(sink, tmp_path)
        flow.outflow.push(pattern(200_000))
        flow.outflow.finish((7, 8, 9))
        flow.outflow.advance()
        await until(lambda: flow.outflow.clear)
        while not sink.files:
            assert flow.ended == []
            sink.take(20_000)
            await until(lambda: sink.files or not sink.flushed)
        assert sink.received == pattern(200_000)
        assert (sink.files, flow.ended) == ([(7, 8, 9)], [True])
        await flow.close()

    run(test())


def test_views_end_in_the_loops_thread(tmp_path: Path, hasty: None) -> None:
    """Chunks are given back as soon as their bytes are in the file, by the thread that may do it."""
    ended: list[int] = []

    class View(bytearray):
        def __del__(self) -> None:
            ended.append(threading.get_ident())

    async def test() -> None:
        sink = Sink(0)
        flow = Flow(sink, tmp_path)
        for index in range(30):
            flow.outflow.push(View(pattern(3000)))
            flow.outflow.advance()
            await until(lambda: flow.outflow.clear)
            gc.collect()
            assert len(ended) == index + 1
        await flow.close()

    run(test())
    assert set(ended) == {threading.get_ident()}
