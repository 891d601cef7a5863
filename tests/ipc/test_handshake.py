"""The handshake: everything is checked before it is used, and nothing is left when it fails."""

from __future__ import annotations

import contextlib
import gc
import os
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

import pytest

from bridge.core import COUNT, next_request
from bridge.errors import BridgeError, RemoteProtocolError, VersionMismatch
from bridge.ipc import handshake
from bridge.ipc.doorbell import Doorbell
from bridge.ipc.link import Link
from bridge.ipc.port import ROUTER, Geometry, Port
from bridge.ipc.segment import Segment, create_memory
from tests.ipc.rings import heard, rung

GEOMETRY = Geometry(item_size=128, queue=4, slots=16, waiters=2, chunk_size=64, chunks=8, window=512)


@dataclass
class Offer:
    """What a router has made for one worker."""

    port: Port
    fds: tuple[int, ...]
    theirs: Link

    def send(self, version: str = "1", **changes: Any) -> tuple[dict[str, Any], list[int]]:
        """Send the offer; what the worker receives, with changes."""
        handshake.offer(self.port.link, version, GEOMETRY, (7, [1, 0]), self.fds)
        received = self.theirs.receive()
        assert received is not None
        return received[0] | changes, received[1]


def open_files() -> set[tuple[str, str]]:
    """Descriptors of this process, and what they lead to. Those of earlier tests may go at any time."""
    gc.collect()
    found = set()
    for number in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):  # that of this listing
            found.add((number, os.readlink(f"/proc/self/fd/{number}")))
    return found


@pytest.fixture(params=[True, False], ids=["memfd", "shm"])
def offer(request: pytest.FixtureRequest, recwarn: pytest.WarningsRecorder) -> Iterator[Offer]:
    """An offer, in memory of both kinds."""
    memfd = bool(request.param)
    ours, theirs = Link.pair()
    block, _ = handshake.create_application_block(GEOMETRY, memfd=memfd)
    handshake.open_application_block(block, GEOMETRY, ROUTER, create=True)
    port, fd = handshake.create_port(GEOMETRY, ROUTER, memfd=memfd)
    segment = Segment.create(7, GEOMETRY.chunk_size, GEOMETRY.chunks, ROUTER, memfd=memfd)
    port.join(ours, heard(Doorbell()), Doorbell(), segment)
    bells = Doorbell(), Doorbell()
    fds = (block, fd, port.peer_bell.descriptor, port.bell.descriptor, segment.fd, *(bell.descriptor for bell in bells))
    yield Offer(port, fds, theirs)
    for bell in bells:
        bell.close()
    port.close()
    theirs.close()
    os.close(block)
    os.close(fd)


def test_both_sides_are_joined(offer: Offer) -> None:
    """After it messages, rings and chunks go from one side to the other."""
    message, fds = offer.send()
    attachment = handshake.accept(offer.theirs, "1", message, fds)
    assert (attachment.worker, attachment.waiters, attachment.geometry) == (7, [1, 0], GEOMETRY)
    port = attachment.port
    offer.port.send(b"hello")
    assert port.incoming.drain(8) & COUNT == 1
    port.send(b"hello")
    assert offer.port.incoming.drain(8) & COUNT == 1
    port.peer_bell.ring()
    assert rung(offer.port.bell)
    heard(port.bell)
    offer.port.peer_bell.ring()
    assert rung(port.bell)
    first, _ = port.segment.claim(64, 64)
    assert offer.port.segment.chunks.transfer(first, 1, 7, ROUTER)
    stream = attachment.tracking.arm(3)
    queue, tracking = handshake.open_application_block(offer.fds[0], GEOMETRY, ROUTER, create=False)
    assert tracking.state(stream) == tracking.QUEUED
    queue.push(stream.to_bytes(8, "little"))
    assert attachment.queue.claim(attachment.tracking, 8) & COUNT == 1
    assert tracking.owner(stream) == 7
    port.close()


def test_handles_of_another_thread(offer: Offer) -> None:
    """They are others on the same memory: what one thread does, the other sees; and each waiter has its bell."""
    message, fds = offer.send()
    attachment = handshake.accept(offer.theirs, "1", message, fds)
    handles = attachment.handles()
    router, tracking = handshake.open_application_block(offer.fds[0], GEOMETRY, ROUTER, create=False)
    stream = tracking.arm(3)
    router.push(stream.to_bytes(8, "little"))
    assert attachment.queue.length() == 1
    assert next_request(handles.queue, handles.outgoing, handles.tracking, 0, b"", 0) == 1
    assert attachment.queue.length() == 0
    assert attachment.tracking.owner(stream) == 7
    handles.outgoing.push(b"hello")
    assert offer.port.incoming.drain(8) & COUNT == 1
    first, _ = handles.segment.claim(64, 64)
    handles.segment.write(first, b"body")
    assert offer.port.segment.read(first, 4) == b"body"
    for bell, fd in zip(attachment.bells, offer.fds[-2:], strict=True):
        heard(bell)
        os.eventfd_write(fd, 0)
        assert rung(bell)
        bell.close()
    handles.segment.close()
    attachment.port.close()


