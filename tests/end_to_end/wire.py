"""A client on a raw socket: sends any bytes, and reads answers so strictly that a broken one is noticed."""

from __future__ import annotations

import contextlib
import socket
import struct
from dataclasses import dataclass
from typing import Self

PATIENCE = 20.0  #: seconds without a byte after which a test has failed


class BrokenAnswer(Exception):
    """The connection has ended before the answer was complete."""


@dataclass(frozen=True, slots=True)
class Answer:
    """One response."""

    version: str
    status: int
    fields: dict[str, str]  #: names in lower case; several of one name are joined with ", "
    body: bytes = b""

    @property
    def text(self) -> str:
        """The body as text."""
        return self.body.decode()


class Wire:
    """One connection, closed at the end of the `with` block.

    Args:
        address: host and TCP number, or the path of a unix socket.
        receive_buffer: bytes that the kernel keeps for a slow reader; None = its default.
    """

    def __init__(self, address: tuple[str, int] | str, receive_buffer: int | None = None) -> None:
        family = (
            socket.AF_UNIX if isinstance(address, str) else socket.AF_INET6 if ":" in address[0] else socket.AF_INET
        )
        self.socket = socket.socket(family, socket.SOCK_STREAM)
        self.socket.settimeout(PATIENCE)
        if receive_buffer:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        try:
            self.socket.connect(address)
        except OSError:
            self.socket.close()
            raise
        self._buffer = b""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()

    def send(self, *parts: bytes) -> Self:
        """Send bytes as they are."""
        self.socket.sendall(b"".join(parts))
        return self

    def get(self, path: str, *fields: str, method: str = "GET", version: str = "1.1") -> Self:
        """Send a request without a body."""
        lines = [f"{method} {path} HTTP/{version}", "Host: test", *fields, "", ""]
        return self.send("\r\n".join(lines).encode())

    def post(self, path: str, body: bytes, *fields: str, method: str = "POST") -> Self:
        """Send a request with a body."""
        lines = [f"{method} {path} HTTP/1.1", "Host: test", f"Content-Length: {len(body)}", *fields, "", ""]
        return self.send("\r\n".join(lines).encode(), body)

    def receive(self, least: int = 1) -> bytes:
        """Whatever comes, at least `least` bytes."""
        while len(self._buffer) < least:
            self._fill()
        data, self._buffer = self._buffer, b""
        return data

    def exactly(self, size: int) -> bytes:
        """`size` bytes."""
        while len(self._buffer) < size:
            self._fill()
        data, self._buffer = self._buffer[:size], self._buffer[size:]
        return data

    def through(self, mark: bytes) -> bytes:
        """Everything up to `mark`, and that."""
        while mark not in self._buffer:
            self._fill()
        return self.exactly(self._buffer.index(mark) + len(mark))

    def head(self) -> Answer:
        """Status line and fields of the next answer."""
        first, *lines = self.through(b"\r\n\r\n")[:-4].decode("latin-1").split("\r\n")
        version, status, *_ = first.split(" ")
        fields: dict[str, str] = {}
        for line in lines:
            name, colon, value = line.partition(":")
            assert colon, line
            known = fields.get(name.lower())
            fields[name.lower()] = value.strip() if known is None else f"{known}, {value.strip()}"
        return Answer(version, int(status), fields)

    def answer(self, *, bodiless: bool = False) -> Answer:
        """The next answer, whole. `bodiless`: to a HEAD request."""
        head = self.head()
        if bodiless or head.status in (100, 204, 304):
            body = b""
        elif head.fields.get("transfer-encoding") == "chunked":
            body = b"".join(iter(self.chunk, b""))
        elif "content-length" in head.fields:
            body = self.exactly(int(head.fields["content-length"]))
        else:
            body = self.rest()
        return Answer(head.version, head.status, head.fields, body)

    def chunk(self) -> bytes:
        """The next transfer chunk of a body; the last one is empty."""
        size = int(self.through(b"\r\n"), 16)
        data = self.exactly(size + 2)
        assert data.endswith(b"\r\n")
        return data[:-2]

    def rest(self) -> bytes:
        """Everything up to the orderly end of the connection.

        Raises:
            ConnectionResetError: it was cut.
        """
        while data := self.socket.recv(1 << 20):
            self._buffer += data
        data, self._buffer = self._buffer, b""
        return data

    def ended(self) -> bool:
        """Wait for the end of the connection, orderly or not; whether nothing came before it."""
        with contextlib.suppress(ConnectionResetError):
            return not self.rest()
        return not self._buffer

    def finish(self) -> Self:
        """Send FIN."""
        self.socket.shutdown(socket.SHUT_WR)
        return self

    def cut(self) -> None:
        """Send RST."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.socket.close()

    def _fill(self) -> None:
        try:
            data = self.socket.recv(1 << 18)
        except ConnectionResetError:
            data = b""
        if not data:
            raise BrokenAnswer(f"the connection ended behind {self._buffer[-200:]!r}")
        self._buffer += data
