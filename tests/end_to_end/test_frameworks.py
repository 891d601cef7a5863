"""Applications of real frameworks, served unmodified."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator

import httpx
import pytest

from tests.end_to_end.server import APPLICATIONS, Server
from tests.end_to_end.wire import Wire


def client_of(server: Server) -> httpx.Client:
    """A client library for this server."""
    return httpx.Client(base_url=server.url, trust_env=False, timeout=40)


@pytest.fixture(scope="module")
def starlette() -> Iterator[Server]:
    """Starlette."""
    with Server("starlette_site:app") as server:
        yield server
        server.finish()
        assert "starlette: over" in server.log.text


@pytest.fixture(scope="module")
def fastapi() -> Iterator[httpx.Client]:
    """FastAPI."""
    with Server("fastapi_site:app") as server, client_of(server) as client:
        yield client


@pytest.fixture(scope="module")
def django() -> Iterator[Server]:
    """Django, found by its usual name."""
    with Server("django_site") as server:
        yield server


def test_starlette_routes(starlette: Server) -> None:
    """Routes, JSON, redirects, static files and errors are what Starlette makes of them."""
    with client_of(starlette) as client:
        assert client.get("/").text == f"from the lifespan {starlette.url}/item/7"
        answer = client.post("/item/3?q=1", json={"a": [1, None]})
        assert answer.json() == {"number": 3, "query": {"q": "1"}, "body": {"a": [1, None]}}
        assert client.get("/old", follow_redirects=True).url.path == "/"
        assert client.get("/forbidden").status_code == 403
        assert client.get("/nowhere").status_code == 404
        assert client.get("/background").text == "done later"
    starlette.log.take("background\n")


def test_starlette_files(starlette: Server) -> None:
    """Files are sent whole, in ranges, not at all when they are known, and without a body for HEAD."""
    content = (APPLICATIONS / "starlette_site.py").read_bytes()
    with client_of(starlette) as client:
        whole = client.get("/file")
        assert whole.content == content == client.get("/static/starlette_site.py").content
        part = client.get("/file", headers={"Range": "bytes=10-19"})
        assert (part.status_code, part.content) == (206, content[10:20])
        etag = client.get("/static/starlette_site.py").headers["etag"]
        assert client.get("/static/starlette_site.py", headers={"If-None-Match": etag}).status_code == 304
        assert client.head("/file").headers["content-length"] == str(len(content))


def test_starlette_stream(starlette: Server) -> None:
    """A body streams through the application in both directions."""
    body = b"abcdefgh" * 40000
    with client_of(starlette) as client:
        answer = client.post("/stream", content=iter([body, body]))
        assert answer.content == (body + body).upper()
        assert answer.headers["content-encoding"] == "gzip"


def test_starlette_exception(starlette: Server) -> None:
    """An exception in a view is a 500, and its traceback is in the log."""
    with client_of(starlette) as client:
        assert client.get("/broken").status_code == 500
    starlette.log.take(r"[^\n]*GET /broken HTTP/1.1\nTraceback[\s\S]*?\nZeroDivisionError: in the view\n")


def test_starlette_disconnect(starlette: Server) -> None:
    """A client that leaves inside its upload is told as Starlette tells it, and is no error in the log."""
    with Wire(starlette.address) as wire:
        wire.send(b"POST /upload HTTP/1.1\r\nHost: t\r\nContent-Length: 100\r\n\r\nabc")
        starlette.log.take("upload: True\n")
    starlette.log.take("upload: the client left\n")


def test_fastapi_model(fastapi: httpx.Client) -> None:
    """Bodies become models, headers parameters, and what the lifespan left is shared by the requests."""
    answer = fastapi.post("/orders/corner", json={"name": "tea"}, headers={"X-Caller": "me"})
    assert answer.status_code == 201
    wanted = {"name": "tea", "amount": 1}
    assert answer.json() == {"shop": "corner", "wanted": wanted, "who": "me", "orders": ["tea"]}
    assert fastapi.post("/orders/corner", json={"name": "milk"}).json()["orders"] == ["tea", "milk"]


def test_fastapi_errors(fastapi: httpx.Client) -> None:
    """What does not fit the model is refused with FastAPI's own answer."""
    answer = fastapi.post("/orders/corner", json={"amount": "many"})
    assert answer.status_code == 422
    assert {tuple(error["loc"]) for error in answer.json()["detail"]} == {("body", "name"), ("body", "amount")}
    assert fastapi.get("/orders/corner").status_code == 405


def test_fastapi_rest(fastapi: httpx.Client) -> None:
    """Functions run in threads, large bodies arrive, responses stream, and the documentation is there."""
    assert fastapi.get("/thread").json() == {"main": False}
    assert fastapi.post("/bytes", content=b"x" * 3_000_000).text == "3000000"
    assert fastapi.get("/stream?count=1000").text == "".join(f"{number}\n" for number in range(1000))
    assert fastapi.get("/openapi.json").json()["paths"].keys() >= {"/thread", "/stream"}
    assert "swagger" in fastapi.get("/docs").text.lower()


def test_django_views(django: Server) -> None:
    """Synchronous and asynchronous views, streams, and Django's own errors."""
    with client_of(django) as client:
        host = django.url.removeprefix("http://")
        assert client.get("/?q=a%20b").text == f"GET {host} False a b"
        assert client.get("/", headers={"X-Forwarded-Proto": "https"}).text == f"GET {host} True None"
        assert client.get("/item/5").json() == {"number": 5, "asgi": True}
        assert client.get("/item/10").status_code == 404
        assert client.get("/stream").text == "0,1,2,"


def test_django_exception(django: Server) -> None:
    """Django answers for its views itself, and what it writes to its own log appears once."""
    with client_of(django) as client:
        assert client.get("/item/0").status_code == 500
    assert "exception in the application" not in django.log.rest


@pytest.mark.parametrize("size", [1000, 2_000_000])
def test_django_form(django: Server, size: int) -> None:
    """A form with fields and files arrives whole: a small one is kept in memory, a large one in a temporary file."""
    content = (bytes(range(256)) * 8000)[:size]
    with client_of(django) as client:
        answer = client.post(
            "/form", data={"name": "Zoë"}, files={"one": ("s.txt", b"small"), "two": ("l.bin", content)}
        )
    large = size > 100_000
    files = answer.json()["files"]
    assert answer.json()["fields"] == {"name": "Zoë"}
    assert files["one"] == ["s.txt", 5, hashlib.sha256(b"small").hexdigest(), large]
    assert files["two"] == ["l.bin", size, hashlib.sha256(content).hexdigest(), large]


def test_django_lifespan(django: Server) -> None:
    """Django knows no lifespan, which is said in one line and is no error."""
    django.log.take(r"\[info\] the application has no lifespan \(ValueError: [^\n]*\)\n")
