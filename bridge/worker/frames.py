"""PURE. The bytes of a WebSocket → messages, and back: RFC 6455, section 5, with the library `websockets`.

The library's own connection object unpacks whatever it is given at once, which a client that sends faster than the
application receives could use against the server. So this uses the parts below it: `Frame.parse`, frame for frame, as
they are asked for; `Frame.serialize`, `Close`, and `apply_mask`. A message in one frame that is all there, of less than
64 KiB, as nearly every message is, takes a short cut past the generator and the objects to the same functions, in a
fifth of the time: in `next` if there is more in the piece that has come, in `whole` past the cursor as well if there is
not. Only what is exactly that takes it; everything else goes to the library, which says what is wrong.

Beyond the library's checks: lengths in more bytes than they need (section 5.2), and UTF-8 as it arrives (section 8.1):
of a message in fragments with each of them, and with each piece of one (`early_text`), unless it is compressed.
"""

from __future__ import annotations

import codecs
from collections.abc import Generator
from struct import Struct
from typing import NamedTuple

from websockets.exceptions import PayloadTooBig, ProtocolError
from websockets.frames import Close, Frame, Opcode

from bridge.errors import WebSocketError
from bridge.worker.deflate import Agreed, Deflate
from bridge.worker.early_text import EarlyText
from bridge.worker.masking import apply_mask

#: Bytes: a shorter message goes as it is. Packed it would save less than the heads of the packet that carries it have.
COMPRESSED = 64
LONGEST_REASON = 123  #: bytes of the reason of a close frame (section 5.5)
NO_STATUS, ABNORMAL = 1005, 1006  #: codes that no frame carries: of a close frame without one, and of no close frame

# The first byte of a frame: its bits, that of a message in one frame, and that of one that is compressed.
_FIN, _RSV1, _RESERVED, _CONTROL = 0x80, 0x40, 0x70, 0x08
_TEXT, _BINARY = _FIN | Opcode.TEXT, _FIN | Opcode.BINARY
_PACKED_TEXT, _PACKED_BINARY = _TEXT | _RSV1, _BINARY | _RSV1
_WHOLE = bytes(first in {_TEXT, _BINARY, _PACKED_TEXT, _PACKED_BINARY} for first in range(256))
_OPCODES = {first: Opcode(first & 15) for first in range(256) if _WHOLE[first]}
_BEGIN_PACKED = {_PACKED_TEXT, _PACKED_BINARY, _PACKED_TEXT - _FIN, _PACKED_BINARY - _FIN}
#: Bytes up to which pieces are joined at once: an object for each two bytes would be many times as much as they are.
_SHORT = 1024
_WORTH_A_VIEW = 8192  # bytes: to copy fewer costs less than the object that saves it
_NO_TEXT = "text that is not UTF-8"
_UTF8 = codecs.getincrementaldecoder("utf-8")
_length16, _length64 = Struct("!H").unpack_from, Struct("!Q").unpack_from
_pack16, _pack64 = Struct("!BBH").pack, Struct("!BBQ").pack
_HEADS = {first: [bytes((first, size)) for size in range(126)] for first in _OPCODES}


class Control(NamedTuple):
    """A control frame."""

    opcode: int  #: `PING`, `PONG` or `CLOSE`
    data: bytes
    code: int = NO_STATUS  #: of CLOSE
    reason: str = ""  #: of CLOSE


PING, PONG, CLOSE = int(Opcode.PING), int(Opcode.PONG), int(Opcode.CLOSE)


class _Incomplete(Exception):
    """There are fewer bytes than the frame has."""


