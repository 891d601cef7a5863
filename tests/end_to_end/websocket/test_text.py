"""Text is UTF-8, RFC 6455 sections 5.6 and 8.1, and that is judged as it arrives."""

from __future__ import annotations

import pytest

from tests.end_to_end.server import Server
from tests.end_to_end.websocket.client import Client, connect
from tests.end_to_end.websocket.frames import BINARY, CONTINUATION, PING, PONG, TEXT, Frame, fragments, frame, text

VALID = {
    "Greek": "κόσμε",
    "NUL": "\0",
    "the first of each length": "\0\x80\u0800\U00010000",
    "the last of each length": "\x7f\u07ff\uffff\U0010ffff",
    "around the surrogates": "\ud7ff\ue000\ufffd",
    "characters that are none": "\ufffe\uffff\U0001fffe\ufdd0",
    "a byte order mark": "\ufeffx",
    "combined": "e\u0301👩\u200d🚀",
}
INVALID = {
    "a continuation byte alone": b"\x80",
    "the last one alone": b"\xbf",
    "all continuation bytes": bytes(range(0x80, 0xC0)),
    "two bytes, one missing": b"\xc3",
    "three bytes, one missing": b"\xe2\x82",
    "four bytes, one missing": b"\xf0\x9f\x9a",
    "two bytes and a letter": b"\xc3(",
    "three bytes and a letter": b"\xe2\x82(",
    "four bytes and a letter": b"\xf0\x9f\x9a(",
    "overlong slash in two": b"\xc0\xaf",
    "overlong slash in three": b"\xe0\x80\xaf",
    "overlong slash in four": b"\xf0\x80\x80\xaf",
    "overlong NUL": b"\xc0\x80",
    "longest overlong": b"\xc1\xbf",
    "first surrogate": b"\xed\xa0\x80",
    "last surrogate": b"\xed\xbf\xbf",
    "a pair of surrogates": b"\xed\xa0\x80\xed\xb0\x80",
    "beyond U+10FFFF": b"\xf4\x90\x80\x80",
    "five bytes": b"\xf8\x88\x80\x80\x80",
    "six bytes": b"\xfc\x84\x80\x80\x80\x80",
    "FE": b"\xfe",
    "FF": b"\xff",
}
FATAL_AT_ONCE = {name: data for name, data in INVALID.items() if "missing" not in name}


@pytest.mark.parametrize("data", VALID.values(), ids=VALID)
def test_valid(client: Client, data: str) -> None:
    """Every code point passes, whole and split into fragments at every byte."""
    assert client.send(text(data)).message() == data
    raw = data.encode()
    for place in range(1, len(raw)):
        assert client.send(*fragments(TEXT, raw[:place], raw[place:])).message() == data
    assert client.send(*fragments(TEXT, *(bytes([byte]) for byte in raw))).message() == data
    assert client.trickle(text(data)).message() == data


@pytest.mark.parametrize("data", INVALID.values(), ids=INVALID)
def test_invalid(client: Client, data: bytes) -> None:
    """What is not UTF-8 gets 1007 and the end of the connection."""
    client.send(frame(TEXT, b"before " + data), text("behind"))
    assert client.failed() == 1007


@pytest.mark.parametrize("data", INVALID.values(), ids=INVALID)
def test_invalid_in_fragments(client: Client, data: bytes) -> None:
    """The same when its bytes are spread over fragments."""
    client.send(*fragments(TEXT, b"before ", *(bytes([byte]) for byte in data), b""))
    assert client.failed() == 1007


@pytest.mark.parametrize("data", FATAL_AT_ONCE.values(), ids=FATAL_AT_ONCE)
def test_at_once(client: Client, data: bytes) -> None:
    """It is noticed with the first byte that cannot be, although the message has not ended."""
    client.send(frame(TEXT, b"before", fin=False), frame(PING))
    assert client.frame() == Frame(PONG)
    client.send(frame(CONTINUATION, data, fin=False))
    assert client.failed() == 1007


@pytest.mark.parametrize("data", FATAL_AT_ONCE.values(), ids=FATAL_AT_ONCE)
def test_within_a_frame(client: Client, data: bytes) -> None:
    """The same within one frame, of which most is still to come."""
    begun = frame(TEXT, b"before" + data, announced=50_000)
    client.send(begun[: -len(data)]).send(begun[-len(data) :])
    assert client.failed() == 1007


def test_the_first_byte_that_cannot_be(client: Client) -> None:
    """A fragment that ends within a character is not judged before its next byte."""
    client.send(frame(TEXT, b"\xf4", fin=False), frame(PING))
    assert client.frame() == Frame(PONG)
    client.send(frame(CONTINUATION, b"\x90", fin=False))
    assert client.failed() == 1007


def test_an_unfinished_character_is_not_carried_over(client: Client) -> None:
    """A message that ends within a character is refused, whatever the next one begins with."""
    client.send(frame(TEXT, b"\xc3"), frame(TEXT, b"\xa9"))
    assert client.failed() == 1007


@pytest.mark.parametrize("data", INVALID.values(), ids=INVALID)
def test_binary(client: Client, data: bytes) -> None:
    """Binary messages may hold anything."""
    assert client.send(frame(BINARY, data)).message() == data
    assert client.send(*fragments(BINARY, data[:1], data[1:])).message() == data


def test_what_the_application_hears(server: Server) -> None:
    """Nothing of a message that is not UTF-8 reaches the application, but that the connection has failed."""
    with connect(server, "/deaf?gate=all&name=utf8") as client:
        client.send(*fragments(TEXT, b"good", b"\xff"))
        assert client.failed() == 1007
    server.open("all")
    server.log.take(r"utf8: left 1007\n")
