"""A worker that says what it may not say is cut off; its siblings and the router go on as if nothing had been said."""

from __future__ import annotations

import pytest

from bridge import config
from bridge.ipc import handshake
from bridge.ipc.message import DATA, DESCRIPTOR, HEAD, HEADER, LAST, RESPONSE, TAKEN
from bridge.ipc.record import LONGEST
from bridge.ipc.stream import Event
from bridge.router import worker_link, worker_port
from tests.router.rig import NORMAL, TINY, Rig, echo, raw, run, settle, until


def test_an_answer_to_what_another_has_claimed() -> None:
    """Who answers first must be who has claimed: the request is answered by that one."""

    async def test() -> None:
        rig = Rig()
        honest = rig.worker()
        await until(lambda: rig.ready)
        connection, exchange = rig.request()
        await until(lambda: honest.streams)
        liar = rig.worker()
        raw(liar, RESPONSE, exchange.stream, flags=LAST, number=200, size=0)
        await until(lambda: rig.cut)
        assert rig.cut == [(liar.number, f"stream {exchange.stream:#x} was not claimed by it")]
        honest.streams[0].respond(200, b"", 2, 0, b"ok", True)
        await connection.completed()
        assert connection.body == b"ok"
        await rig.idle()
        await rig.close()

    run(test())


def test_an_answer_to_what_nobody_has_claimed() -> None:
    """A request that lies in the queue stays there for whoever takes it."""

    async def test() -> None:
        rig = Rig()
        liar = rig.worker()
        await until(lambda: rig.ready)
        liar.attached._accepting = False
        connection, exchange = rig.request()
        raw(liar, RESPONSE, exchange.stream, flags=LAST, number=200, size=0)
        await until(lambda: rig.cut)
        assert not connection.ended
        rig.worker(echo)
        await connection.completed()
        await rig.idle()
        await rig.close()

    run(test())


def test_a_head_that_another_has_claimed() -> None:
    """Who says that it has copied a head must be who has claimed it: its chunks stay until that one has."""

    async def test() -> None:
        rig = Rig()
        liar = rig.worker()
        await until(lambda: rig.ready)
        liar.attached._accepting = False
        head = b"GET / HTTP/1.1\r\nHost: a\r\nX: " + b"y" * NORMAL.item_size + b"\r\n\r\n"
        connection, exchange = rig.request(head=head)
        assert rig.application.heads.busy()
        raw(liar, TAKEN, exchange.stream)
        await until(lambda: rig.cut)
        assert rig.cut == [(liar.number, f"stream {exchange.stream:#x} was not claimed by it")]
        honest = rig.worker(echo)
        await connection.completed()
        assert honest.streams[0].head.endswith(head)
        await rig.idle()
        await rig.close()

    run(test())


def test_who_asks_for_a_head_again() -> None:
    """The head of a request is sent once to who has claimed it: the router keeps no copies for who reads none."""

    async def test() -> None:
        rig = Rig()
        worker = rig.worker()
        await until(lambda: rig.ready)
        _, exchange = rig.request()
        await until(lambda: worker.streams)
        raw(worker, HEAD, exchange.stream)
        await until(lambda: rig.application.workers[worker.number].linked)
        await settle()
        assert not rig.cut
        raw(worker, HEAD, exchange.stream)
        await until(lambda: rig.cut)
        assert rig.cut == [(worker.number, f"the head of stream {exchange.stream:#x} was asked for before")]
        await rig.idle()
        await rig.close()

    run(test())


@pytest.mark.parametrize("size", [LONGEST - HEADER.size, LONGEST - HEADER.size + 1], ids=["the longest", "longer"])
def test_a_response_head_in_chunks(size: int) -> None:
    """What is copied out of a worker's memory is as long as a head may be, and no longer."""

    async def test() -> None:
        rig = Rig()
        worker = rig.worker()
        await until(lambda: rig.ready)
        connection, exchange = rig.request()
        await until(lambda: worker.streams)
        segment = worker.attached.segment
        first, _ = segment.claim(size, size)
        segment.write(first, b"x: y\r\n" + b"z" * (size - 6))
        fixed = RESPONSE, LAST, 1, 0, size - 6, 200, 6
        piece = DESCRIPTOR.pack(segment.number, first, size)
        worker.attached.answer(exchange.stream, Event.FINISH, HEADER.pack(exchange.stream, *fixed) + piece)
        await until(lambda: connection.ended)
        assert connection.complete == (size == LONGEST - HEADER.size)
        reasons = [reason for _, reason in rig.cut]
        assert reasons == ([] if connection.complete else ["a response head that is too long"])
        await rig.close()

    run(test())


@pytest.mark.parametrize("interface", ["asgi", "wsgi"])
def test_who_attaches_again(interface: str) -> None:
    """A worker attaches once and drains once; whoever says it again and again has nothing to say."""

    async def test() -> None:
        rig = Rig()
        worker = rig.worker()
        await until(lambda: rig.ready)
        worker.attached.port.link.send(handshake.attached(5, interface))
        await until(lambda: rig.cut)
        other = rig.worker()
        await until(lambda: len(rig.ready) == 2)
        for _ in range(2):
            other.attached.port.link.send(handshake.attached(0, "asgi"))
        await until(lambda: len(rig.cut) == 2)
        assert {reason for _, reason in rig.cut} == {"it is attached already"}
        await rig.close()

    run(test())


@pytest.mark.parametrize("memory", [NORMAL, TINY], ids=["normal", "tiny"])
def test_bytes_that_nobody_has_asked_for(memory: config.Memory) -> None:
    """A response that goes on although its window is full ends before it fills the router's memory."""

    async def test() -> None:
        rig = Rig(memory)
        worker = rig.worker()
        await until(lambda: rig.ready)
        connection, _ = rig.request()
        await until(lambda: worker.streams)
        connection.stalled = True
        stream = worker.streams[0]
        stream.respond(200, b"", 1 << 40, 0, b"", False)
        body = b"x" * (worker.attached.room // 2)
        message = HEADER.pack(stream._stream, DATA, 0, 0, len(body), 0, 0, 0) + body

        def cut() -> bool:
            if worker.lost:
                return True
            worker.attached.send(message)
            return bool(rig.cut)

        await until(cut)
        assert "nobody has asked for" in rig.cut[0][1]
        assert connection.aborted
        held = sum(map(len, connection.held))
        assert held <= rig.application.most_unacknowledged + worker_port.BATCH * memory.item_size
        await rig.idle()
        await rig.close()

    run(test())


def test_a_flood_over_the_link(monkeypatch: pytest.MonkeyPatch) -> None:
    """However much comes over one link, others get their turn in between."""

    async def test() -> None:
        rig = Rig()
        worker = rig.worker()
        await until(lambda: rig.ready)
        port = rig.application.workers[worker.number]
        heard: list[int] = []
        monkeypatch.setattr(worker_link, "decode", lambda *_: heard.append(1))
        monkeypatch.setattr(worker_link, "read_attached", lambda *_: (0, "asgi"))
        monkeypatch.setattr(rig.application, "ready", lambda *_: None)
        monkeypatch.setattr(worker_port.WorkerPort, "draining", property(lambda _: False, lambda *_: None))
        for _ in range(3 * worker_link.LINK_BATCH):
            worker.attached.port.link.send({"type": "anything"})
        port.on_link()
        assert len(heard) == worker_link.LINK_BATCH
        await until(lambda: len(heard) == 3 * worker_link.LINK_BATCH)
        await settle()
        assert not rig.cut
        await rig.close()

    run(test())
