"""wsgi.input over a fake stream, compared with a file in memory."""

from __future__ import annotations

import io
import random

import pytest

from bridge.errors import ClientDisconnect, LocalProtocolError, StreamCancelled
from bridge.worker import wsgi_input
from bridge.worker.wsgi_input import WsgiInput
from tests.worker.fake_sync_stream import FakeSyncStream

TEXT = b"one\ntwo\n\nfour\nno end"


def of(body: bytes) -> tuple[WsgiInput, FakeSyncStream]:
    stream = FakeSyncStream(body=body)
    return WsgiInput(stream), stream


def test_whole_body_is_read_at_once() -> None:
    """One read() of a large body is one read of the stream, which is where it is copied."""
    body = bytes(1_000_000)
    for size in ((), (-1,), (None,), (2_000_000,)):
        file, stream = of(body)
        assert file.read(*size) == body
        assert stream.reads == [(0, len(body))]
        assert file.read(*size) == b""
        assert file.readline() == b""


def test_read_in_pieces() -> None:
    """Pieces are as long as asked for, until the body ends."""
    file, _ = of(b"abcdefg")
    assert [file.read(3), file.read(0), file.read(3), file.read(3), file.read(3)] == [b"abc", b"", b"def", b"g", b""]


def test_lines() -> None:
    """Lines carry their ends; the last one may have none."""
    file, _ = of(TEXT)
    assert [file.readline() for _ in range(6)] == [b"one\n", b"two\n", b"\n", b"four\n", b"no end", b""]


def test_line_with_a_limit() -> None:
    """A limit cuts a line, also the first one of a body, and the rest follows."""
    file, _ = of(TEXT)
    assert [file.readline(2), file.readline(9), file.readline(0), file.readline(-1), file.readline(None)] == [
        b"on",
        b"e\n",
        b"",
        b"two\n",
        b"\n",
    ]


def test_iteration_and_readlines() -> None:
    """Iteration gives lines, readlines() those that are left, with a hint as many as reach it."""
    file, _ = of(TEXT)
    assert next(file) == b"one\n"
    assert file.readlines(5) == [b"two\n", b"\n"]
    assert file.readlines() == [b"four\n", b"no end"]
    assert list(file) == []
    assert of(TEXT)[0].readlines(-1) == of(TEXT)[0].readlines(0) == list(of(TEXT)[0])


def test_like_a_file_in_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever is read in whatever order, it is what a file in memory gives, and the stream never goes back."""
    monkeypatch.setattr(wsgi_input, "BLOCK", 16)
    chance = random.Random(7)
    for _ in range(300):
        body = bytes(chance.choice(b"abc\n") for _ in range(chance.randrange(200)))
        file, _stream = of(body)
        expected = io.BytesIO(body)
        for _ in range(30):
            name = chance.choice(["read", "readline", "readlines"])
            size = chance.choice([0, 1, 3, 15, 16, 17, 40]) if name == "read" else chance.choice([-1, 1, 3, 16, 40])
            assert getattr(file, name)(size) == getattr(expected, name)(size)
        assert file.read() == expected.read()


def test_long_line_is_not_copied_again_and_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """A line over many blocks is put together once."""
    monkeypatch.setattr(wsgi_input, "BLOCK", 16)
    file, stream = of(b"x" * 1000 + b"\nrest")
    assert file.readline() == b"x" * 1000 + b"\n"
    assert len(stream.reads) == 63
    assert file.readline() == b"rest"


def test_empty_body_asks_nobody() -> None:
    """A request without a body costs the stream nothing."""
    file, stream = of(b"")
    assert [file.read(), file.read(5), file.readline(), file.readlines(), list(file)] == [b"", b"", b"", [], []]
    assert stream.reads == []


@pytest.mark.parametrize("name", ["read", "readline", "readlines", "__next__"])
def test_client_that_left(name: str) -> None:
    """Every way to read raises an OSError when nobody waits any more, also for bytes that are here."""
    file, stream = of(b"one\ntwo\n")
    file.readline()
    stream.gone = True
    with pytest.raises(ClientDisconnect) as raised:
        getattr(file, name)()
    assert isinstance(raised.value, OSError)


def test_client_that_leaves_while_the_stream_reads(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the stream raises becomes what the application is promised."""
    file, stream = of(b"abc")

    def leave(offset: int, size: int) -> bytes:
        raise StreamCancelled

    monkeypatch.setattr(stream, "read", leave)
    with pytest.raises(ClientDisconnect):
        file.read()


def test_after_the_request() -> None:
    """An input that outlives its request reads nothing of what may lie there by now."""
    file, _ = of(b"one\ntwo\n")
    file.readline()
    file.close()
    for read in (file.read, file.readline, file.readlines):
        with pytest.raises(ValueError, match="after the request is over"):
            read()


def test_stream_that_gives_too_little(monkeypatch: pytest.MonkeyPatch) -> None:
    """Bytes that are missing are a fault that is seen, not an end of the body."""
    file, stream = of(b"abc")
    monkeypatch.setattr(stream, "read", lambda offset, size: b"a")
    with pytest.raises(LocalProtocolError):
        file.read()
