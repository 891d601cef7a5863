"""WSGI applications behind ASGI, asked without a server."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable
from typing import Any

from bridge.worker.types import WsgiTarget
from bridge.worker.wsgi_adapter import WsgiAdapter
from tests.worker.asgi_client import Client

LOG = logging.getLogger("bridge")
Start = Callable[..., Callable[[bytes], None]]


def run(test: Awaitable[Any]) -> None:
    """Run a test's coroutine; one that hangs fails."""

    async def limited() -> None:
        await asyncio.wait_for(test, 30)

    asyncio.run(limited())


def ask(target: WsgiTarget, client: Client, threads: int = 2) -> Client:
    """One request."""
    run(client.ask(WsgiAdapter(target, LOG, threads)))
    return client


def answers(give: Callable[[dict[str, Any]], Iterable[bytes]]) -> WsgiTarget:
    """An application that answers 200 with what a function makes of the environ."""

    def application(environ: dict[str, Any], start: Start) -> Iterable[bytes]:
        start("200 OK", [("Content-Type", "text/plain")])
        return give(environ)

    return application
