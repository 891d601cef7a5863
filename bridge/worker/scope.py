"""PURE. The head block of a request → an ASGI connection scope, in one pass over the bytes.

A head block is the peer block, which the router writes, then the head exactly as the client sent it:

    client host NUL client number NUL server host NUL server number LF      the numbers are TCP's
    request line CRLF  (field line CRLF)*  CRLF

The router has refused every head that is not well formed, so nothing is judged here a second time. A Unix
socket has an empty client, and its path for a server host.

What the keys hold where servers differ:

* `path` is percent-decoded UTF-8. Bytes that are not UTF-8 become U+FFFD, as under uvicorn, hypercorn and
  Unit: a lossless form (lone surrogates) would break the first template or log line that encodes it. Who needs
  the bytes has `raw_path`.
* A configured root path is what a proxy in front has cut off. It is put back: `path` and `raw_path` start with
  `root_path` (uvicorn has it so since 0.26; Starlette, FastAPI and Django cut it off again to find the route).
* A prefix, below which the server hands requests to the application, is part of the path already. Where the path begins
  with it, at the end of a segment, it counts as `root_path`; elsewhere it does not.
* The path of an absolute-form target is the path inside it; `*` of `OPTIONS *` stays as it is, without a root
  path. A fragment, which no client should send, is dropped, as nginx does.
"""

from __future__ import annotations

from typing import Any
from urllib.parse import unquote_to_bytes

from bridge.ipc.message import HTTP_1_0, HTTPS
from bridge.worker.types import Scope

Client = tuple[str, int] | None
Server = tuple[str, int | None] | None

#: Connections whose peer block is remembered. A keep-alive connection repeats its block in each request, and
#: splitting it costs as much as the rest of a short head.
MAX_PEERS = 4096

#: Request lines without a query that are remembered with their parts.
MAX_LINES = 1024

#: Field lines that are remembered with their parts. Clients repeat most of their fields in each request.
MAX_FIELDS = 1024
LONGEST_FIELD = 256  #: bytes; longer lines rarely repeat
SECRET = frozenset({b"authorization", b"cookie", b"proxy-authorization"})  #: these are not kept beyond their request

#: Blocks of nothing but lines that were known already, remembered with their fields: a client's next request has
#: most often just those of the last.
MAX_BLOCKS = 256
LONGEST_BLOCK = 1024  #: bytes

# `in` finds a number in bytes four times as fast as it finds bytes.
_HASH = ord("#")
_PERCENT = ord("%")


