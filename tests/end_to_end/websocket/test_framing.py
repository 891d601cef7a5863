"""Frames, RFC 6455 section 5.2: lengths, masks, reserved bits and opcodes."""

from __future__ import annotations

import os

import pytest

from tests.end_to_end.server import Server
from tests.end_to_end.websocket.client import Client, connect
from tests.end_to_end.websocket.frames import BINARY, CLOSE, CONTINUATION, PING, PONG, TEXT, binary, frame, text

LENGTHS = [0, 1, 125, 126, 127, 128, 65535, 65536, 65537, 131072, 1000000]


@pytest.mark.parametrize("size", LENGTHS)
@pytest.mark.parametrize("piece", [0, 1, 997])
def test_lengths(client: Client, size: int, piece: int) -> None:
    """A message of any length comes back as it was, in whatever pieces its frame arrives."""
    if piece and size > 700 * piece:
        piece = size // 100  # the idea is a head and a payload in pieces, not a hundred thousand of them
    data = os.urandom(size)
    letters = "".join(chr(97 + byte % 26) for byte in data)
    for made, wanted in ((binary(data), data), (text(letters), letters)):
        if piece:
            client.trickle(made, piece)
        else:
            client.send(made)
        assert client.message() == wanted
    assert client.leave() == (1000, "")


def test_many_at_once(client: Client) -> None:
    """A thousand messages in one piece come back in their order."""
    messages = [f"{number} {'x' * (number % 300)}" for number in range(1000)]
    client.send(*map(text, messages))
    assert [client.message() for _ in messages] == messages


@pytest.mark.parametrize("mask", [b"\0\0\0\0", b"\xff\xff\xff\xff", b"\0\x01\x02\x03"])
def test_masks(client: Client, mask: bytes) -> None:
    """Any mask is taken off, also one that changes nothing."""
    for size in (1, 2, 3, 4, 5, 1000):
        data = os.urandom(size)
        assert client.send(frame(BINARY, data, mask=mask)).message() == data


@pytest.mark.parametrize(("width", "size"), [(2, 0), (2, 125), (8, 0), (8, 125), (8, 126), (8, 65535)])
def test_lengths_that_are_too_wide(client: Client, width: int, size: int) -> None:
    """A length in more bytes than it needs, which no client may send, fails the connection."""
    client.send(frame(BINARY, bytes(size), width=width))
    assert client.failed() == 1002


NAMES = {CONTINUATION: "continuation", TEXT: "text", BINARY: "binary", CLOSE: "close", PING: "ping", PONG: "pong"}
BROKEN = {
    **{
        f"reserved bits {bits:03b} on {NAMES[opcode]}": frame(opcode, payload, reserved=bits)
        for bits in range(1, 8)
        for opcode, payload in ((TEXT, b"hello"), (BINARY, b""), (PING, b""), (PONG, b"x"), (CLOSE, b"\x03\xe8"))
    },
    **{
        f"opcode {opcode} with {len(payload)} bytes": frame(opcode, payload)
        for opcode in (3, 4, 5, 6, 7, 11, 12, 13, 14, 15)
        for payload in (b"", b"payload")
    },
    **{f"an opening {NAMES[opcode]}": frame(opcode, b"x", fin=False) for opcode in (PING, PONG)},
    "a close that is not the last fragment": frame(CLOSE, b"\x03\xe8", fin=False),
    **{
        f"{NAMES[opcode]} of {size} bytes": frame(opcode, b"\x03\xe8" + b"x" * (size - 2))
        for opcode in (PING, PONG, CLOSE)
        for size in (126, 70000)
    },
    **{
        f"{NAMES[opcode]} without a mask": frame(opcode, payload, mask=b"")
        for opcode, payload in ((TEXT, b"hello"), (TEXT, b""), (BINARY, b"x" * 1000), (PING, b""), (CLOSE, b"\x03\xe8"))
    },
}


@pytest.mark.parametrize("made", BROKEN.values(), ids=BROKEN)
def test_broken(client: Client, made: bytes) -> None:
    """What RFC 6455 forbids gets 1002 and the end of the connection; nothing behind it is looked at."""
    client.send(made, frame(PING, b"behind"), text("behind"))
    assert client.failed() == 1002


@pytest.mark.parametrize("name", ["reserved bits 010 on text", "opcode 3 with 7 bytes", "text without a mask"])
def test_broken_byte_by_byte(client: Client, name: str) -> None:
    """It is noticed as well in a frame that comes slowly."""
    client.trickle(BROKEN[name])
    assert client.failed() == 1002


@pytest.mark.parametrize("name", ["reserved bits 001 on ping", "opcode 11 with 0 bytes", "binary without a mask"])
def test_broken_behind_a_message(client: Client, name: str) -> None:
    """A message in front may still be answered, what is behind is not."""
    client.send(text("before"), BROKEN[name], text("behind"), frame(PING))
    data = client.rest()
    answer, closing = b"\x81\x06before", b"\x88\x02\x03\xea"
    assert data.removeprefix(answer)[:2][:1] == closing[:1], data
    assert data.removeprefix(answer)[2:4] == closing[2:4]
    assert b"behind" not in data


def test_a_length_beyond_everything(client: Client) -> None:
    """The highest bit of a length must be 0; whoever sets it gets no memory."""
    client.send(frame(BINARY, b"x", width=8, announced=1 << 63))
    assert client.failed() in (1002, 1009)


def test_what_the_application_hears(server: Server) -> None:
    """A connection that was failed is a disconnect with the code that the client was told."""
    with connect(server, "/echo?name=broken") as client:
        client.send(frame(3))
        assert client.failed() == 1002
    server.log.take(r"broken: left 1002 [^\n]*\n")
