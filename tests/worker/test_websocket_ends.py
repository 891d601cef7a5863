"""The ends of a WebSocket that nobody has asked for: the client vanishes or breaks the rules, the application fails."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

import pytest

from bridge.errors import ClientDisconnect
from bridge.worker.types import Message, Receive, Scope, Send
from tests.worker.one_request import turn
from tests.worker.websocket_rig import (
    ACCEPTED,
    BINARY,
    CLOSE,
    CONTINUATION,
    PING,
    TEXT,
    Client,
    Recorder,
    closing,
    frame,
    talk,
)


def hello(text: str = "hello") -> Message:
    return {"type": "websocket.send", "text": text}


async def accepted(client: Client) -> None:
    await client.is_accepted()


@pytest.mark.parametrize("leave", [Client.vanish, Client.hang_up], ids=["reset", "FIN"])
def test_the_client_vanishes(leave: Callable[[Client], None]) -> None:
    """Without a close frame it is 1006, and whatever is sent then raises an OSError."""
    events: list[Message] = []

    async def target(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        await send(ACCEPTED)
        events.extend([await receive(), await receive()])
        for message in (hello(), {"type": "websocket.close"}, hello()):
            with pytest.raises(ClientDisconnect):
                await send(message)

    async def script(client: Client) -> None:
        await client.is_accepted()
        leave(client)

    client = talk(target, script)
    assert events == [{"type": "websocket.disconnect", "code": 1006, "reason": ""}] * 2
    assert (client.over, client.sent) == (not client.gone, b"")


def test_the_client_vanishes_in_the_middle_of_a_message() -> None:
    """What is not complete is nothing."""
    recorder = Recorder()

    async def script(client: Client) -> None:
        await client.is_accepted()
        client.say(frame(TEXT, b"one"), frame(TEXT, b"two")[:7])
        client.hang_up()
        await client.ends()

    talk(recorder, script)
    assert recorder.messages == ["one"]
    assert recorder.end == (1006, "")


def test_the_client_vanishes_before_it_is_accepted() -> None:
    """The application gets both events, and its accept raises."""
    events: list[Message] = []

    async def target(scope: Scope, receive: Receive, send: Send) -> None:
        events.append(await receive())
        events.append(await receive())
        with pytest.raises(ClientDisconnect):
            await send(ACCEPTED)

    async def script(client: Client) -> None:
        await asyncio.sleep(0)
        client.vanish()

    assert talk(target, script).status == 0
    assert [event["type"] for event in events] == ["websocket.connect", "websocket.disconnect"]


def test_the_client_vanishes_while_a_message_waits_for_it() -> None:
    """An application that waits in send() is told there."""
    seen: list[BaseException] = []

    async def target(scope: Scope, receive: Receive, send: Send) -> None:
        await send(ACCEPTED)
        try:
            while True:
                await send(hello("x" * 1000))
        except OSError as error:
            seen.append(error)
            raise

    async def script(client: Client) -> None:
        await client.until(lambda: client.unacknowledged > 65536)
        await asyncio.sleep(0)
        client.vanish()

    talk(target, script)
    assert isinstance(seen[0], ClientDisconnect)


@pytest.mark.parametrize(
    ("sent", "code"),
    [
        (frame(TEXT, b"x", mask=None), 1002),
        (frame(3, b"x"), 1002),
        (frame(TEXT, b"x", rsv=1), 1002),
        (frame(CONTINUATION, b"x"), 1002),
        (frame(TEXT, b"x", fin=False) + frame(TEXT, b"x"), 1002),
        (frame(PING, b"x" * 126), 1002),
        (frame(PING, fin=False), 1002),
        (frame(CLOSE, b"x"), 1002),
        (closing(1005), 1002),
        (frame(TEXT, b"\xff"), 1007),
        (frame(TEXT, b"\xe2\x82", fin=False) + frame(CONTINUATION, b"x", fin=False), 1007),
        (frame(CLOSE, b"\x03\xe8\xff"), 1007),
        (frame(BINARY, bytes(101)), 1009),
        (frame(TEXT, bytes(60), fin=False) + frame(CONTINUATION, bytes(61), fin=False), 1009),
    ],
)
def test_the_client_breaks_the_rules(sent: bytes, code: int) -> None:
    """It is told which, and the connection ends at once; what it sends afterwards is nobody's."""
    recorder = Recorder()

    async def script(client: Client) -> None:
        await client.is_accepted()
        client.say(frame(TEXT, b"good"), sent, frame(TEXT, b"more"))
        got, reason = await client.hears_close()
        assert (got, bool(reason), client.over) == (code, True, True)
        client.say(frame(TEXT, b"even more"))
        assert client.stream.sink._frames._later == []  # type: ignore[attr-defined]

    talk(recorder, script, max_frame_size=100, max_message_size=120)
    assert recorder.messages == ["good"]
    assert recorder.end[0] == code


def test_the_application_raises(caplog: pytest.LogCaptureFixture) -> None:
    """After it has accepted, the client is told with 1011, and the traceback is in the log."""

    async def target(scope: Scope, receive: Receive, send: Send) -> None:
        await send(ACCEPTED)
        raise LookupError("a bug")

    async def script(client: Client) -> None:
        assert await client.hears_close() == (1011, "")
        client.say(closing(1011))

    talk(target, script)
    assert "a bug" in caplog.text
    assert "GET /chat?room=1" in caplog.text


