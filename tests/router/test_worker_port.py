"""Worker ports: workers that die or lie end their own requests, cleanly, and nobody else's."""

from __future__ import annotations

import asyncio
import os
from typing import Any

import pytest

from bridge import config
from bridge.core import Queue
from bridge.ipc.message import DATA, RESPONSE, UNKNOWN
from bridge.ipc.stream import Event, State
from bridge.router.framing import Framing
from bridge.worker.stream import WorkerStream
from tests.router.rig import (
    HEAD,
    TINY,
    Rig,
    Worker,
    answer,
    echo,
    pattern,
    raw,
    reply,
    run,
    settle,
    until,
    upload,
)

# Workers that break


def test_an_abort_after_the_head(memory: config.Memory) -> None:
    """An application that ends in the middle of its body cuts the connection."""

    async def test() -> None:
        rig = Rig(memory)

        async def serve(worker: Worker, stream: WorkerStream) -> None:
            stream.respond(200, b"", 1000, 0, b"part", False)

        rig.worker(serve)
        connection, _ = rig.request()
        await until(lambda: connection.aborted)
        assert connection.body == b"part"
        await rig.idle()
        await rig.close()

    run(test())


def test_an_abort_before_the_head(memory: config.Memory) -> None:
    """A stream that ends without any answer is a bad gateway."""

    async def test() -> None:
        rig = Rig(memory)

        async def serve(worker: Worker, stream: WorkerStream) -> None:
            pass

        rig.worker(serve)
        connection, exchange = rig.request()
        await until(lambda: connection.ended)
        assert connection.refused is not None
        assert connection.refused[0] == exchange.status == 502
        await rig.idle()
        await rig.close()

    run(test())


def test_an_answer_of_another_length(memory: config.Memory, caplog: pytest.LogCaptureFixture) -> None:
    """When the connection finds a body that does not keep its length, the worker's stream is cancelled."""

    async def test() -> None:
        rig = Rig(memory)
        worker = rig.worker()
        connection, _ = rig.request()
        await until(lambda: worker.streams)
        connection.length_kept = False
        stream = worker.streams[0]
        stream.respond(200, b"", 3, 0, b"four", False)
        await asyncio.wait_for(stream.gone(), 10)
        assert stream.cancelled
        stream.finished()
        await rig.idle()
        await rig.close()

    run(test())
    assert "longer or shorter" in caplog.text


def test_a_worker_that_dies_before_it_has_begun(memory: config.Memory) -> None:
    """What it had only claimed goes to another worker, with its body and its long head."""

    async def test() -> None:
        rig = Rig(memory)
        first = rig.worker()
        await until(lambda: rig.ready)
        body = pattern(3000)
        head = HEAD[:-2] + b"X: " + b"y" * 500 + b"\r\n\r\n"
        small, _ = rig.request(b"small", framing=Framing(size=5))
        large, exchange = rig.request(body[:700], complete=False, head=head, framing=Framing(size=len(body)))
        tracking = rig.application.tracking
        for stream in rig.application.exchanges:
            tracking.move(stream, Event.CLAIM, first.number)
        first.die()
        await until(lambda: not rig.application.workers)
        assert rig.application.waiting == 2
        second = rig.worker(echo)
        position = 700
        while position < len(body):
            await until(lambda: not large.paused)
            position = upload(large, exchange, body, position)
        await until(lambda: small.complete and large.complete)
        assert (small.body, large.body) == (b"small", body)
        assert second.streams[-1].head.endswith(head)
        await rig.idle()
        await rig.close()

    run(test())


def test_a_worker_that_dies_with_a_head_that_it_has_copied(memory: config.Memory) -> None:
    """The chunks of a long head are free as soon as it was copied; another worker gets it from new ones."""

    async def test() -> None:
        rig = Rig(memory)
        first = rig.worker(attach=False)
        first._start = lambda stream: None  # type: ignore[method-assign]  # takes requests, and begins none
        first.attach()
        head = HEAD[:-2] + b"X: " + b"y" * 2000 + b"\r\n\r\n"
        connection, exchange = rig.request(b"some body", head=head, framing=Framing(size=9))
        await until(lambda: exchange.stream and first.attached.streams)
        await until(lambda: not rig.application.heads.busy())
        assert rig.application.tracking.state(exchange.stream) == State.CLAIMED
        first.die()
        await until(lambda: not rig.application.workers)
        second = rig.worker(echo)
        await connection.completed()
        assert connection.body == b"some body"
        assert second.streams[0].head.endswith(head)
        await rig.idle()
        await rig.close()

    run(test())


