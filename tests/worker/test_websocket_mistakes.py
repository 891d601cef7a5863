"""What an application does wrong raises where it did it; and the answers to a handshake that are no WebSocket."""

from __future__ import annotations

from typing import Any

import pytest

from bridge.worker.types import Message, Receive, Scope, Send
from tests.worker.websocket_rig import ACCEPTED, Client, closing, request, talk

CLOSED = {"type": "websocket.close"}
START = {"type": "websocket.http.response.start", "status": 401, "headers": [(b"x-why", b"no")]}
BODY = {"type": "websocket.http.response.body", "body": b"who are you?"}


async def to_the_end(client: Client) -> None:
    """Take part in the closing handshake, if there is one."""
    await client.until(lambda: client.status)
    if client.status == 101:
        await client.hears_close()
        client.say(closing(1000))
    await client.ends()


def fails(messages: list[Message], error: type[Exception], head: bytes = b"") -> str:
    """What the last of these messages raises."""
    raised: list[Exception] = []

    async def target(scope: Scope, receive: Receive, send: Send) -> None:
        *before, last = messages
        for message in before:
            await send(message)
        try:
            await send(last)
        except Exception as exc:
            raised.append(exc)
            raise

    talk(target, to_the_end, head)
    (found,) = raised
    assert isinstance(found, error)
    return str(found)


def text(value: Any) -> Message:
    return {"type": "websocket.send", "text": value}


@pytest.mark.parametrize(
    ("messages", "words"),
    [
        ([text("x")], "websocket.send was sent before websocket.accept"),
        ([ACCEPTED, ACCEPTED], "websocket.accept was sent after websocket.accept"),
        ([ACCEPTED, CLOSED, text("x")], "websocket.send was sent after websocket.close"),
        ([ACCEPTED, CLOSED, CLOSED], "websocket.close was sent after websocket.close"),
        ([ACCEPTED, START], "websocket.http.response.start was sent after websocket.accept"),
        ([START, ACCEPTED], "websocket.accept was sent after websocket.http.response.start"),
        ([START, CLOSED], "websocket.close was sent after websocket.http.response.start"),
        ([START, START], "http.response.start was sent twice"),
        ([BODY], "http.response.body was sent before http.response.start"),
        ([ACCEPTED, {"type": "http.response.start"}], "'http.response.start' is not one that a websocket"),
        ([ACCEPTED, {"type": "websocket.receive"}], "'websocket.receive' is not one that a websocket"),
    ],
)
def test_messages_in_the_wrong_place(messages: list[Message], words: str) -> None:
    """A message that does not fit here says what came before it."""
    assert words in fails(messages, RuntimeError)


@pytest.mark.parametrize(
    ("message", "words"),
    [
        ({"type": "websocket.send"}, "neither text nor bytes"),
        (text(b"x"), "text of websocket.send is bytes, not str"),
        ({"type": "websocket.send", "bytes": "x"}, "bytes of websocket.send is str, not bytes"),
        ({"type": "websocket.close", "code": "1000"}, "code of websocket.close is str, not int"),
        ({"type": "websocket.close", "reason": b"x"}, "reason of websocket.close is bytes, not str"),
    ],
)
def test_values_of_the_wrong_type(message: Message, words: str) -> None:
    """They are refused by name."""
    assert words in fails([ACCEPTED, message], TypeError)


@pytest.mark.parametrize("code", [0, 999, 1004, 1005, 1006, 1015, 2999, 5000])
def test_codes_that_no_frame_may_carry(code: int) -> None:
    """They are the application's mistake, and not the client's problem (RFC 6455, section 7.4)."""
    assert f"{code} is not a code" in fails([ACCEPTED, {"type": "websocket.close", "code": code}], ValueError)


@pytest.mark.parametrize(
    ("accept", "error", "words"),
    [
        ({"headers": [(b"Sec-WebSocket-Accept", b"x")]}, ValueError, "b'Sec-WebSocket-Accept' of websocket.accept is"),
        ({"headers": [(b"sec-websocket-protocol", b"x")]}, ValueError, "is the server's: leave it out"),
        ({"headers": [(b"x", b"a\r\nb: c")]}, ValueError, "control character"),
        ({"headers": [("x", "y")]}, TypeError, "is not bytes"),
        ({"headers": [b"x"]}, TypeError, "is not a pair"),
        ({"subprotocol": "v3"}, ValueError, "'v3' was not offered; the client has offered 'v1', 'v2'"),
    ],
)
def test_answers_that_cannot_be_sent(accept: Message, error: type[Exception], words: str) -> None:
    """The handshake's own fields are the server's, and nothing is agreed on that was not offered."""
    head = request("Sec-WebSocket-Protocol: v1, v2")
    assert words in fails([{**ACCEPTED, **accept}], error, head)


def test_fields_of_the_connection_are_dropped() -> None:
    """As in any other response."""

    async def target(scope: Scope, receive: Receive, send: Send) -> None:
        await send({**ACCEPTED, "headers": [(b"upgrade", b"h2c"), (b"connection", b"x"), (b"content-length", b"5")]})

    client = talk(target, to_the_end)
    assert client.block.count(b"\r\n") == 1


def test_a_close_before_the_accept_refuses() -> None:
    """The handshake is answered with 403, as ASGI demands, and that is the end of it."""
    events: list[Message] = []

    async def target(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "websocket.close", "code": 4000, "reason": "go away"})
        await receive()
        events.append(await receive())

    client = talk(target, to_the_end)
    assert (client.status, client.body) == (403, b"Forbidden")
    assert events == [{"type": "websocket.disconnect", "code": 1006, "reason": ""}]


def test_a_denial_is_an_ordinary_response() -> None:
    """Status, fields and body are the application's, and the body may come in pieces."""

    async def target(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        await send(START)
        await send({**BODY, "more_body": True})
        await send(BODY)

    client = talk(target, to_the_end)
    assert (client.status, client.body, client.over) == (401, b"who are you?" * 2, True)
    assert client.block == b"x-why: no\r\n"
    assert client.tunnels == 0


@pytest.mark.parametrize("begun", [True, False])
def test_a_denial_that_is_not_completed(begun: bool, caplog: pytest.LogCaptureFixture) -> None:
    """It is a 500, or broken if it has begun: never short and complete-looking."""

    async def target(scope: Scope, receive: Receive, send: Send) -> None:
        await send(START)
        if begun:
            await send({**BODY, "more_body": True})

    client = talk(target, to_the_end)
    assert (client.status, client.aborted) == ((401, True) if begun else (500, False))
    assert "before it completed the response" in caplog.text
