"""The image, run as it is: who it runs as, what it writes, how it takes signals."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator

import pytest

from tests.docker.engine import ROOT, docker, logs
from tests.docker.project import free_address, get, until
from tests.end_to_end.wire import Wire

pytestmark = pytest.mark.timeout(1200)  # the first test may have to build the image from nothing

Start = Callable[..., str]


@pytest.fixture
def start(image: str) -> Iterator[Start]:
    """Starts a container with options in front of the image and arguments behind it; its name."""
    started: list[str] = []

    def begin(options: list[str], arguments: list[str]) -> str:
        started.append(docker("run", "--detach", "--label", "bridge-test", *options, image, *arguments))
        return started[-1]

    yield begin
    for name in started:
        docker("rm", "--force", "--volumes", name)


def status(name: str) -> int:
    """Exit status of a container that has ended."""
    return int(docker("inspect", "--format", "{{.State.ExitCode}}", name))


def test_what_it_says_of_itself(image: str) -> None:
    """It runs as a user without a name, and has a health check."""
    config = json.loads(docker("image", "inspect", image))[0]["Config"]
    assert config["User"] == "10001:10001"
    assert config["Healthcheck"]["Test"][0] == "CMD"
    assert list(config["ExposedPorts"]) == ["8000/tcp"]


def test_an_application_of_ones_own(start: Start) -> None:
    """Code that is mounted at /app is served, from a root file system that is read-only, without any capability."""
    address = free_address()
    options = ["--read-only", "--tmpfs", "/tmp", "--cap-drop", "ALL", "--security-opt", "no-new-privileges"]
    options += ["--publish", f"127.0.0.1:{address[1]}:8000", "--volume", f"{ROOT / 'apps'}:/app:ro"]
    name = start(options, ["run", "wsgi_hello", "--threads", "2"])
    until(lambda: get(address, "/") == 200, "it serves")
    with Wire(address) as wire:  # more than fits in shared memory: collected in a file below /tmp
        assert wire.post("/", b"x" * 3_000_000).answer().text.startswith("Hello, world!\nThis was POST /")
    assert docker("exec", name, "id", "-u") == "10001"
    assert "Read-only" in docker("exec", name, "sh", "-c", "touch /app/x 2>&1 || true")
    docker("stop", "--time", "20", name)
    assert status(name) == 0


def test_the_server_alone(bare: str) -> None:
    """What is built without a target has the command, and neither examples nor frameworks."""
    assert docker("run", "--rm", bare, "--version").startswith("bridged ")
    assert docker("run", "--rm", "--entrypoint", "ls", bare, "-A", "/app") == ""
    assert "Django" not in docker("run", "--rm", "--entrypoint", "/opt/bridge/bin/pip", bare, "list")


def test_process_1(start: Start) -> None:
    """Bridge itself is process 1, and buries those that have lost their parent."""
    name = start([], [])
    until(lambda: "serves demo/hello" in logs(name), "it serves")
    assert "bridged" in docker("exec", name, "cat", "/proc/1/cmdline")
    docker("exec", name, "sh", "-c", "(sleep 0.1 & exit) & wait")
    states = "cat /proc/[0-9]*/stat | cut -d' ' -f3"
    until(lambda: "Z" not in docker("exec", name, "sh", "-c", states), "nobody is left dead")


@pytest.mark.parametrize("patience", ["at once", "while it starts"])
def test_a_stop_that_comes_early(start: Start, patience: str) -> None:
    """TERM ends it in order, also before it has been loaded: process 1 gets no signal that it does not handle."""
    name = start([], [])
    if patience == "while it starts":
        until(lambda: "python" in docker("exec", name, "cat", "/proc/1/cmdline"), "it is loaded")
    docker("stop", "--time", "20", name)
    assert status(name) == 0
