"""bridge.router.http1: requests on a transport without a socket: pipelining, bodies, clients that leave, shutdown."""

from __future__ import annotations

import pytest

from tests.router.fakes import CHUNKED, EXPECT, GET, POST, Client, FakeExchange, FakeService, FakeTransport, asked


def test_pipelined_requests_wait_for_their_turn() -> None:
    """The second request is not begun before the first response is complete; answers are in order."""
    client = asked(GET + GET)
    assert len(client.service.exchanges) == 1
    client.connection.respond(200, b"", 1, 0, b"1", True)
    assert len(client.service.exchanges) == 1  # not from within the first one's call
    client.settle()
    assert len(client.service.exchanges) == 2
    client.connection.respond(200, b"", 1, 0, b"2", True)
    assert client.received.index(b"\r\n\r\n1") < client.received.index(b"\r\n\r\n2")


def test_pipelining_is_bounded() -> None:
    """Reading stops when more than one head waits, the client is watched, and reading goes on later."""
    client = Client(FakeService(answer=None, large_header_buffer_size=64, large_header_buffers=2))
    sent = client.send(GET * 100)
    assert sent < 64 * 2 + 2 * len(GET)
    assert not client.transport.reading
    assert client.connection in client.service.hangups.watched
    while len(client.service.exchanges) < 4:
        client.connection.respond(200, b"", 1, 0, b"1", True)
        client.settle()
    assert client.transport.reading
    assert not client.service.hangups.watched


def test_next_request_waits_until_the_answer_has_left() -> None:
    """A client that does not read its answers gets no further ones made."""
    client = Client(FakeService(answer=None))
    client.transport.room = 10
    client.send(GET + GET)
    client.connection.respond(200, b"", 1, 0, b"1", True)
    client.settle()
    assert not client.connection.flushed
    assert len(client.service.exchanges) == 1
    client.transport.take(10_000)
    client.settle()
    assert client.connection.flushed
    assert len(client.service.exchanges) == 2


def test_client_ready() -> None:
    """The exchange is told when all that it wrote has left."""
    client = Client(FakeService(answer=None))
    client.transport.room = 10
    client.send(GET)
    client.connection.respond(200, b"", 9, 0, b"123", False)
    assert not client.connection.flushed
    client.transport.take(1)
    assert client.exchange.ready == 0
    client.transport.take(10_000)
    assert client.exchange.ready == 1


@pytest.mark.parametrize("piece", [1, 7, 1 << 20])
def test_length_body_goes_into_the_exchanges_memory(piece: int) -> None:
    """A body is read into what the exchange offers, never beyond its end, and the next request is found."""
    client = Client(FakeService())
    client.send(POST + b"0123456789" + GET, piece)
    assert [bytes(exchange.body) for exchange in client.service.exchanges] == [b"0123456789", b""]


def test_offer_is_cut_to_what_the_body_lacks() -> None:
    """An exchange that offers more memory than the body needs does not swallow the next request."""
    client = asked(POST)
    client.exchange.offer = 60000
    assert len(client.connection.get_buffer(65536)) == 10


def test_pause_and_resume() -> None:
    """A paused body is not read and its client is watched; the deadline for the body stands still."""
    client = asked(POST)
    client.connection.pause_body()
    client.connection.pause_body()
    assert not client.transport.reading
    assert client.connection in client.service.hangups.watched
    client.service.clock.advance(1000)
    assert not client.transport.closing
    client.connection.resume_body()
    assert client.transport.reading
    assert not client.service.hangups.watched
    client.send(b"0123456789")
    assert client.exchange.complete


def test_exchange_may_pause_at_once() -> None:
    """The exchange may pause from within the call that begins it."""
    service = FakeService(answer=None)
    service.early = lambda exchange: exchange.connection.pause_body()
    client = Client(service)
    client.send(POST)
    assert not client.transport.reading


