"""A FastAPI application: typed parameters, models, dependencies, threads, its own documentation."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import AsyncIterator, Iterator
from typing import Annotated, Any

from fastapi import Body, Depends, FastAPI, Header, Request, Response
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
