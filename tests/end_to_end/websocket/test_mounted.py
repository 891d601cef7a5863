"""WebSockets of applications that are mounted, in each of the forms, beside applications that know none."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.end_to_end.server import Server
from tests.end_to_end.websocket.client import Client, handshake
from tests.end_to_end.websocket.frames import text
from tests.end_to_end.wire import Wire

ECHO = """\
async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        await receive()
        scope["state"]["name"] = "echo"
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await send({"type": "lifespan.shutdown.complete"})
        return
    await receive()
    await send({"type": "websocket.accept"})
    told = [scope["type"], scope["root_path"], scope["path"], scope["state"]["name"]]
    await send({"type": "websocket.send", "text": " ".join(told)})
    while (message := await receive())["type"] == "websocket.receive":
        await send({"type": "websocket.send", "text": message["text"][::-1]})


def plain(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [b"plain"]
"""
COMPOSED = """\
import bridge
app = bridge.mount({"/": "echo:plain", "/ws": "echo:app", "/deep/er": "echo:app"})
"""
FORMS = ["separate", "shared", "composed", "elsewhere"]


@pytest.fixture(scope="module", params=FORMS)
def mounted(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A WSGI application at the root, and an echo at two prefixes."""
    place = tmp_path_factory.mktemp(request.param)
    (place / "echo.py").write_text(ECHO)
    (place / "composed.py").write_text(COMPOSED)
    mounts = ("--mount", "/ws=echo:app", "--mount", "/deep/er=echo:app")
    if request.param == "composed":
        server = Server("composed:app", app_dir=place, ready=False)
    elif request.param == "elsewhere":
        sites = {"/": "echo:plain", "/ws": {"application": "echo"}, "/deep/er": {"application": "echo"}}
        echo = {"module": "echo", "callable": "app", "path": str(place)}
        applications = {"site": {"path": str(place), "mounts": sites}, "echo": echo}
        document = {"listeners": {"127.0.0.1:0": {"pass": "applications/site"}}, "applications": applications}
        (place / "config.json").write_text(json.dumps(document))
        command = [sys.executable, "-m", "bridge", "serve"]
        server = Server("", str(place / "config.json"), command=command, app_dir=None, bind=(), ready=False)
    else:
        shared = ["--share"] if request.param == "shared" else []
        server = Server("echo:plain", *mounts, *shared, app_dir=place, ready=False)
    with server:
        for _ in range({"separate": 3, "elsewhere": 2}.get(request.param, 1)):
            found = server.log.take(r"bridged \S+ serves [^\n]*? on http://[\d.]+:(\d+)[^\n]*\n")
        server.address = ("127.0.0.1", int(found[1]))
        yield server


@pytest.mark.parametrize(("path", "prefix"), [("/ws", "/ws"), ("/ws/room?x", "/ws"), ("/deep/er/a%20b", "/deep/er")])
def test_a_mounted_websocket(mounted: Server, path: str, prefix: str) -> None:
    """It finds its prefix in the scope, has the state of its own lifespan, and talks."""
    with Client(mounted.address).upgrade(path) as client:
        decoded = path.partition("?")[0].replace("%20", " ")
        assert client.frame().payload.decode() == f"websocket {prefix} {decoded} echo"
        client.send(text("abc"))
        assert client.frame().payload == b"cba"


def test_beside_applications_without(mounted: Server) -> None:
    """A WSGI application is asked an ordinary request or not at all, and the connection is no WebSocket."""
    with Client(mounted.address) as client:
        assert client.ask("/wss").status in (200, 403)
    with Wire(mounted.address) as wire:
        assert wire.get("/wss").answer().text == "plain"


def test_where_nothing_is_mounted(tmp_path: Path) -> None:
    """The router refuses what leads nowhere."""
    (tmp_path / "echo.py").write_text(ECHO)
    with Server("", "--mount", "/ws=echo:app", app_dir=tmp_path, ready=False) as server:
        found = server.log.take(r"serves echo:app on http://[\d.]+:(\d+)/ws with")
        with Wire(("127.0.0.1", int(found[1]))) as wire:
            assert wire.send(handshake("/other")).answer().status == 404
