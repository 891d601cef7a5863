"""WebSockets of real frameworks, unmodified: what their users write, and how it ends."""

from __future__ import annotations

import logging
from typing import Annotated, Any, cast

import fastapi
import pytest
from channels.generic.websocket import AsyncJsonWebsocketConsumer, WebsocketConsumer
from starlette.applications import Starlette
from starlette.endpoints import WebSocketEndpoint
from starlette.responses import JSONResponse
from starlette.routing import WebSocketRoute
from starlette.websockets import WebSocket

from bridge.worker.types import Target
from tests.worker.django_project import django_project
from tests.worker.one_request import turn
from tests.worker.websocket_rig import BINARY, TEXT, Client, closing, frame, request, talk

PATH = "/chat"  # as `request` has it


async def plain(socket: WebSocket) -> None:
    """A Starlette handler that knows nothing of how it ends."""
    await socket.accept("v1", [(b"x-one", b"1")])
    while True:
        await socket.send_text(await socket.receive_text())


@pytest.mark.parametrize("leave", ["closes", "vanishes", "vanishes while it is written to"])
def test_starlette_handler_whose_client_leaves(leave: str, caplog: pytest.LogCaptureFixture) -> None:
    """WebSocketDisconnect leaves the handler, as under other servers, and is nothing that the log should tell."""

    async def script(client: Client) -> None:
        await client.is_accepted()
        assert b"sec-websocket-protocol: v1\r\nx-one: 1\r\n" in client.block
        client.say(frame(TEXT, b"hello"))
        assert await client.hears_text() == "hello"
        if leave == "closes":
            client.say(closing(1001))
        elif leave == "vanishes":
            client.vanish()
        else:
            client.gone = True
            client.say(frame(TEXT, b"hello"))

    with caplog.at_level(logging.INFO, "bridge"):
        talk(
            cast("Target", Starlette(routes=[WebSocketRoute(PATH, plain)])),
            script,
            request("Sec-WebSocket-Protocol: v1"),
        )
    assert not caplog.records


def test_starlette_endpoint() -> None:
    """An endpoint is told code and reason of the end."""
    ends: list[int] = []

    class Endpoint(WebSocketEndpoint):
        encoding = "json"

        async def on_receive(self, websocket: WebSocket, data: Any) -> None:
            await websocket.send_json(data | {"seen": True}, mode="binary")

        async def on_disconnect(self, websocket: WebSocket, close_code: int) -> None:
            ends.append(close_code)

    async def script(client: Client) -> None:
        await client.is_accepted()
        client.say(frame(TEXT, b'{"a":1}'))
        assert await client.hears() == (BINARY, b'{"a":1,"seen":true}')
        client.say(closing(4001, "enough"))

    talk(cast("Target", Starlette(routes=[WebSocketRoute(PATH, Endpoint)])), script)
    assert ends == [4001]


@pytest.mark.parametrize(("path", "status"), [("/chat", 401), ("/elsewhere", 403)])
def test_starlette_denial(path: str, status: int) -> None:
    """A response of the handler's; and where there is no route, Starlette closes before it accepts."""

    async def handler(socket: WebSocket) -> None:
        await socket.send_denial_response(JSONResponse({"why": "no token"}, status_code=401))

    async def script(client: Client) -> None:
        await client.ends()
        assert client.status == status
        assert client.body == (b'{"why":"no token"}' if status == 401 else b"Forbidden")

    head = request().replace(b"/chat", path.encode())
    talk(cast("Target", Starlette(routes=[WebSocketRoute(PATH, handler)])), script, head)


app = fastapi.FastAPI()


def token(authorization: Annotated[str | None, fastapi.Header()] = None) -> str:
    """A dependency that refuses."""
    if authorization is None:
        raise fastapi.WebSocketException(fastapi.status.WS_1008_POLICY_VIOLATION, "who are you?")
    return authorization


@app.websocket(PATH)
async def chat(socket: fastapi.WebSocket, who: Annotated[str, fastapi.Depends(token)], room: int) -> None:
    """Greets, and ends the connection when it does not like what it hears."""
    await socket.accept()
    await socket.send_text(f"{who} in {room}")
    try:
        while (await socket.receive_text()) != "leave":
            pass
        raise fastapi.WebSocketException(4000, "as you like")
    except fastapi.WebSocketDisconnect:
        await socket.close()


@pytest.mark.parametrize("known", [True, False])
def test_fastapi(known: bool) -> None:
    """Dependencies run before the handshake is answered, and their exceptions are close codes."""

    async def script(client: Client) -> None:
        if not known:
            await client.ends()
            assert client.status == 403
            return
        assert await client.hears_text() == "me in 1"
        client.say(frame(TEXT, b"leave"))
        assert await client.hears_close() == (4000, "as you like")
        client.say(closing(4000))

    talk(cast("Target", app), script, request("Authorization: me") if known else b"")


def test_a_handler_that_closes_what_is_closed(caplog: pytest.LogCaptureFixture) -> None:
    """close() after the client has left is no error."""

    async def script(client: Client) -> None:
        assert await client.hears_text() == "me in 1"
        client.say(closing(1000))

    with caplog.at_level(logging.INFO, "bridge"):
        talk(cast("Target", app), script, request("Authorization: me"))
    assert not caplog.records


class Sync(WebsocketConsumer):  # type: ignore[misc]  # Channels ships no types
    """Each of its calls runs in a thread."""

    ends: list[int]

    def connect(self) -> None:
        self.accept("v2" if "v2" in self.scope["subprotocols"] else None)

    def receive(self, text_data: str | None = None, bytes_data: bytes | None = None) -> None:
        self.send(text_data, bytes_data)

    def disconnect(self, code: int) -> None:
        self.ends.append(code)


class Async(AsyncJsonWebsocketConsumer):  # type: ignore[misc]  # as above
    """Says more than it is asked, also when nobody listens any more."""

    ends: list[int]

    async def receive_json(self, content: Any, **_: Any) -> None:
        await self.send_json(content)
        if content == "close":
            await self.close(4002)

    async def disconnect(self, code: int) -> None:
        self.ends.append(code)
        await self.send_json("good bye")


@pytest.mark.parametrize("consumer", [Sync, Async])
@pytest.mark.parametrize("leave", ["closes", "vanishes"])
def test_channels(consumer: Any, leave: str, caplog: pytest.LogCaptureFixture) -> None:
    """Consumers of both kinds, whose client leaves in order or not."""
    consumer.ends = []

    async def script(client: Client) -> None:
        await client.is_accepted()
        assert (b"sec-websocket-protocol: v2" in client.block) == (consumer is Sync)
        client.say(frame(TEXT, b'"hello"'))
        assert await client.hears_text() == '"hello"'
        if leave == "closes":
            client.say(closing(3001))
        else:
            client.vanish()
        await turn()

    with django_project("websockets_of_a_test"), caplog.at_level(logging.INFO, "bridge"):
        talk(consumer.as_asgi(), script, request("Sec-WebSocket-Protocol: v1, v2"))
    assert consumer.ends == [3001 if leave == "closes" else 1006]
    assert not caplog.records


def test_channels_closes() -> None:
    """A consumer that closes hears of its own end, with the client's code."""
    Async.ends = []

    async def script(client: Client) -> None:
        await client.is_accepted()
        client.say(frame(TEXT, b'"close"'))
        assert await client.hears_text() == '"close"'
        assert await client.hears_close() == (4002, "")
        client.say(closing(4002))

    with django_project("websockets_of_a_test"):
        talk(Async.as_asgi(), script)
    assert Async.ends == [4002]
