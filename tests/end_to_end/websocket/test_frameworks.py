"""Starlette, FastAPI and Django Channels, unmodified, spoken to by the client of the library `websockets`."""

from __future__ import annotations

import asyncio
import json
import os
import socket
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from websockets.asyncio.client import connect as connect_async
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import ClientConnection, connect

from tests.end_to_end.server import Server


@pytest.fixture(scope="module")
def starlette() -> Iterator[Server]:
    """Starlette."""
    with Server("starlette_site:app") as server:
        yield server


@pytest.fixture(scope="module")
def fastapi() -> Iterator[Server]:
    """FastAPI."""
    with Server("fastapi_site:app") as server:
        yield server


@pytest.fixture(scope="module")
def channels() -> Iterator[Server]:
    """Django Channels, found by its usual name."""
    with Server("channels_site") as server:
        yield server


def open_at(server: Server, path: str, **options: Any) -> ClientConnection:
    """The library's client."""
    client: ClientConnection = connect(
        server.url.replace("http", "ws") + path, sock=socket.create_connection(server.address), **options
    )
    return client


def ending(client: ClientConnection) -> tuple[int, str]:
    """Code and reason with which the server closes."""
    with pytest.raises(ConnectionClosed) as caught:
        client.recv(20)
    assert caught.value.rcvd
    return caught.value.rcvd.code, caught.value.rcvd.reason


def test_starlette(starlette: Server) -> None:
    """Subprotocol, header fields, text, bytes, JSON and the way in which the client leaves."""
    with open_at(starlette, "/talk", subprotocols=["two", "one"]) as client:
        assert client.subprotocol == "one"
        assert client.response
        assert client.response.headers["x-own"] == "yes"
        for message in ("schön", "", "x" * 300_000, b"", os.urandom(300_000)):
            client.send(message)
            assert client.recv() == message
        client.send("who")
        assert json.loads(client.recv()) == {"path": "/talk", "state": "from the lifespan"}
        client.close(4000, "enough")
    starlette.log.take("talk: left 4000 'enough'\n")


def test_starlette_denies(starlette: Server) -> None:
    """A denial response is a response; a path without a route is refused with 403."""
    with pytest.raises(InvalidStatus) as denied:
        open_at(starlette, "/talk?denied=1")
    assert denied.value.response.status_code == 402
    assert json.loads(denied.value.response.body or b"") == {"why": "denied"}
    with pytest.raises(InvalidStatus) as nowhere:
        open_at(starlette, "/nowhere")
    assert nowhere.value.response.status_code in (403, 404)


def test_fastapi(fastapi: Server) -> None:
    """Parameters, dependencies, exceptions that close, and a close of the application's own."""
    with open_at(fastapi, "/shops/corner/talk?limit=2", additional_headers={"X-Caller": "me"}) as client:
        for number in range(2):
            client.send(json.dumps([number]))
            answer = {"shop": "corner", "who": "me", "number": number, "said": [number]}
            assert json.loads(client.recv()) == answer
        assert ending(client) == (4002, "enough")
    with pytest.raises(InvalidStatus) as refused:
        open_at(fastapi, "/shops/corner/talk")
    assert refused.value.response.status_code == 403


def test_channels(channels: Server) -> None:
    """A synchronous consumer: subprotocol, echo, close and refusal."""
    with open_at(channels, "/echo", subprotocols=["one"]) as client:
        assert client.subprotocol == "one"
        for message in ("schön", os.urandom(100_000)):
            client.send(message)
            assert client.recv() == message
        client.send("close")
        assert ending(client) == (4003, "told so")
    with pytest.raises(InvalidStatus) as refused:
        open_at(channels, "/refuse")
    assert refused.value.response.status_code == 403


def test_channels_groups(channels: Server) -> None:
    """Whatever one says, or a view, all in the room hear, and how one left."""
    with open_at(channels, "/chat/kitchen") as one, open_at(channels, "/chat/cellar") as elsewhere:
        with open_at(channels, "/chat/kitchen") as two:
            one.send('"hello"')
            assert [json.loads(client.recv()) for client in (one, two)] == ["hello"] * 2
            assert httpx.get(f"{channels.url}/say/kitchen", trust_env=False).text == "said"
            assert [json.loads(client.recv()) for client in (one, two)] == ["from a view"] * 2
            two.close(4004)
        assert json.loads(one.recv()) == {"left": 4004}
        with pytest.raises(TimeoutError):
            elsewhere.recv(0)


@pytest.mark.parametrize("compression", ["deflate", None])
def test_many_at_once(starlette: Server, compression: str | None) -> None:
    """200 asynchronous clients with 20 messages each: every one gets its own, in order."""

    async def one(number: int) -> None:
        url = starlette.url.replace("http", "ws") + "/talk"
        own = socket.create_connection(starlette.address)
        async with connect_async(url, sock=own, compression=compression) as client:
            messages = [f"{number} {index} {'x' * (index * 97 % 3000)}" for index in range(20)]
            for message in messages:
                await client.send(message)
            assert [await client.recv() for _ in messages] == messages

    async def everybody() -> None:
        await asyncio.gather(*(one(number) for number in range(200)))

    asyncio.run(everybody())


def test_keep_alive_of_the_client(starlette: Server) -> None:
    """The library's own pings are answered."""
    with open_at(starlette, "/talk", ping_interval=0.05) as client:
        for _ in range(3):
            assert client.ping().wait(20)
        client.send("still here")
        assert client.recv() == "still here"
