"""The example applications: each is served by the command in its first lines, and shows what it says it shows."""

from __future__ import annotations

import ast
import hashlib
import json
import re
import shlex
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.end_to_end.server import Server, until
from tests.end_to_end.websocket.client import Client
from tests.end_to_end.wire import Wire

ROOT = Path(__file__).parent.parent.parent
APPS = ROOT / "apps"
OUTSIDE = re.compile(r"""(?:src|href|action)=["']?(?:https?:)?//|url\(|@import""")


def command(path: Path) -> str:
    """What the first lines of an example say it is served by; empty if they say nothing."""
    text = ast.get_docstring(ast.parse(path.read_text()), clean=False) or ""
    found = re.search(r"^    bridged run (.*?)(?:  |$)", text, re.MULTILINE)
    return found[1] if found else ""


EXAMPLES = {path.stem: command(path) for path in sorted(APPS.glob("*.py"))}


def served(name: str) -> Server:
    """The example as its first lines say, at an address of its own."""
    return Server("", *shlex.split(EXAMPLES[name]), app_dir=None, cwd=ROOT)


def value(wire: Wire, path: str) -> Any:
    """The JSON at a path."""
    answer = wire.get(path).answer()
    assert answer.status == 200
    return json.loads(answer.body)


@pytest.mark.parametrize("name", [name for name in EXAMPLES if name != "page"])
def test_alone(name: str) -> None:
    """It is served by the one command that its first lines show, and its page takes nothing from elsewhere."""
    assert EXAMPLES[name].startswith("--app-dir apps ")
    with served(name) as server, Wire(server.address) as wire:
        answer = wire.get("/").answer()
        assert answer.status == 200
        assert not OUTSIDE.search(answer.text)
        assert wire.get("/not/there").answer().status == (200 if name == "wsgi_hello" else 404)


def test_upload() -> None:
    """A long body is counted and summed while it arrives, in a small part of its size of memory."""
    piece = bytes(range(256)) * 4096
    with served("upload") as server, Wire(server.address) as wire:
        wire.send(b"PUT /file HTTP/1.1\r\nHost: test\r\nContent-Length: %d\r\n\r\n" % (len(piece) * 64))
        for _ in range(64):
            wire.send(piece)
        told = json.loads(wire.answer().body)
        assert told["bytes"] == 64 * len(piece) == value(wire, "/now")["read"]
        assert told["sha256"] == hashlib.sha256(piece * 64).hexdigest()
        assert told["memory_at_most"] - told["memory_at_the_beginning"] < 16 * len(piece)
        with Wire(server.address) as leaving:
            leaving.send(b"PUT /file HTTP/1.1\r\nHost: test\r\nContent-Length: 99999999\r\n\r\n", piece)
        server.output.take(r"upload: the client left after \d+ bytes\n")


def test_events() -> None:
    """Whoever listens hears that another one has come, and that it has left."""
    with served("events") as server, Wire(server.address) as wire:
        wire.get("/stream").through(b'"here": 1')
        with Wire(server.address) as other:
            other.get("/stream").through(b'"here": 2')
            wire.through(b'"here": 2')
        wire.through(b'"here": 1, "left": 1, "what": "somebody has left')


def test_slow() -> None:
    """Of work that nobody waits for any more the rest is saved, and every step is either done or saved."""
    with served("slow") as server, Wire(server.address) as wire:
        with Wire(server.address) as leaving:
            leaving.get("/work")
            until(lambda: value(wire, "/now")["done"] > 0, "it has begun")
        until(lambda: value(wire, "/now")["given_up"] == 1, "the client is missed")
        now = value(wire, "/now")
        assert now["done"] + now["saved"] == 100
        assert now["saved"] > 0
        assert (now["running"], now["finished"]) == (0, 0)


def test_starlette() -> None:
    """A form is kept, and counted behind its answer."""
    with served("starlette_site") as server, Wire(server.address) as wire:
        kind = "Content-Type: application/x-www-form-urlencoded"
        assert wire.post("/write", b"note=a+%3Cb%3E", kind).answer().status == 303
        assert "<li>a &lt;b&gt;" in wire.get("/").answer().text
        assert wire.post("/write", b"note=" + b"x" * 4096, kind).answer().status == 413
        until(lambda: "had been sent: 1." in wire.get("/").answer().text, "it is counted")
        assert wire.get("/count").answer().text == "".join(f"{number}\n" for number in range(1, 11))


