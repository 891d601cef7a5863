"""WebSockets that a loop takes from a router: how they count, and how the router's end reaches them."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from itertools import pairwise

import pytest
import uvloop

from bridge.ipc import handshake
from bridge.ipc.message import ABORT, BODY, CANCEL, DATA, HEADER, LAST, LEAVE, REQUEST, RESPONSE, UNKNOWN, UPGRADE, WANT
from bridge.ipc.port import WAITER, Geometry
from bridge.ipc.stream import State
from bridge.worker.attach import Attached
from bridge.worker.stream import WorkerStream
from bridge.worker.tunnel import TunnelStream
from tests.ipc.rings import heard, rung
from tests.worker.fake_stream import PEER
from tests.worker.test_attach import look
from tests.worker.thread_rig import NORMAL, RouterSide
from tests.worker.websocket_rig import request

HEAD = PEER + request()


class Openings:
    """Takes WebSockets, and notes what they bring."""

    window = 1000

    def __init__(self, *, accepts: bool = True) -> None:
        self.streams: list[TunnelStream] = []
        self.heard = False
        self.views = 0  # of what has arrived
        self.events: list[bytes | str] = []
        self.accepts = accepts

    def start(self, stream: TunnelStream) -> None:
        stream.sink = self
        self.streams.append(stream)
        assert stream.begin()
        if self.accepts:
            stream.respond(101, b"", UNKNOWN, 0, b"", last=False)
            stream.opened()
            stream.eager = True

    def arrived(self, data: bytes | memoryview) -> None:
        self.events.append(bytes(data))
        self.views += isinstance(data, memoryview)

    def relieved(self) -> None:
        self.events.append("relieved")

    def lost(self) -> None:
        self.events.append("lost")

    def leave(self) -> None:
        self.events.append("leave")


def open_one(side: RouterSide) -> int:
    """Publish the request of a WebSocket."""
    stream = side.arm()
    side.queue.push(HEADER.pack(stream, REQUEST, 0, 0, len(HEAD), UNKNOWN, UPGRADE, len(HEAD)) + HEAD)
    return stream


async def opened(side: RouterSide, router: Attached, openings: Openings) -> tuple[int, TunnelStream]:
    """The number and the worker's side of a WebSocket that is the only one."""
    stream = open_one(side)
    router.turn()
    await look(lambda: openings.streams)
    (tunnel,) = openings.streams
    return stream, tunnel


def tell(side: RouterSide, stream: int, kind: int, flags: int = 0, data: bytes = b"", size: int = 0) -> None:
    """Send the worker a message."""
    side.port.send(HEADER.pack(stream, kind, flags, 0, len(data), size, 0, 0) + data)


def serve(
    test: Callable[[RouterSide, Attached], Awaitable[None]],
    openings: Openings | None,
    limit: int = 2,
    geometry: Geometry = NORMAL,
) -> None:
    """Run `test` with a worker that has joined."""
    with RouterSide(geometry, join=False) as side:

        def start(stream: WorkerStream) -> None:
            assert stream.begin()

        async def worker() -> None:
            attachment = handshake.receive_offer(side.theirs, "1")
            assert attachment
            router = Attached(attachment, limit, start, lambda _: None, openings)
            router.open()
            async with asyncio.timeout(20):
                await test(side, router)
            side.port.link.close()
            router.close()

        uvloop.run(worker())


def test_an_open_websocket_is_no_request_in_flight() -> None:
    """A worker at its limit takes more as soon as some of what it runs has become a WebSocket."""
    openings = Openings(accepts=False)

    async def test(side: RouterSide, router: Attached) -> None:
        for _ in range(4):
            open_one(side)
        router.turn()
        await look(lambda: len(openings.streams) == 2)
        await asyncio.sleep(0)
        assert side.queue.length() == 2
        openings.accepts = True
        first = openings.streams[0]
        first.respond(101, b"", UNKNOWN, 0, b"", last=False)
        first.opened()
        await look(lambda: len(openings.streams) == 4)
        first.send(b"", last=True)
        for _ in range(3):
            side.publish()
        router.turn()
        await look(lambda: side.queue.length() == 2)  # one is still being opened
        assert len(router.streams) == 4

    serve(test, openings)


