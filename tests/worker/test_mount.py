"""Several applications as one: who gets which request with which scope, whose lifespan runs when, and who may fail."""

from __future__ import annotations

import asyncio
import logging
import subprocess
import sys
from collections.abc import Awaitable
from pathlib import Path
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Mount, Route

import bridge
from bridge import config
from bridge.errors import ConfigError, TargetError
from bridge.worker import mount
from bridge.worker.mount import shared
from bridge.worker.types import Message, Receive, Scope, Send, Target
from tests.worker.asgi_client import Client, Life, http_scope

LOG = logging.getLogger("bridge")


def run(test: Awaitable[Any]) -> None:
    """Run a test's coroutine; one that hangs fails."""

    async def limited() -> None:
        await asyncio.wait_for(test, 30)

    asyncio.run(limited())


class Teller:
    """An application that keeps the scopes of its requests, and notes its lifespan in a list."""

    def __init__(self, name: str = "", notes: list[str] | None = None, fails: str = "") -> None:
        self.name = name
        self.notes: list[str] = [] if notes is None else notes
        self.fails = fails
        self.scopes: list[Scope] = []

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI."""
        if scope["type"] == "lifespan":
            await self._live(scope, receive, send)
            return
        self.scopes.append(dict(scope))
        if "state" in scope:
            self.scopes[-1]["state"] = dict(scope["state"])
            scope["state"]["request"] = "a note of one request"
        if scope["type"] == "http":
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await send({"type": "http.response.body", "body": self.name.encode()})
        else:
            await send({"type": "websocket.accept"})

    async def _live(self, scope: Scope, receive: Receive, send: Send) -> None:
        for event in ("startup", "shutdown"):
            assert await receive() == {"type": f"lifespan.{event}"}
            self.notes.append(f"{self.name} {event}")
            if self.fails == event:
                await send({"type": f"lifespan.{event}.failed", "message": "no database"})
                return
            scope["state"]["of"] = self.name
            await send({"type": f"lifespan.{event}.complete"})


def ask(target: Target, scope: Scope) -> Client:
    """One request."""
    client = Client(scope)
    run(client.ask(target))
    return client


@pytest.mark.parametrize(
    ("path", "name", "root_path"),
    [
        ("/", "root", ""),
        ("/a", "a", "/a"),
        ("/a/", "a", "/a"),
        ("/a/x", "a", "/a"),
        ("/ab", "root", ""),
        ("/a/b", "a/b", "/a/b"),
        ("/a/b/c", "a/b", "/a/b"),
        ("/a/bc", "a", "/a"),
        ("//a", "root", ""),
        ("*", "root", ""),
    ],
)
@pytest.mark.parametrize("front", ["", "/front"])
def test_the_longest_prefix(path: str, name: str, root_path: str, front: str) -> None:
    """Whole segments decide; the path stays whole, and the root path grows by the prefix, also behind a proxy."""
    apps = {prefix: Teller(prefix.strip("/") or "root") for prefix in ("/a/", "/", "/a/b")}
    composite = bridge.mount(apps)
    whole = front + path if path != "*" or not front else "/front/*"
    client = ask(composite, http_scope(whole, root_path=front))
    assert client.body.decode() == name
    ((scope,),) = [app.scopes for app in apps.values() if app.scopes]
    assert (scope["path"], scope["raw_path"], scope["root_path"]) == (whole, whole.encode(), front + root_path)


def test_servers_that_leave_the_root_path_out() -> None:
    """Where the path does not begin with the root path, it does in what is mounted."""
    app = Teller()
    ask(bridge.mount({"/a": app}), http_scope("/a/x", root_path="/front"))
    assert (app.scopes[0]["path"], app.scopes[0]["raw_path"]) == ("/front/a/x", b"/front/a/x")
    assert app.scopes[0]["root_path"] == "/front/a"


def test_nothing_is_mounted_there() -> None:
    """Without a root there are paths with nothing below: 404, or a WebSocket that is refused."""
    composite = bridge.mount({"/a": Teller()})
    assert ask(composite, http_scope("/ab")).status == 404
    refused = ask(composite, http_scope("/ab", type="websocket"))
    assert refused.sent[-1]["type"] == "websocket.close"


def test_websockets() -> None:
    """They go where requests go."""
    app = Teller()
    client = ask(bridge.mount({"/": Teller(), "/a": app}), http_scope("/a/ws", type="websocket"))
    assert client.sent == [{"type": "websocket.accept"}]
    assert (app.scopes[0]["type"], app.scopes[0]["root_path"]) == ("websocket", "/a")


def test_wsgi_applications() -> None:
    """They are recognised by their look, and get what belongs to the prefix as SCRIPT_NAME."""

    def application(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        start_response("200 OK", [])
        return [f"{environ['SCRIPT_NAME']} {environ['PATH_INFO']}".encode()]

    composite = bridge.mount({"/": Teller(), "/a": application})
    assert ask(composite, http_scope("/front/a/x", root_path="/front")).body == b"/front/a /x"


def test_urls_of_applications_inside_others() -> None:
    """What routers around have noted in the scope is not there inside, so that an application builds its own URLs."""

    async def where(request: Request) -> Response:
        return PlainTextResponse(str(request.url_for("where")))

    inner = Starlette(routes=[Route("/where", where, name="where")])
    outer = Starlette(routes=[Mount("/outer", bridge.mount({"/a": inner}))])
    scope = http_scope("/front/outer/a/where", root_path="/front", fields={"host": "h"})
    client = ask(outer, scope)
    assert client.body == b"http://h/front/outer/a/where"


def lead(target: Target, *scopes: Scope) -> tuple[list[Message], list[Client]]:
    """A whole life: the answers to startup and shutdown, and the requests between them."""
    answers: list[Message] = []
    clients: list[Client] = []

    async def main() -> None:
        life = Life(target)
        answers.append(await life.tell("startup"))
        if answers[0]["type"].endswith("failed"):
            return
        for scope in scopes:
            clients.append(Client(scope))
            await clients[-1].ask(target)
        answers.append(await life.tell("shutdown"))

    run(main())
    return answers, clients


def test_lifespans() -> None:
    """Each runs, in order, and is shut down in reverse; each application sees its own state, and nobody else's."""
    notes: list[str] = []
    apps = {f"/{name}": Teller(name, notes) for name in "abc"}
    answers, _ = lead(bridge.mount(apps), *(http_scope(f"/{name}", state={"outer": 1}) for name in "aabc"))
    assert notes == [*(f"{name} startup" for name in "abc"), *(f"{name} shutdown" for name in "cba")]
    assert [answer["type"] for answer in answers] == ["lifespan.startup.complete", "lifespan.shutdown.complete"]
    assert [app.scopes[-1]["state"] for app in apps.values()] == [{"of": name} for name in "abc"]