def test_a_worker_that_dies_while_it_runs(memory: config.Memory) -> None:
    """A request that has begun is a clean 502; one whose head is out is cut."""

    async def test() -> None:
        rig = Rig(memory)
        worker = rig.worker()
        pairs = [rig.request() for _ in range(3)]
        await until(lambda: len(worker.streams) == 3)
        worker.streams[1].respond(200, b"", 1000, 0, b"part", False)
        reply(worker.streams[2])  # published in time: it counts
        worker.die()
        await until(lambda: all(connection.ended for connection, _ in pairs))
        (running, _), (begun, _), (done, _) = pairs
        assert running.refused is not None
        assert running.refused[0] == 502
        assert begun.aborted
        assert begun.body == b"part"
        assert done.complete
        assert len(rig.over) == 3
        await rig.idle()
        await rig.close()

    run(test())


def test_a_worker_that_dies_with_chunks_in_flight(memory: config.Memory) -> None:
    """Bytes that the transport holds outlive their worker; a worker that waited for them is not rung."""

    async def test() -> None:
        rig = Rig(memory)
        worker = rig.worker(lambda worker, stream: answer(stream, pattern(memory.window)))
        connection, _ = rig.request()
        connection.stalled = True
        await until(lambda: connection.complete)
        port = rig.application.workers[worker.number]
        worker.attached.segment.chunks.wait()
        worker.die()
        await until(lambda: not rig.application.workers)
        assert bytes(connection.held[-1])[-1:] == pattern(memory.window)[-1:]
        connection.take()
        assert not port._flying
        await rig.idle()
        await rig.close()

    run(test())


def test_a_published_answer_of_the_dead_counts(memory: config.Memory) -> None:
    """Everything that a worker has published before its end is handled, however much it is."""

    async def test() -> None:
        rig = Rig(memory)
        worker = rig.worker(limit=3)
        pairs = [rig.request() for _ in range(3)]
        await until(lambda: len(worker.streams) == 3)
        for stream in worker.streams:
            reply(stream)
        rig.application.gone(worker.number, worker.number + 1000)
        assert all(connection.complete for connection, _ in pairs)
        await until(lambda: worker.lost)
        await rig.idle()
        await rig.close()

    run(test())


def test_a_published_answer_behind_what_the_dead_was_writing(memory: config.Memory) -> None:
    """A thread that died while it wrote a message holds up nothing that other threads have published behind it."""

    async def test() -> None:
        rig = Rig(memory)
        worker = rig.worker()
        connection, _ = rig.request()
        await until(lambda: worker.streams)
        await settle()
        begin_to_write(rig, worker)
        reply(worker.streams[0])
        worker.die()
        await until(lambda: not rig.application.workers)
        assert connection.complete
        await rig.idle()
        await rig.close()

    run(test())