def test_exchange_may_answer_at_once() -> None:
    """The exchange may refuse from within the call that begins it, many times in a row, without recursion."""
    service = FakeService(answer=None)
    service.early = lambda exchange: exchange.connection.refuse(503)
    client = Client(service)
    client.send(GET * 2000)
    assert client.received.count(b"HTTP/1.1 503") == 2000
    client.close()
    assert all(exchange.gone == 0 for exchange in service.exchanges)


def test_early_answer_and_a_small_rest() -> None:
    """A response that ends before a short body: the rest is read and dropped, the connection is kept."""
    client = asked(POST + b"012")
    client.connection.respond(200, b"", 1, 0, b"1", True)
    assert b"connection: close" not in client.received
    client.send(b"3456789" + GET)
    assert len(client.service.exchanges) == 2
    assert client.service.exchanges[0].body == b"012"


def test_early_answer_and_a_large_rest() -> None:
    """A response that ends before a long body: close, but the client can send and read until it is done."""
    client = asked(POST.replace(b"10", b"1000000"))
    client.connection.respond(413, b"", 1, 0, b"1", True)
    assert b"connection: close" in client.received
    assert client.transport.eof
    assert not client.transport.closing
    client.send(b"x" * 500_000)
    assert client.exchange.body == b""
    client.close()
    assert client.transport.closing
    assert client.exchange.gone == 0


def test_early_answer_to_chunks_closes() -> None:
    """The rest of a transfer-chunked body has no known size, so the connection ends behind the answer."""
    client = asked(CHUNKED + b"3\r\nabc\r\n")
    client.connection.respond(200, b"", 1, 0, b"1", True)
    assert b"connection: close" in client.received
    assert client.transport.eof


def test_answer_while_the_body_comes() -> None:
    """Head of the response first, body of the request later: both go on, and the connection stays."""
    client = asked(POST)
    client.connection.respond(200, b"", 4, 0, b"ab", False)
    client.send(b"0123456789")
    client.connection.write(b"cd", True)
    client.send(GET)
    assert len(client.service.exchanges) == 2


def test_paused_body_is_read_on_after_the_answer() -> None:
    """A response that ends while the body is paused does not leave the socket paused."""
    client = asked(POST)
    client.connection.pause_body()
    client.connection.respond(200, b"", 1, 0, b"1", True)
    assert client.transport.reading
    client.connection.pause_body()  # too late to mean this connection's next request
    assert client.transport.reading


def test_continue() -> None:
    """100 (Continue) is sent once, when it is asked for, and only to a client that waits."""
    request = EXPECT
    client = asked(request)
    assert client.received == b""
    client.connection.send_continue()
    client.connection.send_continue()
    assert client.received == b"HTTP/1.1 100 Continue\r\n\r\n"
    eager = asked(request + b"0")
    eager.connection.send_continue()
    assert eager.received == b""


def test_refused_expectation_closes() -> None:
    """A final answer instead of 100 ends the connection: nobody knows whether the body will come."""
    client = asked(EXPECT)
    client.connection.respond(403, b"", 1, 0, b"1", True)
    assert b"connection: close" in client.received
    assert client.transport.eof


# Clients that leave


@pytest.mark.parametrize("request_bytes", [GET, GET + GET, POST, CHUNKED, POST + b"0123456789"])
def test_client_that_leaves(request_bytes: bytes) -> None:
    """FIN before the response is complete: the exchange is told once, everything behind it is dropped."""
    client = asked(request_bytes)
    client.close()
    assert client.transport.aborted
    client.connection.connection_lost(None)
    assert client.exchange.gone == 1
    assert len(client.service.exchanges) == 1
    assert client.connection.respond(200, b"", 0, 0, b"", True) is False
    assert client.service.connections == set()
    assert len(client.service.wheel) == 0


def test_reset() -> None:
    """A connection that is lost without FIN tells its exchange too."""
    client = asked()
    client.connection.connection_lost(ConnectionResetError())
    assert client.exchange.gone == 1


def test_client_that_leaves_while_paused() -> None:
    """The hang-up watch ends a paused connection."""
    client = asked(POST)
    client.connection.pause_body()
    client.connection.peer_closed(reset=False)
    assert client.exchange.gone == 1
    assert client.transport.aborted
    assert not client.service.hangups.watched


