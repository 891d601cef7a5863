"""Limits on frames and messages, and on what a small frame may become."""

from __future__ import annotations

import zlib
from collections.abc import Iterator

import pytest

from tests.end_to_end.server import Server
from tests.end_to_end.websocket.client import Client, connect
from tests.end_to_end.websocket.frames import BINARY, CONTINUATION, RSV1, TEXT, binary, fragments, frame, text

FRAME, MESSAGE = 1000, 3000  #: bytes
TAIL = b"\0\0\xff\xff"
DEFLATE = "Sec-WebSocket-Extensions: permessage-deflate"


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    """A server with small limits."""
    settings = (f"max_frame_size={FRAME}", f"max_message_size={MESSAGE}")
    with Server("sockets:app", *(word for one in settings for word in ("--set", f"http.websocket.{one}"))) as running:
        yield running


def test_at_the_limits(client: Client) -> None:
    """Frames and messages of exactly the limits pass."""
    assert client.send(binary(bytes(FRAME))).message() == bytes(FRAME)
    assert client.send(*fragments(BINARY, *[bytes(FRAME)] * 3)).message() == bytes(MESSAGE)


@pytest.mark.parametrize("opcode", [TEXT, BINARY])
@pytest.mark.parametrize("size", [FRAME + 1, 70_000, 1 << 40, (1 << 63) - 1])
def test_a_long_frame(client: Client, opcode: int, size: int) -> None:
    """A frame that is announced too long gets 1009, without its payload having been waited for."""
    client.send(frame(opcode, announced=size))
    assert client.failed() == 1009


def test_a_long_frame_that_comes(client: Client) -> None:
    """Also when all of it comes, and more: the client is told, without RST."""
    client.send(binary(bytes(500_000)), text("behind"))
    assert client.failed() == 1009


def test_a_long_message(client: Client) -> None:
    """A message that grows too long gets 1009 with the fragment that makes it so, not with the last one."""
    client.send(*fragments(BINARY, *[bytes(FRAME)] * 4)[:3])
    client.send(frame(CONTINUATION, b"x", fin=False))
    assert client.failed() == 1009


def test_many_short_fragments(client: Client) -> None:
    """A message is limited by its bytes, whatever its fragments, and is not kept in a piece for each for ever."""
    for one in fragments(TEXT, *[b"x"] * (MESSAGE + 1)):
        client.send(one)
    assert client.failed() == 1009


def deflated(data: bytes) -> bytes:
    """A compressed message that refers to none before it."""
    made = zlib.compressobj(9, zlib.DEFLATED, -15)
    return (made.compress(data) + made.flush(zlib.Z_SYNC_FLUSH)).removesuffix(TAIL)


def test_compressed_at_the_limit(server: Server) -> None:
    """A compressed message may be as long as any."""
    with connect(server, "/deaf?gate=now", DEFLATE) as client:
        server.open("now")
        client.send(frame(BINARY, deflated(bytes(MESSAGE)), reserved=RSV1), text("how many"))
        answer = client.frame()
        data = answer.payload
        assert (zlib.decompressobj(-15).decompress(data + TAIL) if answer.reserved else data) == b"3008"


@pytest.mark.parametrize("size", [MESSAGE + 1, 1_000_000, 100_000])
def test_a_bomb(server: Server, size: int) -> None:
    """A few bytes that would become many get 1009."""
    with connect(server, "/echo?name=bomb", DEFLATE) as client:
        client.send(frame(BINARY, deflated(bytes(size))[:FRAME], reserved=RSV1))
        assert client.failed() == 1009
    server.log.take(r"bomb: left 1009 [^\n]*\n")


def test_a_bomb_in_fragments(server: Server) -> None:
    """Also when each fragment alone would be small enough."""
    with connect(server, "/echo", DEFLATE) as client:
        data = deflated(bytes(5_000_000))
        pieces = [data[start : start + 4] for start in range(0, len(data), 4)]
        client.send(*fragments(BINARY, *pieces, reserved=RSV1)[:-1])
        assert client.failed() == 1009