def begin_to_write(rig: Rig, worker: Worker) -> None:
    """Take the next cell of the queue to the router, and leave it so: see core/ring.h and core/layout.h."""
    memory, geometry = worker.attached.port.memory, rig.application.geometry
    size, capacity = geometry.item_size, geometry.queue
    start = geometry.queue_bytes
    tail = start + 128
    ticket = int.from_bytes(memory[tail : tail + 8], "little")
    cell = start + Queue.bytes_needed(capacity, size, 1) - (capacity - ticket % capacity) * size
    memory[cell : cell + 8] = (ticket // capacity << 24 | 1 << 16 | worker.number).to_bytes(8, "little")
    memory[tail : tail + 8] = (ticket + 1).to_bytes(8, "little")


@pytest.mark.parametrize("kind", [RESPONSE, DATA, 77])
def test_messages_of_foreign_streams(memory: config.Memory, kind: int, caplog: pytest.LogCaptureFixture) -> None:
    """A message about a stream that the worker does not have costs that worker, and nobody else."""

    async def test() -> None:
        rig = Rig(memory)
        worker = rig.worker()
        connection, _ = rig.request()
        await until(lambda: worker.streams)
        raw(worker, kind, 4711)
        await until(lambda: rig.cut)
        assert rig.cut[0][0] == worker.number
        assert connection.refused is not None
        assert connection.refused[0] == 502
        await until(lambda: worker.lost)
        rig.worker(echo)
        other, _ = rig.request()
        await until(lambda: other.complete)
        await rig.idle()
        await rig.close()

    run(test())
    assert "is cut off" in caplog.text


@pytest.mark.parametrize(
    "fields",
    [
        {"kind": DATA},
        {"kind": 77},
        {"kind": RESPONSE, "number": 200, "head": 5},
        {"kind": RESPONSE, "number": 99},
        {"kind": RESPONSE, "number": 1000},
        {"kind": RESPONSE, "number": 200, "pieces": 3},
        {"kind": RESPONSE, "number": 200, "pieces": 65},
        {"kind": RESPONSE, "number": 200, "length": 10},
    ],
)
def test_answers_that_make_no_sense(fields: dict[str, int]) -> None:
    """A body before its head, heads that HTTP does not know, lengths that do not add up: the worker is cut off."""

    async def test() -> None:
        rig = Rig()
        worker = rig.worker()
        connection, _ = rig.request()
        await until(lambda: worker.streams)
        stream = next(iter(rig.application.exchanges))
        raw(worker, stream=stream, **fields)
        await until(lambda: rig.cut)
        assert connection.refused is not None
        assert connection.refused[0] == 502
        await rig.idle()
        await rig.close()

    run(test())


@pytest.mark.parametrize("piece", [(2, 0, 64), (3, 0, 64), (2, 63, 65), (2, 64, 1), (2, 0, 0), (2, 1 << 31, 64)])
def test_descriptors_that_are_made_up(piece: tuple[int, int, int]) -> None:
    """Chunks that the worker does not hold, or that are none, are not read."""

    async def test() -> None:
        rig = Rig(TINY)
        worker = rig.worker()
        connection, _ = rig.request()
        await until(lambda: worker.streams)
        worker.streams[0]._post([piece], last=False)
        await until(lambda: rig.cut)
        assert "descriptor" in rig.cut[0][1]
        assert not connection.body
        await rig.idle()
        await rig.close()

    run(test())


def test_a_descriptor_that_comes_twice() -> None:
    """The second use of the same chunks is noticed, and the first one's bytes stay what they are."""

    async def test() -> None:
        rig = Rig(TINY)
        worker = rig.worker()
        connection, _ = rig.request()
        await until(lambda: worker.streams)
        connection.stalled = True
        stream = worker.streams[0]
        first, _size = worker.attached.segment.claim(64, 64)
        worker.attached.segment.write(first, b"x" * 64)
        stream.respond(200, b"", UNKNOWN, 0, b"", False)
        stream._post([(worker.number, first, 64)], last=False)
        stream._post([(worker.number, first, 64)], last=False)
        await until(lambda: rig.cut)
        assert connection.body == b"x" * 64
        assert connection.aborted
        connection.held.clear()
        await rig.idle()
        await rig.close()

    run(test())


@pytest.mark.parametrize(
    "message",
    [
        {"type": "nonsense"},
        {"type": "attached"},
        {"type": "attached", "limit": "1", "interface": "asgi"},
        {"type": "attached", "limit": 1, "interface": "cgi"},
    ],
)
def test_nonsense_on_the_link(message: dict[str, Any]) -> None:
    """A worker that says what no worker says is cut off, and a file that it sent along is closed."""

    async def test() -> None:
        rig = Rig()
        worker = rig.worker()
        await until(lambda: rig.ready)
        reading, writing = os.pipe()
        worker.link.send(message, [reading])
        os.close(reading)
        await until(lambda: rig.cut)
        await until(lambda: worker.lost)
        with pytest.raises(BrokenPipeError):  # nobody holds the other end
            os.write(writing, b"x")
        os.close(writing)
        await rig.close()

    run(test())
