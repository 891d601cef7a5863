"""Frames of RFC 6455, made by hand: also those that no library would make."""

from __future__ import annotations

from typing import NamedTuple

CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0, 1, 2, 8, 9, 10
RSV1, RSV2, RSV3 = 4, 2, 1
MASK = b"\x37\xfa\x21\x3d"


class Frame(NamedTuple):
    """One frame as it came."""

    opcode: int
    payload: bytes = b""
    fin: bool = True
    reserved: int = 0  #: RSV1 = 4, RSV2 = 2, RSV3 = 1


def masked(data: bytes, mask: bytes) -> bytes:
    """XOR with the four bytes, again and again (section 5.3)."""
    whole = (mask * (len(data) // 4 + 1))[: len(data)]
    return (int.from_bytes(data, "big") ^ int.from_bytes(whole, "big")).to_bytes(len(data), "big")


def frame(
    opcode: int,
    payload: bytes = b"",
    *,
    fin: bool = True,
    reserved: int = 0,
    mask: bytes = MASK,
    width: int = 0,
    announced: int | None = None,
) -> bytes:
    """The bytes of a frame.

    Args:
        opcode: 0 to 15.
        payload: before masking.
        fin: the last of its message.
        reserved: the bits RSV1 to RSV3 as a number.
        mask: four bytes; empty = the frame is not masked, as no client may send it.
        width: bytes of the extended length, 0, 2 or 8; 0 = as many as are needed.
        announced: the length that the head tells; None = that of the payload.
    """
    length = len(payload) if announced is None else announced
    width = width or (0 if length < 126 else 2 if length < 1 << 16 else 8)
    short = {0: length, 2: 126, 8: 127}[width]
    head = bytes([fin << 7 | reserved << 4 | opcode, bool(mask) << 7 | short])
    extended = length.to_bytes(width, "big") if width else b""
    return head + extended + mask + (masked(payload, mask) if mask else payload)


def text(data: str) -> bytes:
    """A whole text message in one frame."""
    return frame(TEXT, data.encode())


def binary(data: bytes) -> bytes:
    """A whole binary message in one frame."""
    return frame(BINARY, data)


def close(code: int | None = None, reason: bytes = b"") -> bytes:
    """A close frame; without a code it has no payload."""
    return frame(CLOSE, b"" if code is None else code.to_bytes(2, "big") + reason)


def fragments(opcode: int, *pieces: bytes, reserved: int = 0) -> list[bytes]:
    """A message in as many frames as there are pieces; reserved bits are set in the first one."""
    last = len(pieces) - 1
    return [
        frame(CONTINUATION if number else opcode, piece, fin=number == last, reserved=0 if number else reserved)
        for number, piece in enumerate(pieces)
    ]
