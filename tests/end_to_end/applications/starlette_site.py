"""A Starlette application with what such applications have."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import AsyncIterator
from pathlib import Path

from starlette.applications import Starlette
from starlette.background import BackgroundTask
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.gzip import GZipMiddleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import (
    FileResponse,
    JSONResponse,
    PlainTextResponse,
    RedirectResponse,
    Response,
    StreamingResponse,
)
from starlette.routing import Mount, Route, WebSocketRoute
from starlette.staticfiles import StaticFiles
from starlette.websockets import WebSocket, WebSocketDisconnect


@contextlib.asynccontextmanager
async def lifespan(_: Starlette) -> AsyncIterator[dict[str, str]]:
    """Leave something for the requests."""
    yield {"greeting": "from the lifespan"}
    print("starlette: over", file=sys.stderr, flush=True)


async def index(request: Request) -> Response:
    """Text, with what the lifespan has left."""
    return PlainTextResponse(f"{request.state.greeting} {request.url_for('item', number=7)}")


async def item(request: Request) -> Response:
    """A path parameter, a query, a JSON body."""
    body = await request.json() if request.method == "POST" else None
    return JSONResponse({"number": request.path_params["number"], "query": dict(request.query_params), "body": body})


async def stream(request: Request) -> Response:
    """The request body in capitals, while it arrives."""

    async def capitals() -> AsyncIterator[bytes]:
        async for piece in request.stream():
            yield piece.upper()

    return StreamingResponse(capitals())


async def file(_: Request) -> Response:
    """A file, with ranges and conditions."""
    return FileResponse(Path(__file__), media_type="text/x-python")


async def forbidden(_: Request) -> Response:
    """An exception that Starlette turns into a response."""
    raise HTTPException(403, "not you")


async def broken(_: Request) -> Response:
    """An exception that nobody handles."""
    raise ZeroDivisionError("in the view")


async def background(_: Request) -> Response:
    """Something is done after the response."""
    return PlainTextResponse("done later", background=BackgroundTask(print, "background", file=sys.stderr, flush=True))


async def upload(request: Request) -> Response:
    """Bytes of the body until the client leaves."""
    size = 0
    try:
        async for piece in request.stream():
            size += len(piece)
            print(f"upload: {bool(size)}", file=sys.stderr, flush=True)
    except ClientDisconnect:
        print("upload: the client left", file=sys.stderr, flush=True)
        raise
    return PlainTextResponse(str(size))


async def talk(socket: WebSocket) -> None:
    """Echo, and say how the client left; or refuse with a response."""
    if "denied" in socket.query_params:
        await socket.send_denial_response(JSONResponse({"why": "denied"}, 402))
        return
    await socket.accept("one" if "one" in socket.scope["subprotocols"] else None, [(b"x-own", b"yes")])
    try:
        while True:
            message = await socket.receive()
            if message["type"] == "websocket.disconnect":
                raise WebSocketDisconnect(message["code"], message.get("reason"))
            if message.get("text") == "who":
                await socket.send_json({"path": socket.url.path, "state": socket.state.greeting})
            elif message.get("text") is not None:
                await socket.send_text(message["text"])
            else:
                await socket.send_bytes(message["bytes"])
    except WebSocketDisconnect as left:
        print(f"talk: left {left.code} {left.reason!r}", file=sys.stderr, flush=True)


app = Starlette(
    lifespan=lifespan,
    middleware=[Middleware(GZipMiddleware, minimum_size=100000)],
    routes=[
        Route("/", index),
        Route("/item/{number:int}", item, name="item", methods=["GET", "POST"]),
        Route("/stream", stream, methods=["POST"]),
        Route("/file", file),
        Route("/forbidden", forbidden),
        Route("/broken", broken),
        Route("/background", background),
        Route("/upload", upload, methods=["POST"]),
        WebSocketRoute("/talk", talk),
        Route("/old", lambda _: RedirectResponse("/")),
        Mount("/static", StaticFiles(directory=Path(__file__).parent)),
    ],
)
