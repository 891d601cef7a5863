"""Django Channels in one file: consumers of both kinds, beside Django's own views, and groups in memory."""

from __future__ import annotations

from typing import Any

import django
from channels.generic.websocket import AsyncJsonWebsocketConsumer, WebsocketConsumer
from channels.layers import get_channel_layer
from channels.routing import ProtocolTypeRouter, URLRouter
from django.conf import settings
from django.core.asgi import get_asgi_application
from django.http import HttpRequest, HttpResponse
from django.urls import path

settings.configure(
    ALLOWED_HOSTS=["*"],
    CHANNEL_LAYERS={"default": {"BACKEND": "channels.layers.InMemoryChannelLayer"}},
    DEBUG=False,
    INSTALLED_APPS=["channels"],
    ROOT_URLCONF=__name__,
    SECRET_KEY="of a test",
)
django.setup(set_prefix=False)


class Echo(WebsocketConsumer):  # type: ignore[misc]  # Channels ships no types
    """Synchronous, so each of its calls runs in a thread."""

    def connect(self) -> None:
        """Accept one subprotocol."""
        if "refuse" in self.scope["path"]:
            self.close()
            return
        self.accept("one" if "one" in self.scope["subprotocols"] else None)

    def receive(self, text_data: str | None = None, bytes_data: bytes | None = None) -> None:
        """Send it back, or close when told so."""
        if text_data == "close":
            self.close(4003, "told so")
        else:
            self.send(text_data, bytes_data)


class Chat(AsyncJsonWebsocketConsumer):  # type: ignore[misc]  # as above
    """Whatever one says is said to all in its room."""

    async def connect(self) -> None:
        """Enter the room."""
        self.room = self.scope["url_route"]["kwargs"]["room"]
        await self.channel_layer.group_add(self.room, self.channel_name)
        await self.accept()

    async def disconnect(self, code: int) -> None:
        """Leave it, and tell the others how."""
        await self.channel_layer.group_discard(self.room, self.channel_name)
        await self.channel_layer.group_send(self.room, {"type": "said", "said": {"left": code}})

    async def receive_json(self, content: Any, **_: Any) -> None:
        """Tell everybody."""
        await self.channel_layer.group_send(self.room, {"type": "said", "said": content})

    async def said(self, event: dict[str, Any]) -> None:
        """Hear what somebody said."""
        await self.send_json(event["said"])


async def say(_: HttpRequest, room: str) -> HttpResponse:
    """A view that speaks to a room."""
    layer = get_channel_layer()
    assert layer
    await layer.group_send(room, {"type": "said", "said": "from a view"})
    return HttpResponse("said")


urlpatterns = [path("say/<room>", say)]
consumers = [path("echo", Echo.as_asgi()), path("refuse", Echo.as_asgi()), path("chat/<room>", Chat.as_asgi())]
application = ProtocolTypeRouter({"http": get_asgi_application(), "websocket": URLRouter(consumers)})