class ScopeBuilder:
    """Builds the scopes of one application.

    Args:
        root_path: what a proxy in front cuts off the path; slashes at its end do not count.
        state: what lifespan startup left, of which every scope gets a shallow copy; None = no lifespan.
        prefix: counts as part of `root_path` in paths that begin with it.
    """

    __slots__ = ("_blocks", "_fields", "_lines", "_peers", "_prefix", "_raw_root", "_root_path", "_state")

    def __init__(self, root_path: str = "", state: dict[str, Any] | None = None, prefix: str = "") -> None:
        trimmed = root_path.rstrip("/")
        self._root_path = trimmed if not trimmed or trimmed.startswith("/") else "/" + trimmed
        self._prefix = prefix.rstrip("/")
        self._raw_root = self._root_path.encode()
        self._state = state
        self._peers: dict[bytes, tuple[Client, Server]] = {}
        self._lines: dict[bytes, tuple[str, str, bytes, bytes, str]] = {}
        self._fields: dict[bytes, tuple[bytes, bytes]] = {}
        self._blocks: dict[bytes, list[tuple[bytes, bytes]]] = {}

    def build(self, head: bytes, number: int) -> Scope:
        """The scope of one request.

        Args:
            head: head block.
            number: version and scheme bits of the REQUEST message.

        Raises:
            ValueError: the head block is not one.
        """
        first, _, block = head.partition(b"\r\n")
        peer, _, line = first.rpartition(b"\n")
        addresses = self._peers.get(peer) or self._remember(peer)
        method, path, raw_path, query, root_path = self._lines.get(line) or self._read_line(line)
        headers = self._blocks.get(block)
        scope: Scope = {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.4"},
            "http_version": "1.0" if number & HTTP_1_0 else "1.1",
            "method": method,
            "scheme": "https" if number & HTTPS else "http",
            "path": path,
            "raw_path": raw_path,
            "query_string": query,
            "root_path": root_path,
            "headers": self._read_block(block) if headers is None else headers.copy(),
            "client": addresses[0],
            "server": addresses[1],
            "extensions": {},
        }
        if self._state is not None:
            scope["state"] = self._state.copy()
        return scope

    def build_websocket(self, head: bytes, number: int) -> Scope:
        """The scope of a WebSocket, but for its `subprotocols`; everything else as `build`."""
        scope = self.build(head, number)
        del scope["method"]
        scope["type"] = "websocket"
        scope["scheme"] = "wss" if number & HTTPS else "ws"
        scope["extensions"] = {"websocket.http.response": {}}
        return scope

    def _read_line(self, line: bytes) -> tuple[str, str, bytes, bytes, str]:
        """Method, path, raw path, query and root path of a request line."""
        method, _, rest = line.partition(b" ")
        target = rest.partition(b" ")[0]
        if target[:1] != b"/" or _HASH in target:
            target = origin_form(rest.lstrip(b" ").partition(b" ")[0])
        raw_path, mark, query = target.partition(b"?")
        path = (unquote_to_bytes(raw_path) if _PERCENT in raw_path else raw_path).decode("utf-8", "replace")
        root_path = self._root_path
        prefix = self._prefix
        if prefix and path.startswith(prefix) and path[len(prefix) : len(prefix) + 1] in ("", "/"):
            root_path += prefix
        if self._root_path and raw_path != b"*":
            path = self._root_path + path
            raw_path = self._raw_root + raw_path
        parts = (method.decode(), path, raw_path, query, root_path)
        if not mark and len(line) <= LONGEST_FIELD:
            if len(self._lines) >= MAX_LINES:
                self._lines.clear()
            self._lines[line] = parts
        return parts

    def _read_block(self, block: bytes) -> list[tuple[bytes, bytes]]:
        lines = block.split(b"\r\n")[:-2]
        known = [self._fields.get(line) for line in lines]
        headers = [field or self._learn(line) for field, line in zip(known, lines, strict=True)]
        if len(block) <= LONGEST_BLOCK and None not in known:
            if len(self._blocks) >= MAX_BLOCKS:
                self._blocks.clear()
            self._blocks[block] = headers.copy()
        return headers

    def _learn(self, line: bytes) -> tuple[bytes, bytes]:
        name, _, value = line.partition(b":")
        name = name.lower()
        field = (name, value.strip(b" \t"))
        if len(line) <= LONGEST_FIELD and name not in SECRET:
            if len(self._fields) >= MAX_FIELDS:
                self._fields.clear()
            self._fields[line] = field
        return field

    def _remember(self, peer: bytes) -> tuple[Client, Server]:
        if len(self._peers) >= MAX_PEERS:
            self._peers.clear()
        addresses = self._peers[peer] = parse_peer(peer)
        return addresses


def parse_peer(peer: bytes) -> tuple[Client, Server]:
    """Client and server of a peer block (without its LF).

    Raises:
        ValueError: it does not have four fields, or a number is none.
    """
    client_host, client_number, server_host, server_number = peer.split(b"\0")
    client: Client = None
    if client_host:
        client = (client_host.decode(errors="replace"), int(client_number or 0))
    server: Server = None
    if server_host:
        server = (server_host.decode(errors="surrogateescape"), int(server_number) if server_number else None)
    return client, server


def origin_form(target: bytes) -> bytes:
    """Path and query of a target that does not start with a slash, or that holds a fragment."""
    target = target.partition(b"#")[0]
    scheme, mark, rest = target.partition(b"://")
    if not mark or not scheme.isalpha():  # also a path with :// in its query, which begins with a slash
        return target
    authority, mark, query = rest.partition(b"?")
    _, slash, path = authority.partition(b"/")
    return b"/" + path + mark + query if slash or mark else b"/"


def request_line(head: bytes, limit: int = 512) -> str:
    """The request line of a head block, for a log: printable ASCII, at most `limit` characters."""
    line = head.partition(b"\r\n")[0].rpartition(b"\n")[2]
    text = line.decode("ascii", "backslashreplace")
    printable = "".join(c if c.isprintable() else f"\\x{ord(c):02x}" for c in text)
    return printable if len(printable) <= limit else printable[: limit - 1] + "…"
