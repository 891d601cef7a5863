"""A site with Starlette: routes with names, a form, a body in pieces, a background task, a lifespan.

    bridged run --app-dir apps starlette_site:app       then open http://127.0.0.1:8000

Notes are kept by one process, in memory, and are gone with it.
"""

from __future__ import annotations

import asyncio
import contextlib
import html
from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import parse_qs

from starlette.applications import Starlette
from starlette.background import BackgroundTask
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response, StreamingResponse
from starlette.routing import Route

from page import page

MOST_NOTES = 20
LONGEST_NOTE = 200  #: characters
LONGEST_FORM = 4096  #: bytes; 413 above

BODY = """
<form method="post" action="{write}" class="row"><input name="note" maxlength="200" placeholder="a note" required>
<button>Keep it</button></form>
{notes}
<p>Notes that a background task has counted, after their answers had been sent: {counted}.
<a href="{count}">Count to ten, in pieces</a>.</p>
<table><tr><th>this page</th><td><code>{here}</code></td></tr>
<tr><th>root_path</th><td><code>{root}</code></td></tr></table>
<footer>All links come from <code>request.url_for()</code>: no prefix stands in the code.</footer>
"""


@contextlib.asynccontextmanager
async def lifespan(_: Starlette) -> AsyncIterator[dict[str, Any]]:
    """Make what all requests share: it is gone when the worker ends."""
    yield {"notes": [], "counted": [0]}


async def index(request: Request) -> Response:
    """The notes, and the form for another one."""
    notes = "".join(f"<li>{html.escape(note)}" for note in request.state.notes)
    root = request.scope.get("root_path", "")
    body = BODY.format(
        write=html.escape(request.url_for("write").path),
        count=html.escape(request.url_for("count").path),
        notes=f"<ul>{notes}</ul>" if notes else "<p>No notes yet.</p>",
        counted=request.state.counted[0],
        here=html.escape(str(request.url)),
        root=html.escape(root) or "(none)",
    )
    return HTMLResponse(page("Starlette", "A site as Starlette users write it, served unchanged.", body, root))


async def write(request: Request) -> Response:
    """Keep a note, and count it when the answer is out."""
    body = bytearray()  # request.body() takes whatever comes, and request.form() needs another package
    async for piece in request.stream():
        body += piece
        if len(body) > LONGEST_FORM:
            raise HTTPException(413)
    form = parse_qs(body.decode(errors="replace"))
    note = form.get("note", [""])[0].strip()[:LONGEST_NOTE]
    if note:
        request.state.notes.append(note)
        del request.state.notes[:-MOST_NOTES]
    return RedirectResponse(
        request.url_for("index").path, 303, background=BackgroundTask(count_up, request.state.counted, int(bool(note)))
    )


def count_up(counted: list[int], by: int) -> None:
    """What runs behind the answer, in a thread."""
    counted[0] += by


async def count(_: Request) -> Response:
    """Ten lines, one each 200 ms: each is sent when it is there."""

    async def lines() -> AsyncIterator[str]:
        for number in range(1, 11):
            yield f"{number}\n"
            await asyncio.sleep(0.2)

    return StreamingResponse(lines(), media_type="text/plain; charset=utf-8")


app = Starlette(
    lifespan=lifespan,
    routes=[
        Route("/", index, name="index"),
        Route("/write", write, name="write", methods=["POST"]),
        Route("/count", count, name="count"),
    ],
)
