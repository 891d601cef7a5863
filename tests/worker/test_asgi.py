"""One request as an application sees it, over a fake stream."""

from __future__ import annotations

import asyncio
import gc
import logging
import weakref
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from bridge.errors import ClientDisconnect
from bridge.ipc.message import DATE, UNKNOWN
from bridge.worker.asgi import AsgiApplication
from bridge.worker.types import Message, Receive, Scope, Send, Target
from tests.worker.fake_stream import FakeStream

HEAD = b"HEAD / HTTP/1.1\r\nHost: example.test\r\n\r\n"
POST = b"POST /upload?a=b HTTP/1.1\r\nHost: example.test\r\nTransfer-Encoding: chunked\r\n\r\n"


def start(status: int = 200, *headers: tuple[bytes, bytes]) -> Message:
    return {"type": "http.response.start", "status": status, "headers": list(headers)}


def body(data: Any = b"", *, more: bool = False) -> Message:
    return {"type": "http.response.body", "body": data, "more_body": more}


def length(size: int) -> tuple[bytes, bytes]:
    return b"content-length", b"%d" % size


def application(target: Target, **settings: Any) -> AsgiApplication:
    loop = asyncio.get_running_loop()
    return AsgiApplication(
        target, settings.get("root_path", ""), settings.get("state"), loop, logging.getLogger("bridge")
    )


def serve(target: Target, stream: FakeStream | None = None, **settings: Any) -> FakeStream:
    """Run one request to its end."""
    stream = stream or FakeStream()

    async def main() -> None:
        app = application(target, **settings)
        app.start(stream)
        assert len(app.tasks) == 1
        assert await app.drain() == 0
        assert not app.tasks

    asyncio.run(asyncio.wait_for(main(), 10))
    assert stream.finishes == 1
    return stream


def sends(*messages: Message) -> Target:
    async def target(scope: Scope, receive: Receive, send: Send) -> None:
        for message in messages:
            await send(message)

    return target


async def turn(times: int = 3) -> None:
    """Let the loop come round."""
    for _ in range(times):
        await asyncio.sleep(0)


# The response


def test_small_response_is_one_message() -> None:
    """Head and body of a small response travel together, and complete the stream."""
    headers = [(b"content-type", b"text/plain"), length(5), (b"date", b"now")]
    stream = serve(sends(start(201, *headers), body(b"hello")))
    assert stream.messages == [("respond", b"hello", True)]
    assert (stream.status, stream.size, stream.flags) == (201, 5, DATE)
    assert stream.block == b"content-type: text/plain\r\ndate: now\r\n"


def test_length_of_a_response_in_one_piece_is_known() -> None:
    """A body that comes whole needs no content-length from the application."""
    assert serve(sends(start(), body(b"hello"))).size == 5
    assert serve(sends(start(), body())).size == 0


def test_head_goes_out_while_the_application_waits() -> None:
    """A head without a body is sent when the loop comes round: server-sent events may take their time."""

    async def main() -> None:
        event = asyncio.Event()

        async def target(scope: Scope, receive: Receive, send: Send) -> None:
            await send(start())
            await event.wait()
            await send(body(b"data: 1\n\n", more=True))
            await send(body(b"", more=True))
            await send(body())

        app, stream = application(target), FakeStream()
        app.start(stream)
        await turn()
        assert stream.messages == [("respond", b"", False)]
        assert stream.size == UNKNOWN
        event.set()
        await app.drain()
        assert stream.messages[1:] == [("send", b"data: 1\n\n", False), ("send", b"", True)]

    asyncio.run(main())


def test_heads_of_many_requests_go_out_in_one_turn() -> None:
    """One callback flushes the heads that all requests of a turn left waiting, and only those."""

    async def main() -> None:
        async def waits(scope: Scope, receive: Receive, send: Send) -> None:
            await send(start())
            await receive()
            await receive()

        app = application(waits)
        flush, flushes = app._flush, list[None]()
        app._flush = lambda: flushes.append(flush())  # type: ignore[method-assign]
        streams = [FakeStream() for _ in range(5)]
        for stream in streams:
            app.start(stream)
        await turn()
        assert [stream.messages for stream in streams] == [[("respond", b"", False)]] * 5
        assert len(flushes) == 1
        for stream in streams:
            stream.cancel()
        await app.drain()

    asyncio.run(main())


