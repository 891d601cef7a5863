"""What WSGI applications do wrong: the client sees it, the log names it, the thread lives."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Any

import pytest

from bridge.errors import RemoteProtocolError
from bridge.worker.types import Environ
from tests.worker.fake_sync_stream import FakeSyncStream
from tests.worker.one_wsgi_request import HEAD, Start, answers, fails, is_500, is_broken, serve


def raises(exc: BaseException, before: tuple[bytes, ...] = ()) -> Any:
    """An application that raises, after it gave some pieces."""

    def target(environ: Environ, start_response: Start) -> Iterator[bytes]:
        start_response("200 OK", [])
        yield from before
        raise exc

    return target


@pytest.mark.parametrize("kind", [LookupError, SystemExit, KeyboardInterrupt, GeneratorExit, MemoryError])
def test_exception_before_the_head(kind: type[BaseException], caplog: pytest.LogCaptureFixture) -> None:
    """Whatever an application raises becomes a 500, and a traceback with the request line; nothing ends the thread."""

    def target(environ: Environ, start_response: Start) -> list[bytes]:
        start_response("200 OK", [])
        raise kind("no shelf")

    assert is_500(fails(target, caplog, FakeSyncStream(b"GET /shelf HTTP/1.1\r\n\r\n")))
    assert "exception in the application: GET /shelf HTTP/1.1" in caplog.text
    assert "no shelf" in caplog.text
    assert "in target" in caplog.text
    assert "bridge/worker" not in caplog.text


def test_exception_while_the_first_piece_is_made(caplog: pytest.LogCaptureFixture) -> None:
    """A generator that fails before its first piece is a 500 too, though start_response() was called."""
    assert is_500(fails(raises(LookupError("no shelf"), (b"", b"")), caplog))


@pytest.mark.parametrize("exc", [LookupError("no shelf"), SystemExit(3)])
def test_exception_after_the_head(exc: BaseException, caplog: pytest.LogCaptureFixture) -> None:
    """Once the head is out the client sees the response broken."""
    stream = fails(raises(exc, (b"a",)), caplog)
    assert is_broken(stream)
    assert stream.body == b"a"


def test_error_answer_to_a_head_request(caplog: pytest.LogCaptureFixture) -> None:
    """The 500 of a HEAD has a length and no body."""
    stream = fails(raises(LookupError()), caplog, FakeSyncStream(HEAD))
    assert stream.messages == [("respond", b"", True)]
    assert (stream.status, stream.length) == (500, 21)


def test_exception_when_the_client_left_already(caplog: pytest.LogCaptureFixture) -> None:
    """An exception of another kind is logged though the client left; nothing is sent."""
    stream = FakeSyncStream()

    def target(environ: Environ, start_response: Start) -> list[bytes]:
        stream.gone = True
        raise LookupError("no shelf")

    assert fails(target, caplog, stream).messages == []
    assert "no shelf" in caplog.text


@pytest.mark.parametrize(
    ("result", "error"),
    [
        (None, "the application returned NoneType, not an iterable of bytes"),
        ("text", "the application returned str, not an iterable of bytes: make it a list"),
        (b"bytes", "the application returned bytes, not an iterable of bytes: make it a list"),
        (7, "the application returned int, not an iterable of bytes"),
        (["text"], "the application gave str as a piece of the body, not bytes"),
        ([b"a", "text"], "the application gave str as a piece of the body, not bytes"),
        (["a", "b"], "the application gave str as a piece"),
        (("",), "the application gave str as a piece"),
        ([None], "the application gave NoneType as a piece"),
        ([1, 2], "the application gave int as a piece"),
        ([bytearray(b"a")], "the application gave bytearray as a piece"),
    ],
)
def test_results_that_are_no_body(result: Any, error: str, caplog: pytest.LogCaptureFixture) -> None:
    """What cannot be a body is named in one line, without Bridge's own frames."""
    stream = fails(answers(result), caplog)
    assert is_500(stream) or (result == [b"a", "text"] and is_broken(stream))
    assert error in caplog.text
    assert "Traceback" not in caplog.text


def test_asgi_application_by_mistake(caplog: pytest.LogCaptureFixture) -> None:
    """A coroutine is no body; it is closed, so Python does not warn of one that was never awaited."""

    async def target(environ: Environ, start_response: Start) -> list[bytes]:
        return []

    assert is_500(fails(target, caplog))  # type: ignore[arg-type]
    assert "returned coroutine" in caplog.text


