"""PURE. The header list of an application's response → a header block, checked.

The block is lines of `name: value CRLF` without the fields that belong to the connection: the router frames
the message itself. What it has to know of them comes beside the block: the announced length, and whether the
application set Date and Server.

ASGI gives bytes, WSGI native strings, whose characters stand for a byte each. In ASGI the server drops the fields
of the connection; PEP 3333 calls them a fatal error of the application.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Any

from bridge.ipc.message import DATE, SERVER, UNKNOWN

#: Names whose line prefix is remembered: they repeat from response to response and are never secret.
MAX_NAMES = 512

#: Fields that are remembered with the line they become. Most of a response's stood in the last one too, and those that
#: hold a client's secrets are not among them.
MAX_LINES = 1024
LONGEST_LINE = 128  #: bytes

#: Fields of one connection. The router decides about them, so the application's are dropped, as other servers do.
HOP_BY_HOP = frozenset({b"connection", b"keep-alive", b"proxy-connection", b"transfer-encoding", b"upgrade"})

#: What PEP 3333 calls hop-by-hop, and lets no application send.
REFUSED = HOP_BY_HOP | {b"proxy-authenticate", b"proxy-authorization", b"te", b"trailer", b"trailers"}

_FLAGS = {b"date": DATE, b"server": SERVER}
_WANTED: dict[type, str] = {
    bytes: "bytes (ASGI wants both encoded, the name in lower case)",
    str: "str (WSGI wants native strings)",
}
_TWICE = "content-length comes twice in the headers of the application"
_LONGEST_NUMBER = 18  # digits: more would not fit the message, and nobody sends an exabyte
_CONTROLS = bytes(b for b in range(32) if b != ord("\t")) + b"\x7f"
_is_token = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+").fullmatch
_prefixes: dict[bytes, bytes] = {}  # name as given → "name: " in lower case; empty for a field that needs a look
_known: dict[Any, bytes | int | tuple[int, bytes]] = {}  # what `_read` says of a field
_known_native: dict[Any, bytes | int | tuple[int, bytes]] = {}  # the same for native strings


def encode(headers: Iterable[Sequence[Any]], kind: type[bytes | str] = bytes) -> tuple[bytes, int, int]:
    """Header block, announced content length or UNKNOWN, flags DATE and SERVER.

    Args:
        headers: pairs of `kind`.
        kind: bytes as ASGI has them, or str as start_response() is given them.

    Raises:
        TypeError: the headers are not pairs of `kind`.
        ValueError: a name is no token, a value holds a control character, Content-Length is no number or
            comes twice; of str: a character is beyond ISO-8859-1, or a field belongs to the connection.
    """
    if not isinstance(headers, (list, tuple)):
        headers = list(headers)
    native = kind is str
    seen = _known_native if native else _known
    lines: list[bytes] = []
    size, flags = UNKNOWN, 0
    try:
        for header in headers:
            known = seen.get(header) if header.__class__ is tuple else None
            if known is None:
                known = _read_native(*header) if native else _read(*header)
            if isinstance(known, bytes):
                lines.append(known)
            elif isinstance(known, int):
                if size != UNKNOWN:
                    raise ValueError(_TWICE)
                size = known
            else:
                flags |= known[0]
                lines.append(known[1])
    except (TypeError, AttributeError) as exc:
        raise TypeError(_fault(headers, kind)) from exc
    except ValueError as exc:
        if isinstance(exc, UnicodeEncodeError) or not _are_pairs(headers):
            raise ValueError(_fault(headers, kind)) from exc
        raise
    return b"".join(lines), size, flags


def _read(name: bytes, value: bytes) -> bytes | int | tuple[int, bytes]:
    """Check one field: its line, empty if it is dropped; or the length that it announces; or its flag and its line."""
    prefix = _prefixes.get(name)
    if prefix is None:
        prefix = _learn(name)
    key = b"" if prefix else name.lower()
    line = (prefix or key + b": ") + value + b"\r\n"
    if line.translate(None, _CONTROLS) != line[:-2]:  # one in a value could forge a field of its own
        raise ValueError(_fault([(name, value)]))
    known: bytes | int | tuple[int, bytes] = line
    if key == b"content-length":
        known = _length(value)
    elif key in _FLAGS:
        return _FLAGS[key], line  # a date is another one soon
    elif key:
        known = b""
    if len(line) <= LONGEST_LINE and prefix != b"set-cookie: ":
        _remember(_known, name, value, known)
    return known


def _read_native(name: str, value: str) -> bytes | int | tuple[int, bytes]:
    """As `_read`, of a field as WSGI gives it."""
    raw_name, raw_value = name.encode("latin-1"), value.encode("latin-1")
    if raw_name.lower() in REFUSED:
        raise ValueError(f"header {name!r} belongs to the connection, which is the server's: leave it out")
    known = _read(raw_name, raw_value)
    if (raw_name, raw_value) in _known:
        _remember(_known_native, name, value, known)
    return known


def _remember(table: dict[Any, Any], name: Any, value: Any, known: object) -> None:
    if len(table) >= MAX_LINES:
        table.clear()
    table[name, value] = known


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


def _length(value: bytes) -> int:
    """Content-Length as a number."""
    if not isinstance(value, bytes):
        raise TypeError
    if not value.isdigit() or len(value) > _LONGEST_NUMBER:
        raise ValueError(f"content-length {value!r} is not a number of bytes")
    return int(value)


def _are_pairs(headers: Iterable[Any]) -> bool:
    return all(isinstance(header, (list, tuple)) and len(header) == 2 for header in headers)


def _fault(headers: Iterable[Sequence[Any]], kind: type[bytes | str] = bytes) -> str:
    """Says which header is wrong."""
    for header in headers:
        if not _are_pairs([header]):
            return f"header {header!r} is not a pair of a name and a value"
        name, value = header
        if not isinstance(name, kind) or not isinstance(value, kind):
            return f"header {name!r}: {value!r} is not {_WANTED[kind]}"
        if isinstance(name, str) and isinstance(value, str):
            if max(name + value, default="") > "\xff":
                return f"header {name!r}: {value!r} holds a character beyond ISO-8859-1: encode it as its field demands"
            value = value.encode("latin-1")
        if value.translate(None, _CONTROLS) != value:
            return f"value of header {name!r} holds a control character: {value!r}"
    return f"headers are not pairs of {kind.__name__}"
