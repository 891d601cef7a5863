"""PURE. permessage-deflate (RFC 7692): what is agreed on with a client, and the contexts of one connection.

The library `websockets` negotiates, packs and unpacks. What is done here besides: contexts are made when the first
message needs them, for most sockets of a busy server are idle, and one that compresses costs 40 KiB; and what zlib
itself lets pass in silence is refused.
"""

from __future__ import annotations

import zlib
from functools import cached_property, lru_cache
from typing import Any, NamedTuple

from websockets.exceptions import NegotiationError, PayloadTooBig, ProtocolError, WebSocketException
from websockets.extensions.permessage_deflate import PerMessageDeflate, ServerPerMessageDeflateFactory
from websockets.frames import Frame
from websockets.headers import build_extension, parse_extension

#: Of zlib, for what goes. Packing is nearly all that a long message costs, and with zlib's own 6 it is a fifth more
#: time for a fortieth fewer bytes (JSON of 16 KiB: 162 µs and 2,853 bytes against 134 µs and 2,923).
LEVEL = 5
#: What may lie behind the final block of a message: an empty block, of which the sender leaves four bytes away
#: (section 7.2.3.4) and the receiver adds them.
_BEHIND_THE_END = (b"", b"\x00\x00\xff\xff", b"\x00\x00\x00\xff\xff")


class Agreed(NamedTuple):
    """What server and client have agreed on.

    Args:
        header: Sec-WebSocket-Extensions of the answer.
        forgets: the client forgets its context behind each message, and so do we of what comes.
        we_forget: the same of what goes.
        bits: of the window of what comes.
        our_bits: of what goes.
        memory_level: of zlib.
    """

    header: str
    forgets: bool
    we_forget: bool
    bits: int
    our_bits: int
    memory_level: int


@lru_cache(maxsize=256)  # most clients are of the same few kinds
def agree(offered: str, bits: int, memory_level: int) -> Agreed | None:
    """The first offer of a client that can be taken up; None = nothing is compressed.

    Args:
        offered: its Sec-WebSocket-Extensions, several joined with commas.
        bits: of the largest window, 9 to 15.
        memory_level: of zlib, 1 to 9.
    """
    factory = ServerPerMessageDeflateFactory(server_max_window_bits=bits, client_max_window_bits=bits)
    try:
        offers = parse_extension(offered)
    except WebSocketException:
        return None  # an offer that makes no sense is no reason to refuse the socket
    for name, parameters in offers:
        if name != factory.name:
            continue
        try:
            answer, made = factory.process_request_params(parameters, [])
        except (NegotiationError, ValueError):  # older releases of the library try windows that zlib does not have
            continue
        return Agreed(
            build_extension([(name, answer)]),
            made.remote_no_context_takeover,
            made.local_no_context_takeover,
            made.remote_max_window_bits,
            made.local_max_window_bits,
            memory_level,
        )
    return None


class Deflate(PerMessageDeflate):
    """The two contexts of one connection; see the head of the file.

    Args:
        agreed: with the client.

    Attributes:
        room: bytes that a message may still have; set before each frame.
    """

    def __init__(self, agreed: Agreed) -> None:  # the library's own makes both contexts at once
        self.remote_no_context_takeover = agreed.forgets
        self.local_no_context_takeover = agreed.we_forget
        self.remote_max_window_bits = agreed.bits
        self.local_max_window_bits = agreed.our_bits
        self.compress_settings = {"memLevel": agreed.memory_level}
        self.decode_cont_data = False
        self.room = 0

    @cached_property
    def decoder(self) -> Any:  # type: ignore[override]
        """The context of what comes."""
        return zlib.decompressobj(wbits=-self.remote_max_window_bits)

    @cached_property
    def encoder(self) -> Any:  # type: ignore[override]
        """The context of what goes."""
        return zlib.compressobj(LEVEL, wbits=-self.local_max_window_bits, **self.compress_settings)

    def decode(self, frame: Frame, *, max_size: int | None = None) -> Frame:  # noqa: ARG002 - that is of a frame
        """As the library has it, with `room` for the limit, and zlib's own end of the stream is looked at.

        Raises:
            PayloadTooBig: there is more in it than `room`.
            ProtocolError: it cannot be unpacked.
        """
        decoded = super().decode(frame, max_size=max(self.room, 1))  # to zlib 0 means that there is no limit
        if decoded is frame:
            return frame
        if len(decoded.data) > self.room:
            raise PayloadTooBig(None, self.room)
        decoder = self.__dict__.get("decoder")
        if decoder is not None and decoder.eof:
            if not frame.fin or decoder.unused_data not in _BEHIND_THE_END:
                raise ProtocolError("data behind the final block of a compressed message")
            del self.decoder  # it would unpack no more; who refers to what was before is told so by zlib
        return decoded