def test_no_lifespan(caplog: pytest.LogCaptureFixture) -> None:
    """An application without one is served, has no state, and the log says whose it is."""
    caplog.set_level(logging.INFO, "bridge")
    app = Teller()

    async def without(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            raise ValueError("what is that")
        await app(scope, receive, send)

    lead(bridge.mount({"/a": without, "/b": Teller()}), http_scope("/a", state={"outer": 1}))
    assert "state" not in app.scopes[0]
    (record,) = caplog.records
    assert record.getMessage().startswith("/a (")
    assert record.getMessage().endswith("the application has no lifespan (ValueError: what is that)")


def test_one_that_fails() -> None:
    """The start fails with its name, and who was up already is shut down."""
    notes: list[str] = []
    apps = {"/a": Teller("a", notes), "/b": Teller("b", notes, fails="startup"), "/c": Teller("c", notes)}
    (answer,), _ = lead(bridge.mount(apps))
    assert answer["type"] == "lifespan.startup.failed"
    assert answer["message"].endswith("test_mount.Teller): no database")
    assert answer["message"].startswith("/b (")
    assert notes == ["a startup", "b startup", "a shutdown"]


def test_one_that_may_fail(caplog: pytest.LogCaptureFixture) -> None:
    """The others are served; below its prefix there are 503 and refused WebSockets, and a line says why."""
    notes: list[str] = []
    apps = {"/a": Teller("a", notes), "/b": Teller("b", notes, fails="startup")}
    scopes = [http_scope("/a"), http_scope("/b/x"), http_scope("/b", type="websocket")]
    answers, clients = lead(bridge.mount(apps, optional=["/b"]), *scopes)
    assert [answer["type"] for answer in answers] == ["lifespan.startup.complete", "lifespan.shutdown.complete"]
    assert [client.status for client in clients[:2]] == [200, 503]
    assert clients[2].sent == [{"type": "websocket.close", "code": 1013}]
    assert notes == ["a startup", "b startup", "a shutdown"]
    (record,) = caplog.records
    assert "no database; its requests get 503" in record.getMessage()
    assert record.getMessage().startswith("/b (")


def test_a_shutdown_that_fails() -> None:
    """It keeps nobody else's shutdown from running, and the server hears of it."""
    notes: list[str] = []
    apps = {"/a": Teller("a", notes), "/b": Teller("b", notes, fails="shutdown")}
    (_, answer), _ = lead(bridge.mount(apps))
    assert answer["type"] == "lifespan.shutdown.failed"
    assert "/b (" in answer["message"]
    assert notes[-2:] == ["b shutdown", "a shutdown"]


@pytest.mark.parametrize("event", ["startup", "shutdown"])
def test_one_that_takes_long(event: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    """The log names it, and its shutdown keeps nobody else's from running."""
    monkeypatch.setattr(mount, "SLOW", 0.01)
    go_on: list[asyncio.Event] = []
    notes: list[str] = []

    class Slow(Teller):
        async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
            async def slowly(message: Message) -> None:
                if message["type"] == f"lifespan.{event}.complete":
                    await go_on[0].wait()
                    notes.append("goes on")
                await send(message)

            await super().__call__(scope, receive, slowly)

    composite = bridge.mount({"/a": Teller("a", notes), "/b": Slow("b", notes)})

    async def main() -> None:
        go_on.append(asyncio.Event())
        life = Life(composite)
        starting = asyncio.ensure_future(life.tell("startup"))
        if event == "shutdown":
            await starting
        ending = asyncio.ensure_future(life.tell("shutdown")) if event == "shutdown" else starting
        while not caplog.records or (event == "shutdown" and "a shutdown" not in notes):  # noqa: ASYNC110 - tells nobody
            await asyncio.sleep(0.001)
        go_on[0].set()
        assert (await ending)["type"] == f"lifespan.{event}.complete"
        if event == "startup":
            await life.tell("shutdown")

    run(main())
    (record,) = caplog.records
    assert record.getMessage().startswith("/b (")
    assert record.getMessage().endswith(f"its {event} has not ended after 0.01 seconds, and goes on")
    assert "goes on" in notes


def test_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    """A string is imported at once: what is not there is named, and passed over if it is optional."""
    (tmp_path / "of_a_mount.py").write_text("async def app(scope, receive, send): ...\nplain = 5\n")
    monkeypatch.syspath_prepend(tmp_path)
    bridge.mount({"/a": "of_a_mount"})
    for name, reason in (
        ("of_a_mount:ap", 'did you mean "app"'),
        ("of_a_mount:plain", "cannot be called"),
        ("of_a_mounts", 'no module "of_a_mounts"'),
        ("of_a_mount:", 'expected an application or "module:attribute"'),
    ):
        with pytest.raises(TargetError) as caught:
            bridge.mount({"/a": name})
        assert str(caught.value).startswith(f"/a ({name}): ")
        assert reason in str(caught.value)
    caplog.clear()
    composite = bridge.mount({"/": Teller(), "/a": "nowhere:app"}, optional=["/a"])
    assert ask(composite, http_scope("/a")).status == 503
    assert "no module" in caplog.text
    with pytest.raises(TargetError, match=r"^/a \(int\): expected an application"):
        bridge.mount({"/a": 5})


@pytest.mark.parametrize("applications", [{"a": Teller()}, {"/a": Teller(), "/a/": Teller()}, {"/a/*": Teller()}])
def test_wrong_prefixes(applications: dict[str, Any]) -> None:
    """They are refused with the prefix."""
    with pytest.raises(ConfigError, match="mount '"):
        bridge.mount(applications)


def test_optional_prefixes_that_are_not_there() -> None:
    """A prefix that nothing is mounted at cannot be optional."""
    with pytest.raises(ConfigError, match="nothing is mounted at '/b'"):
        bridge.mount({"/a": Teller()}, optional=["/b"])


@pytest.mark.parametrize("threads", [0, -1, 241, "4", 2.5, True])
def test_a_number_of_threads_that_cannot_be(threads: Any) -> None:
    """It is refused, where requests would wait for ever for one of no threads."""
    with pytest.raises(ConfigError, match="threads: expected an integer number from 1 to 240, found"):
        bridge.mount({"/a": Teller()}, threads=threads)


def test_nothing_to_mount() -> None:
    """Nobody means an application that has nothing but 404 to say."""
    with pytest.raises(ConfigError, match="there is nothing to mount"):
        bridge.mount({})


def test_one_optional_prefix() -> None:
    """It may be given as it is, and is not taken apart."""
    composite = bridge.mount({"/": Teller(), "/a": "nowhere:app"}, optional="/a")
    assert ask(composite, http_scope("/a")).status == 503
    with pytest.raises(TargetError, match=r"^/a "):
        bridge.mount({"/": Teller(), "/a": "nowhere:app"}, optional="/")


SHARED = """\
def make():
    def application(environ, start_response):
        start_response("200 OK", [])
        return [str(environ["wsgi.multithread"]).encode()]
    return application

other = make()

async def app(scope, receive, send):
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"asgi"})
"""


def test_mounts_of_a_worker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a mount does not say is said by the application around it."""
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "of_a_worker.py").write_text(SHARED)
    module = {"module": "of_a_worker"}
    document = {
        "share": True,
        "factory": True,
        "threads": 2,
        "path": str(tmp_path),
        "mounts": {
            "/made": module | {"callable": "make"},
            "/one": module | {"callable": "other", "factory": False, "threads": 1, "protocol": "wsgi"},
            "/app": module | {"callable": "app", "factory": False},
            "/absent": module | {"callable": "absent", "optional": True},
        },
    }
    composite = shared(config.from_json(config.Application, document))
    bodies = [ask(composite, http_scope(path)).body for path in ("/made", "/one", "/app", "/absent")]
    assert bodies == [b"True", b"False", b"asgi", b"Service Unavailable"]


def test_starlette_is_loaded_where_it_is_needed() -> None:
    """Who imports bridge, or serves one application, does not load Starlette."""
    code = "import sys, bridge, bridge.worker.server, bridge.cli; sys.exit('starlette' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False, timeout=60).returncode == 0
