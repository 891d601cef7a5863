"""PURE. Text of a frame whose end has yet to come: it is checked as it arrives (RFC 6455, section 8.1).

A frame is read when all of it is here. Without this, whoever sends text that is none would be heard to its end first.
"""

from __future__ import annotations

import codecs

from bridge.worker.masking import apply_mask

_UTF8 = codecs.getincrementaldecoder("utf-8")


class EarlyText:
    """Looks at what comes, piece by piece, and keeps none of it.

    Args:
        before: what the frames before it in the same message were decoded with, which stays as it is; None = it is
            the first of its message.
        mask: what the payload is masked with: four bytes.
        size: of the payload, in bytes.
    """

    __slots__ = ("_decoder", "_lacking", "_mask", "garbled")

    def __init__(self, before: codecs.IncrementalDecoder | None, mask: bytes, size: int) -> None:
        self._decoder = _UTF8()
        if before is not None:
            self._decoder.setstate(before.getstate())
        self._mask = mask
        self._lacking = size
        self.garbled = False  #: something has come that cannot be text

    def check(self, data: bytes) -> None:
        """Look at the next bytes that have come; not at those behind the end of the frame."""
        piece = data[: self._lacking]
        self._lacking -= len(piece)
        try:
            self._decoder.decode(apply_mask(piece, self._mask))
        except UnicodeDecodeError:
            self.garbled = True
        turn = len(piece) & 3
        self._mask = self._mask[turn:] + self._mask[:turn]
