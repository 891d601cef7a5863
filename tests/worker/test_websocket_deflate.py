"""permessage-deflate (RFC 7692) as a client sees it that packs with zlib alone."""

from __future__ import annotations

import zlib

import pytest

from bridge.worker.deflate import agree
from bridge.worker.frames import COMPRESSED, Frames
from tests.worker.websocket_rig import (
    CONTINUATION,
    PING,
    PONG,
    TEXT,
    Client,
    Recorder,
    closing,
    echo,
    frame,
    request,
    talk,
)

OFFER = "Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits"
PACKED = 4  # RSV1
TAIL = b"\x00\x00\xff\xff"


class Zip:
    """The contexts of a client.

    Args:
        bits: of its window.
        forgets: it does not take its context over to the next message.
    """

    def __init__(self, bits: int = 12, *, forgets: bool = False) -> None:
        self.bits = bits
        self.forgets = forgets
        self.out = zlib.compressobj(wbits=-bits)
        self.into = zlib.decompressobj(wbits=-15)

    def pack(self, data: bytes) -> bytes:
        if self.forgets:
            self.out = zlib.compressobj(wbits=-self.bits)
        return (self.out.compress(data) + self.out.flush(zlib.Z_SYNC_FLUSH)).removesuffix(TAIL)

    def unpack(self, data: bytes) -> bytes:
        return self.into.decompress(data + TAIL)


@pytest.mark.parametrize(
    ("offered", "answer"),
    [
        ("permessage-deflate", "permessage-deflate; server_max_window_bits=12"),
        ("permessage-deflate; client_max_window_bits", "server_max_window_bits=12; client_max_window_bits=12"),
        ("permessage-deflate; client_max_window_bits=10", "client_max_window_bits=10"),
        ("permessage-deflate; server_max_window_bits=10", "server_max_window_bits=10"),
        ("permessage-deflate; server_no_context_takeover", "server_no_context_takeover"),
        ("permessage-deflate; client_no_context_takeover", "client_no_context_takeover"),
        ("permessage-deflate; server_max_window_bits=8, permessage-deflate", "permessage-deflate; server_max"),
        ("x-webkit-deflate-frame, permessage-deflate", "permessage-deflate"),
        ("permessage-deflate; server_max_window_bits=7", None),
        ("permessage-deflate; server_max_window_bits", None),
        ("permessage-deflate; unknown", None),
        ("permessage-deflate; server_no_context_takeover; server_no_context_takeover", None),
        ("permessage-bzip2", None),
        ("permessage-deflate; = ;", None),
    ],
)
def test_what_is_agreed_on(offered: str, answer: str | None) -> None:
    """The first offer that can be taken up is; one that cannot is left, and never a reason to refuse."""
    agreed = agree(offered, 12, 5)
    assert (agreed is None) == (answer is None)
    if agreed and answer:
        assert answer in agreed.header