class Frames:
    """Both directions of one connection.

    Args:
        max_frame: bytes of a payload as it travels.
        max_message: bytes of a message, unpacked.
        agreed: how it is compressed; None = it is not.

    Attributes:
        rest: if it is empty, `next` has nothing to give.
    """

    __slots__ = (
        "_agreed",
        "_at",
        "_cursor",
        "_deflate",
        "_early",
        "_held",
        "_kind",
        "_later",
        "_max_frame",
        "_max_message",
        "_message",
        "_most",
        "_needed",
        "_utf8",
        "rest",
    )

    def __init__(self, max_frame: int, max_message: int, agreed: Agreed | None) -> None:
        self._max_frame = max_frame
        self._max_message = max_message
        self._most = min(max_frame, max_message)
        self._agreed = agreed
        self._deflate: Deflate | None = None
        self.rest: bytes | memoryview = b""  #: what has come …
        self._at = 0  # … and from here on was not read
        self._later: list[bytes] = []  # what has come behind it
        self._held = 0  # bytes of that
        self._needed = 0  # bytes that there must be before it is worth another look
        self._cursor = 0
        self._kind = 0  # opcode of the message of which some frames have come
        self._message = bytearray()
        self._utf8: codecs.IncrementalDecoder | None = None
        self._early: EarlyText | None = None  # of the frame that has begun to come

    # What comes

    def whole(self, data: bytes | memoryview) -> str | bytes | None:
        """The message of which `data` is the only frame, from its first byte to its last, and not compressed.

        Returns:
            None: it is not that, or something is not right about it. Nothing has happened: it is to be fed.
        """
        have = len(data)
        if have < 7 or self.rest or self._kind or not _WHOLE[first := data[0]] or first >= _PACKED_TEXT:
            return None
        size, start = data[1] - 128, 6
        if size > 125:
            size, start = (_length16(data, 2)[0] if size == 126 else 0), 8
        if start + size != have or size > self._most or (start == 8 and size < 126):
            return None
        masked = memoryview(data)[start:] if size >= _WORTH_A_VIEW and data.__class__ is bytes else data[start:]
        payload = apply_mask(masked, bytes(data[start - 4 : start]))
        try:
            return str(payload, "utf-8") if first & 1 else payload
        except UnicodeDecodeError:
            return None  # `next` says so

    def feed(self, data: bytes | memoryview) -> None:
        """Bytes have come; if it is a view of them, `keep` is to be called before it is not good any more."""
        if self._at == len(self.rest):
            # A small frame is read faster out of bytes than out of a view, and more of its size are likely behind it.
            small = data.__class__ is memoryview and len(data) > 1 and data[1] & 127 < 126
            self.rest = bytes(data) if small else data
            self._at = 0
        else:
            data = bytes(data)
            later = self._later
            if later and len(later[-1]) + len(data) <= _SHORT:
                later[-1] += data
            else:
                later.append(data)
            self._held += len(data)
            if self._early is not None:
                self._early.check(data)

    def keep(self) -> None:
        """What was not read is needed later."""
        if self.rest.__class__ is memoryview:
            self.rest = bytes(self.rest[self._at :])
            self._at = 0

    def next(self) -> str | bytes | Control | None:  # noqa: C901, PLR0912 - the short cut in one piece is shortest
        """The next message or control frame; None = more bytes are needed.

        Raises:
            WebSocketError: what has come breaks the rules, or is too large. There is nothing to be had after that.
        """
        if self._later and not self._join():
            return None
        data, at = self.rest, self._at
        try:
            have = len(data)
            if have - at > 7 and _WHOLE[first := data[at]] and not self._kind:
                size, start = data[at + 1] - 128, at + 6
                if size > 125:
                    size, start = (_length16(data, at + 2)[0] if size == 126 else 0), at + 8
                    if size < 126:
                        size = -1
                agreed = self._agreed if first >= _PACKED_TEXT else None
                if 0 <= size <= self._most and (agreed or first < _PACKED_TEXT):
                    end = start + size
                    if end < have:
                        self._at = end
                    elif end == have:
                        self.rest, self._at = b"", 0
                    else:
                        self._needed = end - at
                        self._listen()
                        return None
                    masked = data[start:end] if size < _WORTH_A_VIEW else memoryview(data)[start:end]
                    payload = apply_mask(masked, bytes(data[start - 4 : start]))
                    if agreed:
                        deflate = self._context(agreed)
                        deflate.room = self._max_message
                        payload = bytes(deflate.decode(Frame(_OPCODES[first], payload, rsv1=True)).data)
                    return str(payload, "utf-8") if first & 1 else payload
            while (frame := self._frame()) is not None:
                message = self._take(frame)
                if message is not None:
                    return message
        except UnicodeDecodeError:
            raise WebSocketError(1007, _NO_TEXT) from None
        except ProtocolError as error:
            raise WebSocketError(1002, str(error)) from None
        except PayloadTooBig as error:
            raise WebSocketError(1009, str(error)) from None
        return None

    def _join(self) -> bool:
        """Put what has come into one piece; False = it is not yet worth it."""
        early = self._early
        if early is not None and early.garbled:
            raise WebSocketError(1007, _NO_TEXT)
        if len(self.rest) - self._at + self._held < self._needed:
            return False
        self._early = None
        self.rest = b"".join([self.rest[self._at :], *self._later])
        self._at = self._held = self._needed = 0
        self._later.clear()
        return True

    def _context(self, agreed: Agreed) -> Deflate:
        if self._deflate is None:
            self._deflate = Deflate(agreed)
        return self._deflate

    def _frame(self) -> Frame | None:
        """The next frame, as the library reads it; None = it is not all there."""
        if len(self.rest) - self._at < 2:
            return None
        most, extensions = self._judge()
        self._cursor = self._at
        try:
            next(Frame.parse(self._read, mask=True, max_size=most, extensions=extensions))
        except _Incomplete:
            self._listen()
            return None
        except StopIteration as parsed:
            frame: Frame = parsed.value
        self._at = self._cursor
        if self._at == len(self.rest):
            self.rest, self._at = b"", 0
        return frame

    def _listen(self) -> None:
        """Look at what is here of a frame that is not all here, if it is text.

        Raises:
            WebSocketError: it is not UTF-8.
        """
        data, at = self.rest, self._at
        first, size = data[at], data[at + 1] - 128
        start = at + (6 if size < 126 else 8 if size == 126 else 14)
        kind = first & 15 or self._kind
        packed = first & _RSV1 or (self._deflate is not None and self._deflate.decode_cont_data)
        if size < 0 or len(data) < start or packed or kind != Opcode.TEXT:
            return
        if size > 125:
            (size,) = (_length16 if size == 126 else _length64)(data, at + 2)
        self._early = early = EarlyText(None if first & 15 else self._utf8, bytes(data[start - 4 : start]), size)
        early.check(bytes(data[start:]))
        if early.garbled:
            raise WebSocketError(1007, _NO_TEXT)

    def _judge(self) -> tuple[int, list[Deflate]]:
        """Check what the library does late or not at all; the largest payload, and what unpacks it.

        Raises:
            ProtocolError: the head of the frame is wrong.
        """
        data, at = self.rest, self._at
        first, size = data[at], data[at + 1] & 127
        if first & _CONTROL:
            if first & _RESERVED:
                raise ProtocolError("reserved bits must be 0")
            if size > 125:
                raise ProtocolError("control frame too long")
            return 125, []
        if bool(first & 15) == bool(self._kind):
            raise ProtocolError("expected a continuation frame" if self._kind else "unexpected continuation frame")
        agreed = self._agreed
        if first & _RESERVED and (agreed is None or first not in _BEGIN_PACKED):
            raise ProtocolError("reserved bits must be 0")
        if size > 125:
            length = _length16 if size == 126 else _length64
            if len(data) - at >= (4 if size == 126 else 10):
                (long,) = length(data, at + 2)
                if long < (126 if size == 126 else 65536) or long >> 63:
                    raise ProtocolError("length of the payload in a form that is not the shortest")
        room = self._max_message - len(self._message)
        goes_on = not first & 15 and self._deflate is not None and self._deflate.decode_cont_data
        if agreed is not None and (first & _RSV1 or goes_on):
            deflate = self._context(agreed)
            deflate.room = room
            return self._max_frame, [deflate]
        return min(self._max_frame, room), []

    def _read(self, size: int) -> Generator[None, None, bytes]:
        """What the library reads with."""
        start = self._cursor
        end = start + size
        if end > len(self.rest):
            self._needed = end - self._at
            raise _Incomplete
        self._cursor = end
        return bytes(self.rest[start:end])
        yield  # the library delegates to a generator

    def _take(self, frame: Frame) -> str | bytes | Control | None:
        """What a frame completes; None = nothing yet."""
        opcode, data = frame.opcode, bytes(frame.data)
        if opcode & _CONTROL:
            if opcode != CLOSE:
                return Control(opcode, data)
            close = Close.parse(data)
            return Control(CLOSE, data, int(close.code), close.reason)
        if opcode != Opcode.CONT:
            self._kind = opcode
            self._utf8 = _UTF8() if opcode == Opcode.TEXT else None
        self._message += data
        if self._utf8 is not None:
            self._utf8.decode(data)  # what it is short of in the end is missed below
        if not frame.fin:
            return None
        whole, self._message = self._message, bytearray()
        self._kind = 0
        return bytes(whole) if self._utf8 is None else str(whole, "utf-8")

    # What goes

    def text(self, text: str) -> tuple[bytes, bytes]:
        """The frame of a text message: its head, and its payload.

        Raises:
            UnicodeEncodeError: there are surrogates in it.
        """
        return self._pack(_TEXT, text.encode())

    def binary(self, data: bytes) -> tuple[bytes, bytes]:
        """The frame of a binary message, as `text`."""
        return self._pack(_BINARY, data)

    def _pack(self, first: int, data: bytes) -> tuple[bytes, bytes]:
        if (agreed := self._agreed) is not None and len(data) >= COMPRESSED:
            data = bytes(self._context(agreed).encode(Frame(_OPCODES[first], data)).data)
            first |= _RSV1
        size = len(data)
        if size < 126:
            return _HEADS[first][size], data
        return _pack16(first, 126, size) if size < 65536 else _pack64(first, 127, size), data


def control(opcode: int, data: bytes = b"") -> bytes:
    """A control frame: PING or PONG, or CLOSE with `data` as it has come."""
    return Frame(Opcode(opcode), data).serialize(mask=False)


def close(code: int, reason: str = "") -> bytes:
    """A close frame; a reason that is too long for one loses its end.

    Raises:
        ValueError: no frame may carry that code (section 7.4).
    """
    data = reason.encode()
    if len(data) > LONGEST_REASON:
        reason = data[:LONGEST_REASON].decode(errors="ignore")
    try:
        return control(CLOSE, Close(code, reason).serialize())
    except ProtocolError:
        raise ValueError(f"{code} is not a code that a WebSocket may be closed with") from None
