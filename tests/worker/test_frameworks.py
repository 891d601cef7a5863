"""Applications of real frameworks, unmodified, over a fake stream."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncIterator, Iterator
from typing import Annotated, Any

import fastapi
import pytest
from django.core.asgi import get_asgi_application
from django.http import HttpRequest, HttpResponse, StreamingHttpResponse
from django.urls import path
from starlette.applications import Starlette
from starlette.background import BackgroundTask
from starlette.middleware import Middleware
from starlette.middleware.base import BaseHTTPMiddleware, RequestResponseEndpoint
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response, StreamingResponse
from starlette.routing import Mount, Route

from bridge.ipc.message import UNKNOWN
from bridge.worker.asgi import AsgiApplication
from bridge.worker.scope import ScopeBuilder
from bridge.worker.types import Target
from tests.worker.django_project import django_project
from tests.worker.fake_stream import FakeStream


def get(target: str, method: str = "GET") -> bytes:
    return f"{method} {target} HTTP/1.1\r\nHost: example.test\r\n\r\n".encode()


def post(target: str, data: bytes, kind: str = "application/json") -> bytes:
    head = (
        f"POST {target} HTTP/1.1\r\nHost: example.test\r\nContent-Type: {kind}\r\nContent-Length: {len(data)}\r\n\r\n"
    )
    return head.encode()


def serve(target: Target, stream: FakeStream, root_path: str = "") -> FakeStream:
    async def main() -> None:
        app = AsgiApplication(
            target, ScopeBuilder(root_path, {"pool": 7}), asyncio.get_running_loop(), logging.getLogger("bridge")
        )
        app.start(stream)
        assert await app.drain(10) == 0

    asyncio.run(main())
    assert stream.finishes == 1
    return stream


async def wait_for(condition: Any) -> None:
    async with asyncio.timeout(10):
        while not condition():  # noqa: ASYNC110 - what a fake stream has seen is no event
            await asyncio.sleep(0)


# Starlette


async def show(request: Request) -> Response:
    assert request.client is not None
    return JSONResponse(
        {
            "url": str(request.url),
            "self": str(request.url_for("show", name="x")),
            "path": request.scope["path"],
            "client": f"{request.client.host} {request.client.port}",
            "body": (await request.body()).decode(),
            "pool": request.state.pool,
        }
    )


async def stream_numbers(request: Request) -> Response:
    async def numbers() -> AsyncIterator[str]:
        for number in range(3):
            yield f"{number}\n"

    return StreamingResponse(numbers())


async def fail(request: Request) -> Response:
    raise LookupError("no shelf")


background: list[str] = []


async def later(request: Request) -> Response:
    return PlainTextResponse("now", background=BackgroundTask(background.append, "later"))


ROUTES = [
    Route("/show/{name}", show, methods=["GET", "POST"], name="show"),
    Route("/numbers", stream_numbers),
    Route("/fail", fail),
    Route("/later", later),
    Mount("/sub", routes=[Route("/page", lambda request: PlainTextResponse(request.scope["root_path"]))]),
]


class Marks(BaseHTTPMiddleware):
    """The middleware that reads and sends in tasks of its own."""

    async def dispatch(self, request: Request, call_next: RequestResponseEndpoint) -> Response:
        response = await call_next(request)
        response.headers["x-marked"] = "yes"
        return response


@pytest.fixture(params=[False, True], ids=["plain", "middleware"])
def starlette(request: pytest.FixtureRequest) -> Starlette:
    return Starlette(routes=ROUTES, middleware=[Middleware(Marks)] if request.param else [])


def test_starlette_request(starlette: Starlette) -> None:
    """Addresses, state, body and URL reach a Starlette view; the answer has its length."""
    data = b'{"a": 1}'
    stream = serve(starlette, FakeStream(post("/show/caf%C3%A9?q=1", data), (data,)))
    assert stream.status == 200
    assert stream.size == len(stream.body)
    assert json.loads(stream.body) == {
        "url": "http://example.test/show/café?q=1",
        "self": "http://example.test/show/x",
        "path": "/show/café",
        "client": "192.0.2.7 49152",
        "pool": 7,
        "body": '{"a": 1}',
    }


def test_starlette_behind_a_prefix(starlette: Starlette) -> None:
    """With a root path, routes match without it and URLs are built with it."""
    stream = serve(starlette, FakeStream(get("/show/a?q=1")), "/shop")
    answer = json.loads(stream.body)
    assert answer["url"] == "http://example.test/shop/show/a?q=1"
    assert answer["self"] == "http://example.test/shop/show/x"
    assert serve(starlette, FakeStream(get("/sub/page")), "/shop").body == b"/shop/sub"


def test_starlette_not_found_and_slash(starlette: Starlette) -> None:
    """404 and the redirect to a slash work as on any server."""
    assert serve(starlette, FakeStream(get("/nowhere"))).status == 404
    assert (
        b"location: http://example.test/shop/numbers\r\n"
        in serve(starlette, FakeStream(get("/numbers/")), "/shop").block
    )


def test_starlette_streaming(starlette: Starlette) -> None:
    """A streamed response has no length and comes in pieces."""
    stream = serve(starlette, FakeStream(get("/numbers")))
    assert stream.body == b"0\n1\n2\n"
    assert stream.size == UNKNOWN
    assert stream.complete


def test_starlette_head(starlette: Starlette) -> None:
    """HEAD on a GET route gets the length and no body."""
    stream = serve(starlette, FakeStream(get("/show/a", "HEAD")))
    assert stream.size > 0
    assert (stream.status, stream.body, stream.complete) == (200, b"", True)


def test_starlette_exception(starlette: Starlette, caplog: pytest.LogCaptureFixture) -> None:
    """Starlette answers with its own 500 and raises again: the client gets it whole, the log gets the traceback."""
    stream = serve(starlette, FakeStream(get("/fail")))
    assert (stream.status, stream.body, stream.complete) == (500, b"Internal Server Error", True)
    assert [record.levelname for record in caplog.records] == ["ERROR"]
    assert "LookupError: no shelf" in caplog.text


def test_starlette_background_task(starlette: Starlette) -> None:
    """A background task runs after the response, as part of the request."""
    background.clear()
    stream = serve(starlette, FakeStream(get("/later")))
    assert stream.body == b"now"
    assert background == ["later"]


@pytest.mark.parametrize("watching", ["send", "receive"])
def test_starlette_client_leaves(watching: str, caplog: pytest.LogCaptureFixture) -> None:
    """Endless events end when the client leaves, whether the view sends or asks; nothing is logged as an error."""
    ended: list[str] = []

    async def events(request: Request) -> Response:
        async def ticks() -> AsyncIterator[str]:
            try:
                while watching == "send" or not await request.is_disconnected():
                    yield "data: tick\n\n"
                    await asyncio.sleep(0)
            finally:
                ended.append(watching)

        return StreamingResponse(ticks(), media_type="text/event-stream")

    async def main() -> None:
        target = Starlette(routes=[Route("/events", events)])
        app = AsgiApplication(target, ScopeBuilder(), asyncio.get_running_loop(), logging.getLogger("bridge"))
        stream = FakeStream(get("/events"))
        app.start(stream)
        await wait_for(lambda: len(stream.messages) > 3)
        stream.cancel()
        assert await app.drain(10) == 0
        assert not stream.complete
        assert stream.finishes == 1

    with caplog.at_level(logging.INFO, "bridge"):
        asyncio.run(main())
    assert ended == [watching]
    assert not [record for record in caplog.records if record.name == "bridge"]


def test_starlette_client_leaves_within_its_upload(caplog: pytest.LogCaptureFixture) -> None:
    """A view that waits for a body which never comes ends, and that is no error."""

    async def main() -> None:
        app = AsgiApplication(
            Starlette(routes=ROUTES), ScopeBuilder(), asyncio.get_running_loop(), logging.getLogger("bridge")
        )
        stream = FakeStream(post("/show/a", b"x" * 10), (b"xxx",), ended=False)
        app.start(stream)
        await wait_for(lambda: stream.reads)
        stream.cancel()
        assert await app.drain(10) == 0

    with caplog.at_level(logging.INFO, "bridge"):
        asyncio.run(main())
    assert not [record for record in caplog.records if record.name == "bridge"]


# FastAPI


def make_fastapi() -> fastapi.FastAPI:
    app = fastapi.FastAPI()

    @app.post("/items/{item}")
    async def add(item: int, price: Annotated[float, fastapi.Body(embed=True)]) -> dict[str, float]:
        return {"item": item, "price": price}

    @app.get("/threaded")
    def threaded() -> dict[str, bool]:
        return {"threaded": True}

    return app


def test_fastapi_request() -> None:
    """A FastAPI view gets its validated body, a wrong one its 422."""
    data = b'{"price": 2.5}'
    stream = serve(make_fastapi(), FakeStream(post("/items/3", data), (data[:4], data[4:])))
    assert json.loads(stream.body) == {"item": 3, "price": 2.5}
    assert serve(make_fastapi(), FakeStream(post("/items/x", data), (data,))).status == 422


def test_fastapi_view_in_a_thread() -> None:
    """A plain function runs in a thread and answers."""
    assert json.loads(serve(make_fastapi(), FakeStream(get("/threaded"))).body) == {"threaded": True}


def test_fastapi_documentation_behind_a_prefix() -> None:
    """With a root path, FastAPI's documentation points to the whole path."""
    app = make_fastapi()
    assert b"'/shop/openapi.json'" in serve(app, FakeStream(get("/docs")), "/shop").body
    assert json.loads(serve(app, FakeStream(get("/openapi.json")), "/shop").body)["servers"] == [{"url": "/shop"}]


