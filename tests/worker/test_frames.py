"""Bytes → messages of a WebSocket, whole and byte by byte; what breaks the rules is refused as soon as it shows."""

from __future__ import annotations

import contextlib
import random
import tracemalloc
import zlib
from itertools import product
from typing import Any

import pytest
from websockets.frames import Frame, Opcode

from bridge.errors import WebSocketError
from bridge.worker.deflate import Deflate, agree
from bridge.worker.frames import CLOSE, PING, Control, Frames, close, control
from tests.worker.websocket_rig import BINARY, CONTINUATION, MASK, TEXT, closing, frame

MOST = 70000


def read(data: bytes, step: int = 0, most: int = MOST) -> list[str | bytes | Control]:
    """All messages in these bytes, given in pieces of `step`; see `read_pieces`."""
    step = step or max(1, len(data))
    return read_pieces([data[start : start + step] for start in range(0, len(data), step)], most)


def read_pieces(pieces: list[bytes], most: int = MOST) -> list[str | bytes | Control]:
    """All messages in these; they are the same in views of what is overwritten behind each, and by the short cut."""
    found, *others = (_read(pieces, most, *how) for how in product((False, True), repeat=2))
    for other in others:
        if isinstance(found, WebSocketError):
            assert isinstance(other, WebSocketError)
            assert (found.code, str(found)) == (other.code, str(other))
        else:
            assert found == other
    if isinstance(found, WebSocketError):
        raise found
    return found


def _read(pieces: list[bytes], most: int, views: bool, short: bool) -> list[str | bytes | Control] | WebSocketError:
    frames = Frames(most, most, None)
    found: list[str | bytes | Control] = []
    scratch = bytearray(max(map(len, pieces), default=0))
    for piece in pieces:
        scratch[: len(piece)] = piece
        data = memoryview(scratch).toreadonly()[: len(piece)] if views else piece
        if short and (whole := frames.whole(data)) is not None:
            found.append(whole)
            continue
        frames.feed(data)
        try:
            while (message := frames.next()) is not None:
                found.append(message)
        except WebSocketError as error:
            return error
        frames.keep()
        scratch[:] = b"?" * len(scratch)
    return found


def test_many_small_frames_are_copied_once() -> None:
    """What begins with a small frame is read out of bytes, which is a third faster; a long frame stays where it is."""
    frames = Frames(100_000, 100_000, None)
    frames.feed(memoryview(frame(BINARY, b"x") * 1000))
    assert isinstance(frames.rest, bytes)
    frames = Frames(100_000, 100_000, None)
    frames.feed(memoryview(frame(BINARY, b"x" * 5000)))
    assert isinstance(frames.rest, memoryview)


@pytest.mark.parametrize("step", [0, 1, 7, 1000])
@pytest.mark.parametrize("size", [0, 1, 2, 125, 126, 127, 65535, 65536])
def test_every_length_in_every_piece(size: int, step: int) -> None:
    """However a message is cut on its way, and with whatever form of length."""
    if size > 1000 and 0 < step < 1000:
        step = 4001
    data = bytes(number % 251 for number in range(size))
    sent = frame(BINARY, data) + frame(TEXT, b"x" * size) + frame(PING, data[:100]) + frame(TEXT, b"end of it")
    assert read(sent, step) == [data, "x" * size, Control(PING, data[:100]), "end of it"]


@pytest.mark.parametrize("kind", [TEXT, BINARY])
@pytest.mark.parametrize("size", [1, 125, 126, 127, 16384, 65535])
def test_a_frame_for_itself_is_a_message_at_once(kind: int, size: int) -> None:
    """As nearly everything comes, within the limits."""
    data = b"x" * size
    sent = frame(kind, data)
    for each in (sent, memoryview(sent)):
        assert Frames(MOST, MOST, None).whole(each) == (data.decode() if kind == TEXT else data)
    assert Frames(size, size, None).whole(sent) is not None
    assert Frames(size - 1, MOST, None).whole(sent) is None
    assert Frames(MOST, size - 1, None).whole(sent) is None