def test_bytes_both_ways() -> None:
    """What comes is handed over in order, credit goes back, and the last message ends the stream."""
    openings = Openings()

    async def test(side: RouterSide, router: Attached) -> None:
        stream, tunnel = await opened(side, router, openings)
        tell(side, stream, BODY, 0, b"a" * 400)
        tell(side, stream, BODY, 0, b"b" * 100)
        tell(side, stream, BODY, LAST, b"c")
        await look(lambda: len(openings.events) == 3)
        assert openings.events == [b"a" * 400, b"b" * 100, b"c"]
        assert tunnel.ended
        tunnel.send(b"bye", last=True)
        sent = [(message.kind, message.flags & LAST, message.size, message.payload) for message in side.drain()]
        assert sent == [(RESPONSE, 0, UNKNOWN, b""), (WANT, 0, 500, b""), (DATA, LAST, 0, b"bye")]
        assert side.tracking.state(stream) == State.DONE

    serve(test, openings)


def test_credit_rides_along() -> None:
    """What was consumed is said with the next message that goes, what has left for the client with one that comes."""
    openings = Openings()

    async def test(side: RouterSide, router: Attached) -> None:
        stream, tunnel = await opened(side, router, openings)
        tell(side, stream, BODY, 0, b"a" * 300)
        await look(lambda: openings.events)
        assert tunnel.send(b"b" * 200, last=False)
        assert not tunnel.send(b"c" * 900, last=False)
        sent = [(message.kind, message.size) for message in side.drain()]
        assert sent == [(RESPONSE, UNKNOWN), (DATA, 300), (DATA, 0)]
        waiting = asyncio.create_task(tunnel.writable())
        await asyncio.sleep(0)
        tell(side, stream, BODY, 0, b"d", size=600)
        await waiting
        assert tunnel._unacknowledged == 500

    serve(test, openings)


def test_long_frames_are_rung_for_once() -> None:
    """They lie in the queue at once, and the router is rung behind the round; those without room follow in order."""
    openings = Openings()
    openings.window = 1 << 20

    async def test(side: RouterSide, router: Attached) -> None:
        _, tunnel = await opened(side, router, openings)
        side.drain()
        assert side.port.incoming.doze(WAITER)
        bell = heard(side.port.bell)
        for number in range(6):
            assert tunnel.send_frame(b"%d" % number, bytes(5000)) == (number < 4)
        assert not rung(bell)
        await asyncio.sleep(0)
        assert rung(bell)
        got = side.drain()
        await look(side.port.incoming.length)
        got += side.drain()
        assert [message.payload for message in got] == [b"%d" % number + bytes(5000) for number in range(6)]

    serve(test, openings, geometry=replace(NORMAL, item_size=8192, queue=4))


def test_a_long_round_does_not_keep_the_router_waiting() -> None:
    """It is rung for a few long frames at once, and for what comes behind them if it sleeps again by then."""
    openings = Openings()
    openings.window = 1 << 20

    async def test(side: RouterSide, router: Attached) -> None:
        _, tunnel = await opened(side, router, openings)
        side.drain()
        bell = heard(side.port.bell)
        for _ in range(2):
            assert side.port.incoming.doze(WAITER)
            for _ in range(7):
                assert tunnel.send_frame(b"", bytes(5000))
            assert not rung(bell)
            assert tunnel.send_frame(b"", bytes(5000))
            assert rung(bell)
            assert tunnel.send_frame(b"", bytes(5000))
            assert not rung(bell)  # it is awake
            assert len(side.drain()) == 9
        await asyncio.sleep(0)
        assert not rung(bell)

    serve(test, openings, geometry=replace(NORMAL, item_size=8192, queue=16))


def test_who_waits_for_the_queue_takes_turns() -> None:
    """Whoever has just filled it stands behind all who have not."""
    openings = Openings()
    openings.window = 1 << 20

    async def test(side: RouterSide, router: Attached) -> None:
        for _ in range(4):
            open_one(side)
            router.turn()
        await look(lambda: len(openings.streams) == 4)
        for tunnel in openings.streams:
            for _ in range(50):
                tunnel.send(b"x", last=False)
        order: list[int] = []
        while len(order) < 4 + 200:
            order += [message.stream for message in side.drain()]
            router.turn()
        turns = [stream for stream, before in pairwise(order[4:]) if stream != before]
        assert all(len(set(turns[start : start + 4])) == 4 for start in range(0, 24, 4))

    serve(test, openings, limit=4, geometry=replace(NORMAL, queue=4))


