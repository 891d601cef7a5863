"""PURE. An ASGI scope → the head block that `worker.environ` makes an environ of.

So that a WSGI application finds the same in its environ whether the head came from the router or from an ASGI server.
"""

from __future__ import annotations

from urllib.parse import quote, unquote_to_bytes

from bridge.ipc.message import UNKNOWN
from bridge.worker.types import Scope

_BREAKS = frozenset(b"\r\n\0")


def head_of(scope: Scope) -> bytes:
    """The head block of an http scope; its path begins with `root_path`, as ASGI has it."""
    client, server = scope.get("client") or ("", ""), scope.get("server") or ("", "")
    peer = "\0".join("" if part is None else str(part) for part in (*client[:2], *server[:2]))
    target = _raw_path(scope)
    if scope.get("query_string"):
        target += b"?" + scope["query_string"].replace(b" ", b"%20")
    lines = [b"%b %b HTTP/1.1" % (scope["method"].encode(), target)]
    lines += [b"%b: %b" % field for field in scope["headers"] if not _BREAKS & set(field[0] + field[1])]
    block = b"\r\n".join([*lines, b"", b""])
    return peer.encode("utf-8", "surrogateescape").replace(b"\n", b"?") + b"\n" + block


def announced_length(scope: Scope) -> int:
    """Bytes of the request body; UNKNOWN if only its end will tell."""
    fields = {name.lower(): value for name, value in scope["headers"]}
    if b"transfer-encoding" in fields:
        return UNKNOWN
    length = fields.get(b"content-length", b"")
    if length.isdigit():
        return int(length)
    # Without both there is no body in HTTP/1.1; later versions need neither.
    return 0 if scope["http_version"] in ("1.0", "1.1") else UNKNOWN


def _raw_path(scope: Scope) -> bytes:
    """The path as it was sent where the server says so; it is optional, and not all mean the whole path by it."""
    path: str = scope["path"]
    raw: bytes | None = scope.get("raw_path")
    if raw is not None and b" " not in raw and not _BREAKS & set(raw):
        decoded = unquote_to_bytes(raw).decode("utf-8", "replace")
        if decoded == path:
            return raw
    return quote(path).encode()