@pytest.mark.parametrize(
    "data",
    [
        b"",
        frame(BINARY, b""),
        frame(BINARY, b"x" * 10)[:-1],
        frame(BINARY, b"x" * 10) + b"\x82",
        frame(BINARY, b"x", fin=False),
        frame(CONTINUATION, b"x"),
        frame(PING, b"ping"),
        frame(TEXT, b"\xff"),
        b"\x82\x05" + b"x" * 9,  # without a mask
        b"\xc2" + frame(BINARY, b"xxx")[1:],
        b"\x82\xfe\x00\x05" + MASK + b"xxxxx",  # a length in more bytes than it needs
        b"\x82\xff" + (123 - 4).to_bytes(8, "big") + MASK + b"x" * 119,  # its code is as long as all that follows
        b"\x82\xff" + bytes(6),  # and here is not even all of it
        b"\x82\xff\x01\x00" + MASK + b"x" * 256,  # and here what begins it is
        frame(BINARY, b"x" * 65536),
    ],
)
def test_what_is_not_a_frame_for_itself_is_fed(data: bytes) -> None:
    """It leaves everything as it was, and is read as it would be otherwise, with what may be wrong about it."""
    assert Frames(MOST, MOST, None).whole(data) is None
    with contextlib.suppress(WebSocketError):
        read(data)


def test_a_frame_behind_a_fragment_is_fed() -> None:
    """It is a mistake there, although it is a message anywhere else."""
    frames = Frames(MOST, MOST, None)
    frames.feed(frame(TEXT, b"one half", fin=False))
    assert frames.next() is None
    assert frames.whole(frame(TEXT, b"another")) is None


def test_a_frame_behind_a_part_of_one_waits_for_it() -> None:
    """Bytes that are a frame for themselves are those of another one, if that is not all there."""
    message = b"abc" + frame(BINARY, b"a frame")
    sent = frame(BINARY, message, mask=b"\0\0\0\0")
    start = sent.index(b"abc") + 3
    assert read_pieces([sent[:start], sent[start:]]) == [message]


@pytest.mark.parametrize("step", [0, 1])
def test_a_message_in_the_middle_of_another(step: int) -> None:
    """A fragment must be followed by its continuation, however innocent what comes looks (section 5.4)."""
    with pytest.raises(WebSocketError, match="continuation") as caught:
        read(frame(TEXT, b"one half", fin=False) + frame(TEXT, b"another message"), step)
    assert caught.value.code == 1002


@pytest.mark.parametrize("step", [0, 1, 3, 1000])
@pytest.mark.parametrize("long", [100, 5000, 69000])
@pytest.mark.parametrize("fragment", [False, True])
def test_text_is_checked_as_it_comes(fragment: bool, long: int, step: int) -> None:
    """What cannot be text is refused with the piece that shows it, whatever is still to come of its frame."""
    if long > 5000 and step == 1:
        step = 501
    before, kind = (frame(TEXT, b"x\xe2\x82", fin=False), CONTINUATION) if fragment else (b"", TEXT)
    text = (b"\xac" if fragment else b"") + "é".encode() * 30
    good = before + frame(kind, text.ljust(long))
    head = len(good) - long
    assert read(good[: head + len(text) - 1], step) == []
    assert len(read(good, step)) == 1
    bad = before + frame(kind, (text[:-1] + b"x").ljust(long))
    with pytest.raises(WebSocketError, match="not UTF-8") as caught:
        read(bad[: head + len(text)], step)
    assert caught.value.code == 1007


@pytest.mark.parametrize("step", [0, 1, 5])
def test_only_text_is_checked_as_it_comes(step: int) -> None:
    """Bytes that are no text are those of a binary frame, or of a ping, before, between or behind the text."""
    binary = b"\xff" * 300
    assert read(frame(BINARY, binary)[:200], step) == []
    assert read(frame(PING, binary[:100])[:50], step) == []
    halves = frame(TEXT, b"a" * 200, fin=False), frame(CONTINUATION, b"b" * 200)
    sent = halves[0] + frame(PING, binary[:100]) + halves[1] + frame(BINARY, binary)
    assert read(sent, step) == [Control(PING, binary[:100]), "a" * 200 + "b" * 200, binary]
    halves = frame(BINARY, binary, fin=False), frame(CONTINUATION, binary)
    assert read(frame(TEXT, b"text") + halves[0] + halves[1], step) == ["text", binary + binary]