# Django


async def django_show(request: HttpRequest) -> HttpResponse:
    return HttpResponse(f"{request.path} {request.path_info} {request.META['REMOTE_PORT']} {request.body.decode()}")


def django_plain(request: HttpRequest) -> HttpResponse:
    return HttpResponse(request.build_absolute_uri())


async def django_stream(request: HttpRequest) -> StreamingHttpResponse:
    async def numbers() -> AsyncIterator[bytes]:
        for number in range(3):
            yield b"%d\n" % number

    return StreamingHttpResponse(numbers())


async def django_wait(request: HttpRequest) -> HttpResponse:
    await asyncio.get_running_loop().create_future()
    raise AssertionError("unreachable")


@pytest.fixture(scope="module")
def django_app() -> Iterator[Target]:
    with django_project(
        "django_urls_of_asgi",
        path("show", django_show),
        path("plain", django_plain),
        path("numbers", django_stream),
        path("wait", django_wait),
    ):
        yield get_asgi_application()


def test_django_request(django_app: Target) -> None:
    """A Django view gets path, TCP number of the client, and body."""
    stream = serve(django_app, FakeStream(post("/show", b"hello", "text/plain"), (b"hello",)))
    assert (stream.status, stream.body) == (200, b"/show /show 49152 hello")


def test_django_behind_a_prefix(django_app: Target) -> None:
    """With a root path, Django routes without it and builds URLs with it."""
    assert serve(django_app, FakeStream(get("/show")), "/shop").body == b"/shop/show /show 49152 "
    assert serve(django_app, FakeStream(get("/plain")), "/shop").body == b"http://example.test/shop/plain"


def test_django_streaming(django_app: Target) -> None:
    """A streamed Django response comes in pieces."""
    stream = serve(django_app, FakeStream(get("/numbers")))
    assert stream.body == b"0\n1\n2\n"
    assert stream.complete


def test_django_client_leaves(django_app: Target, caplog: pytest.LogCaptureFixture) -> None:
    """Django cancels its view when receive() says that the client left; nothing is logged as an error."""

    async def main() -> None:
        app = AsgiApplication(django_app, ScopeBuilder(), asyncio.get_running_loop(), logging.getLogger("bridge"))
        stream = FakeStream(get("/wait"))
        app.start(stream)
        for _ in range(20):
            await asyncio.sleep(0)
        assert app.tasks
        stream.cancel()
        assert await app.drain(10) == 0
        assert not stream.messages

    with caplog.at_level(logging.INFO, "bridge"):
        asyncio.run(main())
    assert not [record for record in caplog.records if record.name == "bridge"]
