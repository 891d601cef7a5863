"""permessage-deflate, RFC 7692: what is agreed on, and what is done then."""

from __future__ import annotations

import os
import zlib

import pytest

from tests.end_to_end.server import Server
from tests.end_to_end.websocket.client import Client, connect
from tests.end_to_end.websocket.frames import (
    BINARY,
    CONTINUATION,
    PING,
    PONG,
    RSV1,
    TEXT,
    Frame,
    fragments,
    frame,
    text,
)

TAIL = b"\0\0\xff\xff"
NAME = "permessage-deflate"


class Deflate:
    """What one side compresses and the other side's is decompressed with, by the parameters that were agreed on."""

    def __init__(self, agreed: dict[str, int | None]) -> None:
        self.agreed = agreed
        self._write = self._compressor()
        self._read = self._decompressor()

    def _compressor(self) -> zlib._Compress:
        return zlib.compressobj(6, zlib.DEFLATED, -(self.agreed.get("client_max_window_bits") or 15))

    def _decompressor(self) -> zlib._Decompress:
        return zlib.decompressobj(-(self.agreed.get("server_max_window_bits") or 15))

    def compress(self, data: bytes) -> bytes:
        """The payload of a message."""
        if "client_no_context_takeover" in self.agreed:
            self._write = self._compressor()
        return (self._write.compress(data) + self._write.flush(zlib.Z_SYNC_FLUSH)).removesuffix(TAIL)

    def decompress(self, data: bytes) -> bytes:
        """The message of a payload."""
        if "server_no_context_takeover" in self.agreed:
            self._read = self._decompressor()
        return self._read.decompress(data + TAIL)


class Compressing(Client):
    """A WebSocket whose messages are compressed both ways."""

    def __init__(self, server: Server, offer: str, path: str = "/echo") -> None:
        super().__init__(server.address)
        self.upgrade(path, f"Sec-WebSocket-Extensions: {offer}")
        self.deflate = Deflate(agreed(self))

    def say(self, data: str) -> None:
        """Send a text message."""
        self.send(frame(TEXT, self.deflate.compress(data.encode()), reserved=RSV1))

    def hear(self) -> tuple[str, int]:
        """The next message, and how long it was on its way."""
        first = part = self.frame()
        data = part.payload
        while not part.fin:
            part = self.frame()
            data += part.payload
        return (self.deflate.decompress(data) if first.reserved else data).decode(), len(data)


def agreed(client: Client) -> dict[str, int | None]:
    """The parameters in the server's answer, each once and of the right form."""
    name, *words = client.answer_to_upgrade.fields["sec-websocket-extensions"].split(";")
    assert name.strip() == NAME
    found: dict[str, int | None] = {}
    for word in words:
        parameter, _, value = word.strip().partition("=")
        assert parameter not in found
        assert parameter in WITH_VALUE if value else parameter in WITHOUT_VALUE
        found[parameter] = int(value) if value else None
    return found


WITH_VALUE = {"server_max_window_bits", "client_max_window_bits"}
WITHOUT_VALUE = {"server_no_context_takeover", "client_no_context_takeover"}

OFFERS = {
    "plain": NAME,
    "as browsers send it": f"{NAME}; client_max_window_bits",
    "client bits": f"{NAME}; client_max_window_bits=10",
    "server bits": f"{NAME}; server_max_window_bits=10",
    "least server bits": f"{NAME}; server_max_window_bits=9",
    "in quotes": f'{NAME}; server_max_window_bits="10"',
    "both bits": f"{NAME}; server_max_window_bits=11; client_max_window_bits=11",
    "no takeover by the server": f"{NAME}; server_no_context_takeover",
    "no takeover by the client": f"{NAME}; client_no_context_takeover",
    "everything": (
        f"{NAME}; server_no_context_takeover; client_no_context_takeover;"
        " server_max_window_bits=10; client_max_window_bits=12"
    ),
    "blanks": f"{NAME} ;  server_max_window_bits=12 ",
    "the second is the first that can be": f"{NAME}; server_max_window_bits=99, {NAME}",
    "among others": f"x-webkit-deflate-frame, unknown; a=b, {NAME}; client_max_window_bits",
}


