"""start_response() and write() of PEP 3333, rule by rule, over a fake stream."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterable, Iterator
from typing import Any

import pytest

from bridge.errors import ClientDisconnect
from bridge.ipc.message import UNKNOWN
from bridge.worker import wsgi_response
from bridge.worker.types import Environ
from tests.worker.fake_sync_stream import FakeSyncStream
from tests.worker.one_wsgi_request import HEAD, Start, answers, fails, is_500, is_broken, serve


def test_head_is_held_until_there_is_a_body() -> None:
    """start_response() sends nothing."""
    stream = FakeSyncStream()

    def target(environ: Environ, start_response: Start) -> list[bytes]:
        start_response("200 OK", [])
        assert stream.messages == []
        return [b"a"]

    serve(target, stream)
    assert stream.complete


def test_second_call_needs_exc_info(caplog: pytest.LogCaptureFixture) -> None:
    """Without exc_info a second call is an error of the application."""

    def target(environ: Environ, start_response: Start) -> list[bytes]:
        start_response("200 OK", [])
        start_response("200 OK", [])
        return []

    assert is_500(fails(target, caplog))
    assert "called again without exc_info" in caplog.text


def test_exc_info_replaces_a_held_head() -> None:
    """With exc_info a head that is not out gives way to another; the first call may have it too."""

    def target(environ: Environ, start_response: Start) -> list[bytes]:
        try:
            start_response("200 OK", [("X-First", "1"), ("Content-Length", "100")], sys.exc_info())
            raise LookupError
        except LookupError:
            start_response("500 Oops", [("X-Second", "2")], sys.exc_info())
        return [b"sorry"]

    stream = serve(target)
    assert (stream.status, stream.block, stream.length) == (500, b"x-second: 2\r\n", 5)


@pytest.mark.parametrize("announced", [[], [("Content-Length", "1")]])
def test_exc_info_raises_once_the_head_is_out(
    announced: list[tuple[str, str]], caplog: pytest.LogCaptureFixture
) -> None:
    """When the head is out start_response() raises what exc_info holds, with its traceback, and drops it."""

    def target(environ: Environ, start_response: Start) -> Iterator[bytes]:
        start_response("200 OK", announced)
        yield b"a"
        try:
            raise LookupError("no shelf")
        except LookupError:
            start_response("500 Oops", [], sys.exc_info())

    stream = fails(target, caplog)
    assert "LookupError: no shelf" in caplog.text
    assert is_broken(stream) == (not announced)
    assert stream.body == b"a"


def test_exc_info_without_an_exception(caplog: pytest.LogCaptureFixture) -> None:
    """sys.exc_info() outside an exception is three times None: a mistake once the head is out."""

    def target(environ: Environ, start_response: Start) -> list[bytes]:
        start_response("200 OK", [])(b"a")
        start_response("500 Oops", [], sys.exc_info())
        return []

    assert is_broken(fails(target, caplog))
    assert "called when the head was out" in caplog.text


@pytest.mark.parametrize(
    ("status", "error"),
    [
        (200, "is int, not str"),
        (b"200 OK", "is bytes, not str"),
        (None, "is NoneType, not str"),
        ("200", "is not a number from 200 to 999"),
        ("OK", "is not a number"),
        ("2000 OK", "is not a number"),
        ("20 OK", "is not a number"),
        ("100 Continue", "is not a number"),
        ("099 Low", "is not a number"),
        ("200 OK\r\nX-Evil: 1", "is not a number"),
        ("200 OK\n", "is not a number"),
        ("200 \0", "is not a number"),
        ("200 \u20ac", "is not a number"),
        (" 200 OK", "is not a number"),
        ("\u0662\u0660\u0660 OK", "is not a number"),
    ],
)
def test_malformed_status(status: Any, error: str, caplog: pytest.LogCaptureFixture) -> None:
    """A status is a str of three digits, a space and a reason, and raises in start_response() if it is not."""
    for _ in range(2):  # also the second time, when it might be remembered
        stream = fails(answers([b"a"], status=status), caplog)
        assert is_500(stream)
        assert error in caplog.text
        caplog.clear()


def test_statuses() -> None:
    """Any number and reason will do; how many are remembered is bounded."""
    for number in range(200, 1000):
        assert serve(answers([], status=f"{number} Reason {number}")).status == number
    assert serve(answers([], status="299 ")).status == 299
    assert len(wsgi_response._statuses) <= wsgi_response.MAX_STATUSES


@pytest.mark.parametrize(
    ("headers", "error"),
    [
        ((("A", "b"),), "the headers are a tuple: WSGI wants a list"),
        ({"A": "b"}, "the headers are a dict"),
        (None, "the headers are a NoneType"),
        ([("A", b"b")], "header 'A': b'b' is not str"),
        ([(b"A", "b")], "header b'A': 'b' is not str"),
        ([("A", 1)], "header 'A': 1 is not str"),
        ([("A",)], "is not a pair"),
        (["A: b"], "is not a pair"),
        ([("A", "\u20ac")], "holds a character beyond ISO-8859-1"),
        ([("\u20ac", "a")], "holds a character beyond ISO-8859-1"),
        ([("A", "b\r\nX-Evil: 1")], "holds a control character"),
        ([("A", "b\n")], "holds a control character"),
        ([("A", "b\0")], "holds a control character"),
        ([("A:", "b")], "is not a token"),
        ([("A B", "b")], "is not a token"),
        ([("", "b")], "is not a token"),
        ([("A\n", "b")], "is not a token"),
        ([("Connection", "close")], "belongs to the connection"),
        ([("Keep-Alive", "1")], "belongs to the connection"),
        ([("transfer-encoding", "chunked")], "belongs to the connection"),
        ([("TE", "trailers")], "belongs to the connection"),
        ([("Upgrade", "h2c")], "belongs to the connection"),
        ([("Content-Length", "x")], "is not a number of bytes"),
        ([("Content-Length", "-1")], "is not a number of bytes"),
        ([("Content-Length", "1"), ("Content-Length", "1")], "comes twice"),
    ],
)
def test_malformed_headers(headers: Any, error: str, caplog: pytest.LogCaptureFixture) -> None:
    """Headers are a list of pairs of native strings, and raise in start_response() if they are not."""

    def target(environ: Environ, start_response: Start) -> list[bytes]:
        start_response("200 OK", headers)
        return [b"a"]

    for _ in range(2):
        assert is_500(fails(target, caplog))
        assert error in caplog.text
        caplog.clear()


def test_application_may_recover_from_a_malformed_head() -> None:
    """What start_response() refuses has not happened."""

    def target(environ: Environ, start_response: Start) -> list[bytes]:
        with pytest.raises(ValueError, match="belongs to the connection"):
            start_response("200 OK", [("Connection", "close")])
        start_response("200 OK", [("X-A", "\xe9")])
        return [b"a"]

    assert serve(target).block == b"x-a: \xe9\r\n"


def test_write() -> None:
    """write() sends what it is given at once, the first time with the head; what is returned follows."""
    stream = FakeSyncStream()

    def target(environ: Environ, start_response: Start) -> Iterable[bytes]:
        write = start_response("200 OK", [])
        write(b"one")
        assert stream.messages == [("respond", b"one", False)]
        write(b"")
        write(b"two")
        assert stream.messages[1:] == [("send", b"two", False)]
        return [b"three"]

    serve(target, stream)
    assert stream.messages[2:] == [("send", b"three", True)]
    assert stream.length == UNKNOWN


def test_first_write_sends_the_head() -> None:
    """The first call sends the head even if it has no bytes."""
    stream = FakeSyncStream()

    def target(environ: Environ, start_response: Start) -> Iterable[bytes]:
        start_response("200 OK", [])(b"")
        assert stream.messages == [("respond", b"", False)]
        return []

    serve(target, stream)
    assert stream.messages[1:] == [("send", b"", True)]


def test_write_that_completes_the_response() -> None:
    """When write() has given all that was announced the client does not wait for the application."""
    stream = FakeSyncStream()

    def target(environ: Environ, start_response: Start) -> Iterable[bytes]:
        write = start_response("200 OK", [("Content-Length", "4")])
        write(b"ab")
        write(b"cd")
        assert (stream.complete, stream.flushed) == (True, 2)
        return []

    assert serve(target, stream).body == b"abcd"


@pytest.mark.parametrize("data", ["text", None, bytearray(b"a"), 1])
def test_write_takes_bytes(data: Any, caplog: pytest.LogCaptureFixture) -> None:
    """Anything but bytes raises in write()."""

    def target(environ: Environ, start_response: Start) -> Iterable[bytes]:
        start_response("200 OK", [])(data)
        return []

    assert is_500(fails(target, caplog))
    assert "TypeError: write() takes bytes" in caplog.text


def test_write_without_bytes_asks_too() -> None:
    """write() of nothing, which sends nothing, still tells that the client left."""
    stream = FakeSyncStream()

    def target(environ: Environ, start_response: Start) -> Iterable[bytes]:
        write = start_response("200 OK", [])
        write(b"one")
        stream.gone = True
        with pytest.raises(ClientDisconnect):
            write(b"")
        return []

    assert serve(target, stream).body == b"one"


def test_write_for_a_head_request() -> None:
    """A HEAD drops what is written."""

    def target(environ: Environ, start_response: Start) -> Iterable[bytes]:
        write = start_response("200 OK", [("Content-Length", "6")])
        write(b"abc")
        write(b"def")
        return [b"ghi"]

    stream = serve(target, FakeSyncStream(HEAD))
    assert stream.messages == [("respond", b"", True)]
    assert stream.length == 6


@pytest.mark.parametrize("first", [True, False])
def test_write_tells_that_the_client_left(first: bool, caplog: pytest.LogCaptureFixture) -> None:
    """write() raises an OSError when nobody waits; an application that lets it pass is not logged."""
    stream = FakeSyncStream()

    def target(environ: Environ, start_response: Start) -> Iterable[bytes]:
        write = start_response("200 OK", [])
        if not first:
            write(b"one")
        stream.gone = True
        with pytest.raises(ClientDisconnect) as raised:
            write(b"two")
        assert isinstance(raised.value, OSError)
        raise LookupError from raised.value

    with caplog.at_level(logging.INFO, "bridge"):
        serve(target, stream)
    assert caplog.records == []
    assert len(stream.messages) == (0 if first else 1)


def test_body_longer_than_announced_by_write(caplog: pytest.LogCaptureFixture) -> None:
    """write() refuses a piece that is too long before any byte of it is out."""

    def target(environ: Environ, start_response: Start) -> Iterable[bytes]:
        write = start_response("200 OK", [("Content-Length", "4")])
        write(b"abc")
        write(b"de")
        return []

    stream = fails(target, caplog)
    assert is_broken(stream)
    assert stream.body == b"abc"
    assert "RuntimeError: the response body is longer than its content-length of 4 bytes" in caplog.text


def test_write_after_all_was_written(caplog: pytest.LogCaptureFixture) -> None:
    """What comes after the announced end raises; the client's answer is whole."""

    def target(environ: Environ, start_response: Start) -> Iterable[bytes]:
        write = start_response("200 OK", [("Content-Length", "3")])
        write(b"abc")
        write(b"")
        write(b"d")
        return []

    stream = fails(target, caplog)
    assert stream.messages == [("respond", b"abc", True)]
    assert "longer than its content-length" in caplog.text