def test_iterable_whose_iteration_raises_type_error(caplog: pytest.LogCaptureFixture) -> None:
    """A TypeError of the application's own __iter__ is its exception, with its traceback."""

    class Broken:
        def __iter__(self) -> Iterator[bytes]:
            raise TypeError("inside")

    assert is_500(fails(answers(Broken()), caplog))
    assert "TypeError: inside" in caplog.text
    assert "in __iter__" in caplog.text


@pytest.mark.parametrize("result", [[b"a"], [], iter([b"a"]), iter([])])
def test_start_response_forgotten(result: Any, caplog: pytest.LogCaptureFixture) -> None:
    """A body without a head is a 500."""
    assert is_500(fails(lambda environ, start_response: result, caplog))
    assert "did not call start_response()" in caplog.text


@pytest.mark.parametrize(
    ("result", "broken"),
    [([b"abcde"], False), (iter([b"abcde"]), False), ((piece for piece in [b"abc", b"de"]), True)],
)
def test_body_longer_than_announced(result: Any, broken: bool, caplog: pytest.LogCaptureFixture) -> None:
    """Too long a body is a 500 while no head is out, and broken after that: never cut to a whole-looking answer."""
    stream = fails(answers(result, ("Content-Length", "4")), caplog)
    assert is_broken(stream) if broken else is_500(stream)
    assert "longer than its content-length of 4 bytes: GET / HTTP/1.1" in caplog.text


def test_pieces_after_the_announced_end(caplog: pytest.LogCaptureFixture) -> None:
    """Where the client has its whole answer already, the rest is dropped and named; nothing more is asked for."""
    asked = []

    def pieces() -> Iterator[bytes]:
        for number in range(10):
            asked.append(number)
            yield b"abcd"

    stream = fails(answers(pieces(), ("Content-Length", "4")), caplog)
    assert stream.messages == [("respond", b"abcd", True)]
    assert asked == [0, 1]
    assert "longer than its content-length" in caplog.text


@pytest.mark.parametrize(
    ("result", "broken"),
    [([], False), ([b"abc"], False), (iter([b"abc"]), False), ((piece for piece in [b"abc"]), True)],
)
def test_body_shorter_than_announced(result: Any, broken: bool, caplog: pytest.LogCaptureFixture) -> None:
    """Too short a body is a 500 while no head is out, and broken after that."""
    stream = fails(answers(result, ("Content-Length", "4")), caplog)
    assert is_broken(stream) if broken else is_500(stream)
    assert "short of its content-length of 4 bytes: GET / HTTP/1.1" in caplog.text


class FailsToClose:
    """An iterable whose close() raises."""

    def __iter__(self) -> Iterator[bytes]:
        return iter([b"a"])

    def close(self) -> None:
        raise SystemExit("in close")


def test_close_that_raises(caplog: pytest.LogCaptureFixture) -> None:
    """What close() raises is logged; the response was whole before."""
    stream = fails(answers(FailsToClose()), caplog)
    assert stream.complete
    assert "in close" in caplog.text


class Damaged(FakeSyncStream):
    """Its last message cannot be sent."""

    def flush(self) -> None:
        raise RemoteProtocolError("the queue is damaged")


def test_close_is_called_when_the_end_cannot_be_sent(caplog: pytest.LogCaptureFixture) -> None:
    """close() runs whatever has become of the router: it gives back what is the application's. Both are logged."""
    with caplog.at_level(logging.INFO, "bridge"):
        serve(answers(FailsToClose()), Damaged())
    assert "in close" in caplog.text
    assert "the queue is damaged" in caplog.text


def test_failure_of_the_body_and_of_close(caplog: pytest.LogCaptureFixture) -> None:
    """Both exceptions are logged."""
    with caplog.at_level(logging.INFO, "bridge"):
        serve(lambda environ, start_response: FailsToClose())
    assert [record.levelname for record in caplog.records] == ["ERROR", "ERROR"]


def test_request_line_is_safe_to_log(caplog: pytest.LogCaptureFixture) -> None:
    """A request line cannot forge lines of the log."""
    stream = fails(raises(LookupError()), caplog, FakeSyncStream(b"GET /\x1b[2J\xe9 HTTP/1.1\r\n\r\n"))
    assert is_500(stream)
    assert "\\x1b[2J\\xe9" in caplog.text
