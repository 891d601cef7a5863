"""PURE. The head block of a request → the environ of a WSGI application, in one pass over the bytes.

A head block is described in `worker.scope`; here too nothing is judged that the router has judged already. All
strings are what PEP 3333 calls native: bytes, decoded as ISO-8859-1.

What the keys hold where servers differ:

* `SCRIPT_NAME` is the configured root path, which a proxy in front has cut off, so the path has it no more. Where
  a prefix is configured and the path begins with it, at the end of a segment, it moves from the path to
  `SCRIPT_NAME`.
* `PATH_INFO` of `OPTIONS *` is empty: it may be that, or begin with a slash, and nothing else. `RAW_URI` and
  `REQUEST_URI` are the target exactly as sent, in absolute form too.
* A field that comes several times is joined with `, `, or `; ` if it is Cookie. One whose name holds an underscore
  is dropped: it could be taken for another one's, which a proxy in front has set or removed.
* The request body is here before the request is, so `CONTENT_LENGTH` is its length, of a body in transfer chunks
  too, and `Transfer-Encoding` is not passed on: the two together would be what a smuggled request looks like.
* `REMOTE_PORT` is there where it is known. The client of a Unix socket has no address, the socket no name that a
  URL could hold: `REMOTE_ADDR` is empty, and the server is localhost at the scheme's own number.
"""

from __future__ import annotations

from urllib.parse import unquote_to_bytes

from bridge.ipc.message import HTTP_1_0, HTTPS
from bridge.worker.scope import (
    LONGEST_BLOCK,
    LONGEST_FIELD,
    MAX_BLOCKS,
    MAX_FIELDS,
    MAX_LINES,
    SECRET,
    origin_form,
    parse_peer,
)
from bridge.worker.types import Environ

#: Connections whose part of the environ is remembered, for each version and scheme. It is a dict, and larger
#: than what ASGI remembers of a connection.
MAX_PEERS = 1024

_VARIANTS = HTTP_1_0 | HTTPS  # all bits of `number` that matter here
_HASH = ord("#")
_PERCENT = ord("%")
_UNDERSCORE = ord("_")

_Field = tuple[str, str]
_Parts = tuple[str, str, str, str, str]

_DROPPED: _Field = ("", "")  # stands for a field that is not passed on

#: These keys, which every request gets values for, are in the dict that is copied: so its copy is large enough.
_OF_THE_LINE = ("REQUEST_METHOD", "SCRIPT_NAME", "PATH_INFO", "QUERY_STRING", "RAW_URI", "REQUEST_URI")

_RENAMED = {b"content-type": "CONTENT_TYPE", b"content-length": "CONTENT_LENGTH"}


