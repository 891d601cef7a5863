"""PURE. The strict decoder of transfer-chunked request bodies.

Why not llhttp: it has no limits, cannot say where the body ended when a pipelined request follows in the same
bytes, and copies. Nothing is repaired here: no white space around the size, CRLF only, a size of at most 15
hexadecimal digits, extensions within the grammar and within a budget, trailers that are field lines and frame
nothing. Extensions and trailers are dropped, as RFC 9112 allows.
"""

from __future__ import annotations

import re

from bridge.errors import ClientError
from bridge.router.framing import is_field

_TOKEN = rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
_EXTENSION = rb";" + _TOKEN + rb"(?:=(?:" + _TOKEN + rb'|"(?:[\t !#-\[\]-~\x80-\xff]|\\[\t -~\x80-\xff])*"))?'
_match_size = re.compile(rb"([0-9A-Fa-f]{1,15})((?:" + _EXTENSION + rb")*)\r\n").fullmatch
_could_be_size = re.compile(rb"[0-9A-Fa-f]{1,15}(?:\r|;[^\r\n\0]*\r?)?").fullmatch
_could_be_line = re.compile(rb"[^\r\n\0]*\r?").fullmatch

_MAX_SIZE_LINE = 1024  # bytes, CRLF included
_EXTENSION_BUDGET = 16384  # bytes of extensions that a body may have beyond its own size
_MAX_TRAILER = 8192  # bytes of the whole trailer section

_SIZE, _DATA, _DATA_END, _TRAILER = range(4)
_WHERE = ("chunk size", "chunk", "end of chunk", "trailer")


class ChunkDecoder:
    """Decodes one body, in pieces of any size.

    Attributes:
        done: the body and its trailer section are complete.
        size: bytes of body decoded so far.

    Args:
        limit: most bytes of body, None = unlimited.
    """

    __slots__ = ("_budget", "_lacking", "_limit", "_line", "_state", "_trailer", "done", "size")

    def __init__(self, limit: int | None = None) -> None:
        self.done = False
        self.size = 0
        self._limit = limit
        self._state = _SIZE
        self._line = b""  # an incomplete line
        self._lacking = 0  # bytes that the current chunk lacks
        self._budget = _EXTENSION_BUDGET
        self._trailer = 0

    def feed(self, data: bytes) -> tuple[bytes, int]:
        """Decode what has arrived.

        Returns:
            The bytes of body in it, and how many bytes of `data` were consumed: all, unless the body ended.

        Raises:
            ClientError: the encoding is wrong (400) or the body is larger than the limit (413).
        """
        pieces = []
        position = 0
        length = len(data)
        while position < length and not self.done:
            if self._state == _DATA:
                piece = data[position : position + self._lacking]
                pieces.append(piece)
                position += len(piece)
                self._lacking -= len(piece)
                if not self._lacking:
                    self._state = _DATA_END
                continue
            end = data.find(b"\n", position) + 1
            line = self._line + data[position : end or length]
            position = end or length
            if end:
                self._line = b""
                self._on_line(line)
            else:
                self._check_partial(line)
                self._line = line
        return b"".join(pieces), position

    def _on_line(self, line: bytes) -> None:
        if self._state == _SIZE:
            self._on_size(line)
        elif self._state == _DATA_END:
            if line != b"\r\n":
                raise ClientError(400, _WHERE[_DATA_END])
            self._state = _SIZE
        elif line == b"\r\n":
            self.done = True
        else:
            self._trailer += len(line)
            if self._trailer > _MAX_TRAILER:
                raise ClientError(431, "trailer section is too large")
            if not line.endswith(b"\r\n") or not is_field(line[:-2]):
                raise ClientError(400, _WHERE[_TRAILER])

    def _on_size(self, line: bytes) -> None:
        found = _match_size(line)
        if found is None or len(line) > _MAX_SIZE_LINE:
            raise ClientError(400, _WHERE[_SIZE])
        size = int(found[1], 16)
        self.size += size
        self._budget += size - len(found[2])
        if self._limit is not None and self.size > self._limit:
            raise ClientError(413, "body is too large")
        if self._budget < 0:
            raise ClientError(400, "chunk extensions")
        self._lacking = size
        self._state = _DATA if size else _TRAILER

    def _check_partial(self, line: bytes) -> None:
        # A line that cannot become a good one is refused now, not when its end or a deadline comes.
        if self._state == _SIZE:
            if len(line) >= _MAX_SIZE_LINE or not _could_be_size(line):
                raise ClientError(400, _WHERE[_SIZE])
        elif self._state == _DATA_END:
            if line != b"\r":
                raise ClientError(400, _WHERE[_DATA_END])
        elif self._trailer + len(line) > _MAX_TRAILER:
            raise ClientError(431, "trailer section is too large")
        elif not _could_be_line(line):
            raise ClientError(400, _WHERE[_TRAILER])
