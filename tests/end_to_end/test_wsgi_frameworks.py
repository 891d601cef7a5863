"""Flask, and Django through its WSGI handler, served unmodified and recognised by themselves."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator

import httpx
import pytest

from tests.end_to_end.server import Server

CONTENT = bytes(range(256)) * 8000


def client_of(server: Server) -> httpx.Client:
    """A client library for this server."""
    return httpx.Client(base_url=server.url, trust_env=False, timeout=40)


@pytest.fixture(scope="module")
def flask() -> Iterator[Server]:
    """Flask, with threads."""
    with Server("flask_site:app", "--threads", "3") as server:
        (server.gates / "file").write_bytes(CONTENT)
        yield server


@pytest.fixture(scope="module")
def django() -> Iterator[Server]:
    """Django's WSGI handler."""
    with Server("django_site:wsgi", "--threads", "2") as server:
        yield server


def test_flask_routes(flask: Server) -> None:
    """Routes, queries, JSON, URLs and Flask's own errors."""
    with client_of(flask) as client:
        answer = client.post("/item/3?q=1", json={"a": [1, None]})
        url = f"{flask.url}/item/3"
        assert answer.json() == {"number": 3, "query": {"q": "1"}, "body": {"a": [1, None]}, "url": url}
        assert client.get("/nowhere").status_code == 404
        assert client.get("/form").status_code == 405
        assert client.head("/item/3").headers["content-length"] == str(len(client.get("/item/3").content))


@pytest.mark.parametrize("size", [1000, 2_000_000])
def test_flask_form(flask: Server, size: int) -> None:
    """A form with fields and files arrives whole."""
    content = CONTENT[:size]
    with client_of(flask) as client:
        answer = client.post("/form", data={"name": "Zoë"}, files={"one": ("l.bin", content)})
    assert answer.json() == {
        "fields": {"name": "Zoë"},
        "files": {"one": ["l.bin", size, hashlib.sha256(content).hexdigest()]},
    }


def test_flask_stream(flask: Server) -> None:
    """A body of unannounced length streams through the application."""
    body = b"a line\n" * 20_000
    with client_of(flask) as client:
        assert client.post("/upper", content=iter([body, body])).content == (body + body).upper()


def test_flask_file(flask: Server) -> None:
    """Files are sent whole, in ranges, and not at all when they are known."""
    with client_of(flask) as client:
        whole = client.get("/file")
        assert whole.content == CONTENT
        part = client.get("/file", headers={"Range": "bytes=10-19"})
        assert (part.status_code, part.content) == (206, CONTENT[10:20])
        assert client.get("/file", headers={"If-None-Match": whole.headers["etag"]}).status_code == 304


def test_flask_exception(flask: Server) -> None:
    """Flask answers and logs the exceptions of its views itself."""
    with client_of(flask) as client:
        assert client.get("/broken").status_code == 500
    flask.log.take(r"[^\n]*Exception on /broken \[GET\]\nTraceback[\s\S]*?\nZeroDivisionError: in the view\n")
    assert "exception in the application" not in flask.log.text


def test_django_views(django: Server) -> None:
    """Views, also asynchronous ones, and Django's own errors."""
    with client_of(django) as client:
        host = django.url.removeprefix("http://")
        assert client.get("/?q=a%20b").text == f"GET {host} False a b"
        assert client.get("/item/5").json() == {"number": 5, "asgi": False}
        assert client.get("/item/10").status_code == 404
        assert client.get("/item/0").status_code == 500
    assert "exception in the application" not in django.log.rest


@pytest.mark.parametrize("size", [1000, 2_000_000])
def test_django_form(django: Server, size: int) -> None:
    """A form with fields and files arrives whole."""
    content = CONTENT[:size]
    with client_of(django) as client:
        answer = client.post("/form", data={"name": "Zoë"}, files={"two": ("l.bin", content)})
    [name, length, seen, _] = answer.json()["files"]["two"]
    assert answer.json()["fields"] == {"name": "Zoë"}
    assert [name, length, seen] == ["l.bin", size, hashlib.sha256(content).hexdigest()]