def test_body_in_pieces() -> None:
    """Pieces go out as they come; the head goes with the first, without a length."""
    stream = serve(sends(start(), body(b"a", more=True), body(b"b", more=True), body(b"c")))
    assert stream.messages == [("respond", b"a", False), ("send", b"b", False), ("send", b"c", True)]
    assert stream.size == UNKNOWN


@pytest.mark.parametrize("data", [b"abc", bytearray(b"abc"), memoryview(b"xabcx")[1:4]])
def test_body_of_any_kind_of_bytes(data: object) -> None:
    """Every bytes-like body arrives as a copy that the application cannot change any more."""
    assert serve(sends(start(), body(data))).messages == [("respond", b"abc", True)]


def test_defaults_of_the_messages() -> None:
    """headers, body and more_body may be missing."""
    stream = serve(sends({"type": "http.response.start", "status": 204}, {"type": "http.response.body"}))
    assert (stream.status, stream.block, stream.messages) == (204, b"", [("respond", b"", True)])


@pytest.mark.parametrize(("status", "size"), [(204, UNKNOWN), (304, 100)])
def test_statuses_without_a_body(status: int, size: int) -> None:
    """204 and 304 have no body whatever the application sends, and 204 no length either."""
    stream = serve(sends(start(status, length(100)), body(b"x", more=True), body(b"y")))
    assert stream.body == b""
    assert stream.complete
    assert stream.size == size


@pytest.mark.parametrize(
    ("messages", "size"),
    [
        ([start(200, length(100)), body()], 100),
        ([start(200, length(3)), body(b"abc")], 3),
        ([start(200), body(b"abc")], 3),
        ([start(200), body()], UNKNOWN),
        ([start(200), body(b"abc", more=True), body(b"d")], UNKNOWN),
    ],
)
def test_head_request(messages: list[Message], size: int) -> None:
    """HEAD gets the length of GET and no body, whether the application sends one or not."""
    stream = serve(sends(*messages), FakeStream(HEAD))
    assert (stream.body, stream.complete, stream.size, stream.aborted) == (b"", True, size, False)


def test_send_waits_when_the_stream_asks_for_it() -> None:
    """Back-pressure reaches the application: its send() returns when there is room again, also the last one."""

    async def main() -> None:
        progress: list[int] = []

        async def target(scope: Scope, receive: Receive, send: Send) -> None:
            await send(start())
            for number in range(3):
                await send(body(b"x", more=number < 2))
                progress.append(number)

        app, stream = application(target), FakeStream()
        stream.full = True
        app.start(stream)
        for number in range(3):
            await turn()
            assert progress == list(range(number))
            assert stream.waits == len(stream.messages) == number + 1
            stream.drain()
        await app.drain()
        assert progress == [0, 1, 2]

    asyncio.run(main())


def test_a_held_head_that_meets_a_full_stream_delays_the_body() -> None:
    """When the flush was asked to wait, the next send() waits before it sends."""

    async def main() -> None:
        go = asyncio.Event()

        async def target(scope: Scope, receive: Receive, send: Send) -> None:
            await send(start())
            await go.wait()
            await send(body(b"x"))

        app, stream = application(target), FakeStream()
        stream.full = True
        app.start(stream)
        await turn()
        go.set()
        await turn()
        assert stream.messages == [("respond", b"", False)]
        stream.full = False
        stream.drain()
        await app.drain()
        assert stream.messages[1:] == [("send", b"x", True)]

    asyncio.run(main())


# What an application can do wrong


def fails(target: Target, caplog: pytest.LogCaptureFixture, stream: FakeStream | None = None) -> FakeStream:
    """Serve a request that must be logged as an error."""
    with caplog.at_level(logging.INFO, "bridge"):
        stream = serve(target, stream)
    assert [record.levelname for record in caplog.records] == ["ERROR"]
    return stream


