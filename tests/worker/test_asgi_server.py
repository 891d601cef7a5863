"""The main task of an ASGI worker: routers that come too late, and routers that cannot be served."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from bridge import __version__
from bridge.config import Application
from bridge.ipc import handshake
from bridge.ipc.link import Link
from bridge.ipc.message import BODY, DATA, LAST, RESPONSE
from bridge.ipc.status import ROW, Row
from bridge.worker.asgi_server import AsgiServer
from bridge.worker.main_link import MainLink
from bridge.worker.types import Receive, Scope, Send
from tests.worker.test_attach_websockets import open_one, tell
from tests.worker.test_wsgi_server import pass_on_the_offer, refused
from tests.worker.thread_rig import PATIENCE, Message, RouterSide, Side, until
from tests.worker.websocket_rig import closing


class Worker:
    """A server that runs, and main's end of its link; its application ends nothing before the gate is open."""

    def __init__(self) -> None:
        self.main, self.control = Link.pair()
        self.gate = threading.Event()
        self.began = threading.Semaphore(0)
        self.events: list[Any] = []  # of a WebSocket
        row = Row(memoryview(bytearray(ROW)).cast("Q"))
        self.server = AsgiServer(Application(module="none"), MainLink(self.control), row, self.app)
        self.running = Side(self.server.run)
        assert self.heard() == "ready"

    async def app(self, scope: Scope, receive: Receive, send: Send) -> None:
        """The application."""
        if scope["type"] == "lifespan":
            await receive()
            await send({"type": "lifespan.startup.complete"})
            await receive()
            await self.wait()
            await send({"type": "lifespan.shutdown.complete"})
            return
        if scope["type"] == "websocket":
            await send({"type": "websocket.accept"})
            self.events = [await receive(), await receive()]
            return
        await self.wait()
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"ok"})

    async def wait(self) -> None:
        """Wait for the gate, with the loop going round."""
        self.began.release()
        await asyncio.to_thread(self.gate.wait, PATIENCE)

    def heard(self) -> str:
        """The next message to main."""
        received: list[Any] = []

        def look() -> bool:
            received.append(self.main.receive())
            return received[-1] is not None

        until(look)
        kind: str = received[-1][0]["type"]
        return kind


@pytest.fixture
def worker() -> Iterator[Worker]:
    """A server that is ready."""
    worker = Worker()
    yield worker
    worker.gate.set()
    worker.server.stop(graceful=False)
    assert worker.running.join() == 0
    worker.main.close()
    worker.control.close()


def joined(worker: Worker) -> RouterSide:
    """A router that the server has joined."""
    side = RouterSide(version=__version__, join=False)
    worker.main.send({"type": "router"}, [side.theirs.fileno()])
    side.theirs.close()
    until(lambda: side.link.receive() == (handshake.attached(1000, "asgi"), []))
    return side


def test_a_router_that_goes(worker: Worker) -> None:
    """The worker serves the next one."""
    worker.gate.set()
    for _ in range(2):
        with joined(worker) as side:
            side.publish()
            side.port.peer_bell.ring()  # a loop waits with the port's
            until(lambda: any(message.flags & LAST for message in side.drain()))
    assert worker.running.waits
    assert worker.main.receive() is None


def test_a_router_that_cannot_be_served(worker: Worker, caplog: pytest.LogCaptureFixture) -> None:
    """A worker that has left a living router leaves altogether: nobody would introduce it to that router again."""
    with joined(worker) as side:
        side.link.send({"type": "what no router says"})
        until(side.lost)
        assert worker.heard() == "draining"
        worker.gate.set()
        assert worker.running.join() == 0
    assert "this worker leaves" in caplog.text


def test_a_worker_that_leaves_closes_its_websockets(worker: Worker) -> None:
    """All at once, with 1012; it waits for the client's part, and not for the graceful timeout."""
    worker.gate.set()
    with joined(worker) as side:
        stream = open_one(side)
        side.port.peer_bell.ring()
        until(lambda: any(message.kind == RESPONSE for message in side.drain()))
        assert worker.running.waits
        worker.main.send({"type": "drain"})
        sent: list[Message] = []

        def has_sent(count: int) -> bool:
            sent.extend(side.drain())
            return len(sent) >= count

        until(lambda: has_sent(1))
        assert [(message.kind, message.flags) for message in sent] == [(DATA, 0)]
        assert sent[0].payload[:4] == b"\x88" + bytes([len(sent[0].payload) - 2]) + (1012).to_bytes(2, "big")
        tell(side, stream, BODY, 0, closing(1012))
        side.port.peer_bell.ring()
        until(lambda: has_sent(2))
        assert (sent[1].kind, sent[1].flags, sent[1].payload) == (DATA, LAST, b"")
        assert worker.running.join() == 0
    assert [event["type"] for event in worker.events] == ["websocket.connect", "websocket.disconnect"]
    assert worker.events[1]["code"] == 1012


def test_a_worker_that_leaves_is_hurried(worker: Worker) -> None:
    """Who has said that it is to leave may say later that there is no time: what runs is cancelled, and says so."""
    with joined(worker) as side:
        side.publish()
        side.port.peer_bell.ring()
        assert worker.began.acquire(timeout=PATIENCE)
        worker.server.stop(graceful=True)
        assert worker.heard() == "draining"
        worker.server.stop(graceful=False)
        until(lambda: [message.number for message in side.drain() if message.flags & LAST] == [503])


def test_an_offer_to_a_worker_that_leaves(worker: Worker) -> None:
    """A router whose offer comes too late gets no worker that takes nothing any more."""
    ours, theirs = Link.pair()
    worker.main.send({"type": "router"}, [theirs.fileno()])
    theirs.close()
    worker.main.send({"type": "drain"})
    assert worker.heard() == "draining"
    assert worker.began.acquire(timeout=PATIENCE)  # it waits for its application's shutdown
    with RouterSide(version=__version__, join=False) as late:
        pass_on_the_offer(late, ours)
        until(lambda: refused(ours))
    ours.close()
