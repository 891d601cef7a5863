"""A FastAPI application: typed parameters, models, dependencies, threads, its own documentation."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import AsyncIterator, Iterator
from typing import Annotated, Any

from fastapi import (
    Body,
    Depends,
    FastAPI,
    Header,
    Request,
    Response,
    WebSocket,
    WebSocketDisconnect,
    WebSocketException,
)
from fastapi.responses import StreamingResponse
from pydantic import BaseModel


class Order(BaseModel):
    """What is ordered."""

    name: str
    amount: int = 1


@contextlib.asynccontextmanager
async def lifespan(_: FastAPI) -> AsyncIterator[dict[str, Any]]:
    """Leave a list for the requests."""
    yield {"orders": []}


app = FastAPI(lifespan=lifespan)


def caller(x_caller: Annotated[str, Header()] = "nobody") -> Iterator[str]:
    """Who calls."""
    yield x_caller


@app.post("/orders/{shop}", status_code=201)
async def order(shop: str, wanted: Order, request: Request, who: Annotated[str, Depends(caller)]) -> dict[str, Any]:
    """Take an order."""
    request.state.orders.append(wanted.name)
    return {"shop": shop, "wanted": wanted.model_dump(), "who": who, "orders": request.state.orders}


@app.get("/thread")
def thread() -> dict[str, bool]:
    """A plain function, which runs in a thread."""
    return {"main": threading.current_thread() is threading.main_thread()}


@app.post("/bytes")
async def size(data: Annotated[bytes, Body(media_type="application/octet-stream")]) -> int:
    """Size of a body."""
    return len(data)


@app.get("/stream")
async def stream(count: int) -> Response:
    """Numbers, line by line."""

    async def lines() -> AsyncIterator[str]:
        for number in range(count):
            yield f"{number}\n"

    return StreamingResponse(lines(), media_type="text/plain")


@app.websocket("/shops/{shop}/talk")
async def talk(socket: WebSocket, shop: str, who: Annotated[str, Depends(caller)], limit: int = 3) -> None:
    """Count what a caller says, up to a limit; nobody is refused before."""
    if who == "nobody":
        raise WebSocketException(4001, "who are you?")
    await socket.accept()
    try:
        for number in range(limit):
            await socket.send_json({"shop": shop, "who": who, "number": number, "said": await socket.receive_json()})
    except WebSocketDisconnect:
        return
    await socket.close(4002, "enough")
