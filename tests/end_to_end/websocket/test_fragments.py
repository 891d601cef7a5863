"""Fragmented messages, RFC 6455 section 5.4."""

from __future__ import annotations

import itertools

import pytest

from tests.end_to_end.websocket.client import Client
from tests.end_to_end.websocket.frames import BINARY, CONTINUATION, PING, PONG, TEXT, Frame, fragments, frame, text

WHOLE = {
    "two": [b"frag", b"ment"],
    "three": [b"a", b"b", b"c"],
    "an empty one first": [b"", b"x"],
    "an empty one in between": [b"a", b"", b"b"],
    "an empty one last": [b"x", b""],
    "all of them empty": [b"", b"", b""],
    "1,000 of one byte": [b"x"] * 1000,
    "different widths": [b"a" * 125, b"b" * 126, b"c" * 65535, b"d" * 65536],
}


@pytest.mark.parametrize("opcode", [TEXT, BINARY])
@pytest.mark.parametrize("pieces", WHOLE.values(), ids=WHOLE)
def test_joined(client: Client, pieces: list[bytes], opcode: int) -> None:
    """Fragments are one message, whatever their number and lengths, whether they come at once or one by one."""
    whole = b"".join(pieces)
    wanted = whole.decode() if opcode == TEXT else whole
    frames = fragments(opcode, *pieces)
    assert client.send(*frames).message() == wanted
    for one in frames:
        client.send(one)
    assert client.message() == wanted


def test_byte_by_byte(client: Client) -> None:
    """Fragments and the frames between them may arrive in any pieces."""
    first, second = fragments(TEXT, b"he", b"llo")
    client.trickle(first + frame(PING, b"p") + second + text("next"))
    assert client.frame() == Frame(PONG, b"p")
    assert [client.message(), client.message()] == ["hello", "next"]


def test_several_messages(client: Client) -> None:
    """A message in fragments is followed by one that is whole and by another one in fragments."""
    client.send(*fragments(TEXT, b"1", b"2"), text("3"), *fragments(BINARY, b"4", b"5", b"6"))
    assert [client.message() for _ in range(3)] == ["12", "3", b"456"]


#: Frames as letters: T and B begin a text or binary message, C goes on; small letters are not the last of theirs.
LETTERS = {
    letter: frame({"t": TEXT, "b": BINARY, "c": CONTINUATION}[letter.lower()], b"x", fin=letter.isupper())
    for letter in "tTbBcC"
}


def right(order: str) -> bool:
    """Whether frames in this order are messages."""
    inside = False
    for letter in order:
        if (letter in "cC") != inside:
            return False
        inside = letter.islower()
    return True


ORDERS = ["".join(order) for length in (1, 2, 3) for order in itertools.product("tTbcC", repeat=length)]


@pytest.mark.parametrize("order", [order for order in ORDERS if not right(order) and right(order[:-1])])
def test_order(client: Client, order: str) -> None:
    """A continuation of nothing, and a new message inside another one, get 1002; messages in front are answered."""
    client.send(*(LETTERS[letter] for letter in order[:-1]))
    for ends in (number for number, letter in enumerate(order[:-1]) if letter.isupper()):
        client.message()
        assert ends < len(order) - 1
    client.send(LETTERS[order[-1]], text("behind"))
    assert client.failed() == 1002


def test_control_inside(client: Client) -> None:
    """Any number of control frames may stand between fragments."""
    frames = fragments(TEXT, *[b"x"] * 20)
    for number, one in enumerate(frames[:-1]):
        client.send(one, frame(PING, b"%d" % number), frame(PONG, b"%d" % number))
    client.send(frames[-1])
    assert [client.frame() for _ in frames[:-1]] == [Frame(PONG, b"%d" % number) for number in range(19)]
    assert client.message() == "x" * 20
