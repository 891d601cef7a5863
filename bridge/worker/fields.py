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

#: Names whose line prefix is remembered. Names repeat from response to response and are never secret; values
#: are neither, and are not remembered.
MAX_NAMES = 512

#: Fields of one connection. The router decides about them, so the application's are dropped, as other servers do.
HOP_BY_HOP = frozenset({b"connection", b"keep-alive", b"proxy-connection", b"transfer-encoding", b"upgrade"})

#: What PEP 3333 calls hop-by-hop, and lets no application send.
REFUSED = HOP_BY_HOP | {b"proxy-authenticate", b"proxy-authorization", b"te", b"trailer", b"trailers"}

_FLAGS = {b"date": DATE, b"server": SERVER}
_WANTED: dict[type, str] = {
    bytes: "bytes (ASGI wants both encoded, the name in lower case)",
    str: "str (WSGI wants native strings)",
}
_LONGEST_NUMBER = 18  # digits: more would not fit the message, and nobody sends an exabyte
_CONTROLS = bytes(b for b in range(32) if b != ord("\t")) + b"\x7f"
_is_token = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+").fullmatch
_prefixes: dict[bytes, bytes] = {}  # name as given → "name: " in lower case; empty for a field that needs a look
_native_prefixes: dict[str, str] = {}  # the same for native strings


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
        if _are_pairs(headers):
            raise
        raise ValueError(_fault(headers)) from None
    block = b"".join(lines)
    # Two control characters end each line. One more is in a value, which could forge a field of its own.
    if len(block) - len(block.translate(None, _CONTROLS)) != 2 * len(lines):
        raise ValueError(_fault(headers))
    return block, size, flags


def encode_native(headers: list[tuple[str, str]]) -> tuple[bytes, int, int]:
    """The same as `encode` of the headers that start_response() was given.

    Raises:
        TypeError: the headers are not a list of pairs of str.
        ValueError: as `encode`; or a character is beyond ISO-8859-1, or a field belongs to the connection.
    """
    if not isinstance(headers, list):
        raise TypeError(f"the headers are a {type(headers).__name__}: WSGI wants a list of pairs of str")
    lines: list[str] = []
    rest: list[tuple[bytes, bytes]] = []
    size, flags = UNKNOWN, 0
    try:
        for name, value in headers:
            prefix = _native_prefixes.get(name)
            if prefix is None:
                prefix = _learn_native(name)
            if prefix:
                lines.append(prefix + value + "\r\n")
            elif name.lower() == "content-length":
                size = _length(value.encode("latin-1"), size)
            else:
                rest.append((name.encode("latin-1"), value.encode("latin-1")))
        block = "".join(lines).encode("latin-1")
    except (TypeError, AttributeError) as exc:
        raise TypeError(_fault(headers, str)) from exc
    except ValueError as exc:
        if isinstance(exc, UnicodeEncodeError) or not _are_pairs(headers):
            raise ValueError(_fault(headers, str)) from exc
        raise
    if len(block) - len(block.translate(None, _CONTROLS)) != 2 * len(lines):  # as above
        raise ValueError(_fault(headers, str))
    if rest:
        more, _, flags = encode(rest)
        block += more
    return block, size, flags


def _learn_native(name: str) -> str:
    """Check and remember a name as WSGI gives it."""
    encoded = name.encode("latin-1")
    if encoded.lower() in REFUSED:
        raise ValueError(f"header {name!r} belongs to the connection, which is the server's: leave it out")
    if len(_native_prefixes) >= MAX_NAMES:
        _native_prefixes.clear()
    prefix = _native_prefixes[name] = _learn(encoded).decode("latin-1")
    return prefix


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
