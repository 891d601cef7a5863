"""Requests that a loop takes from a router, where the router is another worker's too."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from bridge.core import FULL
from bridge.ipc import handshake
from bridge.ipc.message import ABORT, BATON, BODY, CANCEL, DESCRIPTOR, FILE, HEAD, HEADER, LAST, SEGMENT
from bridge.ipc.record import fragments
from bridge.ipc.stream import Event, State
from bridge.worker import attach
from bridge.worker.asgi import AsgiApplication
from bridge.worker.attach import Attached
from bridge.worker.scope import ScopeBuilder
from bridge.worker.stream import WorkerStream
from bridge.worker.types import Receive, Scope, Send
from tests.ipc.rings import ringing
from tests.ipc.test_link import few_files
from tests.worker.test_long_heads import publish_linked
from tests.worker.thread_rig import HEAD as HEADS
from tests.worker.thread_rig import REQUESTS, TINY, RouterSide, pattern


def test_a_body_in_a_file_is_not_an_empty_one(caplog: pytest.LogCaptureFixture) -> None:
    """A request that was made for a WSGI worker, before a reload, ends visibly; the application does not see it."""
    started: list[WorkerStream] = []
    with RouterSide(join=False) as side:

        async def worker() -> None:
            attachment = handshake.receive_offer(side.theirs, "1")
            assert attachment
            router = Attached(attachment, 4, started.append, lambda _: None)
            router.open()
            side.port.link.close()

        stream = side.publish(flags=LAST | FILE, size=1000)
        following = side.publish()
        asyncio.run(worker())
        (message,) = side.receive()
        assert (message.stream, message.kind) == (stream, ABORT)
        assert side.tracking.state(stream) == State.DONE
        assert side.tracking.state(following) == State.CLAIMED
        assert len(started) == 1
    assert "body in a file" in caplog.text


async def look(condition: Callable[[], object]) -> None:
    """Let the worker's loop turn until something is true."""
    async with asyncio.timeout(20):
        while not condition():  # noqa: ASYNC110 - what the other side has done tells nobody
            await asyncio.sleep(0.001)


@pytest.mark.parametrize("shortage", [False, True], ids=["not sent", "no room for it"])
def test_a_segment_that_has_not_come(shortage: bool) -> None:
    """Messages that name it wait, in order, until it was asked for and is here; nothing new is taken meanwhile."""
    started: list[WorkerStream] = []
    body = pattern(20_000)
    with RouterSide(join=False) as side:

        async def test() -> None:
            attachment = handshake.receive_offer(side.theirs, "1")
            assert attachment
            router = Attached(attachment, 4, started.append, lambda _: None)
            router.open()
            first = side.publish(body=body)
            await look(lambda: side.queue.length() == 0)
            ask = [message for message in side.drain() if message.kind == SEGMENT]
            assert [(message.stream, message.number) for message in ask] == [(0, REQUESTS)]
            assert started == []
            waiting = side.publish()
            stays = side.requests.claim(5, 5)[0]
            side.requests.write(stays, b"again")
            piece = DESCRIPTOR.pack(REQUESTS, stays, 5)
            side.port.send(HEADER.pack(waiting, BODY, LAST, 1, 0, 5, 0, 0) + piece)
            if shortage:
                with few_files(0):
                    side.announce()
                    await asyncio.sleep(0)
                    await asyncio.sleep(0)
                await look(lambda: [message.kind for message in side.drain()] == [SEGMENT])
            assert side.tracking.state(waiting) == State.QUEUED
            side.announce()
            side.announce()  # one that crosses the question is no harm
            await look(lambda: len(started) == 2)
            assert started[0].take() == body
            assert side.tracking.state(first) == State.CLAIMED
            router.close()

        asyncio.run(test())


def test_a_segment_that_another_message_has_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """A message that waits for a segment goes on although it was the next one, which names it too, that read it."""
    started: list[WorkerStream] = []
    bodies = [pattern(5000), pattern(6000)]
    with RouterSide(join=False) as side:

        async def test() -> None:
            attachment = handshake.receive_offer(side.theirs, "1")
            assert attachment
            router = Attached(attachment, 4, started.append, lambda _: None)
            park = router._link.park

            def park_and_answer(*parts: Any) -> None:
                park(*parts)
                side.announce()  # as a router that hears it at once

            monkeypatch.setattr(router._link, "park", park_and_answer)
            router._appetite.requests = len(bodies)
            router.open()
            attachment.port.bell.hush()  # it has rung at the beginning, for nothing
            for body in bodies:
                side.publish(body=body)
            side.port.peer_bell.ring()
            await look(lambda: len(started) == 2)
            assert {stream.take() for stream in started} == set(bodies)
            router.close()

        asyncio.run(test())


def test_a_segment_is_asked_for_as_soon_as_there_is_room() -> None:
    """A worker whose queue to the router is full asks when the router has read some of it."""
    started: list[WorkerStream] = []
    with RouterSide(TINY, join=False) as side:

        async def test() -> None:
            attachment = handshake.receive_offer(side.theirs, "1")
            assert attachment
            while attachment.port.send(HEADER.pack(0, BATON, 0, 0, 0, 0, 0, 0)):
                pass
            router = Attached(attachment, 4, started.append, lambda _: None)
            side.publish(body=pattern(200))
            router.open()
            await look(lambda: router._link.parked)
            await look(lambda: any(message.kind == SEGMENT for message in side.drain()))
            side.announce()
            await look(lambda: started)
            router.close()

        asyncio.run(test())


