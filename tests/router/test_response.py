"""bridge.router.response: answers on a transport without a socket, and what becomes of the connection behind them."""

from __future__ import annotations

import pytest

from bridge.errors import LocalProtocolError
from bridge.ipc.message import DATE
from tests.router.fakes import GET, Client, FakeService, asked

HEAD = GET.replace(b"GET", b"HEAD")
OLD = b"GET / HTTP/1.0\r\n\r\n"
UPLOAD = b"POST / HTTP/1.0\r\nContent-Length: 10000000\r\n\r\n"


def test_head_and_body_leave_in_one_write() -> None:
    """A small response is one write, and the connection is idle behind it."""
    client = Client(FakeService())
    client.send(GET)
    assert len(client.transport.writes) == 1
    assert client.received == (
        b"HTTP/1.1 200 OK\r\nserver: Bridge\r\ndate: Sun, 06 Nov 1994 08:49:37 GMT\r\n"
        b"content-type: text/plain\r\ncontent-length: 5\r\n\r\nHello"
    )
    client.send(GET)
    assert len(client.service.exchanges) == 2


def test_unknown_size_that_is_complete_gets_a_length() -> None:
    """A whole body without an announced length is measured, not chunked."""
    client = asked()
    assert client.connection.respond(200, b"", None, 0, b"abc", True)
    assert client.received.endswith(b"content-length: 3\r\n\r\nabc")


def test_chunked_response() -> None:
    """A body of unknown length is transfer-chunked on 1.1; nothing is written for an empty piece."""
    client = asked()
    long = memoryview(b"y" * 5000)
    assert client.connection.respond(200, b"", None, 0, b"abc", False)
    assert client.connection.write(b"", False)
    assert client.connection.write(long, False)
    assert client.connection.write(b"de", True)
    head, _, body = client.received.partition(b"\r\n\r\n")
    assert b"transfer-encoding: chunked" in head
    assert body == b"3\r\nabc\r\n1388\r\n" + b"y" * 5000 + b"\r\n2\r\nde\r\n0\r\n\r\n"
    assert any(written is long for written in client.transport.writes)  # as it is, without a copy
    assert not client.transport.closing


def test_empty_chunked_response() -> None:
    """A response whose end comes alone still ends."""
    client = asked()
    client.connection.respond(200, b"", None, 0, b"", False)
    client.connection.write(b"", True)
    assert client.received.endswith(b"\r\n\r\n0\r\n\r\n")


def test_long_first_piece_is_not_copied() -> None:
    """A long body goes to the transport as the object that it is."""
    client = asked()
    long = memoryview(b"y" * 50000)
    client.connection.respond(200, b"", 50000, 0, long, True)
    assert client.transport.writes[-1] is long
    assert client.received.endswith(b"content-length: 50000\r\n\r\n" + b"y" * 50000)


def test_old_clients_get_a_body_until_close() -> None:
    """On 1.0 a body of unknown length ends with the connection, and is never chunked."""
    client = asked(OLD)
    client.connection.respond(200, b"", None, 0, b"abc", False)
    client.connection.write(b"def", True)
    head, _, body = client.received.partition(b"\r\n\r\n")
    assert b"chunked" not in head
    assert b"connection: close" in head
    assert body == b"abcdef"
    assert client.transport.closing
    assert not client.transport.aborted


@pytest.mark.parametrize(("request_bytes", "status"), [(HEAD, 200), (GET, 204), (GET, 304)])
def test_no_body_where_http_allows_none(request_bytes: bytes, status: int) -> None:
    """The body of a response to HEAD, and of 204 and 304, is dropped; the connection stays in step."""
    client = asked(request_bytes)
    assert client.connection.respond(status, b"", 6, 0, b"abc", False)
    assert client.connection.write(b"def", True)
    assert client.received.endswith(b"\r\n\r\n")
    assert (b"content-length: 6" in client.received) is (status != 204)
    client.send(GET)
    assert len(client.service.exchanges) == 2


def test_flags_of_the_application() -> None:
    """A Date of the application's own is not doubled."""
    client = asked()
    client.connection.respond(200, b"date: x\r\n", 0, DATE, b"", True)
    assert client.received.count(b"date:") == 1