def is_500(stream: FakeStream) -> bool:
    text = b"Internal Server Error"
    plain = b"content-type: text/plain; charset=utf-8\r\n"
    return (stream.status, stream.messages, stream.block) == (500, [("respond", text, True)], plain)


def is_broken(stream: FakeStream) -> bool:
    return stream.aborted and not stream.complete


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


# The request body


def collects(events: list[Message], count: int) -> Target:
    async def target(scope: Scope, receive: Receive, send: Send) -> None:
        for _ in range(count):
            events.append(await receive())  # noqa: PERF401 - seen as they come
        await send(start())
        await send(body())

    return target


def test_request_without_a_body() -> None:
    """A request without a body is one empty event, and nobody is told that the application reads."""
    events: list[Message] = []
    stream = serve(collects(events, 1))
    assert events == [{"type": "http.request", "body": b"", "more_body": False}]
    assert stream.reads == 0


def test_body_that_came_with_the_head() -> None:
    """What is here already is given at once."""
    events: list[Message] = []
    stream = serve(collects(events, 1), FakeStream(POST, (b"all",)))
    assert events == [{"type": "http.request", "body": b"all", "more_body": False}]
    assert stream.reads == 0


def test_body_that_arrives_in_pieces() -> None:
    """receive() waits for each piece; the last one says that it is the last."""

    async def main() -> None:
        events: list[Message] = []
        app, stream = application(collects(events, 3)), FakeStream(POST, (b"a",), ended=False)
        app.start(stream)
        await turn()
        assert events == [{"type": "http.request", "body": b"a", "more_body": True}]
        assert stream.reads == 1
        stream.feed(b"b")
        await turn()
        assert len(events) == 2
        stream.feed(b"", last=True)
        await app.drain()
        assert events[1:] == [
            {"type": "http.request", "body": b"b", "more_body": True},
            {"type": "http.request", "body": b"", "more_body": False},
        ]

    asyncio.run(main())


def test_receive_that_is_cancelled_loses_nothing() -> None:
    """A framework may cancel receive() to poll it; the next one gets what then comes."""

    async def main() -> None:
        events: list[Message] = []

        async def target(scope: Scope, receive: Receive, send: Send) -> None:
            with pytest.raises(asyncio.TimeoutError):
                await asyncio.wait_for(receive(), 0.01)
            stream.feed(b"late", last=True)
            events.append(await receive())
            with pytest.raises(asyncio.TimeoutError):
                await asyncio.wait_for(receive(), 0.01)
            await send(start())
            await send(body())
            events.append(await receive())

        app, stream = application(target), FakeStream(POST, ended=False)
        app.start(stream)
        await app.drain()
        assert events == [{"type": "http.request", "body": b"late", "more_body": False}, {"type": "http.disconnect"}]

    asyncio.run(main())


# The client leaves, or is done


