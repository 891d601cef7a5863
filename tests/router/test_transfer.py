"""bridge.router.transfer: the decoder of transfer-chunked bodies. The corpus has what it refuses."""

from __future__ import annotations

import pytest

from bridge.errors import ClientError
from bridge.router.transfer import ChunkDecoder

BODY = b'3;a="b"\r\nhel\r\n0002\r\nlo\r\n0\r\nTrailer: x\r\n\r\n'


@pytest.mark.parametrize("piece", range(1, len(BODY) + 1))
def test_pieces_of_any_size(piece: int) -> None:
    """A body decodes to the same bytes however it is cut."""
    decoder = ChunkDecoder()
    decoded = b""
    for start in range(0, len(BODY), piece):
        assert not decoder.done
        body, used = decoder.feed(BODY[start : start + piece])
        assert used == len(BODY[start : start + piece])
        decoded += body
    assert decoded == b"hello"
    assert decoder.done
    assert decoder.size == 5


def test_what_follows_is_not_touched() -> None:
    """The decoder stops behind the body, and consumes nothing when it is done."""
    decoder = ChunkDecoder()
    assert decoder.feed(BODY + b"GET / HTTP/1.1\r\n") == (b"hello", len(BODY))
    assert decoder.feed(b"GET") == (b"", 0)


def test_limit_counts_announced_bytes() -> None:
    """A chunk that would exceed the limit is refused at its size line, before its data comes."""
    decoder = ChunkDecoder(limit=5)
    assert decoder.feed(b"5\r\nhello\r\n")[0] == b"hello"
    with pytest.raises(ClientError) as caught:
        decoder.feed(b"1\r\n")
    assert caught.value.refused_with == 413


def test_large_bodies_earn_room_for_extensions() -> None:
    """Extensions are bounded by the body they come with, so a signed stream of large chunks passes."""
    decoder = ChunkDecoder()
    chunk = b"400;" + b"s" * 200 + b"\r\n" + b"x" * 1024 + b"\r\n"
    for _ in range(200):
        assert decoder.feed(chunk) == (b"x" * 1024, len(chunk))


@pytest.mark.parametrize("bad", [b"5 ", b"x", b"5\rx", b"5;\0", b"0123456789abcdef", b"5\r\nhellox", b"0\r\nA: b\rc"])
def test_bad_bytes_are_refused_where_they_stand(bad: bytes) -> None:
    """A line that cannot become good is refused before its end comes, in one piece and byte by byte."""
    with pytest.raises(ClientError):
        ChunkDecoder().feed(bad)
    decoder = ChunkDecoder()
    for code in bad[:-1]:
        decoder.feed(bytes([code]))
    with pytest.raises(ClientError):
        decoder.feed(bad[-1:])
