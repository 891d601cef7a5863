"""docker/compose.yaml, with both forms of Compose: the examples, one by one, and several servers behind nginx."""

from __future__ import annotations

import json
import re
import time

import pytest

from tests.docker.engine import docker, nginx
from tests.docker.project import NOTHING, Load, Project, until
from tests.end_to_end.websocket.client import Client
from tests.end_to_end.wire import Wire

pytestmark = pytest.mark.timeout(1200)  # the first test may have to build the image from nothing


@pytest.fixture(scope="module")
def server(project: Project) -> str:
    """The server that one command has brought up; its container."""
    project.up()
    until(lambda: project.serves(project.address, "/fastapi/"), "it serves")
    (name,) = project.containers("server")
    return name


def test_every_example(project: Project, server: str) -> None:
    """Every link of the first page leads to a page."""
    with Wire(project.address) as wire:
        links = re.findall(r'class="card" href="(.*?)"', wire.get("/").answer().text)
        assert len(links) >= 10
        for link in links:
            until(lambda link=link: project.serves(project.address, link), link)  # type: ignore[misc]


def test_what_the_examples_do(project: Project, server: str) -> None:
    """Through Docker's network bodies arrive in flat memory, WebSockets and events pass, and what is given up ends."""
    with Wire(project.address) as wire:
        told = json.loads(wire.post("/upload/file", b"x" * 20_000_000, method="PUT").answer().body)
        assert told["bytes"] == 20_000_000
        assert told["memory_at_most"] - told["memory_at_the_beginning"] < 16_000_000
        assert json.loads(wire.get("/fastapi/openapi.json").answer().body)["servers"] == [{"url": "/fastapi"}]
        assert 'href="/django/colours/moss/"' in wire.get("/django/").answer().text
        assert json.loads(wire.get("/flask/hello/x").answer().body)["url"] == "/flask/hello/x"
        with Client(project.address) as guest:
            assert "Ann has come in" in str(guest.upgrade("/chat/socket?name=Ann&room=lobby").message())
        with Wire(project.address) as leaving:
            leaving.get("/events/stream").through(b'"here": 1')
        with Wire(project.address) as watching:
            watching.get("/events/stream").through(b'"left": 1')
        with Wire(project.address) as leaving:
            leaving.get("/slow/work")
            until(lambda: json.loads(wire.get("/slow/now").answer().body)["done"] > 0, "it works")
        until(lambda: json.loads(wire.get("/slow/now").answer().body)["saved"] > 0, "the rest is saved")


def test_how_it_runs(server: str) -> None:
    """It becomes healthy, as nobody in particular, from a root file system that is read-only."""
    until(lambda: docker("inspect", "--format", "{{.State.Health.Status}}", server) == "healthy", "it is healthy")
    assert docker("inspect", "--format", "{{.HostConfig.ReadonlyRootfs}}", server) == "true"
    assert docker("exec", server, "id", "-u") == "10001"


def test_stop_under_load(project: Project, server: str) -> None:
    """`docker stop` loses no request that was accepted: who got no answer was not begun. Afterwards it serves again."""
    with Load(project.address) as load:
        stopped, before = time.monotonic(), load.answered()
        docker("stop", "--time", "30", server)
        assert docker("inspect", "--format", "{{.State.ExitCode}}", server) == "0"
    assert load.arrived(stopped) - before  # some were on their way
    assert load.arrived(stopped) <= load.answered()
    assert set(load.ended.values()) == {200, NOTHING}
    assert load.logged(server) == load.answered()
    docker("start", server)
    until(lambda: project.serves(project.address, "/hello/hello"), "it serves again")


def test_behind_the_front(project: Project) -> None:
    """Servers behind nginx share the requests. One that is stopped under load costs none, nor do those that come."""
    if not nginx():
        pytest.skip("there is no nginx image on this machine")
    project.up("--scale", "replica=2", "front")
    until(lambda: project.serves(project.front, "/hello/hello"), "somebody is behind it")
    until(lambda: len(asked(project, 20)) == 2, "both are asked")
    with Wire(project.front) as wire:
        scope = json.loads(wire.get("/hello/headers", "X-Forwarded-For: 203.0.113.7").answer().body)
    with Client(project.front) as guest:
        assert "Ann has come in" in str(guest.upgrade("/chat/socket?name=Ann&room=lobby").message())
    fields = dict(scope["headers"])
    assert fields["x-forwarded-for"] == scope["client"][0] != "203.0.113.7"
    own = "{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}"
    assert scope["client"][0] != docker("inspect", "--format", own, *project.containers("front"))
    with Load(project.front) as load:
        before = len(load.answered())
        docker("stop", "--time", "30", project.containers("replica")[0])
        until(lambda: len(load.answered()) > before + 50, "the other goes on")
        project.up("--scale", "replica=3", "--no-recreate", "front")
        until(lambda: len(asked(project, 30)) == 3, "a third one, and the first one again, are asked")
    assert set(load.ended.values()) == {200}


def asked(project: Project, times: int) -> set[str]:
    """Addresses, within the project's network, of the servers that so many requests to the front reach."""
    found = set()
    for _ in range(times):
        with Wire(project.front) as wire:
            answer = wire.get("/hello/headers").answer()
            if answer.status == 200:
                found.add(json.loads(answer.body)["server"][0])
    return found