@pytest.mark.parametrize("offer", OFFERS.values(), ids=OFFERS)
def test_agreed(server: Server, offer: str) -> None:
    """An offer is accepted with parameters that it allows, and messages of any kind pass both ways."""
    with Compressing(server, offer) as client:
        chosen = client.deflate.agreed
        for word in offer.rpartition(",")[2].split(";"):
            name, _, value = word.strip().partition("=")
            if name == "server_max_window_bits":
                assert 8 <= (chosen[name] or 15) <= int(value.strip('"'))
            if name == "server_no_context_takeover":
                assert name in chosen
        if "client_max_window_bits" in chosen:  # only who said that it knows it may be told
            assert "client_max_window_bits" in offer
        for data in ("", "x", "hello " * 30, "0123456789" * 20_000, os.urandom(30_000).hex(), "hello " * 30):
            client.say(data)
            assert client.hear()[0] == data


DECLINED = {
    "too many server bits": f"{NAME}; server_max_window_bits=16",
    "too few server bits": f"{NAME}; server_max_window_bits=7",
    "too many client bits": f"{NAME}; client_max_window_bits=16",
    "too few client bits": f"{NAME}; client_max_window_bits=7",
    "server bits without a value": f"{NAME}; server_max_window_bits",
    "bits that are no number": f"{NAME}; server_max_window_bits=ten",
    "bits with a nought": f"{NAME}; server_max_window_bits=010",
    "a value where none may be": f"{NAME}; server_no_context_takeover=1",
    "a value for the client": f"{NAME}; client_no_context_takeover=true",
    "an unknown parameter": f"{NAME}; level=9",
    "a parameter twice": f"{NAME}; server_no_context_takeover; server_no_context_takeover",
    "bits twice": f"{NAME}; server_max_window_bits=10; server_max_window_bits=11",
    "another extension": "permessage-bzip2",
    "a longer name": f"{NAME}d",
}


@pytest.mark.parametrize("offer", DECLINED.values(), ids=DECLINED)
def test_declined(server: Server, offer: str) -> None:
    """An offer that RFC 7692 forbids is declined, and the WebSocket works without."""
    with connect(server, "/echo", f"Sec-WebSocket-Extensions: {offer}") as client:
        assert "sec-websocket-extensions" not in client.answer_to_upgrade.fields
        assert client.send(text("hello")).message() == "hello"


def test_a_window_that_zlib_does_not_know(server: Server) -> None:
    """An offer of 256 bytes, which is allowed but which zlib cannot do, is declined or done, and hurts nobody."""
    with Client(server.address) as client:
        client.upgrade("/echo", f"Sec-WebSocket-Extensions: {NAME}; server_max_window_bits=8")
        if "sec-websocket-extensions" not in client.answer_to_upgrade.fields:
            assert client.send(text("hello")).message() == "hello"


def test_two_lines(server: Server) -> None:
    """Offers may stand in several header lines."""
    extensions = [f"Sec-WebSocket-Extensions: {one}" for one in ("unknown", f"{NAME}; client_max_window_bits")]
    with connect(server, "/echo", *extensions) as client:
        assert client.answer_to_upgrade.fields["sec-websocket-extensions"].startswith(NAME)


def test_takeover(server: Server) -> None:
    """What was sent before makes a message shorter both ways, unless the client wants every message by itself."""
    data = os.urandom(1000).hex()
    for offer, shorter in ((NAME, True), (f"{NAME}; server_no_context_takeover", False)):
        with Compressing(server, offer) as client:
            sizes = []
            for _ in range(3):
                client.say(data)
                heard, size = client.hear()
                assert heard == data
                sizes.append(size)
            assert (sizes[1] < sizes[0] / 5) is (sizes[2] < sizes[0] / 5) is shorter