class EnvironBuilder:
    """Builds the environs of one application; several threads may use it at the same time.

    Args:
        fixed: what is the same in every environ.
        root_path: what a proxy in front cuts off the path; slashes at its end do not count.
        prefix: what is moved from a path that begins with it to SCRIPT_NAME; slashes at its end do not count.
    """

    __slots__ = ("_blocks", "_fields", "_fixed", "_lines", "_peers", "_prefix", "_root_path")

    def __init__(self, fixed: Environ, root_path: str = "", prefix: str = "") -> None:
        self._fixed = fixed
        self._root_path = _native(root_path)
        self._prefix = _native(prefix)
        self._peers: list[dict[bytes, Environ]] = [{} for _ in range(_VARIANTS + 1)]
        self._lines: dict[bytes, _Parts] = {}
        self._fields: dict[bytes, _Field] = {}
        self._blocks: dict[bytes, dict[str, str]] = {}

    def build(self, head: bytes, number: int, size: int) -> Environ:
        """The environ of one request.

        Args:
            head: head block.
            number: version and scheme bits of the REQUEST message.
            size: bytes of the request body.

        Raises:
            ValueError: the head block is not one.
        """
        first, _, block = head.partition(b"\r\n")
        peer, _, line = first.rpartition(b"\n")
        environ = (self._peers[number & _VARIANTS].get(peer) or self._remember(peer, number & _VARIANTS)).copy()
        parts = self._lines.get(line) or self._read_line(line)
        (
            environ["REQUEST_METHOD"],
            environ["SCRIPT_NAME"],
            environ["PATH_INFO"],
            environ["QUERY_STRING"],
            environ["RAW_URI"],
        ) = parts
        environ["REQUEST_URI"] = parts[4]
        environ.update(self._blocks.get(block) or self._read_block(block))
        if size:
            environ["CONTENT_LENGTH"] = str(size)
        return environ

    def _read_line(self, line: bytes) -> _Parts:
        """Method, script name, path, query and target of a request line."""
        method, _, rest = line.partition(b" ")
        sent = rest.lstrip(b" ").partition(b" ")[0]
        target = sent if sent[:1] == b"/" and _HASH not in sent else origin_form(sent)
        raw_path, mark, query = target.partition(b"?")
        path = (unquote_to_bytes(raw_path) if _PERCENT in raw_path else raw_path).decode("latin-1")
        script, path = self._split(path if raw_path != b"*" else "")
        parts = (method.decode(), script, path, query.decode("latin-1"), sent.decode("latin-1"))
        if not mark and len(line) <= LONGEST_FIELD:
            if len(self._lines) >= MAX_LINES:
                self._lines.clear()
            self._lines[line] = parts
        return parts

    def _split(self, path: str) -> tuple[str, str]:
        """SCRIPT_NAME and PATH_INFO."""
        prefix = self._prefix
        if prefix and path.startswith(prefix) and path[len(prefix) : len(prefix) + 1] in ("", "/"):
            return self._root_path + prefix, path[len(prefix) :]
        return self._root_path, path

    def _read_block(self, block: bytes) -> dict[str, str]:
        """What the field lines add to an environ."""
        known = self._fields.get
        fields: dict[str, str] = {}
        lines = block.split(b"\r\n")[:-2]
        familiar = len(block) <= LONGEST_BLOCK
        for line in lines:
            field = known(line)
            if field is None:
                familiar = False
                field = self._learn(line)
            fields[field[0]] = field[1]
        if len(fields) != len(lines) or "" in fields:
            fields = _join([known(line) or self._learn(line) for line in lines])
        if familiar:
            if len(self._blocks) >= MAX_BLOCKS:
                self._blocks.clear()
            self._blocks[block] = fields
        return fields

    def _learn(self, line: bytes) -> _Field:
        name, _, value = line.partition(b":")
        name = name.lower()
        if name == b"transfer-encoding":
            field = ("CONTENT_LENGTH", "0")  # the true one replaces it where there is a body
        elif _UNDERSCORE in name:
            field = _DROPPED
        else:
            key = _RENAMED.get(name) or "HTTP_" + name.decode().upper().replace("-", "_")
            field = (key, value.strip(b" \t").decode("latin-1"))
        if len(line) <= LONGEST_FIELD and name not in SECRET:
            if len(self._fields) >= MAX_FIELDS:
                self._fields.clear()
            self._fields[line] = field
        return field

    def _remember(self, peer: bytes, variant: int) -> Environ:
        """What all requests of a connection have in common."""
        client, server = parse_peer(peer)
        scheme, usual = ("https", 443) if variant & HTTPS else ("http", 80)
        environ = self._fixed | {
            "SERVER_PROTOCOL": _protocol(variant),
            "wsgi.url_scheme": scheme,
            "REMOTE_ADDR": client[0] if client else "",
            **dict.fromkeys(_OF_THE_LINE, ""),
        }
        if client and client[1]:
            environ["REMOTE_PORT"] = str(client[1])
        host, number = server if server and server[1] else ("localhost", usual)
        environ["SERVER_NAME"], environ["SERVER_PORT"] = host, str(number)
        peers = self._peers[variant]
        if len(peers) >= MAX_PEERS:
            peers.clear()
        peers[peer] = environ
        return environ


def _join(fields: list[_Field]) -> dict[str, str]:
    """Fields of which some are repeated, or dropped."""
    values: dict[str, list[str]] = {}
    for key, value in fields:
        values.setdefault(key, []).append(value)
    values.pop("", None)
    joined = {key: ("; " if key == "HTTP_COOKIE" else ", ").join(repeated) for key, repeated in values.items()}
    if "CONTENT_LENGTH" in joined:
        joined["CONTENT_LENGTH"] = values["CONTENT_LENGTH"][0]  # the router has seen to it that they agree
    return joined


def _protocol(number: int) -> str:
    return "HTTP/1.0" if number & HTTP_1_0 else "HTTP/1.1"


def _native(path: str) -> str:
    """A configured path as PEP 3333 wants it in SCRIPT_NAME: its UTF-8, decoded as ISO-8859-1."""
    trimmed = path.rstrip("/")
    return (trimmed if not trimmed or trimmed.startswith("/") else "/" + trimmed).encode().decode("latin-1")
