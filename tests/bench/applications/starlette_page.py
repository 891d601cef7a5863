"""A page of a Starlette application: routing with a parameter, a query, a header of its own."""

from __future__ import annotations

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse
from starlette.routing import Route

ROWS = "".join(f"<tr><td>{number}</td><td>item {number}</td></tr>\n" for number in range(100))
PAGE = "<!doctype html><title>{name}</title>\n<h1>{name}, page {page}</h1>\n<table>\n{rows}</table>\n"


async def show(request: Request) -> HTMLResponse:
    """The page of a name."""
    name, page = request.path_params["name"], request.query_params.get("page", "1")
    return HTMLResponse(PAGE.format(name=name, page=page, rows=ROWS), headers={"Cache-Control": "no-store"})


app = Starlette(routes=[Route("/", show), Route("/items/{name}", show)])