def test_a_client_that_leaves_while_its_head_comes() -> None:
    """The worker keeps nothing of a head that it gave up, and goes on with its router whatever was on the way."""
    started: list[WorkerStream] = []
    lost: list[Attached] = []
    with RouterSide(join=False) as side:

        async def test() -> None:
            attachment = handshake.receive_offer(side.theirs, "1")
            assert attachment
            inbox = attachment.port.inbox
            router = Attached(attachment, 4, started.append, lost.append)
            number, message = publish_linked(side)
            router.open()
            await look(lambda: any(message.kind == HEAD for message in side.drain()))
            first, second, third, _ = fragments(number, message, side.port.outbox.serial)
            side.link.send_bytes(first[0])
            side.port.send(first[1])
            await look(lambda: inbox.held)
            side.link.send_bytes(second[0])
            router._link._on_readable()  # before the queue, in which a CANCEL is in front of the marker
            side.cancel(number)
            side.port.send(second[1])
            await look(lambda: any(message.kind == ABORT for message in side.drain()))
            side.link.send_bytes(third[0])
            side.port.send(third[1])
            side.publish()
            side.port.peer_bell.ring()
            await look(lambda: started)
            assert (lost, inbox.held) == ([], 0)
            router.close()

        asyncio.run(test())


def test_a_segment_that_does_not_exist(caplog: pytest.LogCaptureFixture) -> None:
    """The router says so, and is left: somebody writes into the memory that the workers share."""
    lost: list[Attached] = []
    with RouterSide(join=False) as side:

        async def test() -> None:
            attachment = handshake.receive_offer(side.theirs, "1")
            assert attachment
            router = Attached(attachment, 4, lambda _: None, lost.append)
            router.open()
            side.publish(body=pattern(5000))
            await look(lambda: any(message.kind == SEGMENT for message in side.drain()))
            side.link.send(handshake.segment_note(REQUESTS))
            await look(lambda: lost)

        asyncio.run(test())
    assert "unexpected message 'segment'" in caplog.text


def test_who_else_is_to_be_rung() -> None:
    """A loop that leaves requests behind names another sleeper, and rings a router that found the queue full."""
    with RouterSide(TINY, join=False) as side:

        async def test() -> None:
            attachment = handshake.receive_offer(side.theirs, "1")
            assert attachment
            router = Attached(attachment, 4, lambda _: None, lambda _: None)
            for _ in range(TINY.queue):
                side.publish(head=HEADS[-24:])
            assert side.queue.push(bytes(8)) == FULL
            side.set_sleeping(1)
            router.open()
            assert ringing(side.port.bell)
            assert [(message.kind, message.number) for message in side.drain()] == [(BATON, 1)]
            router.close()

        asyncio.run(test())


def test_a_loop_that_computes_takes_one_after_the_other(monkeypatch: pytest.MonkeyPatch) -> None:
    """What it has no time for stays in the queue, where others find it; with quick ones it takes many at once."""
    left: list[int] = []
    clock = 100.0  # only the requests below take time, however busy the machine is
    monkeypatch.setattr(attach, "time", SimpleNamespace(perf_counter=lambda: clock))
    with RouterSide(join=False) as side:

        async def worker() -> None:
            loop = asyncio.get_running_loop()
            seconds = 0.1

            def run(stream: WorkerStream) -> None:
                nonlocal clock
                assert stream.begin()
                left.append(side.queue.length())
                clock += seconds
                stream.respond(200, b"", 0, 0, b"", True)

            def start(stream: WorkerStream) -> None:
                loop.call_soon(run, stream)

            attachment = handshake.receive_offer(side.theirs, "1")
            assert attachment
            router = Attached(attachment, 100, start, lambda _: None)
            router.open()
            await look(lambda: len(left) == 8)
            assert left == list(range(7, -1, -1))
            seconds = 0.0
            for _ in range(10):
                left.clear()
                for _ in range(40):
                    side.publish()
                router.turn()
                await look(lambda: len(left) == 40)
                side.drain()
            assert left == [0] * 40  # one claim has taken them all
            side.port.link.close()
            router.close()

        for _ in range(8):
            side.publish()
        asyncio.run(worker())


@pytest.mark.parametrize("waits", [True, False])
def test_a_cancel_is_heard_in_the_turn_that_takes_it(waits: bool) -> None:
    """receive() says that the client has left without waiting for anything from outside the loop."""
    heard: list[str] = []
    with RouterSide(join=False) as side:

        async def worker() -> None:
            loop = asyncio.get_running_loop()
            began = asyncio.Event()

            async def target(scope: Scope, receive: Receive, send: Send) -> None:
                await receive()
                began.set()
                if not waits:
                    await went_on.wait()
                heard.append((await receive())["type"])
                with pytest.raises(OSError, match="left"):
                    await send({"type": "http.response.start", "status": 200})

            went_on = asyncio.Event()
            application = AsgiApplication(target, ScopeBuilder(), loop, logging.getLogger("bridge"))
            attachment = handshake.receive_offer(side.theirs, "1")
            assert attachment
            router = Attached(attachment, 4, application.start, lambda _: None)
            router.open()
            await began.wait()
            for _ in range(3):
                await asyncio.sleep(0)
            side.tracking.move(stream, Event.CANCEL)
            side.port.send(HEADER.pack(stream, CANCEL, 0, 0, 0, 0, 0, 0))
            router.turn()
            went_on.set()
            for _ in range(3):  # the future, the one that shields it, the task
                await asyncio.sleep(0)
            assert heard == ["http.disconnect"]
            await application.drain()
            side.port.link.close()
            router.close()

        stream = side.publish()
        asyncio.run(worker())