@pytest.mark.parametrize(
    "head",
    [
        b"\x82\xfe\x00\x7d",
        b"\x82\xff\x00\x00\x00\x00\x00\x00\xff\xff",
        b"\x82\xff\x80\x00\x00\x00\x00\x00\x00\x00",
        b"\x02\xfe\x00\x01",
    ],
)
def test_lengths_that_are_not_the_shortest(head: bytes) -> None:
    """Section 5.2: the minimal number of bytes, and no highest bit."""
    with pytest.raises(WebSocketError, match="not the shortest") as caught:
        read(head + MASK + bytes(10))
    assert caught.value.code == 1002


@pytest.mark.parametrize(
    ("head", "code"),
    [
        (b"\x83\x80", 1002),
        (b"\x8b\x80", 1002),
        (b"\xc1\xfe", 1002),
        (b"\x89\xfe", 1002),
        (b"\x09\x80" + MASK, 1002),
        (b"\x81\x05", 1002),
        (b"\x80\xfe", 1002),
        (frame(TEXT, b"x", fin=False) + b"\x81\xfe", 1002),
        (b"\x82\xff" + (1 << 20).to_bytes(8, "big"), 1009),
        (frame(BINARY, bytes(MOST), fin=False) + b"\x80\x82", 1009),
    ],
)
def test_what_is_wrong_with_a_head_is_said_before_the_payload_is_here(head: bytes, code: int) -> None:
    """Nobody waits for what is refused anyhow."""
    with pytest.raises(WebSocketError) as caught:
        read(head)
    assert caught.value.code == code


def outcome(data: bytes, cuts: list[int]) -> list[Any]:
    """The messages in `data`, cut at these places, and the code it ends with, if any."""
    frames = Frames(3000, 2000, agree("permessage-deflate", 12, 5))
    found: list[Any] = []
    try:
        for start, end in zip([0, *cuts], [*cuts, len(data)], strict=True):
            frames.feed(data[start:end])
            while (message := frames.next()) is not None:
                found.append(message)
    except WebSocketError as error:
        found.append(error.code)
    return found


@pytest.mark.parametrize("seed", range(10))
def test_any_bytes_in_any_pieces(seed: int) -> None:
    """Frames by chance, some of them spoilt, mean the same however they are cut, and never raise anything else."""
    chance = random.Random(seed)
    payloads = [b"", b"hello world", b"\xff\xfe", "é€".encode() * 70, b"x" * 126, b"x" * 2000, b"x" * 2001, b"x" * 3001]
    for _ in range(60):
        data = bytearray()
        for _ in range(chance.randrange(1, 6)):
            opcode = chance.choice([CONTINUATION, TEXT, TEXT, BINARY, BINARY, CLOSE, PING, 10, 3])
            payload, rsv = chance.choice(payloads), 0
            if opcode in (TEXT, BINARY) and chance.random() < 0.5:
                packed = zlib.compressobj(wbits=-12)
                payload, rsv = packed.compress(payload) + packed.flush(zlib.Z_SYNC_FLUSH), 4
            data += frame(opcode, payload, fin=chance.random() < 0.7, rsv=rsv, mask=chance.randbytes(4))
        for _ in range(chance.choice([0, 0, 1, 3])):
            data[chance.randrange(len(data))] = chance.randrange(256)
        whole = outcome(bytes(data), [])
        for pieces in (1, 2, 5, min(len(data) - 1, 300)):
            assert outcome(bytes(data), sorted(chance.sample(range(1, len(data)), pieces))) == whole


