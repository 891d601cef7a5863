"""The client that loads WebSockets: what it counts, and what it refuses to count."""

from __future__ import annotations

import socket
import threading
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace

import pytest

from tests.bench.figures import parse_wrk
from tests.bench.rows import ROWS, Row
from tests.bench.sockets import TAIL, ask, framed, held, opened, request, texts
from tests.end_to_end.server import until
from tests.end_to_end.websocket.client import KEY, accept_of
from tests.end_to_end.websocket.frames import masked

NAMED = {row.name: row for row in ROWS}
SHORT, SQUEEZED, LONG = NAMED["ws-short"], NAMED["ws-short-deflate"], NAMED["ws-long"]
Answer = Callable[[bytes], bytes]


def plain(payload: bytes) -> bytes:
    """An unmasked text frame."""
    size = len(payload)
    length = bytes([size]) if size < 126 else b"\x7e" + size.to_bytes(2, "big")
    return b"\x81" + length + payload


@contextmanager
def server(
    answer: Answer, accepts: str = "101 Switching Protocols", left: list[str] | None = None
) -> Iterator[tuple[str, int]]:
    """Its address.

    Args:
        answer: a message's payload → the bytes that answer it; none = the server leaves.
        accepts: status and reason with which it answers every handshake.
        left: gets an entry for each client that has left by itself.
    """
    gone = [] if left is None else left

    def serve(connection: socket.socket) -> None:
        with connection, connection.makefile("rb") as file:
            while file.readline() not in (b"\r\n", b""):
                pass
            fields = f"Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: {accept_of(KEY)}"
            connection.sendall(f"HTTP/1.1 {accepts}\r\n{fields}\r\n\r\n".encode())
            while head := file.read(2):
                size = head[1] & 127
                if size > 125:
                    size = int.from_bytes(file.read(2), "big")
                mask = file.read(4)
                if not (data := answer(masked(file.read(size), mask))):
                    return
                connection.sendall(data)
            gone.append("one")

    def listen() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            threading.Thread(target=run, args=[connection], daemon=True).start()

    def run(connection: socket.socket) -> None:
        try:
            serve(connection)
        except OSError:  # the client has had enough, and has not read all
            gone.append("one")

    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=listen, daemon=True).start()
        yield listener.getsockname()
        listener.shutdown(socket.SHUT_RDWR)


def load(row: Row, address: tuple[str, int], connections: int, seconds: float) -> dict[str, int]:
    """What the client counts."""
    with opened(row, address, connections, seconds) as send:
        return parse_wrk(send())


@pytest.mark.parametrize("row", [SHORT, LONG], ids=["short", "long"])
def test_echoes_are_counted(row: Row) -> None:
    """Each message that comes back is one request, and none is an error, also when it comes in fragments."""
    seen = []

    def echo(payload: bytes) -> bytes:
        seen.append(payload)
        half = len(payload) // 2
        whole = plain(payload)
        first, second = plain(payload[:half]), plain(payload[half:])
        return whole if len(seen) % 2 else b"\x01" + first[1:] + b"\x89\x01x" + b"\x80" + second[1:]

    with server(echo) as address:
        numbers = load(row, address, 2, 0.2)
    assert numbers["errors"] == 0
    assert len(seen) - 2 <= numbers["requests"] <= len(seen)
    assert 0 < numbers["p50"] <= numbers["p99"] < 200_000 <= numbers["microseconds"]
    assert set(seen) <= {text.encode() for text in texts(row)}


@pytest.mark.parametrize("answer", [plain(b"too short"), b"\x88\x02\x03\xe8", b"\x81\x94" + bytes(24), b""])
def test_wrong_answers_are_errors(answer: bytes) -> None:
    """A message of another length, a close, a masked frame and the end of the connection are no answers."""
    with server(lambda _: answer) as address, pytest.raises(ValueError, match=r"answered.*'errors': 3"):
        load(SHORT, address, 3, 5)


def test_a_refusal_is_said() -> None:
    """A server that accepts no WebSocket is not measured, and the reason is the client's."""
    with (
        server(lambda data: data, "403 Forbidden") as address,
        pytest.raises(ValueError, match="the handshake was refused"),
    ):
        load(SHORT, address, 1, 1)


def test_connections_are_open_around_the_load() -> None:
    """What is measured between the two is messages alone: nothing is sent before, and nobody leaves until later."""
    seen: list[bytes] = []
    left: list[str] = []

    def echo(payload: bytes) -> bytes:
        seen.append(payload)
        return plain(payload)

    with server(echo, left=left) as address:
        with opened(SHORT, address, 3, 0.1):
            pass
        until(lambda: len(left) == 3, "all have left")
        assert seen == []
        with opened(SHORT, address, 3, 0.1) as send:
            assert 0 < parse_wrk(send())["requests"] <= len(seen)
            assert len(left) == 3
        until(lambda: len(left) == 6, "all have left")


def test_idle_connections_are_held() -> None:
    """They are open as long as the block runs."""
    idle = replace(SHORT, idle=True)
    assert b"permessage-deflate" in request(idle)
    left: list[str] = []
    with server(lambda _: b"", left=left) as address:
        with held(idle, address, 5) as report:
            assert parse_wrk(report)["requests"] == 5
            assert left == []
        until(lambda: len(left) == 5, "all have left")


def test_answers_are_looked_at_once() -> None:
    """Before a server is measured its answer is compared, and what it does not do is said."""
    with server(plain) as address:
        assert ask(SHORT, address) == ""
        assert ask(SQUEEZED, address) == "it does not compress"
    with server(lambda data: plain(data.upper())) as address:
        assert "came back" in ask(SHORT, address)
    with server(plain, "404 Not Found") as address:
        assert ask(SHORT, address) == "status 404"


def test_compressed_messages_stand_alone() -> None:
    """Each can be decompressed without the ones before it, also with the smallest window that a server may ask for."""
    for text in texts(SQUEEZED):
        made = framed(SQUEEZED, text)
        assert made[0] == 0xC1
        payload = masked(made[6:], made[2:6])
        assert zlib.decompressobj(-9).decompress(payload + TAIL) == text.encode()
