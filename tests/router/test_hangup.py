"""bridge.router.hangup: clients that leave while nobody reads their socket. Real sockets, no loop."""

from __future__ import annotations

import select
import socket
from collections.abc import Callable, Iterator

import pytest

from bridge.router.hangup import Hangups


class Loop:
    """Calls the reader when the descriptor is readable."""

    def __init__(self) -> None:
        self.callback: Callable[[], None] | None = None
        self.fd = -1

    def add_reader(self, fd: int, callback: Callable[[], None]) -> None:
        """As a loop's."""
        self.fd = fd
        self.callback = callback

    def remove_reader(self, fd: int) -> None:
        """As a loop's."""
        assert fd == self.fd
        self.callback = None

    def call_later(self, seconds: float, callback: Callable[[], None]) -> None:
        """As a loop's, but at once: a pause that lasts."""
        assert seconds > 0
        callback()

    def turn(self) -> bool:
        """One iteration; returns whether something was readable."""
        readable, _, _ = select.select([self.fd], [], [], 0)
        if readable and self.callback is not None:
            self.callback()
        return bool(readable)


class Paused:
    """Counts."""

    def __init__(self) -> None:
        self.closed = 0
        self.reset = False

    def peer_closed(self, *, reset: bool) -> None:
        """Count."""
        self.closed += 1
        self.reset = reset


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    """Both ends of a TCP connection: ours, the client's."""
    with socket.create_server(("127.0.0.1", 0)) as server, socket.create_connection(server.getsockname()) as client:
        ours, _ = server.accept()
        with ours:
            yield ours, client


@pytest.fixture
def loop() -> Loop:
    """A loop that turns by hand."""
    return Loop()


@pytest.fixture
def hangups(loop: Loop) -> Iterator[Hangups]:
    """Watched by that loop."""
    watch = Hangups(loop.add_reader, loop.remove_reader, loop.call_later)
    yield watch
    watch.close()
    assert loop.callback is None


def _wait(loop: Loop, paused: Paused) -> None:
    for _ in range(1000):
        loop.turn()
        if paused.closed:
            return
        select.select([loop.fd], [], [], 0.01)


def test_fin_is_noticed_once(loop: Loop, hangups: Hangups, pair: tuple[socket.socket, socket.socket]) -> None:
    """A client that closes is noticed although bytes wait unread, and only once."""
    ours, client = pair
    paused = Paused()
    client.sendall(b"unread")
    hangups.watch(ours.fileno(), paused)
    hangups.watch(ours.fileno(), paused)
    client.close()
    _wait(loop, paused)
    loop.turn()
    assert paused.closed == 1
    assert not loop.turn()


def test_data_wakes_nobody(loop: Loop, hangups: Hangups, pair: tuple[socket.socket, socket.socket]) -> None:
    """Bytes that arrive on a paused socket are not looked at."""
    ours, client = pair
    paused = Paused()
    hangups.watch(ours.fileno(), paused)
    client.sendall(b"unread")
    assert select.select([ours], [], [], 5)[0]
    assert not loop.turn()
    assert paused.closed == 0


def test_already_gone(loop: Loop, hangups: Hangups, pair: tuple[socket.socket, socket.socket]) -> None:
    """A client that had closed before it was watched is noticed too."""
    ours, client = pair
    client.close()
    assert select.select([ours], [], [], 5)[0]
    paused = Paused()
    hangups.watch(ours.fileno(), paused)
    _wait(loop, paused)
    assert paused.closed == 1


def test_forgotten(loop: Loop, hangups: Hangups, pair: tuple[socket.socket, socket.socket]) -> None:
    """What is forgotten is not called; forgetting twice, or for another connection, does nothing."""
    ours, client = pair
    paused, other = Paused(), Paused()
    hangups.watch(ours.fileno(), paused)
    hangups.forget(ours.fileno(), other)
    hangups.forget(ours.fileno(), paused)
    hangups.forget(ours.fileno(), paused)
    client.close()
    assert select.select([ours], [], [], 5)[0]
    assert not loop.turn()
    hangups.watch(ours.fileno(), paused)
    _wait(loop, paused)
    assert (paused.closed, other.closed) == (1, 0)
