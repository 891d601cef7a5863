"""bridge.router.http1: the deadlines of a connection, by a clock that is turned by hand."""

from __future__ import annotations

import pytest

from tests.router.fakes import EXPECT, GET, POST, Client, FakeService, asked


def test_idle_connections_are_closed_silently() -> None:
    """After the idle timeout, not before, and without an answer."""
    client = Client(FakeService())
    client.send(GET)
    before = client.received
    client.service.clock.advance(179)
    assert not client.transport.closing
    client.service.clock.advance(2)
    assert client.transport.closing
    assert client.received == before


def test_slow_head() -> None:
    """The time for a head counts from its first byte, whatever dribbles in: 408."""
    client = Client(FakeService())
    client.send(GET)
    client.service.clock.advance(100)
    for code in b"GET / HTTP/1.1\r\nHost: a\r\nA: bcde":
        client.send(bytes([code]))
        client.service.clock.advance(1)
    assert client.received.count(b"HTTP/1.1 408 Request Timeout") == 1
    assert [status for _, status in client.service.refusals] == [408]
    assert client.transport.eof


def test_slow_body() -> None:
    """The time for a body counts between two pieces: 408, and the exchange is told of that."""
    client = asked(POST)
    for _ in range(5):
        client.send(b"x")
        client.service.clock.advance(29)
    assert client.exchange.answered == []
    client.service.clock.advance(2)
    assert client.received.startswith(b"HTTP/1.1 408")
    assert b"connection: close" in client.received
    assert (client.exchange.answered, client.exchange.gone) == ([408], 0)


def test_slow_body_behind_a_begun_response() -> None:
    """A body that stops while the response is under way: the connection is cut."""
    client = asked(POST)
    client.connection.respond(200, b"", 4, 0, b"ab", False)
    client.service.clock.advance(31)
    assert client.transport.aborted
    assert client.exchange.gone == 1


def test_slow_reader() -> None:
    """A client that takes a byte now and then keeps its connection; one that takes none loses it."""
    client = Client(FakeService(answer=None))
    client.transport.room = 10
    client.send(GET)
    client.connection.respond(200, b"", 100, 0, b"x" * 100, True)
    for _ in range(5):
        client.transport.take(1)
        client.service.clock.advance(25)
        assert not client.transport.closing
    client.service.clock.advance(70)
    assert client.transport.aborted


@pytest.mark.parametrize("size", [None, 1_000_000], ids=["chunked", "length"])
@pytest.mark.parametrize("piece", [1, 900, 2000])
def test_slow_reader_of_an_application_that_writes_on(size: int | None, piece: int) -> None:
    """Bytes that are written while the client lags are not held against it, as long as it takes any."""
    client = lagging(size, piece)
    for _ in range(5):
        client.transport.take(100)
        client.service.clock.advance(25)
        assert not client.transport.closing
    client.service.clock.advance(70)
    assert client.transport.aborted
    assert client.exchange.gone == 1


@pytest.mark.parametrize("size", [None, 1_000_000], ids=["chunked", "length"])
@pytest.mark.parametrize("piece", [1, 900, 2000])
def test_reader_that_takes_nothing_of_what_is_written(size: int | None, piece: int) -> None:
    """However much has been written since, the client has one `send_timeout` to take the first byte."""
    client = lagging(size, piece)
    client.service.clock.advance(29)
    assert not client.transport.closing
    client.service.clock.advance(2)
    assert client.transport.aborted


@pytest.mark.parametrize("size", [None, 1_000_000], ids=["chunked", "length"])
@pytest.mark.parametrize("leaves", [True, False])
def test_what_waits_for_slow_readers_is_counted(size: int | None, leaves: bool) -> None:
    """What lies in our own memory, not what lies in a worker's; until the client has taken it, or has left."""
    client = lagging(size, 900)
    assert client.service.kept == 300 * 900
    assert client.connection.crowded
    client.connection.write(memoryview(bytes(5000)), False)
    assert client.service.kept == 300 * 900
    if leaves:
        client.connection.connection_lost(None)
    else:
        client.transport.take(1 << 20)
    assert client.service.kept == 0
    assert not client.connection.crowded


def lagging(size: int | None, piece: int) -> Client:
    """A client that does not take all of a first piece, and an application that then writes 300 more."""
    client = asked()
    client.transport.room = 500
    client.connection.respond(200, b"", size, 0, b"x" * 1000, False)
    assert not client.connection.flushed
    for _ in range(300):
        client.connection.write(b"x" * piece, False)
    return client


def test_an_application_may_take_its_time() -> None:
    """No deadline of the connection runs while the application works."""
    client = asked()
    client.service.clock.advance(100_000)
    assert not client.transport.closing


def test_waiting_for_continue_is_not_the_clients_fault() -> None:
    """The body's deadline starts when the client is told to send it."""
    client = asked(EXPECT)
    client.service.clock.advance(1000)
    assert client.received == b""
    client.connection.send_continue()
    client.service.clock.advance(31)
    assert b"HTTP/1.1 408" in client.received


def test_lingering_ends() -> None:
    """A refused client that neither reads nor closes is cut after a while."""
    client = Client(FakeService())
    client.send(b"nonsense\r\n\r\n")
    assert not client.transport.closing
    client.service.clock.advance(11)
    assert client.transport.aborted


def test_busy_connections_leave_the_wheel_alone() -> None:
    """A thousand requests start no more than a handful of timers."""
    client = Client(FakeService())
    for _ in range(1000):
        client.send(GET)
    assert client.service.clock.started < 5
