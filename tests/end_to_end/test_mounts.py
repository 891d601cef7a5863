"""Applications of four frameworks, none of which knows of it, mounted together; and what becomes of one that fails."""

from __future__ import annotations

import hashlib
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.end_to_end.server import APPLICATIONS, COMMAND, PATIENCE, Server
from tests.end_to_end.wire import Wire

SERVE = [sys.executable, "-m", "bridge", "serve"]
SITES = {
    "/": "starlette_site:app",
    "/api": {"module": "fastapi_site"},
    "/shop/": {"module": "flask_site", "callable": "app"},
    "/django": {"application": "project"},
}
PROJECT = {"module": "django_site", "callable": "wsgi", "path": str(APPLICATIONS)}
AROUND = {"path": str(APPLICATIONS), "threads": 3}


def of_file(place: Path, applications: dict[str, Any], name: str = "site") -> Server:
    """A server of a file, where one address passes to `name`."""
    document = {"listeners": {"127.0.0.1:0": {"pass": f"applications/{name}"}}, "applications": applications}
    file = place / "config.json"
    file.write_text(json.dumps(document))
    return Server("", str(file), command=SERVE, app_dir=None, bind=(), ready=False)


def wait_for(server: Server, count: int) -> str:
    """Wait until so many applications are served; where."""
    for _ in range(count):
        found = server.log.take(r"bridged \S+ serves [^\n]*? on (http://[\d.]+:(\d+))[^\n]*\n")
    server.address = ("127.0.0.1", int(found[2]))
    server.url = found[1]
    return found[1]