def test_the_answer_of_a_worker() -> None:
    """Limit and interface, or nothing: what a router does not know it does not guess."""
    assert handshake.read_attached(handshake.attached(4, "wsgi"), []) == (4, "wsgi")
    wrong: list[dict[str, Any]] = [{"type": "x"}, {"limit": None}, {"interface": "cgi"}, {"interface": []}]
    for changes in wrong:
        with pytest.raises(RemoteProtocolError):
            handshake.read_attached(handshake.attached(4, "wsgi") | changes, [])
    with pytest.raises(RemoteProtocolError):
        handshake.read_attached(handshake.attached(4, "wsgi"), [0])


def test_accepted_files_are_closed_with_the_port(offer: Offer) -> None:
    """Once the attachment is let go of, the worker holds nothing that it has received."""
    before = open_files()
    message, fds = offer.send()
    attachment = handshake.accept(Link.pair()[0], "1", message, fds)
    attachment.port.close()
    for bell in attachment.bells:
        bell.close()
    del attachment
    assert not open_files() - before


@pytest.mark.parametrize(
    ("version", "protocol"), [("2", handshake.PROTOCOL), ("1", handshake.PROTOCOL + 1), ("1", None)]
)
def test_another_release(offer: Offer, version: str, protocol: int | None) -> None:
    """Processes of different releases or protocols do not talk; both versions are named, nothing is left."""
    before = open_files()
    message, fds = offer.send(version, protocol=protocol)
    with pytest.raises(VersionMismatch, match="restart all of them") as caught:
        handshake.accept(offer.theirs, "1", message, fds)
    assert caught.value.ours == f"1 (protocol {handshake.PROTOCOL})"
    assert caught.value.theirs == f"{version} (protocol {protocol})"
    del caught
    assert not open_files() - before


@pytest.mark.parametrize("count", [0, 1, 4, 6])
def test_another_number_of_files(offer: Offer, count: int) -> None:
    """An offer with too few or too many files is refused, and all of them are closed."""
    before = open_files()
    message, fds = offer.send()
    for fd in fds[count:]:
        os.close(fd)
    fds = fds[:count] + [os.dup(0) for _ in range(count - len(fds))]
    with pytest.raises(RemoteProtocolError, match=f"{count} files"):
        handshake.accept(offer.theirs, "1", message, fds)
    assert not open_files() - before


@pytest.mark.parametrize(
    "changes",
    [
        {"geometry": None},
        {"geometry": {}},
        {"geometry": {"item_size": 128}},
        {"geometry": {**asdict(GEOMETRY), "more": 1}},
        {"geometry": {**asdict(GEOMETRY), "item_size": 4096}},
        {"geometry": {**asdict(GEOMETRY), "item_size": "128"}},
        {"geometry": {**asdict(GEOMETRY), "item_size": -128}},
        {"geometry": {**asdict(GEOMETRY), "queue": 5}},
        {"geometry": {**asdict(GEOMETRY), "queue": 64}},
        {"geometry": {**asdict(GEOMETRY), "queue": 1 << 40}},
        {"geometry": {**asdict(GEOMETRY), "slots": 1 << 20}},
        {"geometry": {**asdict(GEOMETRY), "slots": -1}},
        {"geometry": {**asdict(GEOMETRY), "chunks": 9}},
        {"geometry": {**asdict(GEOMETRY), "chunk_size": 32}},
        {"geometry": {**asdict(GEOMETRY), "chunk_size": 1 << 40}},
        {"worker": 8},
        {"worker": None},
        {"worker": 0},
        {"worker": 70000},
        {"waiters": [2, 0]},
        {"waiters": [0, -1]},
        {"waiters": ["x", 0]},
        {"waiters": [0]},
        {"waiters": []},
        {"waiters": 2},
    ],
)
def test_offers_that_do_not_hold_together(offer: Offer, changes: dict[str, Any]) -> None:
    """Whatever is wrong with the numbers is one error that names it, and nothing is left."""
    before = open_files()
    message, fds = offer.send(**changes)
    with pytest.raises(RemoteProtocolError) as caught:
        handshake.accept(offer.theirs, "1", message, fds)
    assert isinstance(caught.value, BridgeError)
    del caught
    assert not open_files() - before


@pytest.mark.parametrize("index", [0, 1, 4])
def test_memory_that_is_too_small(offer: Offer, index: int) -> None:
    """A file of fewer bytes than the geometry needs is refused before it is touched."""
    before = open_files()
    message, fds = offer.send()
    os.close(fds[index])
    fds[index] = create_memory(64)
    with pytest.raises(RemoteProtocolError, match="64 bytes") as caught:
        handshake.accept(offer.theirs, "1", message, fds)
    del caught
    assert not open_files() - before


@pytest.mark.parametrize("index", [0, 1, 4])
def test_memory_that_is_something_else(offer: Offer, index: int) -> None:
    """Memory of the right size without the right contents is refused."""
    before = open_files()
    message, fds = offer.send()
    size = os.fstat(fds[index]).st_size
    os.close(fds[index])
    fds[index] = create_memory(size)
    with pytest.raises(RemoteProtocolError) as caught:
        handshake.accept(offer.theirs, "1", message, fds)
    del caught
    assert not open_files() - before