def test_django() -> None:
    """The links that Django makes lead to pages."""
    with served("django_site") as server, Wire(server.address) as wire:
        links = re.findall(r'class="card" href="(.*?)"', wire.get("/").answer().text)
        assert len(links) == 3
        assert [wire.get(link).answer().status for link in links] == [200] * 3


def test_flask() -> None:
    """A file of a form is summed."""
    body = (
        b'--x\r\nContent-Disposition: form-data; name="file"; filename="f"\r\n'
        b"Content-Type: text/plain\r\n\r\nabc\r\n--x--\r\n"
    )
    with served("flask_site") as server, Wire(server.address) as wire:
        answer = wire.post("/checksum", body, "Content-Type: multipart/form-data; boundary=x").answer()
        assert json.loads(answer.body) == {"name": "f", "sha256": hashlib.sha256(b"abc").hexdigest()}


def test_fastapi() -> None:
    """An item is made beside the one that the lifespan has left, and a wrong one is refused."""
    with served("fastapi_site") as server, Wire(server.address) as wire:
        kind = "Content-Type: application/json"
        assert wire.post("/items", b'{"name": "pear", "amount": 2}', kind).answer().status == 201
        assert wire.post("/items", b'{"name": "pear", "amount": -2}', kind).answer().status == 422
        kept = value(wire, "/items")
        assert wire.post("/items", b'{"name": "%b"}' % (b"x" * 4096), kind).answer().status == 413
        wire.send(b"POST /items HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n")
        assert wire.answer().status == 411
        assert kept == {"1": {"name": "made by the lifespan", "amount": 1}, "2": {"name": "pear", "amount": 2}}


def test_demo(tmp_path: Path) -> None:
    """config/demo.json mounts every example, and its first page links them all."""
    text = (ROOT / "config" / "demo.json").read_text()
    file = tmp_path / "demo.json"
    file.write_text(text.replace('"127.0.0.1:8000"', f'"unix:{tmp_path}/socket"'))
    options = {"command": (sys.executable, "-m", "bridge", "serve"), "app_dir": None, "bind": (), "cwd": ROOT}
    with Server("", str(file), ready=False, **options) as server:  # type: ignore[arg-type]
        mounts = re.findall(r'^ +"(/[a-z]*)":', text, re.MULTILINE)
        for _ in mounts:
            server.log.take(r"bridged [^ ]+ serves [^\n]+\n")
        with Wire(f"{tmp_path}/socket") as wire:
            links = re.findall(r'class="card" href="(.*?)"', wire.get("/").answer().text)
            assert sorted(links) == sorted(f"{prefix}/" for prefix in mounts if prefix != "/")
            for link in links:
                answer = wire.get(link).answer()
                assert answer.status == 200
                assert f'data-root="{link.rstrip("/")}"' in answer.text or link in ("/hello/", "/wsgi/")
            for name in ("starlette", "django", "flask", "fastapi"):
                assert f'data-root="/together/{name}"' in wire.get(f"/together/{name}/").answer().text
            assert 'href="/together/django/colours/moss/"' in wire.get("/together/django/").answer().text
            with Client(f"{tmp_path}/socket") as guest:
                assert "Ann has come in" in str(guest.upgrade("/chat/socket?name=Ann&room=lobby").message())
            assert wire.get("/wsgi/x").answer().text.startswith("Hello, everybody!\nThis was GET /wsgi/x\n")
            assert wire.get("/hello/hello").answer().text == "Hello, world!\n"
            assert wire.get("/helloo").answer().status == 404
            assert value(wire, "/fastapi/openapi.json")["servers"] == [{"url": "/fastapi"}]


def test_gunicorn_configuration() -> None:
    """config/gunicorn.conf.py serves as its first line says, and its hooks run."""
    options = ("-c", "config/gunicorn.conf.py", "--chdir", "apps", "--no-control-socket")
    server = Server("hello:app", *options, app_dir=None, cwd=ROOT, command=(sys.executable, "-m", "gunicorn"))
    with server, Wire(server.address) as wire:
        assert wire.get("/hello").answer().text == "Hello, world!\n"
        server.log.take("when_ready: 1 address\n")
        server.log.take(r"post_worker_init: worker 1\n")
        server.log.take(r"post_request: GET /hello -> 200[^\n]*, 14 bytes\n")
        server.output.take(r'"GET /hello HTTP/1.1" 200 14 ')
