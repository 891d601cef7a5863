"""Records and their markers: messages that come whole, in their place, or not at all."""

from __future__ import annotations

import itertools
import os

import pytest

from bridge.errors import RemoteProtocolError
from bridge.ipc import inbox as module
from bridge.ipc.dispatcher import deliver
from bridge.ipc.inbox import Arrived, Inbox
from bridge.ipc.message import DESCRIPTOR, HEADER, RECORD, RESPONSE
from bridge.ipc.record import FRAGMENT, LONGEST, MAGIC, MF, NF, PREFIX, fragments, is_record

STREAM = 7 << 32 | 5
SIZES = [1, FRAGMENT - HEADER.size, FRAGMENT - HEADER.size + 1, 2 * FRAGMENT - HEADER.size, 70_000, LONGEST - 32]


def message(size: int, stream: int = STREAM) -> bytes:
    """A message with so many inline bytes, in which a mistake shows."""
    payload = b"".join(number.to_bytes(4, "big") for number in range(size // 4 + 1))[:size]
    return HEADER.pack(stream, RESPONSE, 0, 0, size, 0, 200, size) + payload


def serial_of(marker: bytes) -> int:
    """Which record a marker names."""
    stream, kind, _, _, _, _, number, _ = HEADER.unpack(marker)
    assert (stream, kind) == (0, RECORD)
    return int(number)


def cut(stream: int, size: int, serials: itertools.count[int]) -> list[tuple[bytes, int]]:
    """The records of a message, and their numbers."""
    found = fragments(stream, message(size, stream), serials.__next__)
    return [(record, serial_of(marker)) for record, marker in found]


@pytest.mark.parametrize("size", SIZES)
def test_a_message_of_any_length(size: int) -> None:
    """It is whole when the marker of its last record comes, and nothing of it is held after that."""
    inbox = Inbox()
    records = cut(STREAM, size, itertools.count(1))
    assert [PREFIX.unpack_from(record)[1] for record, _ in records] == [
        (NF if index else 0) | (MF if index + 1 < len(records) else 0) for index in range(len(records))
    ]
    for record, serial in records[:-1]:
        assert is_record(record)
        assert inbox.put(record, []) == STREAM
        assert inbox.take(serial) is None
    inbox.put(records[-1][0], [])
    assert inbox.take(records[-1][1]) == Arrived(message(size), [], False)
    assert inbox.held == 0


def test_the_place_of_a_message_is_that_of_its_marker() -> None:
    """Records of several threads of one sender may come in another order than their markers; each has its turn."""
    inbox = Inbox()
    serials = itertools.count(1)
    first, second = cut(1, 40_000, serials), cut(2, 40_000, serials)
    for record, _ in [*second, *first]:
        inbox.put(record, [])
    order = [pair for both in zip(first, second, strict=True) for pair in both]
    arrived = [inbox.take(serial) for _, serial in order]
    assert arrived[:-2] == [None] * (len(order) - 2)
    assert [each.message for each in arrived[-2:] if each] == [message(40_000, 1), message(40_000, 2)]


def test_equal_streams_of_two_senders() -> None:
    """Each sender has an inbox of its own: the same number of a stream joins nothing."""
    inboxes = Inbox(), Inbox()
    parts = [cut(STREAM, 40_000, itertools.count(1)), cut(STREAM, 20_000, itertools.count(1))]
    for records, inbox in zip(parts, inboxes, strict=True):
        for record, serial in records[:-1]:
            inbox.put(record, [])
            assert inbox.take(serial) is None
    for records, inbox, size in zip(parts, inboxes, (40_000, 20_000), strict=True):
        inbox.put(records[-1][0], [])
        arrived = inbox.take(records[-1][1])
        assert arrived
        assert arrived.message == message(size)


def test_a_file_comes_with_the_first_fragment(read_end: int) -> None:
    """It is held until the message is whole, and belongs to whoever takes that."""
    inbox = Inbox()
    (first, one), (last, two) = cut(STREAM, FRAGMENT, itertools.count(1))
    inbox.put(first, [read_end])
    assert inbox.take(one) is None
    inbox.put(last, [])
    arrived = inbox.take(two)
    assert arrived
    assert arrived.files == [read_end]
    os.fstat(read_end)


@pytest.mark.parametrize("taken", [0, 1, 2], ids=["suspended", "begun", "all but the last"])
def test_a_stream_that_ends_in_the_middle(read_end: int, taken: int) -> None:
    """What was suspended or begun goes with it, its files at once; later fragments are nobody's."""
    inbox = Inbox()
    records = cut(STREAM, 40_000, itertools.count(1))
    for index, (record, _) in enumerate(records[:2]):
        inbox.put(record, [] if index else [read_end])
    for _, serial in records[:taken]:
        assert inbox.take(serial) is None
    inbox.forget(STREAM)
    assert inbox.held == 0
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(read_end)
    record, serial = records[2]
    inbox.put(record, [])
    assert inbox.take(serial) is None
    assert inbox.held == 0


@pytest.mark.parametrize("taken", [0, 1, 2], ids=["suspended", "begun", "all but the last"])
def test_a_message_that_nobody_waits_for_any_more(read_end: int, taken: int) -> None:
    """Its sender may go on: every marker finds its record, nothing of it is held in the end, and no file is open."""
    inbox = Inbox()
    records = cut(STREAM, 40_000, itertools.count(1))
    for index, (record, _) in enumerate(records):
        inbox.put(record, [] if index else [read_end])
    for _, serial in records[:taken]:
        assert inbox.take(serial, lambda stream: stream == STREAM) is None
    inbox.drop(STREAM)
    for _, serial in records[taken:]:
        assert inbox.take(serial, lambda _: False) is None
    assert inbox.held == 0
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(read_end)


def test_a_sender_that_dies_in_the_middle(read_end: int) -> None:
    """Everything of it goes."""
    inbox = Inbox()
    serials = itertools.count(1)
    ((first, one), _), ((other, _),) = cut(STREAM, FRAGMENT, serials), cut(9, 10, serials)
    inbox.put(first, [])
    inbox.take(one)
    inbox.put(other, [read_end])
    inbox.close()
    assert inbox.held == 0
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(read_end)


def record(flags: int = 0, serial: int = 1, total: int = 42, stream: int = STREAM, body: bytes = b"") -> bytes:
    """A record by hand."""
    return PREFIX.pack(MAGIC, flags, 0, serial, total, stream) + (body or message(10, stream))


@pytest.mark.parametrize(
    "data",
    [
        PREFIX.pack(MAGIC, 0, 0, 1, 42, STREAM),
        record()[:7],
        record(flags=4),
        record(total=31),
        record(total=LONGEST + 1),
        record(stream=0),
        record(body=message(10, 4711)),
        record(flags=MF),
        record(total=FRAGMENT + 1, body=message(FRAGMENT + 1)),
        PREFIX.pack(MAGIC, 0, 1, 1, 42, STREAM) + message(10),
    ],
)
def test_records_that_no_sender_makes(data: bytes, read_end: int) -> None:
    """They are the sender's fault, and their files are closed."""
    inbox = Inbox()
    with pytest.raises(RemoteProtocolError):
        inbox.put(data, [read_end])
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(read_end)
    assert inbox.held == 0


def test_files_where_none_belong(read_end: int) -> None:
    """A later fragment has none, and the first has one."""
    inbox = Inbox()
    (_, (last, _)) = cut(STREAM, FRAGMENT, itertools.count(1))
    with pytest.raises(RemoteProtocolError, match="1 files"):
        inbox.put(last, [read_end])
    with pytest.raises(RemoteProtocolError, match="2 files"):
        inbox.put(record(), [os.dup(0), os.dup(0)])


def test_the_method_is_that_of_the_first_fragment() -> None:
    """What follows belongs to the same message: another length, or another beginning within it, is refused."""
    inbox = Inbox()
    first, one = cut(STREAM, FRAGMENT, itertools.count(1))[0]
    inbox.put(first, [])
    inbox.take(one)
    inbox.put(record(NF, 5, 4711), [])
    with pytest.raises(RemoteProtocolError, match="another message"):
        inbox.take(5)
    assert inbox.held == 0
    inbox.put(first, [])
    inbox.take(one)
    inbox.put(record(serial=6), [])
    with pytest.raises(RemoteProtocolError, match="within the first"):
        inbox.take(6)


@pytest.mark.parametrize(("flags", "size"), [(NF, 31), (NF, 33), (NF | MF, FRAGMENT)])
def test_fragments_of_another_length_than_announced(flags: int, size: int) -> None:
    """Too few bytes, too many, or more to come where there is an end."""
    inbox = Inbox()
    inbox.put(record(MF, 1, FRAGMENT + 32, body=message(FRAGMENT - 32)), [])
    assert inbox.take(1) is None
    inbox.put(record(flags, 2, FRAGMENT + 32, body=b"x" * size), [])
    with pytest.raises(RemoteProtocolError, match="were announced"):
        inbox.take(2)
    assert inbox.held == 0


def test_what_is_held_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither records without markers nor messages without ends can grow for ever; a number has one record."""
    monkeypatch.setattr(module, "MOST_RECORDS", 3)
    inbox = Inbox()
    with pytest.raises(RemoteProtocolError, match="has not come"):
        inbox.take(1)
    inbox.put(record(), [])
    with pytest.raises(RemoteProtocolError, match="without the markers"):
        inbox.put(record(), [])
    for serial in (2, 3):
        inbox.put(record(serial=serial), [])
    with pytest.raises(RemoteProtocolError, match="without the markers"):
        inbox.put(record(serial=4), [])
    monkeypatch.setattr(module, "MOST_BYTES", 2 * FRAGMENT)
    inbox = Inbox()
    serials = itertools.count(1)
    for stream in range(1, 4):
        first, serial = cut(stream, FRAGMENT, serials)[0]
        inbox.put(first, [])
        inbox.take(serial)
    with pytest.raises(RemoteProtocolError, match="without the markers"):
        inbox.put(record(serial=99), [])


@pytest.mark.parametrize(
    "data",
    [
        HEADER.pack(STREAM, RECORD, 0, 0, 0, 0, 0, 0),
        HEADER.pack(STREAM, RESPONSE, 0, 1, 0, 0, 0, 0) + DESCRIPTOR.pack(1, 0, 1),
        HEADER.pack(STREAM, RESPONSE, 0, 0, 9, 0, 0, 0),
    ],
    ids=["a marker", "descriptors", "another length"],
)
def test_messages_that_only_a_queue_carries(data: bytes) -> None:
    """A marker in a record would lead in circles; descriptors and wrong lengths are refused as in a queue."""
    with pytest.raises(RemoteProtocolError, match="over a link"):
        deliver(data, lambda *_: None)


@pytest.fixture
def read_end() -> int:
    """A descriptor that the test gives away."""
    return os.open("/dev/null", os.O_RDONLY)


def test_files_that_are_held_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Records of one stream that nobody marks hold no more of this process's files than a sender may have under way."""
    monkeypatch.setattr(module, "MOST_HELD", 2)
    inbox = Inbox()
    before = len(os.listdir("/proc/self/fd"))
    for serial in (1, 2):
        inbox.put(record(serial=serial), [os.dup(0)])
    inbox.put(record(serial=3), [])
    with pytest.raises(RemoteProtocolError, match="files without the markers"):
        inbox.put(record(serial=4), [os.dup(0)])
    inbox.close()
    assert len(os.listdir("/proc/self/fd")) == before
