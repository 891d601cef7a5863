"""Workers that read too little: a full link costs nobody anything but time, a full queue in the end that worker."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any

import pytest

from bridge import config
from bridge.errors import LinkFull
from bridge.ipc import port as port_module
from bridge.ipc.handshake import segment_note
from bridge.ipc.link import Link, close_all
from bridge.ipc.message import BATON, HEADER, SEGMENT
from bridge.ipc.record import is_record
from bridge.ipc.segment import Segment
from bridge.router.framing import Framing
from tests.ipc.test_link import few_files
from tests.router.by_hand import Both
from tests.router.rig import TINY, UPLOAD, Rig, echo, pattern, raw, run, settle, until, upload


def test_a_worker_that_stops_reading(memory: config.Memory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Everybody who waited for it is told, every chunk and every file is back, and others go on."""
    monkeypatch.setattr(port_module, "MAX_BACKLOG", 3)

    async def test() -> None:
        rig = Rig(memory)
        worker = rig.worker()
        pairs = [rig.request(framing=UPLOAD, complete=False) for _ in range(2)]
        await until(lambda: len(worker.streams) == 2)
        worker.attached.loop.remove_reader(worker.attached.port.bell.fileno())
        worker.attached.turn = lambda: None  # type: ignore[method-assign]
        port = rig.application.workers[worker.number]
        for connection, exchange in pairs:
            upload(connection, exchange, pattern(3000))
        number = 0
        while not rig.cut:
            port.acknowledge(pairs[0][1].stream, 1)
            number += 1
            if number % 8 == 0:
                await asyncio.sleep(0)
        assert "stopped reading" in rig.cut[0][1]
        assert [connection.refused and connection.refused[0] for connection, _ in pairs] == [502, 502]
        rig.worker(echo)
        other, _ = rig.request(b"hello")
        await other.completed()
        assert other.body == b"hello"
        worker.attached.close()
        await rig.idle()
        await rig.close()

    run(test())


def fill(link: Link, message: dict[str, Any], file: int) -> None:
    """Send it until there is no room for another one."""
    with contextlib.suppress(LinkFull):
        while True:
            link.send(message, [file])


def test_a_link_that_is_full() -> None:
    """A worker that does not look at its link misses a segment, and asks for it when a message names that."""

    async def test() -> None:
        rig = Rig(TINY)
        worker = rig.worker(echo)
        await until(lambda: rig.ready)
        port = rig.application.workers[worker.number]
        loop = worker.attached.loop
        loop.remove_reader(worker.attached.port.link.fileno())
        assert rig.application.pool.segments == []
        other = Segment.create(4711, TINY.chunk_size, TINY.chunks, 1)
        fill(port.port.link, segment_note(4711), other.fd)
        other.close()
        bodies = [pattern(3000 + number) for number in range(4)]
        pairs = [rig.request(body, framing=Framing(size=len(body))) for body in bodies]
        await settle()
        assert not rig.cut
        assert rig.application.workers
        loop.add_reader(worker.attached.port.link.fileno(), worker.attached._link._on_readable)
        await until(lambda: all(connection.complete for connection, _ in pairs))
        assert [connection.body for connection, _ in pairs] == bodies
        await rig.idle()
        await rig.close()

    run(test())


def test_a_worker_whose_queue_was_full_is_rung(memory: config.Memory) -> None:
    """What found no room in the queue to the router goes there when the router has read some of it."""

    async def test() -> None:
        rig = Rig(memory)
        worker = rig.worker()
        await until(lambda: rig.ready)
        await settle()
        port = worker.attached.port
        while port.send(HEADER.pack(0, BATON, 0, 0, 0, 0, 4711, 0)):
            pass
        await until(lambda: port.clear)
        await rig.close()

    run(test())


def test_a_segment_that_nobody_has_made() -> None:
    """Who asks for one is told that there is none."""

    async def test() -> None:
        rig = Rig()
        worker = rig.worker()
        await until(lambda: rig.ready)
        worker.attached.loop.remove_reader(worker.link.fileno())
        for number in (0, 65536, 4711, (1 << 32) - 1):
            raw(worker, SEGMENT, number=number)
        answers: list[Any] = []

        def heard() -> bool:
            answers.extend(filter(None, [worker.link.receive()]))
            return len(answers) == 4

        await until(heard)
        assert answers == [({"type": "segment", "segment": number}, []) for number in (0, 65536, 4711, (1 << 32) - 1)]
        worker.attached.close()
        await rig.close()

    run(test())


def test_no_room_for_a_file_to_wait(caplog: pytest.LogCaptureFixture) -> None:
    """A body that finds the link full and no descriptor left: its worker is told without it, and nobody is cut off."""

    async def test() -> None:
        both = Both(config.Http())
        _, taken, exchange = await both.begin()
        other = Segment.create(4711, both.rig.application.memory.chunk_size, both.rig.application.memory.chunks, 1)
        fill(both.worker.router_side.port.link, segment_note(4711), other.fd)
        with few_files(0):
            both.worker.router_side.send_file(taken.stream, other.fd)
        await settle()
        assert both.worker.router_side.linked == {taken.stream}
        markers: list[bytes] = []
        link = both.worker.link

        def heard() -> bool:
            while received := link.receive_bytes():
                close_all(received[1])
                markers.extend([received[0]] if is_record(received[0]) else [])
            return bool(markers)

        await until(heard)
        assert not both.rig.cut
        both.worker.respond(taken, 0, last=True)
        await until(lambda: both.rig.over == [exchange])
        other.close()
        await both.close()

    run(test())
    assert "cannot be sent to its worker" in caplog.text
