"""What an application can do wrong, and what the client and the log get from it."""

from __future__ import annotations

import asyncio

import pytest

from bridge.worker.types import Message, Receive, Scope, Send
from tests.worker.fake_stream import FakeStream
from tests.worker.one_request import HEAD, POST, body, fails, is_500, is_broken, length, sends, serve, start


def test_exception_before_the_head(caplog: pytest.LogCaptureFixture) -> None:
    """An exception is logged with its traceback and the request line, and becomes a 500."""

    async def target(scope: Scope, receive: Receive, send: Send) -> None:
        raise LookupError("no such shelf")

    stream = fails(target, caplog, FakeStream(POST))
    assert is_500(stream)
    assert stream.size == 21
    assert "POST /upload?a=b HTTP/1.1" in caplog.text
    assert "LookupError: no such shelf" in caplog.text
    assert "in target" in caplog.text
    assert "bridge/worker" not in caplog.text


def test_exception_while_the_head_is_held(caplog: pytest.LogCaptureFixture) -> None:
    """A head that has not left is replaced by the 500."""

    async def target(scope: Scope, receive: Receive, send: Send) -> None:
        await send(start(200, length(5)))
        raise LookupError

    assert is_500(fails(target, caplog))


def test_exception_after_the_head(caplog: pytest.LogCaptureFixture) -> None:
    """Once the head is out, the client sees a broken response, never one that looks complete."""

    async def target(scope: Scope, receive: Receive, send: Send) -> None:
        await send(start())
        await send(body(b"half", more=True))
        raise LookupError

    stream = fails(target, caplog)
    assert is_broken(stream)
    assert stream.body == b"half"


def test_exception_after_the_response(caplog: pytest.LogCaptureFixture) -> None:
    """An exception behind a complete response is logged and changes nothing for the client."""

    async def target(scope: Scope, receive: Receive, send: Send) -> None:
        await send(start())
        await send(body(b"whole"))
        raise LookupError

    stream = fails(target, caplog)
    assert stream.messages == [("respond", b"whole", True)]
    assert not stream.aborted


@pytest.mark.parametrize("error", [SystemExit, KeyboardInterrupt, asyncio.CancelledError])
def test_an_application_cannot_end_the_server(error: type[BaseException], caplog: pytest.LogCaptureFixture) -> None:
    """sys.exit() in a view, or a stray cancellation, is an error like any other."""

    async def target(scope: Scope, receive: Receive, send: Send) -> None:
        raise error

    assert is_500(fails(target, caplog))


def test_500_for_a_head_request_has_no_body(caplog: pytest.LogCaptureFixture) -> None:
    """HEAD learns the length of the error page, and gets none of it."""

    async def target(scope: Scope, receive: Receive, send: Send) -> None:
        raise LookupError

    stream = fails(target, caplog, FakeStream(HEAD))
    assert (stream.status, stream.size, stream.messages) == (500, 21, [("respond", b"", True)])


@pytest.mark.parametrize("messages", [[], [start()], [start(200, length(3))]])
def test_return_without_a_response(messages: list[Message], caplog: pytest.LogCaptureFixture) -> None:
    """An application that returns before a body gets a 500 and a line that says so."""
    assert is_500(fails(sends(*messages), caplog))
    assert "returned without a response: GET / HTTP/1.1" in caplog.text


def test_return_within_the_body(caplog: pytest.LogCaptureFixture) -> None:
    """An application that returns before its last piece breaks the response."""
    assert is_broken(fails(sends(start(), body(b"half", more=True)), caplog))
    assert "returned before it completed the response" in caplog.text


@pytest.mark.parametrize(
    ("messages", "text"),
    [
        ([body(b"x")], "body was sent before"),
        ([start(), start()], "start was sent twice"),
        ([start(), {"type": "http.response.pathsend"}], "'http.response.pathsend' is not one"),
        ([{"type": "websocket.accept"}], "'websocket.accept' is not one"),
        ([{"type": "http.response.start", "status": "200"}], "'200' of http.response.start is not an int"),
        ([start(100)], "status 100 "),
        ([start(199)], "status 199 "),
        ([start(1000)], "status 1000 "),
        ([start(0)], "status 0 "),
        ([start(200, (b"a", b"\r\n"))], "holds a control character"),
        ([start(200, length(1), length(1))], "comes twice"),
        ([start(), body("text")], "is str, not bytes"),
        ([start(), body(None)], "is NoneType, not bytes"),
        ([start(200, length(3)), body(b"four")], "longer than its content-length of 3 bytes"),
        ([start(200, length(3)), body(b"ab")], "1 bytes short of its content-length of 3 bytes"),
        ([start(200, length(3)), body()], "3 bytes short"),
    ],
)
def test_mistakes_before_the_head(messages: list[Message], text: str, caplog: pytest.LogCaptureFixture) -> None:
    """Each mistake raises in the application with a clear text, and the client gets a 500."""
    assert is_500(fails(sends(*messages), caplog))
    assert text in caplog.text


@pytest.mark.parametrize(
    ("messages", "text"),
    [
        ([start(), body(b"x", more=True), start()], "start was sent twice"),
        ([start(200, length(3)), body(b"ab", more=True), body(b"cd")], "longer than its content-length"),
        ([start(200, length(3)), body(b"ab", more=True), body(b"cd", more=True)], "longer than its content-length"),
        ([start(200, length(3)), body(b"ab", more=True), body()], "1 bytes short"),
        ([start(), body(b"x", more=True), body(7)], "is int, not bytes"),
    ],
)
def test_mistakes_after_the_head(messages: list[Message], text: str, caplog: pytest.LogCaptureFixture) -> None:
    """Once the head is out, each mistake breaks the response."""
    assert is_broken(fails(sends(*messages), caplog))
    assert text in caplog.text


def test_a_body_that_is_too_long_is_broken_even_if_the_error_is_swallowed() -> None:
    """The application may catch the error; the response stays broken and takes nothing more."""
    errors: list[str] = []

    async def target(scope: Scope, receive: Receive, send: Send) -> None:
        await send(start(200, length(3)))
        await send(body(b"ab", more=True))
        for _ in range(2):
            try:
                await send(body(b"cd"))
            except RuntimeError as error:
                errors.append(str(error))

    stream = serve(target)
    assert is_broken(stream)
    assert stream.body == b"ab"
    assert "longer" in errors[0]
    assert "after the response was over" in errors[1]


def test_message_after_the_end(caplog: pytest.LogCaptureFixture) -> None:
    """Whatever comes after the last piece raises, and the complete response stays complete."""
    stream = fails(sends(start(), body(b"x"), body(b"y")), caplog)
    assert stream.messages == [("respond", b"x", True)]
    assert "http.response.body was sent after the response was over" in caplog.text


def test_head_block_that_is_none(caplog: pytest.LogCaptureFixture) -> None:
    """A head block that cannot be read is answered with 500 instead of leaving the stream open."""
    stream = FakeStream()
    stream.head = b"nonsense"
    assert is_500(fails(sends(), caplog, stream))
