"""The dispatcher: messages are taken apart exactly, and those that lie about their parts are not used."""

from __future__ import annotations

from typing import Any

import pytest

from bridge.core import COUNT, Queue
from bridge.errors import RemoteProtocolError
from bridge.ipc.dispatcher import dispatch
from bridge.ipc.message import BODY, DESCRIPTOR, HEADER, MAX_DESCRIPTORS, UNKNOWN


def make_queue(item_size: int = 1024) -> Queue:
    """A queue that both sides of a test use."""
    memory = bytearray(Queue.bytes_needed(8, item_size, 1) + 64)
    start = -_address(memory) % 64
    return Queue(memory, capacity=8, item_size=item_size, waiters=1, owner=1, create=True, offset=start)


def _address(memory: bytearray) -> int:
    import ctypes  # noqa: PLC0415 - only this test needs an address

    return ctypes.addressof(ctypes.c_char.from_buffer(memory))


def pass_through(*messages: bytes, queue: Queue | None = None) -> list[tuple[Any, ...]]:
    """Send messages through a queue and the dispatcher; returns what the handler got."""
    queue = queue or make_queue()
    received: list[tuple[Any, ...]] = []
    for message in messages:
        queue.push(message)
    dispatch(queue, queue.drain(64) & COUNT, lambda *parts: received.append(parts))
    return received


def test_every_field_arrives() -> None:
    """The largest values of all fields, and inline bytes."""
    header = HEADER.pack((1 << 64) - 1, 255, 254, 0, 5, UNKNOWN, (1 << 32) - 1, (1 << 32) - 2)
    assert pass_through(header + b"hello") == [
        ((1 << 64) - 1, 255, 254, UNKNOWN, (1 << 32) - 1, (1 << 32) - 2, None, b"hello")
    ]


@pytest.mark.parametrize("count", [1, 2, MAX_DESCRIPTORS])
def test_descriptors_and_bytes(count: int) -> None:
    """Descriptors come as a list in order, the bytes behind them as bytes."""
    pieces = [(index, index * 2, index * 3 + 1) for index in range(count)]
    packed = b"".join(DESCRIPTOR.pack(*piece) for piece in pieces)
    header = HEADER.pack(7, BODY, 1, count, 3, 0, 0, 0)
    assert pass_through(header + packed + b"abc") == [(7, BODY, 1, 0, 0, 0, pieces, b"abc")]


def test_a_batch_is_in_order() -> None:
    """Messages of different lengths do not leak into one another."""
    messages = [HEADER.pack(index, BODY, 0, 0, index, 0, 0, 0) + b"x" * index for index in (5, 0, 3)]
    assert [(parts[0], parts[-1]) for parts in pass_through(*messages)] == [(5, b"xxxxx"), (0, b""), (3, b"xxx")]


def test_the_bytes_are_the_handlers_own() -> None:
    """What a handler got does not change when the batch is used again."""
    queue = make_queue()
    first = pass_through(HEADER.pack(1, BODY, 0, 0, 3, 0, 0, 0) + b"abc", queue=queue)
    pass_through(HEADER.pack(1, BODY, 0, 0, 3, 0, 0, 0) + b"xyz", queue=queue)
    assert first[0][-1] == b"abc"


def test_a_long_message_is_offered_where_it_lies() -> None:
    """Whoever looks at it gets no copy; who does not is handed one of his own, and so is whoever needs descriptors."""
    queue = make_queue(8192)
    seen: list[tuple[Any, ...]] = []
    received: list[tuple[Any, ...]] = []

    def look(stream: int, kind: int, flags: int, size: int, data: memoryview) -> bool:
        seen.append((stream, kind, flags, size, bytes(data)))
        return stream == 1

    long = bytes(range(250)) * 20
    queue.push(HEADER.pack(1, BODY, 2, 0, len(long), 3, 4, 5) + long)
    queue.push(HEADER.pack(2, BODY, 2, 0, len(long), 3, 4, 5) + long)
    queue.push(HEADER.pack(3, BODY, 0, 0, 5, 0, 0, 0) + b"short")
    pieces = [(1, 2, 3)] * MAX_DESCRIPTORS
    packed = b"".join(DESCRIPTOR.pack(*piece) for piece in pieces)
    queue.push(HEADER.pack(4, BODY, 0, MAX_DESCRIPTORS, len(long), 0, 0, 0) + packed + long)
    dispatch(queue, queue.drain(64) & COUNT, lambda *parts: received.append(parts), look)
    assert seen == [(1, BODY, 2, 3, long), (2, BODY, 2, 3, long)]
    assert [parts[0] for parts in received] == [2, 3, 4]
    assert received[0] == (2, BODY, 2, 3, 4, 5, None, long)
    assert received[2][-2:] == (pieces, long)
    queue.drain(64)
    for _ in range(8):
        queue.push(b"x" * 5000)
    assert received[0][-1] == received[2][-1] == long


@pytest.mark.parametrize(
    "message",
    [
        b"",
        b"short",
        HEADER.pack(1, BODY, 0, 0, 0, 0, 0, 0)[:-1],
        HEADER.pack(1, BODY, 0, 0, 1, 0, 0, 0),
        HEADER.pack(1, BODY, 0, 0, 0, 0, 0, 0) + b"x",
        HEADER.pack(1, BODY, 0, 0, (1 << 32) - 1, 0, 0, 0),
        HEADER.pack(1, BODY, 0, 1, 0, 0, 0, 0),
        HEADER.pack(1, BODY, 0, 1, 0, 0, 0, 0) + b"x" * 11,
        HEADER.pack(1, BODY, 0, 1, 0, 0, 0, 0) + b"x" * 13,
        HEADER.pack(1, BODY, 0, 2, 0, 0, 0, 0) + b"x" * 12,
        HEADER.pack(1, BODY, 0, 65535, 0, 0, 0, 0) + b"x" * 12,
        HEADER.pack(1, BODY, 0, MAX_DESCRIPTORS + 1, 0, 0, 0, 0) + b"x" * 12 * (MAX_DESCRIPTORS + 1),
        HEADER.pack(1, BODY, 0, 0, 4999, 0, 0, 0) + b"x" * 5000,
        HEADER.pack(1, BODY, 0, 0, 5001, 0, 0, 0) + b"x" * 5000,
    ],
)
def test_messages_that_lie(message: bytes) -> None:
    """Parts that do not add up to the length are nobody's; what came before in the batch was handled."""
    queue = make_queue(8192)
    received: list[Any] = []
    # What an earlier batch has left where a short message does not reach must not be taken for its own.
    pass_through(*[HEADER.pack(9, BODY, 0, 0, 0, 0, 0, 0)] * 3, queue=queue)
    for each in (HEADER.pack(1, BODY, 0, 0, 0, 0, 0, 0), message, HEADER.pack(2, BODY, 0, 0, 0, 0, 0, 0)):
        queue.push(each)
    with pytest.raises(RemoteProtocolError, match="a message of"):
        dispatch(queue, queue.drain(64) & COUNT, lambda *parts: received.append(parts[0]))
    assert received == [1]
