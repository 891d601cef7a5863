"""Django, Flask, FastAPI and Starlette in one worker: `bridge.mount` makes one ASGI application of them.

    bridged run --app-dir apps together:app     then open http://127.0.0.1:8000

None of their files knows of it. Strings are imported when the server starts; WSGI ones run on threads.
"""

from __future__ import annotations

import html

import bridge
from page import Receive, Scope, Send, answer, below, lifespan, missing, page

MOUNTS = {
    "/starlette": "starlette_site:app",
    "/django": "django_site:application",
    "/flask": "flask_site:app",
    "/fastapi": "fastapi_site:app",
}


async def index(scope: Scope, receive: Receive, send: Send) -> None:
    """The links, wherever all of this is mounted itself."""
    if scope["type"] == "lifespan":
        await lifespan(receive, send)
    elif scope["type"] == "http" and below(scope) == "/":
        root = scope.get("root_path", "")
        base = html.escape(root)
        cards = "".join(
            f'<a class="card" href="{base}{prefix}/"><b>{prefix}/</b><p><code>{target}</code></p></a>'
            for prefix, target in MOUNTS.items()
        )
        lead = "Four frameworks in a single worker, mounted by <code>bridge.mount()</code>."
        await answer(send, page("All four in one", lead, f'<div class="cards">{cards}</div>', root))
    elif scope["type"] == "http":
        await missing(scope, send)


app = bridge.mount({"/": index, **MOUNTS})
