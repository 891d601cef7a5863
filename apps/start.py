"""The page that all other examples are reached from.

    bridged serve config/demo.json              then open http://127.0.0.1:8000
    bridged run --app-dir apps start:app        the page alone: its links lead nowhere then

With config/demo.json each example is an application of its own, mounted below its prefix.
"""

from __future__ import annotations

import html
import os
import platform

from page import ICON, Receive, Scope, Send, answer, below, lifespan, missing, page

EXAMPLES = {  #: prefix in config/demo.json → name, what there is to see
    "What a server has to do": {
        "/hello": ("Hello", "ASGI without dependencies: the scope, an echo, a slow answer, events."),
        "/wsgi": ("Hello, WSGI", "The same server, another interface: threads instead of a loop."),
        "/upload": ("Upload", "A large body is read while it arrives. Watch the memory of the worker: it stays flat."),
        "/slow": ("Cancel", "Ask for work, then leave. The counter shows how much of it was never done."),
        "/events": ("Events", "Server-sent events. Close the tab, and the application knows at once."),
        "/chat": ("Chat", "WebSockets: rooms, several browsers, and a page that comes back by itself."),
    },
    "Frameworks, unchanged": {
        "/starlette": ("Starlette", "A site with routes, a form, a background task, and a body in pieces."),
        "/django": ("Django", "A project below a prefix that it knows nothing of: its links are right."),
        "/flask": ("Flask", "WSGI beside ASGI, on threads of its own worker."),
        "/fastapi": ("FastAPI", "An API with a lifespan, typed parameters, and its own documentation."),
        "/together": ("All four in one", "The same four applications, mounted by bridge.mount() in a single worker."),
    },
}
BODY = """{cards}
<h2>How this is put together</h2>
<p>One address, one <i>router</i> process that owns every connection, and for each card above an application of its own
with its own <i>worker</i>; <code>config/demo.json</code> is all of it. The router splits by the longest prefix, and no
application's code mentions its own.</p>
<footer>{server}, Python {python}, process {pid}.</footer>
"""


async def app(scope: Scope, receive: Receive, send: Send) -> None:
    """The page, at / alone: every other path has an owner, or none."""
    if scope["type"] == "lifespan":
        await lifespan(receive, send)
    elif scope["type"] == "http":
        match below(scope):
            case "/":
                await answer(send, page("It works", "Small applications that each show one thing.", body()))
            case "/favicon.ico":  # browsers ask for it beside pages that are no HTML
                await answer(send, ICON, "image/svg+xml")
            case _:
                await missing(scope, send)


def body() -> str:
    """What stands below the heading."""
    cards = ""
    for heading, examples in EXAMPLES.items():
        links = "\n".join(card(prefix, *text) for prefix, text in examples.items())
        cards += f'<h2>{html.escape(heading)}</h2>\n<div class="cards">\n{links}\n</div>\n'
    return BODY.format(cards=cards, server="Bridge", python=platform.python_version(), pid=os.getpid())


def card(prefix: str, name: str, text: str) -> str:
    """One link."""
    name, text = html.escape(name), html.escape(text)
    return f'<a class="card" href="{prefix}/"><b>{name}</b> <code>{prefix}/</code><p>{text}</p></a>'
