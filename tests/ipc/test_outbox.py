"""What goes over a port's link: in turns, as far as there is room, and with a marker behind each record."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator

import pytest

from bridge.errors import LinkFull, PeerLost, RemoteProtocolError
from bridge.ipc import outbox as module
from bridge.ipc.inbox import Inbox
from bridge.ipc.link import Link, close_all, decode
from bridge.ipc.message import HEADER
from bridge.ipc.outbox import Outbox
from bridge.ipc.record import AT_ONCE, FRAGMENT, LONGEST, PREFIX, SHARE, is_record
from tests.ipc.test_inbox import message, serial_of
from tests.ipc.test_link import few_files


class Lane:
    """A port with a queue of which one end is here; `theirs` is the other end of its link."""

    def __init__(self) -> None:
        self.link, self.theirs = Link.pair()
        self.markers: list[int] = []
        self.clear = True
        self.blocked: list[bool] = []
        self.outbox = Outbox(self)
        self.inbox = Inbox()
        self.notes: list[dict[str, object]] = []
        self.order: list[int] = []

    def on_blocked(self, blocked: bool) -> None:
        self.blocked.append(blocked)

    def send(self, marker: bytes) -> bool:
        self.markers.append(serial_of(marker))
        return self.clear

    def receive(self) -> list[bytes]:
        """What has come, whole; the streams of the records, in order, are in `order`."""
        while received := self.theirs.receive_bytes():
            if is_record(received[0]):
                self.order.append(self.inbox.put(*received))
            else:
                self.notes.append(decode(*received))
                for file in received[1]:
                    os.close(file)
        markers, self.markers = self.markers, []
        whole = [arrived for serial in markers if (arrived := self.inbox.take(serial))]
        for arrived in whole:
            close_all(arrived.files)
        return [arrived.message for arrived in whole]

    def close(self) -> None:
        self.outbox.close()
        self.inbox.close()
        self.link.close()
        self.theirs.close()


@pytest.fixture
def lane() -> Iterator[Lane]:
    """A port whose link is empty."""
    lane = Lane()
    yield lane
    lane.close()


def fill(lane: Lane) -> int:
    """Fill the link; returns with how many messages."""
    count = 0
    while True:
        try:
            lane.link.send({"type": "filler"})
        except LinkFull:
            return count
        count += 1


def test_a_message_goes_out_at_once(lane: Lane) -> None:
    """Where there is room nothing waits; each record has its marker behind it."""
    assert lane.outbox.send(1, message(20_000, 1))
    assert lane.outbox.clear
    assert lane.markers == [1, 2]
    assert lane.receive() == [message(20_000, 1)]
    assert lane.blocked == []


def test_a_link_that_is_full(lane: Lane) -> None:
    """It costs nobody anything but time: what waits goes out in order, and of its files nothing is left here."""
    fillers = fill(lane)
    before = len(os.listdir("/proc/self/fd"))
    file = os.open("/dev/null", os.O_RDONLY)
    assert not lane.outbox.send(1, message(10, 1), [file])
    os.close(file)
    assert not lane.outbox.note({"type": "note"}, [0])
    assert (lane.markers, lane.blocked) == ([], [True])
    assert not lane.outbox.advance()
    lane.receive()
    assert len(lane.notes) == fillers
    assert lane.outbox.advance()
    assert lane.blocked == [True, False]
    assert lane.receive() == [message(10, 1)]
    assert lane.notes[fillers:] == [{"type": "note"}]
    assert len(os.listdir("/proc/self/fd")) == before


def test_a_file_that_cannot_wait(lane: Lane) -> None:
    """Where there is no descriptor left for what has to wait nothing of it is sent; without its file it may wait."""
    fill(lane)
    with few_files(0), pytest.raises(OSError, match="Too many open files"):
        lane.outbox.send(1, message(10, 1), [0])
    assert lane.outbox.clear
    assert not lane.outbox.send(1, message(20, 1))
    while not lane.outbox.advance():
        lane.receive()
    assert lane.receive() == [message(20, 1)]


def test_no_record_is_far_ahead_of_its_marker(lane: Lane) -> None:
    """While the queue is full nothing more is sent over the link either."""
    lane.clear = False
    assert not lane.outbox.send(1, message(50_000, 1))
    assert lane.receive() == []
    assert lane.order == []
    lane.clear = True
    assert lane.outbox.advance()
    assert lane.receive() == [message(50_000, 1)]


def test_long_messages_take_turns(lane: Lane) -> None:
    """After its share a message goes to the tail: a short one does not wait for the end of a long one."""
    lane.clear = False
    sizes = {1: 600_000, 2: 600_000, 3: 100, 4: 300_000}
    for stream, size in sizes.items():
        lane.outbox.send(stream, message(size, stream))
    lane.clear = True
    arrived = []
    while not lane.outbox.advance():
        arrived += lane.receive()
    arrived += lane.receive()
    assert [HEADER.unpack_from(each)[0] for each in arrived] == [3, 4, 1, 2]
    assert all(each == message(sizes[stream], stream) for stream, each in zip((3, 4, 1, 2), arrived, strict=True))
    share = SHARE // FRAGMENT
    assert lane.order[: 3 * share + 1] == [1] * share + [2] * share + [3] + [4] * share


def test_few_messages_are_begun_at_once(lane: Lane) -> None:
    """The others wait until one is through, so that the receiver has to hold a bounded number of beginnings."""
    lane.clear = False
    for stream in range(1, 3 * AT_ONCE):
        lane.outbox.send(stream, message(200_000, stream))
    lane.clear = True
    begun: set[int] = set()
    ended: set[int] = set()
    while not lane.outbox.clear:
        lane.outbox.advance()
        ended |= {HEADER.unpack_from(each)[0] for each in lane.receive()}
        begun |= set(lane.order)
        assert len(begun - ended) <= AT_ONCE
    assert ended == set(range(1, 3 * AT_ONCE))


def test_a_stream_that_nobody_waits_for(lane: Lane) -> None:
    """The rest of it is not sent, whether it was begun or not; the others go on."""
    fill(lane)
    before = len(os.listdir("/proc/self/fd"))
    for stream in (1, 2, 1, 3):
        lane.outbox.send(stream, message(40_000, stream), [0])
    lane.outbox.drop(1)
    assert len(os.listdir("/proc/self/fd")) == before + 2
    arrived = []
    while not lane.outbox.advance():
        arrived += lane.receive()
    arrived += lane.receive()
    assert arrived == [message(40_000, 2), message(40_000, 3)]


def test_nothing_is_left_open(lane: Lane) -> None:
    """What waits is not sent any more, and its files are closed."""
    before = len(os.listdir("/proc/self/fd"))
    fill(lane)
    lane.outbox.send(1, message(10, 1), [0])
    lane.outbox.note({}, [0])
    lane.outbox.close()
    assert len(os.listdir("/proc/self/fd")) == before
    assert lane.outbox.advance()


def test_who_reads_nothing_is_broken(lane: Lane, monkeypatch: pytest.MonkeyPatch) -> None:
    """What waits is bounded, a message is, and an end is an end."""
    with pytest.raises(ValueError, match="over the limit"):
        lane.outbox.send(1, bytes(LONGEST + 1))
    monkeypatch.setattr(module, "MOST_WAITING", 3)
    fill(lane)
    for _ in range(3):
        lane.outbox.note({})
    with pytest.raises(RemoteProtocolError, match="stopped reading"):
        lane.outbox.note({})
    lane.theirs.close()
    with pytest.raises(PeerLost):
        lane.outbox.advance()


def test_a_record_is_no_json() -> None:
    """The first byte tells the two apart."""
    assert is_record(PREFIX.pack(0xB1, 0, 0, 1, 1, 1))
    assert not is_record(b"{}")
    assert not is_record(b"")


def test_files_that_wait_are_bounded(lane: Lane, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who asks for file after file and reads none has this process hold a few of them, not all that it may open."""
    monkeypatch.setattr(module, "MOST_FILES", 3)
    with contextlib.suppress(LinkFull):
        while True:
            lane.link.send({"type": "x"})
    before = len(os.listdir("/proc/self/fd"))
    for stream in (1, 2, 4):
        assert not lane.outbox.send(stream, message(10, stream), [0])
    assert not lane.outbox.note({"type": "x"}, [0])
    assert len(os.listdir("/proc/self/fd")) == before + 3
    with pytest.raises(RemoteProtocolError, match="stopped reading"):
        lane.outbox.send(3, message(10, 3), [0])
    assert not lane.outbox.note({"type": "x"})
    lane.outbox.close()
    assert len(os.listdir("/proc/self/fd")) == before
