"""Streams that end early, and the bodies of requests."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
import uvloop

from bridge.errors import StreamCancelled
from bridge.ipc.message import ABORT, DATA, RESPONSE, UNKNOWN
from bridge.worker.stream import WorkerStream
from tests.worker.fake_router import STREAM, FakeRouter, pattern, run, settle


def test_a_cancel_wakes_everybody() -> None:
    """Readers and writers return, sends raise, and what waited is dropped."""

    async def test(router: FakeRouter, stream: WorkerStream) -> None:
        stream.expect_body()
        stream.respond(200, b"", UNKNOWN, 0, b"", False)
        stream.send(pattern(3000), False)
        waiting: list[asyncio.Future[Any]] = [
            asyncio.ensure_future(each) for each in (stream.readable(), stream.gone(), stream.writable())
        ]
        await settle()
        assert not any(each.done() for each in waiting)
        stream.cancel()
        assert await waiting[0] is None
        assert await waiting[1] is None
        with pytest.raises(StreamCancelled):
            await waiting[2]
        with pytest.raises(StreamCancelled):
            stream.send(b"x", True)
        before = router.payload
        assert not stream.send(pattern(3000), True)
        with pytest.raises(StreamCancelled):
            await stream.writable()
        assert router.payload == before
        stream.finished()
        assert router.kinds[-1] == ABORT

    run(test)


def test_a_cancel_is_heard_in_the_next_turn() -> None:
    """Whoever waits runs when the loop comes round, and not later: a busy loop takes long to do that."""

    async def test(router: FakeRouter, stream: WorkerStream) -> None:
        stream.expect_body()
        waiting = [asyncio.ensure_future(each) for each in (stream.readable(), stream.readable(), stream.gone())]
        await settle()
        stream.cancel()
        await asyncio.sleep(0)
        assert all(each.done() for each in waiting)

    run(test)


@pytest.mark.parametrize("size", [1, 300])
@pytest.mark.parametrize("head", [0, 300])
def test_the_word_says_so_first(size: int, head: int) -> None:
    """An answer that the tracking word refuses gives its chunks back, and the stream is as if cancelled."""

    async def test(router: FakeRouter, stream: WorkerStream) -> None:
        router.cancelled = True
        if size + head < router.room:
            with pytest.raises(StreamCancelled):
                stream.respond(200, b"h" * head, size, 0, b"x" * size, True)
        else:
            assert not stream.respond(200, b"h" * head, size, 0, b"x" * size, True)
            with pytest.raises(StreamCancelled):
                await stream.writable()
        assert stream.cancelled
        assert router.segment.chunks.busy() == 0
        stream.finished()
        assert router.kinds == [ABORT]

    run(test)


def test_cancelled_before_it_began() -> None:
    """The application does not run, and the stream ends with the one message that it owes."""

    async def inside() -> None:
        router = FakeRouter()
        router.cancelled = True
        stream = WorkerStream(router, STREAM, 0, 0, b"head")
        assert not stream.begin()
        stream.finished()
        assert router.kinds == [ABORT]
        assert router.over == 1
        router.segment.close()

    uvloop.run(inside())


def test_an_abort_wakes_who_waits_in_another_task() -> None:
    """When the application ends while one of its tasks still reads, writes or waits for the end, none hangs."""

    async def test(router: FakeRouter, stream: WorkerStream) -> None:
        stream.expect_body()
        stream.respond(200, b"", UNKNOWN, 0, b"", False)
        stream.send(pattern(3000), False)
        waiting = [asyncio.ensure_future(each) for each in (stream.readable(), stream.gone(), stream.writable())]
        await settle()
        stream.finished()
        assert router.kinds[-1] == ABORT
        await asyncio.gather(*waiting)
        await stream.readable()
        await stream.gone()
        await stream.writable()

    run(test)


def test_a_waiting_task_that_is_cancelled_loses_nothing() -> None:
    """Tasks share what they wait for: the end of one does not end the others' wait."""

    async def test(router: FakeRouter, stream: WorkerStream) -> None:
        stream.expect_body()
        first, second = asyncio.ensure_future(stream.readable()), asyncio.ensure_future(stream.readable())
        await settle()
        first.cancel()
        await settle()
        assert not second.done()
        assert stream._readers is not None
        assert len(stream._readers) == 1  # else who polls with a time limit fills the memory
        stream.deliver(b"x", last=True)
        await second
        assert stream.take() == b"x"

    run(test)


def test_an_acknowledgement_after_the_end() -> None:
    """What comes late, or says too much, does nothing."""

    async def test(router: FakeRouter, stream: WorkerStream) -> None:
        stream.respond(200, b"", UNKNOWN, 0, b"x", False)
        stream.acknowledged(1 << 60)
        assert stream.send(b"", True)
        stream.acknowledged(5)
        stream.pump()
        assert router.kinds == [RESPONSE, DATA]

    run(test)


def test_bodies_in_pieces() -> None:
    """What is there is taken at once and joined; an empty last piece ends the body."""

    async def test(router: FakeRouter, stream: WorkerStream) -> None:
        assert stream.take() is None
        stream.expect_body()
        stream.deliver(b"ab", last=False)
        stream.deliver(b"cd", last=False)
        assert stream.take() == b"abcd"
        assert stream.take() is None
        assert not stream.ended
        stream.deliver(b"", last=True)
        assert stream.ended
        assert stream.take() is None
        await stream.readable()
        assert router.wants == []

    run(test)


def test_reading_moves_the_window() -> None:
    """The router hears of half a window at the latest, of every wait, and of each byte once."""

    async def test(router: FakeRouter, stream: WorkerStream) -> None:
        stream.expect_body()
        reading = asyncio.ensure_future(stream.readable())
        await settle()
        assert router.wants == [0]
        stream.deliver(b"x" * 255, last=False)
        await reading
        stream.take()
        assert router.wants == [0]
        stream.deliver(b"x", last=False)
        stream.take()
        assert router.wants == [0, 256]
        stream.deliver(b"x" * 10, last=False)
        stream.take()
        reading = asyncio.ensure_future(stream.readable())
        await settle()
        assert router.wants == [0, 256, 10]
        stream.deliver(b"x" * 600, last=True)
        await reading
        stream.take()
        assert router.wants == [0, 256, 10]  # the router needs no news of a body that is complete

    run(test)


def test_nothing_is_wanted_after_the_end() -> None:
    """A stream that is over or cancelled says nothing more: its number may be somebody else's."""

    async def test(router: FakeRouter, stream: WorkerStream) -> None:
        stream.expect_body()
        stream.deliver(b"x" * 600, last=False)
        stream.respond(200, b"", 0, 0, b"", True)
        assert stream.take() == b"x" * 600
        await stream.readable()
        assert router.wants == []

    run(test)
