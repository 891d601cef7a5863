"""Ports: two queues, one per direction; messages keep their order when a queue is full, and only sleepers are rung."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from bridge.core import COUNT, STARVED, Queue
from bridge.errors import RemoteProtocolError
from bridge.ipc import port as module
from bridge.ipc.doorbell import Doorbell
from bridge.ipc.handshake import create_port
from bridge.ipc.link import Link
from bridge.ipc.port import ROUTER, WAITER, Geometry, Port
from bridge.ipc.segment import Segment, map_memory
from tests.ipc.rings import heard, ringing

GEOMETRY = Geometry(item_size=128, queue=4, slots=16, waiters=2, chunk_size=64, chunks=8, window=512)
Pair = tuple[Port, Port]


@pytest.fixture
def ends() -> Iterator[Pair]:
    """The router's and the worker's end of one port, joined."""
    router, fd = create_port(GEOMETRY, ROUTER, memfd=True)
    worker = Port(map_memory(fd, 2 * GEOMETRY.queue_bytes), GEOMETRY, 2, create=False)
    os.close(fd)
    links = Link.pair()
    bells = heard(Doorbell()), heard(Doorbell())
    segment = Segment.create(2, GEOMETRY.chunk_size, GEOMETRY.chunks, ROUTER)
    other = Segment(os.dup(segment.fd), 2, GEOMETRY.chunk_size, GEOMETRY.chunks, 2, create=False)
    router.join(links[0], bells[0], bells[1], segment)
    worker.join(links[1], heard(Doorbell(os.dup(bells[1].descriptor))), Doorbell(os.dup(bells[0].descriptor)), other)
    yield router, worker
    router.close()
    worker.close()


def take(queue: Queue) -> list[bytes]:
    """Everything that is in the queue."""
    found = []
    while count := queue.drain(64) & COUNT:
        for index in range(count):
            start = index * queue.stride
            length = int.from_bytes(queue.batch[start : start + 4], "little")
            found.append(bytes(queue.batch[start + 8 : start + 8 + length]))
    return found


def test_both_directions(ends: Pair) -> None:
    """What one side sends the other receives, and nobody receives his own."""
    router, worker = ends
    assert router.send(b"to the worker")
    assert worker.send(b"to the router")
    assert worker.send(b"another")
    assert take(router.incoming) == [b"to the router", b"another"]
    assert take(worker.incoming) == [b"to the worker"]
    assert take(router.incoming) == take(worker.incoming) == []


@pytest.mark.parametrize("side", [0, 1])
def test_order_when_the_queue_is_full(ends: Pair, side: int) -> None:
    """What finds no room waits, and later messages wait behind it although there is room again."""
    sender, receiver = ends[side], ends[1 - side]
    messages = [b"%d" % index for index in range(20)]
    assert [sender.send(message) for message in messages] == [True] * 4 + [False] * 16
    assert not sender.clear
    result = receiver.incoming.drain(2)
    assert result & COUNT == 2
    assert result & STARVED
    assert not sender.send(b"last")
    received = messages[:2]
    while not sender.flush():
        received += take(receiver.incoming)
    received += take(receiver.incoming)
    assert received == [*messages, b"last"]
    assert sender.clear
    assert sender.flush()


def test_a_reader_knows_that_somebody_starves(ends: Pair) -> None:
    """Whoever makes room is told of it as often as the sender finds none, and not otherwise."""
    router, worker = ends
    for _ in range(4):
        router.send(b"x")
    assert not worker.incoming.drain(1) & STARVED
    router.send(b"x")
    assert not worker.incoming.drain(1) & STARVED
    router.send(b"x")
    router.send(b"x")
    assert not router.clear
    assert worker.incoming.drain(1) & STARVED
    assert not worker.incoming.drain(1) & STARVED
    router.flush()
    router.send(b"x")
    router.send(b"x")
    assert worker.incoming.drain(1) & STARVED


@pytest.mark.parametrize("side", [0, 1])
def test_only_sleepers_are_rung(ends: Pair, side: int) -> None:
    """The bell of the side that receives rings for the first message after it dozed off, and for no other."""
    sender, receiver = ends[side], ends[1 - side]
    sender.send(b"awake")
    assert not ringing(receiver.bell)
    assert not receiver.incoming.doze(WAITER)
    take(receiver.incoming)
    assert receiver.incoming.doze(WAITER)
    sender.send(b"wake up")
    assert ringing(receiver.bell)
    assert not ringing(sender.bell)
    receiver.bell.hush()
    sender.send(b"already awake")
    assert not ringing(receiver.bell)


def test_a_flush_rings_as_well(ends: Pair) -> None:
    """A message that had to wait wakes a sleeper as one that had not."""
    router, worker = ends
    for index in range(6):
        router.send(b"%d" % index)
    assert take(worker.incoming) == [b"0", b"1", b"2", b"3"]
    assert worker.incoming.doze(WAITER)
    assert not ringing(worker.bell)
    assert router.flush()
    assert ringing(worker.bell)
    assert take(worker.incoming) == [b"4", b"5"]


def test_what_waits_is_bounded(ends: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    """A side that reads nothing at all counts as broken, and no memory is spent on it for ever."""
    monkeypatch.setattr(module, "MAX_BACKLOG", 5)
    router, _ = ends
    for _ in range(9):
        router.send(b"x")
    with pytest.raises(RemoteProtocolError, match="stopped reading"):
        router.send(b"x")


def test_the_queues_lie_on_pages_of_their_own() -> None:
    """No cell of one direction shares a page with the other."""
    assert GEOMETRY.queue_bytes % 4096 == 0
    assert GEOMETRY.application_queue_bytes % 4096 == 0
    assert GEOMETRY.queue_bytes >= Queue.bytes_needed(4, 128, 1)