def test_fin_behind_the_answer_lets_it_flush() -> None:
    """FIN while the end of the answer still waits in the buffer: it is closed, not cut."""
    client = Client(FakeService(answer=None))
    client.transport.room = 10
    client.send(GET)
    client.connection.respond(200, b"", 1, 0, b"1", True)
    client.close()
    assert client.transport.closing
    assert not client.transport.aborted
    assert client.exchange.gone == 0


def test_drain() -> None:
    """Idle connections close at once; a response under way is the last of its connection."""
    idle = Client(FakeService())
    idle.send(GET)
    idle.connection.drain()
    assert idle.transport.closing
    busy = asked()
    busy.service.draining = True
    busy.connection.drain()
    assert not busy.transport.closing
    busy.connection.respond(200, b"", 1, 0, b"1", True)
    assert b"connection: close" in busy.received
    assert busy.transport.closing


def test_drain_between_head_and_end_of_a_response() -> None:
    """A response that had promised to keep the connection is still its last one."""
    client = asked()
    client.connection.respond(200, b"", 2, 0, b"1", False)
    client.service.draining = True
    client.connection.write(b"2", True)
    assert client.transport.closing


def test_drain_of_a_fresh_connection() -> None:
    """A connection just accepted gets a moment for its first request."""
    client = Client(FakeService(answer=None))
    client.service.draining = True
    client.connection.drain()
    assert not client.transport.closing
    client.send(GET)
    assert len(client.service.exchanges) == 1
    other = Client(FakeService())
    other.connection.drain()
    other.service.clock.advance(2)
    assert other.transport.closing


def test_a_connection_too_many() -> None:
    """One for which there is no room is closed at once, and never counted among those that are open."""
    service = FakeService()
    service.room = False
    client = Client(service)
    assert client.transport.closing
    assert not service.connections
    assert not service.exchanges


@pytest.mark.parametrize(
    ("peername", "sockname", "block", "trusted"),
    [
        (("192.0.2.7", 4711), ("192.0.2.1", 80), b"192.0.2.7\x004711\x00192.0.2.1\x0080\n", True),
        (("2001:db8::7", 4711, 0, 0), ("::1", 80, 0, 0), b"2001:db8::7\x004711\x00::1\x0080\n", False),
        ("", "/run/bridge.sock", b"\0\0/run/bridge.sock\0\n", False),
        ("", b"\0abstract", b"\0\0@abstract\0\n", False),
    ],
)
def test_peer(peername: object, sockname: object, block: bytes, trusted: bool) -> None:
    """The addresses of both ends are written down once, for TCP of both versions and for unix sockets."""
    client = Client(FakeService(), FakeTransport(peername, sockname))
    assert client.connection.peer == block
    assert client.connection.trusted is trusted


def test_parser_and_framing_agree_again_after_each_request() -> None:
    """Bodies, upgrades and odd connection fields leave nothing behind in the parser."""
    client = Client(FakeService())
    upgrade = GET[:-2] + b"Connection: upgrade\r\nUpgrade: x\r\n\r\n"
    odd = GET[:-2] + b"Proxy-Connection: close\r\n\r\n"
    for request in (
        POST + b"0123456789",
        upgrade,
        GET,
        odd,
        GET,
        CHUNKED + b"0\r\n\r\n",
        GET,
        GET.replace(b"GET", b"HEAD"),
        GET,
    ):
        client.send(request)
    assert len(client.service.exchanges) == 9
    assert not client.transport.closing


def test_broken_chunk_ends_the_exchange() -> None:
    """A bad chunk behind a good one: 400 for the client, and the exchange is told that it has that."""
    seen: list[FakeExchange] = []
    service = FakeService(answer=None)
    service.early = seen.append
    client = Client(service)
    client.send(CHUNKED)
    client.send(b"3\r\nabc\r\n")
    client.send(b"zz")
    assert seen[0].body == b"abc"
    assert (seen[0].answered, seen[0].gone) == ([400], 0)
    assert client.received.startswith(b"HTTP/1.1 400")