@pytest.mark.parametrize("more", ["", "; client_no_context_takeover", "; server_no_context_takeover"])
def test_echo(more: str) -> None:
    """Messages are packed in both directions, with or without what came before."""

    async def script(client: Client) -> None:
        await client.is_accepted()
        assert b"sec-websocket-extensions: permessage-deflate" in client.block
        zipped = Zip(forgets="client_no" in more)
        sizes = []
        for size in (100, 100, 5000, 100000, 100):
            text = ("0123456789abcdef" * (size // 16)).encode()
            client.say(frame(TEXT, zipped.pack(text), rsv=PACKED))
            first, data = await client.hears()
            assert first == TEXT | PACKED << 4
            if "server_no" in more:
                zipped.into = zlib.decompressobj(wbits=-12)
            assert zipped.unpack(data) == text
            sizes.append(len(data))
        assert (sizes[1] == sizes[0]) == ("server_no" in more)  # else it says only: as before
        client.say(frame(TEXT, b"not packed"))
        assert await client.hears_text() == "not packed"
        client.say(closing(1000))

    talk(echo, script, request(OFFER + more))


def test_short_messages_are_not_packed() -> None:
    """Nothing would be won."""

    async def script(client: Client) -> None:
        await client.is_accepted()
        for size, first in ((COMPRESSED - 1, TEXT), (COMPRESSED, TEXT | PACKED << 4)):
            client.say(frame(TEXT, b"x" * size))
            assert (await client.hears())[0] == first
        client.say(closing(1000))

    talk(echo, script, request(OFFER))


def test_packed_fragments() -> None:
    """The first of them says that it is packed, and control frames between them are not."""
    recorder = Recorder()

    async def script(client: Client) -> None:
        await client.is_accepted()
        packed = Zip().pack("é".encode() * 1000)
        client.say(frame(TEXT, packed[:5], fin=False, rsv=PACKED), frame(PING, b"x"))
        assert await client.hears() == (PONG, b"x")
        client.say(frame(CONTINUATION, packed[5:9], fin=False), frame(CONTINUATION, packed[9:]), frame(TEXT, b"plain"))
        client.say(closing(1000))

    talk(recorder, script, request(OFFER))
    assert recorder.messages == ["é" * 1000, "plain"]


BOMB = Zip().pack(bytes(10_000_000))


@pytest.mark.parametrize(
    "sent",
    [
        frame(TEXT, BOMB, rsv=PACKED),
        frame(TEXT, BOMB[:3000], fin=False, rsv=PACKED) + frame(CONTINUATION, BOMB[3000:]),
        frame(TEXT, Zip().pack(bytes(100_001)), rsv=PACKED),
    ],
    ids=["bomb", "in fragments", "one byte"],
)
def test_a_bomb_is_not_unpacked(sent: bytes) -> None:
    """Of what a few bytes may become no more is unpacked than a message may have."""
    recorder = Recorder()

    async def script(client: Client) -> None:
        await client.is_accepted()
        client.say(sent)
        assert (await client.hears_close())[0] == 1009

    talk(recorder, script, request(OFFER), max_message_size=100_000)
    assert recorder.messages == []


def test_a_message_of_exactly_the_most() -> None:
    """It is let through, and what follows in the same message is not, however it is packed."""
    recorder = Recorder()

    async def script(client: Client) -> None:
        await client.is_accepted()
        client.say(frame(TEXT, Zip().pack(bytes(100_000)), rsv=PACKED))
        zipped = Zip()
        client.say(frame(TEXT, zipped.pack(bytes(100_000)) + TAIL, fin=False, rsv=PACKED))
        client.say(frame(CONTINUATION, zipped.pack(bytes(1_000_000)), fin=False))
        assert (await client.hears_close())[0] == 1009

    talk(recorder, script, request(OFFER + "; client_no_context_takeover"), max_message_size=100_000)
    assert recorder.messages == ["\0" * 100_000]


@pytest.mark.parametrize(
    ("sent", "code"),
    [
        (frame(TEXT, b"\xff\xff\xff\xff", rsv=PACKED), 1002),
        (frame(TEXT, Zip().pack(b"x" * 100), rsv=6), 1002),
        (frame(PING, b"x", rsv=PACKED), 1002),
        (frame(TEXT, Zip().pack(b"abc") + TAIL, fin=False, rsv=PACKED) + frame(CONTINUATION, b"", rsv=PACKED), 1002),
        (frame(TEXT, Zip().pack(b"\xff" * 100), rsv=PACKED), 1007),
    ],
)
def test_packed_messages_that_break_the_rules(sent: bytes, code: int) -> None:
    """What cannot be unpacked, bits that do not belong there, and text that is none when unpacked."""
    recorder = Recorder()

    async def script(client: Client) -> None:
        await client.is_accepted()
        client.say(sent)
        assert (await client.hears_close())[0] == code

    talk(recorder, script, request(OFFER))


def test_a_final_block() -> None:
    """A client may end a message with one (section 7.2.3.4); the next message cannot refer to it, and goes on anew."""
    recorder = Recorder()
    hello = b"\xf3\x48\xcd\xc9\xc9\x07\x00\x00"  # the RFC's own example

    async def script(client: Client) -> None:
        await client.is_accepted()
        client.say(frame(TEXT, hello, rsv=PACKED), frame(TEXT, hello, rsv=PACKED))
        client.say(frame(TEXT, hello + b"behind it", rsv=PACKED))
        assert (await client.hears_close())[0] == 1002

    talk(recorder, script, request(OFFER))
    assert recorder.messages == ["Hello", "Hello"]


@pytest.mark.parametrize(
    ("fields", "compression"), [([OFFER], False), ([], True), ([OFFER + ", permessage-deflate" * 60], True)]
)
def test_nothing_is_packed_unless_both_want_it(fields: list[str], compression: bool) -> None:
    """Switched off, not offered, or offered at length, it is not agreed on, and then a packed message is a mistake."""

    async def script(client: Client) -> None:
        await client.is_accepted()
        assert b"extensions" not in client.block
        client.say(frame(TEXT, b"x" * 1000))
        assert await client.hears_text() == "x" * 1000
        client.say(frame(TEXT, Zip().pack(b"x"), rsv=PACKED))
        assert (await client.hears_close())[0] == 1002

    talk(echo, script, request(*fields), compression=compression)


def test_contexts_are_made_when_they_are_needed() -> None:
    """An idle socket costs no window, and one that only listens none for what comes."""
    agreed = agree("permessage-deflate", 12, 5)
    frames = Frames(1000, 1000, agreed)
    assert frames._deflate is None
    frames.text("x" * 1000)
    assert frames._deflate is not None
    assert set(vars(frames._deflate)) & {"decoder", "encoder"} == {"encoder"}