def test_receive_after_the_body_waits_for_the_end_of_the_response() -> None:
    """A task that waits for http.disconnect is woken by the completed response too."""
    events: list[Message] = []

    async def target(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        waiter = asyncio.ensure_future(receive())
        await turn()
        assert not waiter.done()
        await send(start())
        await send(body(b"x"))
        events.append(await waiter)
        events.append(await receive())

    serve(target)
    assert events == [{"type": "http.disconnect"}] * 2


def test_receive_after_the_response_does_not_wait_for_the_body() -> None:
    """Who has answered gets no more body."""
    events: list[Message] = []

    async def target(scope: Scope, receive: Receive, send: Send) -> None:
        await send(start(413))
        await send(body())
        events.append(await receive())

    serve(target, FakeStream(POST, (b"left",), ended=False))
    assert events == [{"type": "http.disconnect"}]


@pytest.mark.parametrize("ended", [True, False])
def test_receive_says_that_the_client_left(ended: bool, caplog: pytest.LogCaptureFixture) -> None:
    """A client that leaves is http.disconnect at once, within the body and behind it."""

    async def main() -> None:
        events: list[Message] = []

        async def target(scope: Scope, receive: Receive, send: Send) -> None:
            while not events or events[-1]["type"] != "http.disconnect":
                events.append(await receive())

        app, stream = application(target), FakeStream(POST, (b"a",), ended=ended)
        app.start(stream)
        await turn()
        assert len(events) == 1
        stream.cancel()
        await app.drain()
        assert events[1:] == [{"type": "http.disconnect"}]
        assert not stream.messages
        assert stream.finishes == 1

    with caplog.at_level(logging.DEBUG, "bridge"):
        asyncio.run(main())
    assert not caplog.records  # an application that returns then did nothing wrong


def leaves(target: Callable[[FakeStream, Receive, Send], Awaitable[None]]) -> FakeStream:
    stream = FakeStream()

    async def wrapped(scope: Scope, receive: Receive, send: Send) -> None:
        await target(stream, receive, send)

    return serve(wrapped, stream)


@pytest.mark.parametrize("when", ["before the head", "held", "open", "waiting"])
def test_send_raises_oserror_when_the_client_left(when: str, caplog: pytest.LogCaptureFixture) -> None:
    """send() raises an OSError at every stage, and letting it pass is not logged as an error."""
    seen: list[BaseException] = []

    async def target(stream: FakeStream, receive: Receive, send: Send) -> None:
        try:
            if when == "before the head":
                stream.cancel()
            await send(start())
            assert when != "before the head"
            if when == "held":
                stream.cancel()
            if when == "waiting":
                stream.full = True
                asyncio.get_running_loop().call_soon(stream.cancel)
            await send(body(b"x", more=True))
            stream.cancel()
            await send(body(b"y", more=True))
        except OSError as error:
            seen.append(error)
            raise

    with caplog.at_level(logging.INFO, "bridge"):
        stream = leaves(target)
    assert isinstance(seen[0], ClientDisconnect)
    assert not stream.aborted
    assert not caplog.records


def test_head_that_is_held_when_the_client_leaves() -> None:
    """The flush of a head for a client that left does nothing; the application learns it at its next send()."""
    seen: list[BaseException] = []

    async def target(stream: FakeStream, receive: Receive, send: Send) -> None:
        await send(start())
        stream.cancel()
        await turn()
        try:
            await send(body(b"x"))
        except OSError as error:
            seen.append(error)

    assert not leaves(target).messages
    assert isinstance(seen[0], ClientDisconnect)


class StandIn:
    """Exceptions that frameworks raise by these names."""

    class ClientDisconnect(Exception):  # noqa: D106
        pass


@pytest.mark.parametrize(
    ("error", "level"),
    [
        (StandIn.ClientDisconnect(), "DEBUG"),
        (BaseExceptionGroup("tasks", [ClientDisconnect("left")]), "DEBUG"),
        (LookupError("a bug"), "ERROR"),
        (ExceptionGroup("tasks", [ClientDisconnect("left"), LookupError("a bug")]), "ERROR"),
    ],
)
def test_what_is_logged_after_the_client_left(
    error: BaseException, level: str, caplog: pytest.LogCaptureFixture
) -> None:
    """That the client left is no error in any wrapping; a bug stays one."""

    async def target(stream: FakeStream, receive: Receive, send: Send) -> None:
        stream.cancel()
        raise error

    with caplog.at_level(logging.DEBUG, "bridge"):
        leaves(target)
    assert [record.levelname for record in caplog.records] == [level]


def test_wrapped_disconnect_is_no_error(caplog: pytest.LogCaptureFixture) -> None:
    """An exception that names ours as its cause tells of nothing else."""

    async def target(stream: FakeStream, receive: Receive, send: Send) -> None:
        stream.cancel()
        try:
            await send(start())
        except OSError as error:
            raise LookupError from error

    with caplog.at_level(logging.INFO, "bridge"):
        leaves(target)
    assert not caplog.records


def test_disconnect_of_another_connection_is_an_error(caplog: pytest.LogCaptureFixture) -> None:
    """While the client is there, an exception of that name is one like any other."""

    async def target(scope: Scope, receive: Receive, send: Send) -> None:
        raise StandIn.ClientDisconnect

    assert is_500(fails(target, caplog))


# The life of the requests


def test_scope_of_the_application() -> None:
    """Root path and state reach the application."""
    scopes: list[Scope] = []

    async def target(scope: Scope, receive: Receive, send: Send) -> None:
        scopes.append(scope)
        await send(start())
        await send(body())

    serve(target, root_path="/shop", state={"a": 1})
    assert (scopes[0]["path"], scopes[0]["root_path"], scopes[0]["state"]) == ("/shop/", "/shop", {"a": 1})


def test_requests_run_beside_each_other() -> None:
    """A request that waits does not hold up another."""

    async def main() -> None:
        waiting = FakeStream(POST, ended=False)

        async def target(scope: Scope, receive: Receive, send: Send) -> None:
            await receive()
            await send(start())
            await send(body())

        app = application(target)
        app.start(waiting)
        quick = FakeStream()
        app.start(quick)
        await turn()
        assert quick.complete
        assert len(app.tasks) == 1
        waiting.feed(b"", last=True)
        await app.drain()
        assert waiting.complete

    asyncio.run(main())


def test_running_requests_are_not_collected() -> None:
    """A request that waits for something that nothing else refers to survives the garbage collector."""

    async def main() -> None:
        async def target(scope: Scope, receive: Receive, send: Send) -> None:
            await asyncio.get_running_loop().create_future()

        app = application(target)
        app.start(FakeStream())
        await turn()
        gc.collect()
        assert len(app.tasks) == 1
        await app.drain(0)

    asyncio.run(main())


def test_a_finished_request_leaves_no_garbage() -> None:
    """A request is freed by its last reference: the garbage collector has nothing to do."""

    async def main() -> None:
        app = application(sends(start(), body(b"x")))
        stream = FakeStream()
        freed = weakref.ref(stream)
        app.start(stream)
        await app.drain()
        await turn()
        del stream
        assert freed() is None

    gc.disable()
    try:
        asyncio.run(main())
    finally:
        gc.enable()


@pytest.mark.parametrize("opened", [True, False])
def test_drain_cancels_what_is_late(opened: bool, caplog: pytest.LogCaptureFixture) -> None:
    """A request that outlives the time to drain gets 503, or a broken response once its head is out."""

    async def main() -> FakeStream:
        async def target(scope: Scope, receive: Receive, send: Send) -> None:
            if opened:
                await send(start())
                await send(body(b"half", more=True))
            await asyncio.get_running_loop().create_future()

        app, stream = application(target), FakeStream()
        app.start(stream)
        assert await app.drain(0.01) == 1
        assert not app.tasks
        assert stream.finishes == 1
        return stream

    stream = asyncio.run(main())
    assert stream.aborted == opened
    assert stream.status == (200 if opened else 503)
    assert "cancelled, the server stops: GET / HTTP/1.1" in caplog.text


def test_drain_of_a_request_that_has_not_begun() -> None:
    """A request that was claimed in the last moment is answered too."""

    async def main() -> None:
        async def target(scope: Scope, receive: Receive, send: Send) -> None:
            await asyncio.get_running_loop().create_future()

        app, stream = application(target), FakeStream()
        app.start(stream)
        assert await app.drain(0) == 1
        assert (stream.status, stream.finishes) == (503, 1)

    asyncio.run(main())


def test_drain_waits_for_requests_that_come_meanwhile() -> None:
    """drain() ends when no request is left, also of those that began after it."""

    async def main() -> None:
        async def target(scope: Scope, receive: Receive, send: Send) -> None:
            await turn()
            if scope["method"] == "POST":
                app.start(second)
            await send(start())
            await send(body())

        app, first, second = application(target), FakeStream(POST), FakeStream()
        app.start(first)
        assert await app.drain(10) == 0
        assert first.complete
        assert second.complete

    asyncio.run(main())