def test_long_reads_make_room_at_once() -> None:
    """What was read in its item is let go of before the application runs."""
    openings = Openings()
    openings.window = 1 << 20

    async def test(side: RouterSide, router: Attached) -> None:
        stream, _ = await opened(side, router, openings)
        for _ in range(4):
            tell(side, stream, BODY, 0, bytes(5000))
        router.turn()
        assert openings.events == [bytes(5000)] * 4
        for _ in range(4):
            tell(side, stream, BODY, 0, b"more")
        assert side.port.clear

    serve(test, openings, geometry=replace(NORMAL, item_size=8192, queue=4))


@pytest.mark.parametrize("eager", [True, False])
def test_long_reads_of_a_client(*, eager: bool) -> None:
    """They arrive in order among the short ones, with the credit that rides along; or wait, as bytes that last."""
    openings = Openings()
    openings.window = 1 << 20

    async def test(side: RouterSide, router: Attached) -> None:
        stream, tunnel = await opened(side, router, openings)
        tunnel.eager = eager
        assert tunnel.send(bytes(600), last=False)
        sent = [bytes([number]) * size for number, size in enumerate((10, 5000, 6000, 20, 7000))]
        for data in sent:
            tell(side, stream, BODY, 0, data, size=100)
        tell(side, stream, BODY, LAST, b"z" * 5000)
        await look(lambda: tunnel._complete)
        assert tunnel._unacknowledged == 100
        assert openings.views == (3 if eager else 0)  # not of what comes with the end
        got = [data for data in openings.events if isinstance(data, bytes)]
        while not tunnel.ended:
            got.append(tunnel.take() or b"")
        assert b"".join(got) == b"".join(sent) + b"z" * 5000

    serve(test, openings, geometry=replace(NORMAL, item_size=8192, queue=8))


def test_long_reads_give_their_credit_back() -> None:
    """When half of the window was read where it lay, the client's side may send as much again."""
    openings = Openings()
    openings.window = 20_000

    async def test(side: RouterSide, router: Attached) -> None:
        stream, _ = await opened(side, router, openings)
        for _ in range(3):
            tell(side, stream, BODY, 0, b"x" * 5000)
        await look(lambda: len(openings.events) == 3)
        assert openings.views == 3
        assert [(message.kind, message.size) for message in side.drain()] == [(RESPONSE, UNKNOWN), (WANT, 10_000)]

    serve(test, openings, geometry=replace(NORMAL, item_size=8192, queue=8))


def test_what_waits_gives_no_credit() -> None:
    """Bytes that nobody has asked for keep their part of the window until they are taken."""
    openings = Openings()

    async def test(side: RouterSide, router: Attached) -> None:
        stream, tunnel = await opened(side, router, openings)
        tunnel.eager = False
        for _ in range(10):
            tell(side, stream, BODY, 0, b"x" * 100)
        tell(side, stream, BODY, LAST)
        router.turn()
        await look(lambda: tunnel._complete)
        assert [message.kind for message in side.drain()] == [RESPONSE]
        assert openings.events == []
        taken = b""
        while not tunnel.ended:
            taken += tunnel.take() or b""
        assert taken == b"x" * 1000
        assert tunnel.take() is None
        assert side.drain() == []  # nothing more will come that it could be good for

    serve(test, openings)


def test_the_router_ends() -> None:
    """It says so for each WebSocket; one that is reset, or whose router is gone, is lost."""
    openings = Openings()

    async def test(side: RouterSide, router: Attached) -> None:
        first, second = open_one(side), open_one(side)
        plain = side.publish()
        router.turn()
        await look(lambda: len(router.streams) == 3)
        tell(side, plain, LEAVE)  # of a request it means nothing
        tell(side, first, LEAVE)
        tell(side, second, CANCEL)
        tell(side, second, CANCEL)
        await look(lambda: len(openings.events) == 2)
        assert openings.events == ["leave", "lost"]
        assert openings.streams[1].cancelled
        router.close()
        assert openings.events == ["leave", "lost", "lost"]

    serve(test, openings, limit=3)


def test_who_has_no_use_for_websockets_ends_them() -> None:
    """Such a request is broken off."""

    async def test(side: RouterSide, router: Attached) -> None:
        open_one(side)
        router.turn()
        await look(lambda: [message.kind for message in side.drain()] == [ABORT])

    serve(test, None)
