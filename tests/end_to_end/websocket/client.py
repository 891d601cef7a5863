"""A WebSocket client on a raw socket, so strict that an answer that breaks RFC 6455 is noticed."""

from __future__ import annotations

import base64
import hashlib
import time
from typing import Self

from tests.end_to_end.server import Server
from tests.end_to_end.websocket.frames import BINARY, CLOSE, CONTINUATION, PING, RSV1, TEXT, Frame, close
from tests.end_to_end.wire import Answer, Wire

KEY = "dGhlIHNhbXBsZSBub25jZQ=="
GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
NO_CODE = 1005  #: of a close frame without a payload


def accept_of(key: str) -> str:
    """What a server that accepts says to this key (section 4.2.2)."""
    return base64.b64encode(hashlib.sha1(key.encode() + GUID, usedforsecurity=False).digest()).decode()


def handshake(path: str, *fields: str, key: str = KEY) -> bytes:
    """The head that asks for a WebSocket."""
    asked = ["Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Version: 13", f"Sec-WebSocket-Key: {key}"]
    return "\r\n".join([f"GET {path} HTTP/1.1", "Host: test", *asked, *fields, "", ""]).encode()


class Client(Wire):
    """One connection; `upgrade` makes it a WebSocket."""

    answer_to_upgrade: Answer

    def ask(self, path: str, *fields: str) -> Answer:
        """Send the handshake; status line and fields of the answer."""
        return self.send(handshake(path, *fields)).head()

    def upgrade(self, path: str, *fields: str) -> Self:
        """The same, and it must be accepted as RFC 6455 demands it."""
        head = self.ask(path, *fields)
        self.check_upgrade(head)
        return self

    def check_upgrade(self, head: Answer) -> None:
        """The answer says that this is a WebSocket now."""
        assert (head.version, head.status) == ("HTTP/1.1", 101), head
        assert head.fields["upgrade"].lower() == "websocket"
        assert head.fields["connection"].lower() == "upgrade"
        assert head.fields["sec-websocket-accept"] == accept_of(KEY)
        assert not {"content-length", "transfer-encoding"} & head.fields.keys()
        self.answer_to_upgrade = head

    def frame(self) -> Frame:
        """The next frame: unmasked, its length as short as can be, control frames short and whole."""
        first, second = self.exactly(2)
        length = second & 127
        if length > 125:
            width, least = (2, 126) if length == 126 else (8, 1 << 16)
            length = int.from_bytes(self.exactly(width), "big")
            assert length >= least, f"{length} in {width} bytes"
        found = Frame(first & 15, self.exactly(length), bool(first & 128), first >> 4 & 7)
        assert not second & 128, "a server never masks"
        assert found.opcode in (0, 1, 2, 8, 9, 10)
        assert not found.reserved & ~RSV1
        if found.opcode > BINARY:
            assert found.fin
            assert not found.reserved
            assert length <= 125
        return found

    def message(self) -> str | bytes:
        """The next message, which comes uncompressed and without control frames in front or between."""
        part = self.frame()
        assert part.opcode in (TEXT, BINARY), part
        kind, data = part.opcode, part.payload
        assert not part.reserved
        while not part.fin:
            part = self.frame()
            assert (part.opcode, part.reserved) == (CONTINUATION, 0), part
            data += part.payload
        return data.decode() if kind == TEXT else data

    def past_pings(self) -> Frame:
        """The next frame that is no ping."""
        while (part := self.frame()).opcode == PING:
            pass
        return part

    def closing(self) -> tuple[int, str]:
        """The next frame, which is a close frame: code and reason."""
        part = self.frame()
        assert part.opcode == CLOSE, part
        assert len(part.payload) != 1
        return int.from_bytes(part.payload[:2], "big") or NO_CODE, part.payload[2:].decode()

    def leave(self, code: int | None = 1000, reason: str = "") -> tuple[int, str]:
        """Close in order: the server answers with a close frame and ends the connection. What it said."""
        self.send(close(code, reason.encode()))
        said = self.closing()
        assert self.rest() == b""
        return said

    def failed(self) -> int:
        """The server closes and ends the connection without waiting for an answer: the code that it gave."""
        code, _ = self.closing()
        assert self.rest() == b""
        return code

    def trickle(self, data: bytes, piece: int = 1) -> Self:
        """Send in small pieces, each of which the server sees by itself as far as that can be had."""
        for start in range(0, len(data), piece):
            self.send(data[start : start + piece])
            if start % 64 == 0:
                time.sleep(0)  # the server may run
        return self


def connect(server: Server, path: str = "/echo", *fields: str) -> Client:
    """A WebSocket that is open."""
    client = Client(server.address)
    try:
        return client.upgrade(path, *fields)
    except BaseException:
        client.socket.close()
        raise
