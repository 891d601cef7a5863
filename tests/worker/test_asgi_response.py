"""The response that an application sends, over a fake stream."""

from __future__ import annotations

import asyncio

import pytest

from bridge.ipc.message import DATE, UNKNOWN
from bridge.worker.types import Message, Receive, Scope, Send
from tests.worker.fake_stream import FakeStream
from tests.worker.one_request import HEAD, application, body, length, sends, serve, start, turn


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
