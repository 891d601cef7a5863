"""The other side of ASGI, for callables that are tried without a server: one conversation at a time."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from typing import Any

from bridge.worker.types import Message, Scope, Target


def http_scope(path: str = "/", method: str = "GET", fields: Mapping[str, str] | None = None, **more: Any) -> Scope:
    """An http scope, as a server makes it."""
    return {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.4"},
        "http_version": "1.1",
        "method": method,
        "scheme": "http",
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"",
        "root_path": "",
        "headers": [(name.encode(), value.encode()) for name, value in (fields or {}).items()],
        "client": ("192.0.2.7", 4711),
        "server": ("192.0.2.1", 80),
        **more,
    }


class Client:
    """What a callable receives and sends. The body comes as it is put; in the end the client may leave.

    Args:
        scope: of the request.
        body: its pieces; None = the test puts them.
    """

    def __init__(self, scope: Scope, body: Iterable[bytes] | None = ()) -> None:
        self.scope = scope
        self.sent: list[Message] = []
        self.gate: asyncio.Event | None = None  #: send() waits for it
        self.error: Exception | None = None  #: send() raises it
        self.coming: asyncio.Queue[Message] = asyncio.Queue()
        if body is not None:
            pieces = list(body) or [b""]
            for index, piece in enumerate(pieces):
                self.put(piece, more=index < len(pieces) - 1)

    def put(self, data: bytes, *, more: bool) -> None:
        """A piece of the body has come."""
        self.coming.put_nowait({"type": "http.request", "body": data, "more_body": more})

    def leave(self) -> None:
        """The client has left."""
        self.coming.put_nowait({"type": "http.disconnect"})

    async def receive(self) -> Message:
        """ASGI's."""
        return await self.coming.get()

    async def send(self, message: Message) -> None:
        """ASGI's."""
        if self.error is not None:
            raise self.error
        self.sent.append(message)
        if self.gate is not None:
            await self.gate.wait()

    async def ask(self, target: Target) -> None:
        """Run the callable."""
        await asyncio.wait_for(target(self.scope, self.receive, self.send), 20)

    @property
    def status(self) -> int:
        """Of the response."""
        return int(self.sent[0]["status"])

    @property
    def headers(self) -> dict[bytes, bytes]:
        """Of the response."""
        return dict(self.sent[0]["headers"])

    @property
    def body(self) -> bytes:
        """Of the response, as far as it has come."""
        return b"".join(message.get("body", b"") for message in self.sent)

    @property
    def complete(self) -> bool:
        """Whether all of the response has come."""
        return self.sent[-1]["type"] == "http.response.body" and not self.sent[-1].get("more_body", False)


class Life:
    """A lifespan of a callable, as a server leads it."""

    def __init__(self, target: Target) -> None:
        self.state: dict[str, Any] = {}
        self._events: asyncio.Queue[Message] = asyncio.Queue()
        self._answers: asyncio.Queue[Message] = asyncio.Queue()
        scope = {"type": "lifespan", "asgi": {"version": "3.0", "spec_version": "2.0"}, "state": self.state}
        self._task = asyncio.ensure_future(target(scope, self._events.get, self._answers.put))

    async def tell(self, event: str) -> Message:
        """Announce "startup" or "shutdown"; the answer."""
        self._events.put_nowait({"type": f"lifespan.{event}"})
        answer = await asyncio.wait_for(self._answers.get(), 20)
        if event == "shutdown" or answer["type"].endswith("failed"):
            await asyncio.wait_for(self._task, 20)
        return answer