@pytest.mark.parametrize("pieces", [[b"abcdef"], [b"abc", b"def"], [b"abc"], [b""]])
def test_length_that_is_not_kept(pieces: list[bytes]) -> None:
    """A response longer or shorter than announced is cut, and nothing more is taken."""
    client = asked()
    connection = client.connection
    sent = connection.respond(200, b"", 5, 0, pieces[0], len(pieces) == 1)
    for index, piece in enumerate(pieces[1:], 2):
        sent = connection.write(piece, index == len(pieces))
    assert not sent
    assert client.transport.aborted
    assert connection.write(b"x", True) is False
    assert connection.respond(200, b"", 0, 0, b"", True) is False


def test_second_head_is_our_own_mistake() -> None:
    """A second response head raises, and writes nothing."""
    client = asked()
    client.connection.respond(200, b"", 5, 0, b"", False)
    before = client.received
    with pytest.raises(LocalProtocolError):
        client.connection.respond(200, b"", 5, 0, b"", False)
    assert client.received == before


def test_abort_never_looks_complete() -> None:
    """A body that only the close would end is cut with a reset; others lack bytes anyway."""
    client = asked(OLD)
    client.connection.respond(200, b"", None, 0, b"abc", False)
    client.connection.abort()
    assert client.transport.aborted
    assert client.transport.socket.resets
    other = asked()
    other.connection.respond(200, b"", None, 0, b"abc", False)
    other.connection.abort()
    assert other.transport.aborted
    assert not other.received.endswith(b"0\r\n\r\n")
    assert not other.transport.socket.resets


@pytest.mark.parametrize("leaves", [False, True], ids=["stays", "leaves"])
def test_a_body_until_close_that_waits_for_the_client(leaves: bool) -> None:
    """Handed over to the last byte, it is not complete yet: until the client has taken it, an end is a reset."""
    client = asked(OLD)
    client.transport.room = 100
    client.connection.respond(200, b"", None, 0, b"x" * 1000, False)
    client.connection.write(b"y" * 1000, True)
    if leaves:
        client.close()
    assert client.transport.socket.resets
    client.service.clock.advance(31)
    assert client.transport.aborted
    assert client.transport.socket.resets


@pytest.mark.parametrize("leaves", [False, True], ids=["stays", "leaves"])
def test_a_body_until_close_that_the_client_takes(leaves: bool) -> None:
    """When the client has all of it, the connection is closed as usual, and what the kernel holds is not lost."""
    client = asked(OLD)
    client.transport.room = 100
    client.connection.respond(200, b"", None, 0, b"x" * 1000, False)
    client.connection.write(b"y" * 1000, True)
    if leaves:
        client.close()
    client.transport.take(2000)
    assert client.transport.closing
    assert not client.transport.aborted
    assert not client.transport.socket.resets


def test_a_body_until_close_that_leaves_at_once() -> None:
    """Nothing of it waits when its last byte is handed over: closed as usual."""
    client = asked(OLD)
    client.connection.respond(200, b"", None, 0, b"x", False)
    assert client.transport.socket.resets
    client.connection.write(b"y", True)
    assert client.transport.closing
    assert not client.transport.socket.resets


def test_an_answer_to_a_client_that_still_sends() -> None:
    """However long it takes to read its answer: it is cut only when it takes none of it, and visibly."""
    client = asked(UPLOAD)
    client.transport.room = 100
    client.connection.respond(200, b"", None, 0, b"x" * 1000, False)
    client.connection.write(b"y" * 1000, True)
    for _ in range(5):
        client.service.clock.advance(25)
        client.send(b"z" * 100)
        client.transport.take(10)
        assert not client.transport.closing
    client.service.clock.advance(62)
    assert client.transport.aborted
    assert client.transport.socket.resets


def test_an_answer_that_a_client_that_still_sends_has_taken() -> None:
    """From then on it has ten seconds to close; what the kernel still holds of the answer is not thrown away."""
    client = asked(UPLOAD)
    client.transport.room = 100
    client.connection.respond(200, b"", None, 0, b"x" * 1000, False)
    client.connection.write(b"y" * 1000, True)
    client.service.clock.advance(25)
    client.transport.take(3000)
    client.service.clock.advance(9)
    assert not client.transport.closing
    assert not client.transport.socket.resets
    client.service.clock.advance(2)
    assert client.transport.aborted


def test_refuse() -> None:
    """The router's own answer keeps the connection; behind a begun response it cuts instead."""
    client = asked()
    client.connection.refuse(503, retry_after=1)
    assert client.received.startswith(b"HTTP/1.1 503 Service Unavailable\r\n")
    assert b"retry-after: 1\r\n" in client.received
    assert not client.transport.closing
    client.send(GET)
    client.connection.respond(200, b"", 5, 0, b"", False)
    client.connection.refuse(502)
    assert client.transport.aborted
