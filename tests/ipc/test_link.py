"""Links: whole messages in order, with files, and an end that shows."""

from __future__ import annotations

import array
import contextlib
import os
import resource
import socket
import struct
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from bridge.errors import FilesLost, LinkFull, PeerLost, RemoteProtocolError
from bridge.ipc.link import MAX_DESCRIPTORS, MAX_MESSAGE, Link, decode


@pytest.fixture
def pair() -> Iterator[tuple[Link, Link]]:
    """Two connected ends."""
    left, right = Link.pair()
    yield left, right
    left.close()
    right.close()


def test_messages_arrive_whole_and_in_order(pair: tuple[Link, Link]) -> None:
    """Each message is received as it was sent, in both directions; then there is none."""
    left, right = pair
    left.send({"type": "a", "text": "é" * 1000})
    left.send({"type": "b"})
    right.send({"type": "c"})
    assert right.receive() == ({"type": "a", "text": "é" * 1000}, [])
    assert right.receive() == ({"type": "b"}, [])
    assert right.receive() is None
    assert left.receive() == ({"type": "c"}, [])


def test_files_are_duplicated(pair: tuple[Link, Link], tmp_path: Path) -> None:
    """A file sent along is the same file, close-on-exec, and lives on when the sender closes its own."""
    left, right = pair
    fds = [os.open(tmp_path / name, os.O_RDWR | os.O_CREAT) for name in "ab"]
    identities = [os.fstat(fd).st_ino for fd in fds]
    left.send({"type": "files"}, fds)
    for fd in fds:
        os.close(fd)
    received = right.receive()
    assert received
    assert [os.fstat(fd).st_ino for fd in received[1]] == identities
    assert not any(map(os.get_inheritable, received[1]))
    for fd in received[1]:
        os.close(fd)


def test_end_of_file(pair: tuple[Link, Link]) -> None:
    """What was sent before the end is still received; after it both directions fail."""
    left, right = pair
    left.send({"type": "last"})
    left.close()
    assert right.receive() == ({"type": "last"}, [])
    with pytest.raises(PeerLost):
        right.receive()
    with pytest.raises(PeerLost):
        right.send({"type": "x"})


def test_a_reader_that_sleeps_is_lost(pair: tuple[Link, Link]) -> None:
    """Sending never blocks: a peer that does not read for too long counts as gone."""
    left, _ = pair

    def send_for_ever() -> None:
        while True:
            left.send({"type": "x" * 10_000})

    with pytest.raises(PeerLost):
        send_for_ever()


def test_a_link_that_is_full_is_not_lost(pair: tuple[Link, Link]) -> None:
    """Who can wait is told the difference, and everything that was sent arrives."""
    left, right = pair
    sent = 0

    def send_for_ever() -> None:
        nonlocal sent
        while True:
            left.send_bytes(b"x" * 10_000)
            sent += 1

    with pytest.raises(LinkFull):
        send_for_ever()
    received = 0
    while right.receive_bytes():
        received += 1
    assert received == sent > 0
    left.send_bytes(b"again")
    assert right.receive_bytes() == (b"again", [])


@contextlib.contextmanager
def few_files(free: int) -> Iterator[None]:
    """This process may open `free` more files."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    used = [os.dup(0) for _ in range(8)]
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(used) + 1, hard))
    for _ in range(1 << 16):
        try:
            used.append(os.dup(0))
        except OSError:
            break
    try:
        for _ in range(free):
            os.close(used.pop())
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        for fd in used:
            os.close(fd)


@pytest.mark.parametrize("free", [0, 1])
def test_files_that_find_no_room_here(pair: tuple[Link, Link], free: int) -> None:
    """It is not the sender's fault: the message is there without them, none stays open, and the next one is whole."""
    left, right = pair
    left.send({"type": "files"}, [0, 0])
    left.send({"type": "next"})
    with few_files(free):
        before = len(os.listdir("/proc/self/fd")) if free else 0
        with pytest.raises(FilesLost) as lost:
            right.receive()
        assert decode(lost.value.data, ()) == {"type": "files"}
        assert right.receive() == ({"type": "next"}, [])
        assert not free or len(os.listdir("/proc/self/fd")) == before


