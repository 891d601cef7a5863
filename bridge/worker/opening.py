"""PURE. The opening handshake of a WebSocket (RFC 6455, section 4.2), as far as the router has not done it.

The router has checked version and key, and writes the status line, Upgrade and Connection. What is left is the answer
to the key, and what client, application and server agree on: subprotocol, extension, and more fields.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterable
from typing import NamedTuple

from bridge import config
from bridge.worker.deflate import Agreed, agree
from bridge.worker.fields import encode
from bridge.worker.types import Message, Scope

_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"  # section 1.3
_LONGEST_OFFER = 1024  # bytes; longer ones of extensions are not looked at
_OURS = b"sec-websocket-"


class Answer(NamedTuple):
    """What goes out when the application has accepted.

    Args:
        block: the fields.
        flags: DATE, SERVER.
        agreed: how messages are compressed; None = they are not.
    """

    block: bytes
    flags: int
    agreed: Agreed | None


class Opening:
    """The client's part of the handshake, kept until the application answers.

    Args:
        scope: of the connection; gets its `subprotocols`.
    """

    __slots__ = ("_extensions", "_key", "_subprotocols")

    def __init__(self, scope: Scope) -> None:
        headers = scope["headers"]
        self._key = b"".join(_values(headers, b"sec-websocket-key"))
        self._extensions = b", ".join(_values(headers, b"sec-websocket-extensions"))
        offered = b",".join(_values(headers, b"sec-websocket-protocol")).decode("latin-1").split(",")
        self._subprotocols = [name for item in offered if (name := item.strip(" \t"))]
        scope["subprotocols"] = self._subprotocols.copy()

    def accept(self, message: Message, settings: config.WebSocket) -> Answer:
        """The answer to a client that the application accepts.

        Args:
            message: websocket.accept.
            settings: whether and how messages are compressed.

        Raises:
            TypeError, ValueError: the message is malformed.
        """
        headers = list(message.get("headers") or ())
        for name in (header[0] for header in headers if isinstance(header, (list, tuple)) and header):
            if isinstance(name, bytes) and name.lower().startswith(_OURS):
                raise ValueError(f"header {name!r} of websocket.accept is the server's: leave it out")
        digest = hashlib.sha1(self._key + _GUID, usedforsecurity=False).digest()
        ours = [(b"sec-websocket-accept", base64.b64encode(digest))]
        subprotocol = message.get("subprotocol")
        if subprotocol:
            if subprotocol not in self._subprotocols:
                offered = ", ".join(map(repr, self._subprotocols)) or "none"
                raise ValueError(f"subprotocol {subprotocol!r} was not offered; the client has offered {offered}")
            ours.append((b"sec-websocket-protocol", subprotocol.encode("latin-1")))
        agreed = None
        if settings.compression and self._extensions and len(self._extensions) <= _LONGEST_OFFER:
            bits, level = settings.compression_window_bits, settings.compression_memory_level
            agreed = agree(self._extensions.decode("latin-1"), bits, level)
            if agreed is not None:
                ours.append((b"sec-websocket-extensions", agreed.header.encode()))
        block, _, flags = encode([*ours, *headers])
        return Answer(block, flags, agreed)


def _values(headers: Iterable[tuple[bytes, bytes]], wanted: bytes) -> list[bytes]:
    return [value for name, value in headers if name == wanted]
