"""What a WebSocket's client has said in front of its close frame, or of its mistake, is answered before the end."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from bridge.errors import ClientDisconnect
from bridge.worker.types import Message, Receive, Scope, Send
from tests.worker.one_request import turn
from tests.worker.websocket_rig import ACCEPTED, BINARY, CLOSE, TEXT, Client, closing, echo, frame, talk

TEXTS = ["one", "two", "three"]
SAID = b"".join(frame(TEXT, text.encode()) for text in TEXTS)


@pytest.mark.parametrize(
    ("last", "code"), [(closing(3000, "bye"), 3000), (frame(3, b"x"), 1002), (frame(TEXT, b"\xff"), 1007)]
)
@pytest.mark.parametrize("max_queue", [1, 32])
def test_what_came_before_is_answered(last: bytes, code: int, max_queue: int) -> None:
    """An echo is complete, and the close frame stands behind it; what comes behind that is nobody's."""

    async def script(client: Client) -> None:
        await client.is_accepted()
        client.say(SAID, last, frame(TEXT, b"too late"))
        client.say(frame(TEXT, b"much too late"))
        assert [await client.hears_text() for _ in TEXTS] == TEXTS
        assert (await client.hears_close())[0] == code
        assert client.over
        assert not client.sent

    talk(echo, script, max_queue=max_queue, close_timeout=1000)


class Busy:
    """An application that receives one message, and then waits to be told to go on."""

    def __init__(self, *then: Message) -> None:
        self.working = asyncio.Event()
        self.go_on = asyncio.Event()
        self.raised: list[type[BaseException] | None] = []
        self._then = then

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        await send(ACCEPTED)
        await receive()
        self.working.set()
        await self.go_on.wait()
        for message in self._then:
            try:
                await send(message)
                self.raised.append(None)
            except Exception as error:  # noqa: BLE001 - each is looked at
                self.raised.append(type(error))


HELLO = {"type": "websocket.send", "text": "hello"}
CLOSES = {"type": "websocket.close", "code": 4000}


@pytest.mark.parametrize(
    ("then", "raised"),
    [
        ([HELLO], [None]),
        ([HELLO, CLOSES, HELLO], [None, None, ClientDisconnect]),
        ([HELLO, ACCEPTED], [None, RuntimeError]),
    ],
    ids=["returns", "closes", "mistaken"],
)
def test_who_is_busy_with_a_message(then: list[Message], raised: list[type[BaseException] | None]) -> None:
    """The client waits for its part of the closing handshake until the answer is there; it gets its own code back."""
    busy = Busy(*then)

    async def script(client: Client) -> None:
        await client.is_accepted()
        client.say(frame(TEXT, b"x"), closing(3000))
        await busy.working.wait()
        client.stream.leave()  # changes nothing any more
        await turn()
        assert not client.sent
        busy.go_on.set()
        assert await client.hears_text() == "hello"
        assert await client.hears_close() == (3000, "")
        await client.ends()

    talk(busy, script, close_timeout=1000)
    assert busy.raised == raised


@pytest.mark.parametrize("leave", [Client.vanish, Client.hang_up], ids=["reset", "FIN"])
def test_a_client_that_does_not_wait_for_it(leave: Callable[[Client], None]) -> None:
    """Only a reset ends it before its time."""
    busy = Busy(HELLO)

    async def script(client: Client) -> None:
        await client.is_accepted()
        client.say(frame(TEXT, b"x"), closing(3000))
        await busy.working.wait()
        leave(client)
        busy.go_on.set()

    client = talk(busy, script, close_timeout=1000)
    assert busy.raised == ([ClientDisconnect] if client.gone else [None])
    assert client.over != client.gone


class Late:
    """An application that accepts, is busy, and then notes all that it receives."""

    def __init__(self, *then: Message) -> None:
        self.working = asyncio.Event()
        self.go_on = asyncio.Event()
        self.received: list[Message] = []
        self._then = then

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        await send(ACCEPTED)
        self.received.append(await receive())
        self.working.set()
        await self.go_on.wait()
        for message in self._then:
            await send(message)
        while self.received[-1]["type"] == "websocket.receive":
            self.received.append(await receive())


@pytest.mark.parametrize(
    "last", [closing(1002), frame(3, b"x"), frame(CLOSE, b"x")], ids=["closes", "mistaken", "mistaken in closing"]
)
def test_a_message_behind_the_end_is_not_received(last: bytes) -> None:
    """Although nothing else waits, and it is whole."""
    late = Late()

    async def script(client: Client) -> None:
        await client.is_accepted()
        client.say(frame(TEXT, b"x"))
        await late.working.wait()
        client.say(last)
        client.say(frame(TEXT, b"too late"))
        late.go_on.set()
        assert (await client.hears_close())[0] == 1002
        await client.ends()

    talk(late, script, close_timeout=1000)
    assert [message["type"] for message in late.received] == ["websocket.receive", "websocket.disconnect"]


def test_a_message_behind_a_close_of_the_application_is_not_received() -> None:
    """The client may have sent it before it heard of that: it is nobody's."""
    late = Late(CLOSES)

    async def script(client: Client) -> None:
        await client.is_accepted()
        client.say(frame(TEXT, b"x"))
        await late.working.wait()
        late.go_on.set()
        assert (await client.hears_close())[0] == 4000
        client.say(frame(TEXT, b"too late"))
        client.say(closing(4000))
        await client.ends()

    talk(late, script, close_timeout=1000)
    assert [message["type"] for message in late.received] == ["websocket.receive", "websocket.disconnect"]


async def mute(scope: Scope, receive: Receive, send: Send) -> None:
    """Never receive; sending fails in the end."""
    await receive()
    await send(ACCEPTED)
    while True:
        await asyncio.sleep(0.001)
        await send(HELLO)


@pytest.mark.parametrize(("said", "timeout"), [(b"", 1000.0), (SAID, 0.05)], ids=["nothing", "something"])
def test_an_application_that_never_receives(said: bytes, timeout: float) -> None:
    """It holds up the end no longer than the close timeout, and not at all if there is nothing to be received."""

    async def script(client: Client) -> None:
        await client.is_accepted()
        client.say(said, closing(1000))
        while (heard := await client.hears())[0] == TEXT:
            pass
        assert heard[1] == b"\x03\xe8"
        await client.ends()

    talk(mute, script, close_timeout=timeout)


def test_what_comes_behind_the_close_frame_is_not_collected() -> None:
    """The window is not given back for it."""
    busy = Busy()

    async def script(client: Client) -> None:
        await client.is_accepted()
        client.say(frame(TEXT, b"x"), closing(3000))
        await busy.working.wait()
        before = client.credit
        for _ in range(64):
            client.say(frame(BINARY, bytes(1000)))
        assert client.credit == before
        busy.go_on.set()
        await client.hears_close()

    talk(busy, script, close_timeout=1000)