def test_the_examples_of_the_rfc(server: Server) -> None:
    """Section 7.2.3: one block, the same once more by reference, stored, final, two blocks, nothing."""
    with Compressing(server, NAME) as client:
        for payload in (
            "f248cdc9c90700",
            "f200110000",
            "000500faff48656c6c6f00",
            "f348cdc9c9070000",
            "f24805000000ffffcac9c90700",
        ):
            client.send(frame(TEXT, bytes.fromhex(payload), reserved=RSV1))
            assert client.hear()[0] == "Hello", payload
        client.send(frame(TEXT, b"\0", reserved=RSV1))
        assert client.hear()[0] == ""


def test_fragments(server: Server) -> None:
    """A compressed message may be cut anywhere; only its first frame is marked, and pings may stand between."""
    with Compressing(server, NAME) as client:
        data = "to be cut " * 50 + os.urandom(50).hex()
        payload = client.deflate.compress(data.encode())
        frames = fragments(TEXT, *(payload[start : start + 10] for start in range(0, len(payload), 10)), reserved=RSV1)
        client.send(frames[0], frame(PING, b"x"), *frames[1:])
        assert client.frame() == Frame(PONG, b"x")
        assert client.hear()[0] == data
        client.send(*fragments(TEXT, b"", client.deflate.compress(data.encode()), b"", reserved=RSV1))
        assert client.hear()[0] == data


def test_uncompressed(server: Server) -> None:
    """Messages may be sent uncompressed all the same, whole and in fragments, between compressed ones."""
    with Compressing(server, NAME) as client:
        for _ in range(2):
            client.send(text("plain"))
            assert client.hear()[0] == "plain"
            client.say("compressed")
            assert client.hear()[0] == "compressed"
            client.send(*fragments(TEXT, b"in ", b"pieces"))
            assert client.hear()[0] == "in pieces"


BROKEN = {
    "marked continuation": [*fragments(TEXT, b"\xf2\x48", b"x", reserved=RSV1)[:1], frame(CONTINUATION, reserved=RSV1)],
    "marked continuation of a plain one": [frame(TEXT, b"x", fin=False), frame(CONTINUATION, b"x", reserved=RSV1)],
    "marked ping": [frame(PING, b"x", reserved=RSV1)],
    "RSV2": [frame(TEXT, b"\0", reserved=2)],
    "RSV1 and RSV3": [frame(TEXT, b"\0", reserved=5)],
}


@pytest.mark.parametrize("frames", BROKEN.values(), ids=BROKEN)
def test_broken(server: Server, frames: list[bytes]) -> None:
    """The mark of compression on any other frame than the first of a message gets 1002."""
    with Compressing(server, NAME) as client:
        client.send(*frames, text("behind"))
        assert client.failed() == 1002


GARBAGE = {
    "a kind of block that there is not": b"\x07\x00",
    "random": b"\xff" * 50,
    "a stored block that lies": b"\x00\x05\x00\x00\x00Hello\x00",
    "a reference behind the beginning": b"\xf2\x00\x11\x00\x00",
}


@pytest.mark.parametrize("payload", GARBAGE.values(), ids=GARBAGE)
def test_garbage(server: Server, payload: bytes) -> None:
    """What cannot be decompressed fails the connection."""
    with Compressing(server, NAME) as client:
        client.send(frame(BINARY, payload, reserved=RSV1), text("behind"))
        assert client.failed() in (1002, 1007)


def test_invalid_text(server: Server) -> None:
    """Text is judged behind the decompression, also in the middle of a message."""
    with Compressing(server, NAME) as client:
        client.send(frame(TEXT, client.deflate.compress(b"bad \xff"), reserved=RSV1))
        assert client.failed() == 1007
    with Compressing(server, NAME) as client:
        client.send(frame(TEXT, client.deflate.compress(b"bad \xff" * 10) + TAIL, reserved=RSV1, fin=False))
        assert client.failed() == 1007


def test_off() -> None:
    """Compression can be turned off: no offer is accepted."""
    with (
        Server("sockets:app", "--set", "http.websocket.compression=false") as server,
        connect(server, "/echo", f"Sec-WebSocket-Extensions: {NAME}; client_max_window_bits") as client,
    ):
        assert "sec-websocket-extensions" not in client.answer_to_upgrade.fields
        client.send(frame(TEXT, b"\0", reserved=RSV1))
        assert client.failed() == 1002