@pytest.mark.parametrize("raises", [True, False])
def test_the_application_fails_before_it_answers(raises: bool, caplog: pytest.LogCaptureFixture) -> None:
    """The client gets a 500, as of a request."""

    async def target(scope: Scope, receive: Receive, send: Send) -> None:
        if raises:
            raise LookupError("a bug")

    async def script(client: Client) -> None:
        await client.ends()
        assert (client.status, client.body, client.over) == (500, b"Internal Server Error", True)

    talk(target, script)
    assert ("a bug" if raises else "without an answer to the handshake") in caplog.text


def test_an_exception_after_the_client_has_left_is_no_error(caplog: pytest.LogCaptureFixture) -> None:
    """What frameworks raise when the client has closed says no more than that; a bug stays one."""

    class WebSocketDisconnect(Exception):
        pass

    errors: list[type[Exception]] = [WebSocketDisconnect, LookupError]

    async def target(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        await send(ACCEPTED)
        await receive()
        raise errors.pop(0)

    async def script(client: Client) -> None:
        await client.is_accepted()
        client.say(closing(1000))

    with caplog.at_level(logging.INFO, "bridge"):
        talk(target, script)
        assert not caplog.records
        talk(target, script)
    assert [record.levelname for record in caplog.records] == ["ERROR"]


def test_a_mistake_of_the_decoder(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    """It costs one connection: the worker goes on with what has come for others."""
    recorder = Recorder()

    async def script(client: Client) -> None:
        await client.is_accepted()
        monkeypatch.setattr("bridge.worker.frames.apply_mask", None)
        client.say(frame(TEXT, b"hello you"))
        assert (await client.hears_close())[0] == 1011

    talk(recorder, script)
    assert recorder.end == (1011, "")
    assert "a WebSocket cannot be read" in caplog.text


@pytest.mark.parametrize("answers", [True, False])
def test_the_server_leaves(answers: bool) -> None:
    """All are told with 1012, the application at once; who takes no part in the handshake is cut."""
    events: list[Message] = []

    async def target(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        await send(ACCEPTED)
        events.append(await receive())
        with pytest.raises(ClientDisconnect):
            await send(hello())

    async def script(client: Client) -> None:
        await client.is_accepted()
        client.sockets.leave()
        assert (await client.hears_close())[0] == 1012
        await turn()
        assert events
        assert not client.over
        client.clock.advance(9)
        assert not client.aborted
        if answers:
            client.say(closing(1012))
        client.clock.advance(3)
        await client.ends()
        assert client.aborted != answers

    talk(target, script, by_hand=True, close_timeout=10)
    assert events == [{"type": "websocket.disconnect", "code": 1012, "reason": "the server restarts"}]


def test_who_is_accepted_while_the_server_leaves() -> None:
    """The handshake is completed, and the client told where it stands."""
    recorder = Recorder()

    async def script(client: Client) -> None:
        client.sockets.leave()
        assert (await client.hears_close())[0] == 1012
        client.say(closing(1012))

    talk(recorder, script)
    assert recorder.end[0] == 1012


def test_a_client_that_does_not_answer_a_close_frame_is_cut() -> None:
    """After the close timeout nobody waits any more."""

    async def target(scope: Scope, receive: Receive, send: Send) -> None:
        await send(ACCEPTED)
        await send({"type": "websocket.close"})

    async def script(client: Client) -> None:
        assert await client.hears_close() == (1000, "")
        await client.ends()
        assert client.aborted

    talk(target, script, close_timeout=0.05)


def test_a_client_that_does_not_take_the_last_word_is_cut() -> None:
    """The end of a connection waits for room no longer than the close timeout."""
    ends: list[Message] = []

    async def target(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        await send(ACCEPTED)
        with pytest.raises(ClientDisconnect):
            await send(hello("x" * 200))
        ends.append(await receive())

    async def script(client: Client) -> None:
        assert client.segment.claim(1 << 20, 1)[1] == 16 * 1024
        await client.is_accepted()
        client.say(closing(1000))
        await client.ends()
        assert (client.aborted, client.sent) == (True, b"")

    talk(target, script, room=190, close_timeout=0.05)
    assert ends == [{"type": "websocket.disconnect", "code": 1000, "reason": ""}]


def test_an_application_that_goes_on_is_cancelled_after_the_grace() -> None:
    """`limits.cancel_grace` counts from the end of the connection, also of one that was closed in order."""
    cancelled: list[bool] = []

    async def target(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        await send(ACCEPTED)
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            cancelled.append(True)
            raise

    async def script(client: Client) -> None:
        await client.is_accepted()
        client.say(closing(1000))

    talk(target, script, grace=0.0)
    assert cancelled == [True]


def test_a_server_that_cannot_wait_cancels(caplog: pytest.LogCaptureFixture) -> None:
    """At the end of the graceful time the application is cancelled, and the client is told as far as that goes."""

    async def target(scope: Scope, receive: Receive, send: Send) -> None:
        await send(ACCEPTED)
        await asyncio.sleep(60)

    async def script(client: Client) -> None:
        await client.is_accepted()
        assert await client.app.drain(0.01) == 1
        assert (await client.hears_close())[0] == 1012
        assert client.aborted

    talk(target, script)
    assert "the server stops" in caplog.text