def test_more_files_than_a_link_allows() -> None:
    """That is the sender's fault."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    link = Link(ours)
    before = len(os.listdir("/proc/self/fd"))
    socket.send_fds(theirs, [b"{}"], [0] * (MAX_DESCRIPTORS + 1))
    with pytest.raises(RemoteProtocolError, match="longer than"):
        link.receive()
    assert len(os.listdir("/proc/self/fd")) == before
    link.close()
    theirs.close()


def test_too_long_a_message_is_our_own_mistake(pair: tuple[Link, Link]) -> None:
    """A message over the limit is refused before it is sent."""
    left, right = pair
    with pytest.raises(ValueError, match="over the limit"):
        left.send({"type": "x" * MAX_MESSAGE})
    assert right.receive() is None


@pytest.mark.parametrize("data", [b"{", b"[]", b"\xff", b"7", b"[" * 30_000, b'"' + b"x" * (MAX_MESSAGE + 1) + b'"'])
def test_nonsense_is_refused_and_its_files_closed(data: bytes) -> None:
    """What is no JSON object, or too long, raises; no descriptor stays open."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    link = Link(ours)
    before = len(os.listdir("/proc/self/fd"))
    theirs.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)
    socket.send_fds(theirs, [data], [0])
    with pytest.raises(RemoteProtocolError):
        link.receive()
    assert len(os.listdir("/proc/self/fd")) == before
    link.close()
    theirs.close()


def test_adopted_link_is_closed_on_exec() -> None:
    """An inherited descriptor becomes a link that the next exec does not pass on."""
    left, right = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    os.set_inheritable(right.fileno(), True)
    link = Link.adopt(right.detach())
    assert not os.get_inheritable(link.fileno())
    left.send(b"{}")
    assert link.receive() == ({}, [])
    link.close()
    left.close()


def test_a_message_of_another_process(pair: tuple[Link, Link]) -> None:
    """The kernel says who has sent a message: what others send is refused, and its files are closed."""
    left, right = pair
    mine = Link.adopt(os.dup(right.fileno()), sender=os.getpid())
    left.send({"type": "a"})
    assert mine.receive() == ({"type": "a"}, [])
    pid = os.fork()
    if not pid:
        left.send({"type": "b"}, [0])
        os._exit(0)
    os.waitpid(pid, 0)
    before = os.listdir("/proc/self/fd")
    with pytest.raises(RemoteProtocolError, match=f"sent by process {pid}, to whom it was not given"):
        mine.receive()
    assert os.listdir("/proc/self/fd") == before
    mine.close()


def test_a_message_of_nobody() -> None:
    """Where the kernel does not say who has sent a message, it was not the one process that may."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    link = Link(ours, os.getpid())
    theirs.send(b"{}")
    with pytest.raises(RemoteProtocolError, match="was not given"):
        link.receive()
    link.close()
    theirs.close()


def test_more_files_than_a_link_carries(pair: tuple[Link, Link]) -> None:
    """As many files as the kernel lets through are still too many, and are closed."""
    left, right = pair
    rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [0] * 253))]
    left._socket.sendmsg([b"{}"], rights)
    before = os.listdir("/proc/self/fd")
    with pytest.raises(RemoteProtocolError, match="longer"):
        right.receive()
    assert os.listdir("/proc/self/fd") == before


def lingering() -> socket.socket:
    """A socket that makes whoever closes it last wait: it has unsent bytes, and time."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        sock = socket.create_connection(listener.getsockname())
        accepted, _ = listener.accept()
        KEPT.append(accepted)
    sock.setblocking(False)
    with contextlib.suppress(BlockingIOError):
        while True:
            sock.send(bytes(1 << 20))
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 60))
    return sock


KEPT: list[socket.socket] = []  # other ends of those, until the test is over


@pytest.mark.parametrize("read", [True, False])
def test_nobody_waits_for_a_socket_that_lingers(pair: tuple[Link, Link], read: bool) -> None:
    """Files that are not wanted are let go of at once, those in messages that nobody has read too."""
    left, right = pair
    sock = lingering()
    left.send_bytes(b"{" if read else b"{}", [sock.fileno()])
    sock.close()

    def let_go() -> None:
        if read:
            with pytest.raises(RemoteProtocolError):
                right.receive()
        right.discard()
        right.close()

    thread = threading.Thread(target=let_go, daemon=True)
    thread.start()
    thread.join(10)
    stuck = thread.is_alive()
    KEPT.pop().close()
    thread.join(20)
    assert not stuck