@pytest.fixture(scope="module")
def separate(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Each application in workers of its own, behind a router that splits."""
    applications = {"site": {"mounts": SITES, **AROUND}, "project": PROJECT}
    with of_file(tmp_path_factory.mktemp("separate"), applications) as server:
        wait_for(server, 4)
        yield server
        server.finish()
        assert "starlette: over" in server.log.text


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """All of them in one worker."""
    sites = SITES | {"/django": PROJECT}
    with of_file(tmp_path_factory.mktemp("shared"), {"site": {"mounts": sites, "share": True, **AROUND}}) as server:
        wait_for(server, 1)
        yield server
        server.finish()
        assert "starlette: over" in server.log.text


@pytest.fixture(scope="module")
def composed() -> Iterator[Server]:
    """`bridge.mount` in a module, which is served like any other application."""
    with Server("mounted:app") as server:
        yield server
        server.finish()
        assert "starlette: over" in server.log.text


@pytest.fixture(params=["separate", "shared", "composed"])
def mounted(request: pytest.FixtureRequest) -> Server:
    """The same applications in each of the forms."""
    server: Server = request.getfixturevalue(request.param)
    return server


def client_of(server: Server) -> httpx.Client:
    """A client library for this server."""
    return httpx.Client(base_url=server.url, trust_env=False, timeout=40)


def test_each_builds_its_own_urls(mounted: Server) -> None:
    """What an application says of its own place is where it is."""
    with client_of(mounted) as client:
        assert client.get("/").text == f"from the lifespan {mounted.url}/item/7"
        assert client.get("/django/where?x").text == f"/django/where {mounted.url}/django/where?x"
        assert client.get("/shop/item/3?q=1").json()["url"] == f"{mounted.url}/shop/item/3"
        assert client.get("/api/openapi.json").json()["servers"] == [{"url": "/api"}]
        assert "'/api/openapi.json'" in client.get("/api/docs").text
        assert client.get("/old").headers["location"] == "/"


def test_each_has_its_own_state(mounted: Server) -> None:
    """What the lifespan of one has left is there for its requests, and not for those of others."""
    with client_of(mounted) as client:
        before = client.post("/api/orders/corner", json={"name": "tea"}).json()["orders"]
        assert client.post("/api/orders/corner", json={"name": "milk"}).json()["orders"] == [*before, "milk"]
        assert client.get("/").text.startswith("from the lifespan")


@pytest.mark.parametrize(
    ("path", "status", "text"),
    [
        ("/sh%6Fp/item/4", 200, '"number":4'),
        ("/shop%2Fitem/4", 200, '"number":4'),
        ("/django/item/5", 200, '{"number": 5'),
        ("/django", 200, "GET 127.0.0.1"),
        ("/django/", 200, "GET 127.0.0.1"),
        ("/shopping", 404, "Not Found"),
        ("/shop", 404, "Not Found"),
        ("/api", 404, '{"detail":"Not Found"}'),
        ("/apis/docs", 404, "Not Found"),
        ("//api/docs", 404, "Not Found"),
        ("/item/3", 200, '"number":3'),
    ],
)
def test_paths(mounted: Server, path: str, status: int, text: str) -> None:
    """Whole segments of the decoded path decide, and nobody redirects anywhere."""
    with Wire(mounted.address) as wire:
        host = ":".join(map(str, mounted.address))
        wire.send(f"GET {path} HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
        answer = wire.answer()
        assert answer.status == status
        assert text in answer.text
        wire.send(f"GET http://other{path} HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
        assert wire.answer().status == status


def test_bodies(mounted: Server) -> None:
    """Bodies pass both ways, of announced and unannounced length, through each kind of application."""
    content = bytes(range(256)) * 8000
    line = b"a line\n" * 20_000
    with client_of(mounted) as client:
        answer = client.post("/django/form", data={"name": "Zoë"}, files={"one": ("l.bin", content)}).json()
        assert answer["fields"] == {"name": "Zoë"}
        assert answer["files"]["one"][1:3] == [len(content), hashlib.sha256(content).hexdigest()]
        assert client.post("/shop/upper", content=iter([line, line])).content == (line + line).upper()
        assert client.post("/stream", content=iter([line, line])).content == (line + line).upper()
        assert client.post("/api/bytes", content=content).text == str(len(content))
        assert client.get("/api/stream?count=1000").text == "".join(f"{number}\n" for number in range(1000))
        assert client.head("/shop/item/3").headers["content-length"] == str(len(client.get("/shop/item/3").content))


def test_exceptions(mounted: Server) -> None:
    """An exception in one application is a 500 there, and the others are served on."""
    with client_of(mounted) as client:
        assert client.get("/broken").status_code == 500
        mounted.log.take(r"[^\n]*GET /broken HTTP/1.1\nTraceback[\s\S]*?\nZeroDivisionError: in the view\n")
        assert client.get("/shop/broken").status_code == 500
        mounted.log.take(r"[^\n]*Exception on /broken \[GET\]\nTraceback[\s\S]*?\nZeroDivisionError: in the view\n")
        assert client.get("/api/thread").json() == {"main": False}


PID = """\
import os
def application(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [f"{os.getpid()} {environ['SCRIPT_NAME']} {environ['PATH_INFO']} {environ['wsgi.url_scheme']}".encode()]
"""


def test_one_application_at_several_places(tmp_path: Path) -> None:
    """An application is mounted at two prefixes and has a listener: the same worker, and each time the right prefix."""
    (tmp_path / "m.py").write_text(PID)
    file = tmp_path / "config.json"
    mounts = {"/a": {"application": "b"}, "/x/y": {"application": "b"}}
    document = {
        "listeners": {
            "127.0.0.1:0": {"pass": "applications/site"},
            f"unix:{tmp_path}/socket": {"pass": "applications/b"},
        },
        "applications": {"site": {"mounts": mounts}, "b": {"module": "m", "path": str(tmp_path)}},
    }
    file.write_text(json.dumps(document))
    with Server("", str(file), command=SERVE, app_dir=None, bind=(), ready=False) as server:
        where = rf"on (http://[\d.]+:(\d+))/a, \1/x/y, unix:{tmp_path}/socket with 1 worker\n"
        address = ("127.0.0.1", int(server.log.take(where)[2]))
        told = []
        for place, path in ((address, "/a/1"), (address, "/x/y/1"), (f"{tmp_path}/socket", "/a/1"), (address, "/a")):
            with Wire(place) as wire:
                told.append(wire.get(path, "X-Forwarded-Proto: https").answer().text.split(" "))
        assert {pid for pid, *_ in told} == {str(server.workers[0])}
        assert [rest for _, *rest in told] == [
            ["/a", "/1", "https"],
            ["/x/y", "/1", "https"],
            ["", "/a/1", "http"],
            ["/a", "", "https"],
        ]


def test_nothing_is_mounted_there(tmp_path: Path) -> None:
    """A path that nothing is mounted at gets a 404 from the router, and the connection goes on."""
    (tmp_path / "m.py").write_text(PID)
    log = tmp_path / "access.log"
    with Server("", "--mount", "/a=m", "--access-log", str(log), app_dir=tmp_path, ready=False) as server:
        wait_for(server, 1)
        with Wire(server.address) as wire:
            assert wire.get("/ab").answer().text == "404 Not Found\n"
            assert wire.post("/b", b"x" * 1000).answer().status == 404
            assert wire.get("/", method="HEAD").answer(bodiless=True).status == 404
            assert wire.get("*", method="OPTIONS").answer().status == 404
            assert wire.get("/a").answer().status == 200
            wire.send(b"POST /b HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n")
            assert wire.answer().status == 404
            assert wire.get("/a").answer().status == 200
            assert wire.get("/b", "X-Forwarded-For: 198.51.100.9").answer().status == 404
            wire.send(b"POST /b HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 1000000\r\n\r\n")
            answer = wire.answer()
            assert (answer.status, answer.fields["connection"]) == (404, "close")
            assert wire.rest() == b""
        server.finish()
    lines = log.read_text().splitlines()
    assert [int(line.split('" ')[1][:3]) for line in lines] == [404, 404, 404, 404, 200, 404, 200, 404, 404]
    assert [line.split()[0] for line in lines[-3:]] == ["127.0.0.1", "198.51.100.9", "127.0.0.1"]


def test_run_with_mounts(tmp_path: Path) -> None:
    """`bridged run --mount` gives each application workers of its own, as many as are asked for."""
    (tmp_path / "m.py").write_text(PID)
    server = Server("m", "--mount", "/api=fastapi_site:app", "--workers", "2", app_dir=APPLICATIONS, ready=False)
    server.add("--set", f'applications.app/.path=["{tmp_path}"]')
    with server:
        wait_for(server, 2)
        with client_of(server) as client:
            assert client.get("/api/thread").json() == {"main": False}
            pids = {client.get("/x").text.split(" ")[0] for _ in range(3)}
        assert pids <= {str(process.pid) for process in server.living()}
        assert sum("bridge.worker.prototype" in process.command for process in server.living()) == 2 + 4


def test_one_that_dies_costs_the_others_nothing(tmp_path: Path) -> None:
    """Workers of one application are killed: the other one answers meanwhile, and the first one soon again."""
    (tmp_path / "m.py").write_text(PID)
    (tmp_path / "n.py").write_text(PID)
    with Server("m", "--mount", "/n=n", app_dir=tmp_path, ready=False) as server:
        wait_for(server, 2)
        with client_of(server) as client:
            kept, killed = (int(client.get(path).text.split(" ")[0]) for path in ("/", "/n"))
            for _ in range(3):
                os.kill(killed, signal.SIGKILL)
                assert int(client.get("/").text.split(" ")[0]) == kept
                server.log.take(rf"\[error\] application 'app/n': worker \d+ \(pid {killed}\) ended: signal SIGKILL\n")
                killed = int(client.get("/n").text.split(" ")[0])


def test_one_that_fails_is_named(tmp_path: Path) -> None:
    """`bridged run` ends when one of several cannot be started, and says which."""
    (tmp_path / "m.py").write_text(PID)
    arguments = ["m", "--mount", "/api=absent:app", "--app-dir", str(tmp_path), "--bind", f"unix:{tmp_path}/socket"]
    done = subprocess.run([*COMMAND, *arguments], capture_output=True, text=True, check=False, timeout=PATIENCE)
    assert done.returncode == 3
    assert re.search(r"^bridged: application 'app/api': no module \"absent\"", done.stderr, re.MULTILINE)


def test_one_that_may_fail(tmp_path: Path) -> None:
    """What is optional gets 503 below its prefix as long as it cannot be started; the rest is served."""
    (tmp_path / "m.py").write_text(PID)
    server = Server("m", "--mount", "/api=late", app_dir=tmp_path, ready=False)
    server.add("--set", "applications.app/api.optional=true")
    with server:
        wait_for(server, 1)
        server.log.take(r"\[error\] application 'app/api': no module \"late\"[^\n]*\n")
        with client_of(server) as client:
            assert client.get("/api").status_code == 503
            assert client.get("/apis").status_code == 200
            (tmp_path / "late.py").write_text(PID)
            server.log.take(r"bridged \S+ serves app/api \(late\) on http://\S+/api with 1 worker\n")
            assert client.get("/api/x").text.split(" ")[1:3] == ["/api", "/x"]


FAILS = """\
async def app(scope, receive, send):
    assert scope["type"] == "lifespan"
    await receive()
    await send({"type": "lifespan.startup.failed", "message": "no database"})
"""


def test_one_that_fails_in_a_worker_that_is_shared(tmp_path: Path) -> None:
    """The start fails with its name, unless it is optional: then its prefix gets 503 in the same worker."""
    (tmp_path / "m.py").write_text(PID)
    (tmp_path / "fails.py").write_text(FAILS)
    arguments = ["m", "--mount", "/api=fails", "--share", "--app-dir", str(tmp_path), "--bind", f"unix:{tmp_path}/s"]
    done = subprocess.run([*COMMAND, *arguments], capture_output=True, text=True, check=False, timeout=PATIENCE)
    assert done.returncode == 3
    assert "bridged: the application's startup failed: /api (fails): no database\n" in done.stderr
    server = Server("m", "--mount", "/api=fails", "--share", app_dir=tmp_path, ready=False)
    server.add("--set", "applications.app.mounts./api.optional=true")
    with server:
        assert wait_for(server, 1).endswith(f":{server.address[1]}")
        server.log.take(r"\[error\] /api \(fails\): no database; its requests get 503, for it is optional\n")
        with client_of(server) as client:
            assert client.get("/api/x").status_code == 503
            assert client.get("/x").text.split(" ")[:2] == [str(server.workers[0]), ""]


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        ([], "bridged run: expected MODULE[:ATTRIBUTE], or --mount PREFIX=MODULE[:ATTRIBUTE]"),
        (["--mount", "/a"], "bridged: --mount: expected PREFIX=TARGET, as in /api=api.main:app, found '/a'"),
        (["--mount", "a=m"], "bridged: --mount a: expected a path that starts with /, found the string 'a'"),
        (["m", "--share"], "bridged: --share: there is nothing to share the workers with: no --mount"),
    ],
)
def test_wrong_usage(arguments: list[str], line: str) -> None:
    """What is wrong on the command line is one line that names the option."""
    done = subprocess.run([*COMMAND, *arguments], capture_output=True, text=True, check=False, timeout=PATIENCE)
    assert done.returncode == 2
    assert done.stderr.startswith(line)