def test_empty_fragments_cost_nothing() -> None:
    """A client may send any number of them, or of fragments of a byte."""
    frames = Frames(MOST, MOST, None)
    frames.feed(frame(TEXT, b"", fin=False))
    tracemalloc.start()
    for _ in range(2000):
        frames.feed(frame(CONTINUATION, b"", fin=False) + frame(CONTINUATION, b"x", fin=False))
        assert frames.next() is None
    assert tracemalloc.get_traced_memory()[0] < 20000
    tracemalloc.stop()
    frames.feed(frame(CONTINUATION))
    assert frames.next() == "x" * 2000


def test_pieces_of_a_long_message_are_joined_once() -> None:
    """Not each time that another one has come."""
    frames = Frames(1 << 22, 1 << 22, None)
    data = frame(BINARY, bytes(1 << 21))
    for start in range(0, len(data) - 1000, 1000):
        frames.feed(data[start : start + 1000])
        assert frames.next() is None
    assert len(frames.rest) == 1000
    frames.feed(data[-(len(data) % 1000 or 1000) :])
    assert frames.next() == bytes(1 << 21)
    assert frames.rest == b""


def test_a_message_two_bytes_at_a_time_costs_what_it_is_long() -> None:
    """Not an object for each piece: that would be many times as much."""
    sent = frame(BINARY, bytes(200_000))
    frames = Frames(1 << 20, 1 << 20, None)
    pieces = [sent[start : start + 2] for start in range(0, len(sent), 2)]
    tracemalloc.start()
    for piece in pieces[:-1]:
        frames.feed(bytes(bytearray(piece)))
        assert frames.next() is None
    held, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert held < 300_000
    frames.feed(pieces[-1])
    assert frames.next() == bytes(200_000)


def test_a_limit_of_nothing_is_one() -> None:
    """Zlib takes 0 for no limit: when a message is as long as it may be, not one byte more is unpacked."""
    agreed = agree("permessage-deflate", 12, 5)
    assert agreed
    deflate = Deflate(agreed)
    packed = zlib.compressobj(wbits=-12)
    bomb = packed.compress(bytes(50_000_000)) + packed.flush()
    stored = b"\x00\xe8\x03\x17\xfc" + bytes(1000)  # a block as it is, which unpacks to 1000 bytes and ends there
    deflate.room = 1000
    assert len(deflate.decode(Frame(Opcode.TEXT, stored, fin=False, rsv1=True)).data) == 1000
    deflate.room = 0
    tracemalloc.start()
    with pytest.raises(Exception, match="limit"):
        deflate.decode(Frame(Opcode.CONT, bomb))
    assert tracemalloc.get_traced_memory()[1] < 1_000_000
    tracemalloc.stop()


def test_a_byte_too_much() -> None:
    """What fits the limit of what is unpacked at once may still be more than a message may have left."""
    agreed = agree("permessage-deflate", 12, 5)
    frames = Frames(2000, 1000, agreed)
    stored = b"\x00\xe8\x03\x17\xfc" + bytes(1000)
    frames.feed(frame(BINARY, stored, fin=False, rsv=4) + frame(CONTINUATION, b"\x00\x01\x00\xfe\xffx\x00"))
    with pytest.raises(WebSocketError) as caught:
        frames.next()
    assert caught.value.code == 1009


@pytest.mark.parametrize(("size", "head"), [(125, 2), (126, 4), (65535, 4), (65536, 10)])
def test_what_goes_has_the_shortest_length(size: int, head: int) -> None:
    """And no mask."""
    data = b"".join(Frames(MOST, MOST, None).binary(b"x" * size))
    assert data == frame(BINARY, b"x" * size, mask=None)
    assert len(data) == head + size


def test_control_frames_that_go() -> None:
    """A reason that is too long loses its end, between two characters."""
    assert control(PING, b"x") == b"\x89\x01x"
    assert close(1000) == b"\x88\x02\x03\xe8"
    assert close(4000, "é" * 62) == b"\x88\x7c\x0f\xa0" + "é".encode() * 61
    assert read(closing(4000, "é")) == [Control(CLOSE, b"\x0f\xa0\xc3\xa9", 4000, "é")]
    with pytest.raises(ValueError, match="1006 is not a code"):
        close(1006)
