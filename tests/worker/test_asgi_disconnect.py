"""The client leaves, or the response is over: what receive() and send() do then."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable

import pytest

from bridge.errors import ClientDisconnect
from bridge.worker.types import Message, Receive, Scope, Send
from tests.worker.fake_stream import GET, FakeStream
from tests.worker.one_request import HEAD, POST, application, body, fails, is_500, serve, start, turn


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


@pytest.mark.parametrize(
    ("request_head", "status", "data"), [(HEAD, 200, b"event"), (GET, 204, b"event"), (GET, 200, b"")]
)
def test_pieces_of_which_nothing_is_sent(request_head: bytes, status: int, data: bytes) -> None:
    """Who sends events without an end hears that the client left, also where no byte of them goes out."""
    stream = FakeStream(request_head)

    async def target(scope: Scope, receive: Receive, send: Send) -> None:
        await send(start(status))
        await turn()
        for _ in range(3):
            await send(body(data, more=True))
        stream.cancel()
        with pytest.raises(OSError, match="client left"):
            await send(body(data, more=True))
        seen.append(True)

    seen: list[bool] = []
    serve(target, stream)
    assert seen


@pytest.mark.parametrize("first", [start(), body(b"all"), body(b"some", more=True)])
@pytest.mark.parametrize("then", [start(500), body(b"x", more=True), body(b"x")])
def test_every_send_raises_oserror_when_the_client_left(first: Message, then: Message) -> None:
    """Not only the first one: what the failed one would have been is no reason to complain of the next."""
    seen: list[bool] = []

    async def target(stream: FakeStream, receive: Receive, send: Send) -> None:
        if first["type"] == "http.response.body":
            await send(start())
        stream.cancel()
        for message in (first, then):
            with pytest.raises(OSError, match="client left"):
                await send(message)
        seen.append(True)

    leaves(target)
    assert seen


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
