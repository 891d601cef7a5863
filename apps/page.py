"""The look that the examples share, and the few lines of ASGI that each of them needs. Not an example itself.

Everything is in the page: no file, font or script comes from anywhere else.
"""

from __future__ import annotations

import html
import json
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any
from urllib.parse import quote

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

STYLE = """
:root { color-scheme: light dark; --ink: #1d2433; --dim: #5d6880; --paper: #f6f7fb; --card: #fff; --line: #dde2ee;
  --accent: #2f5bea; --good: #11804f; --bad: #c2353b }
@media (prefers-color-scheme: dark) { :root { --ink: #e6eaf4; --dim: #97a3bd; --paper: #12151d; --card: #1a1f2b;
  --line: #2c3446; --accent: #8aa6ff; --good: #57c994; --bad: #ff8086 } }
* { box-sizing: border-box }
body { margin: 0; background: var(--paper); color: var(--ink); font: 16px/1.55 system-ui, sans-serif }
main { max-width: 56rem; margin: 0 auto; padding: 2.5rem 1.25rem 4rem }
nav { font-size: .9rem; min-height: 1.5rem } h1 { margin: .3rem 0 .2rem; font-size: 2rem; line-height: 1.2 }
h2 { font-size: 1.15rem; margin: 2rem 0 .6rem } .lead { color: var(--dim); font-size: 1.1rem; margin: 0 0 1.6rem }
a { color: var(--accent) } p { max-width: 46rem }
.cards { display: grid; grid-template-columns: repeat(auto-fill, minmax(16rem, 1fr)); gap: .9rem }
.card { background: var(--card); border: 1px solid var(--line); border-radius: .7rem; padding: 1rem 1.1rem }
a.card { color: inherit; text-decoration: none } a.card:hover { border-color: var(--accent) }
.card b { color: var(--accent) } .card p { margin: .25rem 0 0; font-size: .93rem; color: var(--dim) }
.number { font-size: 1.7rem; font-variant-numeric: tabular-nums; line-height: 1.2 } .good { color: var(--good) }
.bad { color: var(--bad) } button, input, select { font: inherit; padding: .45rem .9rem; border-radius: .5rem;
  border: 1px solid var(--line); background: var(--card); color: inherit }
button { background: var(--accent); border-color: var(--accent); color: #fff; cursor: pointer }
button.plain { background: var(--card); color: var(--accent) } button:disabled { opacity: .5; cursor: default }
@media (prefers-color-scheme: dark) { button { color: #0d1220 } }
.row { display: flex; flex-wrap: wrap; gap: .6rem; align-items: center; margin: 1rem 0 }
pre, code { font: .9em ui-monospace, monospace } pre { background: var(--card); border: 1px solid var(--line);
  border-radius: .7rem; padding: .9rem 1.1rem; overflow: auto; max-height: 24rem; margin: .8rem 0;
  white-space: pre-wrap; overflow-wrap: anywhere }
progress { width: 100%; height: .8rem; accent-color: var(--accent) } footer { margin-top: 2.5rem; color: var(--dim);
  font-size: .88rem } table { border-collapse: collapse } td, th { text-align: left; padding: .3rem 1.2rem .3rem 0 }
"""

ICON = (  # a bridge
    '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 16 16" fill="none" stroke="royalblue" stroke-width="1.6">'
    '<path d="M0 11h16M0 8q4 0 4-5q4 10 8 0q0 5 4 5M4 3v11M12 3v11M8 7v4"/></svg>'
)
SHELL = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<link rel="icon" href="data:image/svg+xml,{icon}">
<title>{title} · Bridge</title>
<style>{style}</style>
<body data-root="{root}">
<main>
<nav>{back}</nav>
<h1>{title}</h1>
<p class="lead">{lead}</p>
{body}
</main>
"""


def page(title: str, lead: str, body: str, root: str = "") -> str:
    """A whole page.

    Args:
        title: heading and window title.
        lead: one sentence below it, as HTML.
        body: the rest, as HTML; its scripts find `root` in `document.body.dataset.root`.
        root: the prefix below which the application is mounted; with one there are others to go back to.
    """
    back = '<a href="/">← all examples</a>' if root else ""
    return SHELL.format(
        title=html.escape(title),
        lead=lead,
        body=body,
        root=html.escape(root),
        back=back,
        style=STYLE.strip(),
        icon=quote(ICON),
    )


def below(scope: Scope) -> str:
    """The path without the prefix below which the application is mounted: ASGI leaves it in front of the path."""
    path, root = scope["path"], scope.get("root_path", "")
    return (path[len(root) :] if root and path.startswith(root) else path) or "/"


async def answer(send: Send, body: str, kind: str = "text/html; charset=utf-8", status: int = 200) -> None:
    """Send a whole response that nobody may keep."""
    data = body.encode()
    headers = [
        (b"content-type", kind.encode()),
        (b"content-length", str(len(data)).encode()),
        (b"cache-control", b"no-store"),
    ]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": data})


async def answer_json(send: Send, value: Any) -> None:
    """Send a value."""
    await answer(send, json.dumps(value), "application/json")


async def missing(scope: Scope, send: Send) -> None:
    """Say that there is nothing at this path."""
    await answer(send, f"There is no {scope['path']} here.\n", "text/plain; charset=utf-8", 404)


async def lifespan(receive: Receive, send: Send) -> None:
    """Start and stop, with nothing to do at either."""
    while True:
        kind = (await receive())["type"]
        await send({"type": f"{kind}.complete"})
        if kind == "lifespan.shutdown":
            return
