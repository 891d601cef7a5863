"""PURE. The header list of an application's response → a header block, checked.

The block is lines of `name: value CRLF` without the fields that belong to the connection: the router frames
the message itself. What it has to know of them comes beside the block: the announced length, and whether the
application set Date and Server.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from bridge.ipc.message import DATE, SERVER, UNKNOWN

#: Names whose line prefix is remembered. Names repeat from response to response and are never secret; values
#: are neither, and are not remembered.
MAX_NAMES = 512

#: Fields of one connection. The router decides about them, so the application's are dropped, as other servers do.
HOP_BY_HOP = frozenset({b"connection", b"keep-alive", b"proxy-connection", b"transfer-encoding", b"upgrade"})

_FLAGS = {b"date": DATE, b"server": SERVER}
_LONGEST_NUMBER = 18  # digits: more would not fit the message, and nobody sends an exabyte
_CONTROLS = bytes(b for b in range(32) if b != ord("\t")) + b"\x7f"
_is_token = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+").fullmatch
_prefixes: dict[bytes, bytes] = {}  # name as given → "name: " in lower case; empty for a field that needs a look


def encode(headers: Iterable[Sequence[bytes]]) -> tuple[bytes, int, int]:
    """Header block, announced content length or UNKNOWN, flags DATE and SERVER.

    Raises:
        TypeError: the headers are not pairs of bytes.
        ValueError: a name is no token, a value holds a control character, Content-Length is no number or
            comes twice.
    """
    if not isinstance(headers, (list, tuple)):
        headers = list(headers)
    lines: list[bytes] = []
    size, flags = UNKNOWN, 0
    try:
        for name, value in headers:
            prefix = _prefixes.get(name)
            if prefix is None:
                prefix = _learn(name)
            if prefix:
                lines.append(prefix + value + b"\r\n")
                continue
            key = name.lower()
            if key == b"content-length":
                size = _length(value, size)
            elif key in _FLAGS:
                flags |= _FLAGS[key]
                lines.append(key + b": " + value + b"\r\n")
    except (TypeError, AttributeError) as exc:
        raise TypeError(_fault(headers)) from exc
    except ValueError:
        if all(isinstance(header, (list, tuple)) and len(header) == 2 for header in headers):
            raise
        raise ValueError(_fault(headers)) from None
    block = b"".join(lines)
    # Two control characters end each line. One more is in a value, which could forge a field of its own.
    if len(block) - len(block.translate(None, _CONTROLS)) != 2 * len(lines):
        raise ValueError(_fault(headers))
    return block, size, flags


def _learn(name: bytes) -> bytes:
    """Check and remember a name."""
    key = name.lower()
    if not _is_token(key):
        raise ValueError(f"header name {name!r} is not a token of HTTP")
    if len(_prefixes) >= MAX_NAMES:
        _prefixes.clear()
    prefix = b"" if key == b"content-length" or key in HOP_BY_HOP or key in _FLAGS else key + b": "
    _prefixes[name] = prefix
    return prefix


def _length(value: bytes, before: int) -> int:
    """Content-Length as a number, if it is the first one."""
    if not isinstance(value, bytes):
        raise TypeError
    if before != UNKNOWN:
        raise ValueError("content-length comes twice in the headers of the application")
    if not value.isdigit() or len(value) > _LONGEST_NUMBER:
        raise ValueError(f"content-length {value!r} is not a number of bytes")
    return int(value)


def _fault(headers: Iterable[Sequence[bytes]]) -> str:
    """Says which header is wrong."""
    for header in headers:
        if not isinstance(header, (list, tuple)) or len(header) != 2:
            return f"header {header!r} is not a pair of a name and a value"
        name, value = header
        if not isinstance(name, bytes) or not isinstance(value, bytes):
            return f"header {name!r}: {value!r} is not bytes (ASGI wants both encoded, the name in lower case)"
        if value.translate(None, _CONTROLS) != value:
            return f"value of header {name!r} holds a control character: {value!r}"
    return "headers are not pairs of bytes"
