"""Pings and pongs, RFC 6455 sections 5.5.2 and 5.5.3."""

from __future__ import annotations

import pytest

from tests.end_to_end.server import Server
from tests.end_to_end.websocket.client import Client, connect
from tests.end_to_end.websocket.frames import CONTINUATION, PING, PONG, TEXT, Frame, binary, frame, text


@pytest.mark.parametrize("payload", [b"", b"hello", b"\0\xff\xfe\xc3(", b"x" * 125], ids=["none", "text", "raw", "125"])
def test_ping(client: Client, payload: bytes) -> None:
    """A ping is answered by a pong with the same payload, whatever that is."""
    assert client.send(frame(PING, payload)).frame() == Frame(PONG, payload)


def test_ping_byte_by_byte(client: Client) -> None:
    """A ping may arrive in any pieces."""
    assert client.trickle(frame(PING, b"x" * 125)).frame() == Frame(PONG, b"x" * 125)


def test_many_pings(client: Client) -> None:
    """Pings that come at once are answered in their order."""
    payloads = [b"ping %d" % number for number in range(100)]
    client.send(*(frame(PING, payload) for payload in payloads))
    assert [client.frame() for _ in payloads] == [Frame(PONG, payload) for payload in payloads]


@pytest.mark.parametrize("payload", [b"", b"unsolicited", b"x" * 125])
def test_pong(client: Client, payload: bytes) -> None:
    """A pong that nobody has asked for is ignored."""
    client.send(frame(PONG, payload), frame(PING, b"x"), frame(PONG), text("hello"))
    assert client.frame() == Frame(PONG, b"x")
    assert client.message() == "hello"


def test_ping_inside_a_message(client: Client) -> None:
    """A ping between two fragments is answered before the message has ended, and does not end it."""
    client.send(frame(TEXT, b"a", fin=False), frame(PING, b"1"))
    assert client.frame() == Frame(PONG, b"1")
    client.send(frame(CONTINUATION, b"b", fin=False), frame(PONG), frame(PING, b"2"), frame(CONTINUATION, b"c"))
    assert client.frame() == Frame(PONG, b"2")
    assert client.message() == "abc"


def test_ping_while_the_application_is_deaf(server: Server) -> None:
    """Pings are answered although the application takes no messages, as long as the server still reads."""
    with connect(server, "/deaf?gate=heard") as client:
        for number in range(3):
            client.send(binary(b"x" * 100), frame(PING, b"%d" % number))
            assert client.frame() == Frame(PONG, b"%d" % number)
    server.open("heard")


def test_pings_without_end(client: Client) -> None:
    """A client that reads no pongs does not make the server keep one for each ping: the last one counts (5.5.3)."""
    payload = frame(PING, b"x" * 125) * 500
    for _ in range(30_000_000 // len(payload)):
        client.send(payload)
    client.send(frame(PING, b"last"))
    pongs = 0
    while (answer := client.frame()) == Frame(PONG, b"x" * 125):
        pongs += 1
    assert answer == Frame(PONG, b"last")
    assert pongs < 30_000_000 // 131
    assert client.send(text("hello")).message() == "hello"
