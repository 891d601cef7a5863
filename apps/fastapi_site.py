"""A FastAPI application with a lifespan.

    bridged run --app-dir apps fastapi_site:app     then open http://127.0.0.1:8000

Items are kept by one process, in memory, and are gone with it.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Annotated, Any

from fastapi import FastAPI, HTTPException, Path, Request, Response
from fastapi.responses import HTMLResponse, JSONResponse
from pydantic import BaseModel, Field

from page import page

MOST_ITEMS = 100
LONGEST_BODY = 4096  #: bytes; 413 above

BODY = """
<div class="row"><button id="make">Make an item</button><a href="{openapi}">openapi.json</a></div>
<pre id="answer">…</pre>
<p>FastAPI's own page <a href="{docs}">/docs</a> is there, too; its script comes from elsewhere, so it needs the
Internet.</p>
<footer><code>root_path</code> is <code>{root}</code>; <code>servers</code> in openapi.json says the same.</footer>
<script>
const root = document.body.dataset.root, shown = document.getElementById("answer");
async function look() {{ shown.textContent = JSON.stringify(await (await fetch(root + "/items")).json(), null, 2); }}
document.getElementById("make").onclick = async () => {{
  await fetch(root + "/items", {{method: "POST", headers: {{"content-type": "application/json"}},
    body: JSON.stringify({{name: "item of " + new Date().toLocaleTimeString(), amount: 1}})}});
  await look();
}};
look();
</script>
"""


class Item(BaseModel):
    """What can be kept."""

    name: str = Field(max_length=100)
    amount: int = Field(1, ge=1, le=1000)


@contextlib.asynccontextmanager
async def lifespan(_: FastAPI) -> AsyncIterator[dict[str, Any]]:
    """The store of this worker: there before the first request, gone with the last."""
    yield {"items": {1: Item(name="made by the lifespan", amount=1)}}


app = FastAPI(title="Items", lifespan=lifespan)


@app.middleware("http")
async def bounded(request: Request, call_next: Callable[[Request], Awaitable[Response]]) -> Response:
    """Refuse a body that is long, or does not say: FastAPI takes all of it before it looks at it."""
    if "transfer-encoding" in request.headers:
        return JSONResponse({"detail": "the body has no Content-Length"}, 411)
    if int(request.headers.get("content-length", 0)) > LONGEST_BODY:
        return JSONResponse({"detail": f"the body is longer than {LONGEST_BODY} bytes"}, 413)
    return await call_next(request)


@app.get("/", response_class=HTMLResponse, include_in_schema=False)
async def index(request: Request) -> str:
    """A page that uses the API."""
    root = request.scope.get("root_path", "")
    body = BODY.format(
        docs=request.url_for("swagger_ui_html").path, openapi=request.url_for("openapi").path, root=root or "(none)"
    )
    return page("FastAPI", "An API with types, and state that its lifespan has made.", body, root)


@app.get("/items")
async def items(request: Request) -> dict[int, Item]:
    """All items."""
    kept: dict[int, Item] = request.state.items
    return kept


@app.post("/items", status_code=201)
async def make(item: Item, request: Request) -> dict[str, int]:
    """Keep an item, and forget the oldest when there are too many."""
    kept: dict[int, Item] = request.state.items
    number = max(kept, default=0) + 1
    kept[number] = item
    if len(kept) > MOST_ITEMS:
        del kept[min(kept)]
    return {"number": number}


@app.get("/items/{number}")
async def one(number: Annotated[int, Path(ge=1)], request: Request) -> Item:
    """One item, or a 404."""
    if number not in request.state.items:
        raise HTTPException(404, f"there is no item {number}")
    found: Item = request.state.items[number]
    return found
