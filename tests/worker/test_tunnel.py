"""Long messages of a WebSocket on their way to the router: inline, in chunks, or waiting for either."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest
import uvloop

from bridge.errors import StreamCancelled
from bridge.ipc.message import ACK, DATA, RESPONSE, UNKNOWN
from bridge.ipc.stream import Event
from bridge.worker.tunnel import Tunnels, TunnelStream
from tests.worker.fake_router import STREAM, FakeRouter, pattern


class Counting(FakeRouter):
    """As `tunnel` needs it."""

    def count_tunnels(self, change: int) -> None:
        self.open = change

    def answer_soon(self, stream: int, message: bytes, rest: bytes) -> int:
        return self.answer(stream, Event.RESPOND, message + rest)


class Sink:
    """Nobody's."""

    heard = False

    def arrived(self, data: bytes | memoryview) -> None: ...
    def relieved(self) -> None: ...
    def lost(self) -> None: ...
    def leave(self) -> None: ...


def run(test: Callable[[Counting, TunnelStream], Awaitable[None]], window: int = 2048) -> None:
    """Run `test` with an open tunnel; no chunk may be left when the client has taken everything."""

    async def inside() -> None:
        router = Counting()
        stream = TunnelStream(Tunnels(router, window), STREAM, 0, b"head\r\nfields")
        stream.sink = Sink()
        stream.respond(101, b"", UNKNOWN, 0, b"", last=False)
        stream.opened()
        assert (stream.head, router.open) == (b"head\r\n", 1)
        await test(router, stream)
        stream.finished()
        assert router.open == -1
        router.free()
        assert router.segment.chunks.busy() == 0
        router.segment.close()

    uvloop.run(inside())


@pytest.mark.parametrize("size", [80, 81, 128, 129, 64 + 68, 64 + 69, 64 + 127, 500])
def test_one_message_for_each(size: int) -> None:
    """What no chunk would be full of goes inline, if there is room beside the descriptor."""

    async def test(router: Counting, stream: TunnelStream) -> None:
        data = pattern(size)
        assert stream.send(data, last=False)
        assert router.body == data
        assert router.kinds == [RESPONSE, DATA]
        chunks = -(-size // 64) if size > 80 else 0
        assert router.segment.chunks.busy() == chunks - (size > 80 and size % 64 in range(1, 69))

    run(test)


def test_an_acknowledgement_is_asked_for_when_half_of_the_window_is_under_way() -> None:
    """Not of each message."""

    async def test(router: Counting, stream: TunnelStream) -> None:
        for sizes in ((150, 50, 150), (60, 60, 60, 60, 60)):
            router.flags.clear()
            for size in sizes:
                assert stream.send(bytes(size), last=False)
            assert [bool(flags & ACK) for flags in router.flags] == [False] * (len(sizes) - 1) + [True]
            router.free()
            router.acknowledge(stream)
            assert stream.sink.heard
            assert not stream.congested

    run(test, window=600)


def test_what_finds_no_room_waits_in_its_order() -> None:
    """Behind a message that waits for chunks the next one waits too, however short."""

    async def test(router: Counting, stream: TunnelStream) -> None:
        first, got = router.segment.claim(64 * 64, 1)
        assert got == 64 * 64
        data = pattern(300)
        assert not stream.send(data, last=False)
        assert not stream.send(b"short", last=False)
        assert router.body == b""
        assert stream.congested
        router.segment.release(first, 64)
        router.free()
        while len(router.body) < 305:
            router.free()
            router.acknowledge(stream)
        assert router.body == data + b"short"

    run(test)


@pytest.mark.parametrize("size", [11, 70, 300])
def test_what_is_sent_without_waiting_waits_here(size: int) -> None:
    """Whoever sends from many tasks has no more under way than a window and one message."""

    async def test(router: Counting, stream: TunnelStream) -> None:
        messages = [bytes([number]) * size for number in range(200)]
        for message in messages:
            stream.send(message, last=False)
            assert len(router.body) < 2048 + size
        assert stream.congested == (200 * size > 2048)
        assert size > 80 or not router.segment.chunks.busy()
        while stream.congested:
            router.free()
            router.acknowledge(stream)
        assert router.body == b"".join(messages)

    run(test)


def test_what_waits_to_be_taken_costs_what_it_is_long() -> None:
    """However short the pieces are in which the client has sent it; none is lost, and the end stands behind them."""

    async def test(router: Counting, stream: TunnelStream) -> None:
        data = pattern(8000)
        for start in range(0, len(data), 2):
            stream.deliver(data[start : start + 2], last=start + 2 == len(data))
        assert stream._parts is not None
        assert len(stream._parts) < 20
        taken = b""
        while not stream.ended:
            taken += stream.take() or b""
        assert taken == data

    run(test)


def test_a_queue_that_is_full_gets_no_more_than_one_message() -> None:
    """However many are sent: too many that wait for room would cost the worker its router."""

    async def test(router: Counting, stream: TunnelStream) -> None:
        router.full = True
        for _ in range(100):
            assert not stream.send(b"x", last=False)
        assert router.body == b"x"
        waiting = asyncio.create_task(stream.writable())
        await asyncio.sleep(0)
        router.drain()
        await waiting
        assert router.body == b"x" * 100
        assert stream.send(b"x", last=False)

    run(test)


@pytest.mark.parametrize("size", [10, 300])
def test_a_client_that_is_gone_holds_no_chunks(size: int) -> None:
    """What was to be sent is given back where it came from."""

    async def test(router: Counting, stream: TunnelStream) -> None:
        router.cancelled = True
        with pytest.raises(StreamCancelled):
            stream.send(bytes(size), last=False)
        assert stream.cancelled
        assert router.segment.chunks.busy() == 0

    run(test)
