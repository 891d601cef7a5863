"""`bridged serve`: several applications and listeners described by a file."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import pytest

from tests.end_to_end.server import PATIENCE, Server, tree, until
from tests.end_to_end.wire import Wire

ROOT = Path(__file__).parent.parent.parent
COMMAND = [sys.executable, "-m", "bridge", "serve"]
TELLS = """\
import json, os, sys

WHO = {who!r}

async def app(scope, receive, send):
    if scope["type"] != "http":
        raise RuntimeError
    told = {{
        "who": WHO, "pid": os.getpid(), "cwd": os.getcwd(), "prefix": sys.prefix, "path": scope["path"],
        "root_path": scope["root_path"], "stage": os.environ.get("STAGE"), "size": len(os.environ.get("BIG0", "")),
        "server": scope["server"], "venv": os.environ.get("VIRTUAL_ENV"), "title": os.environ.get("SERVER_SOFTWARE"),
    }}
    body = json.dumps(told).encode()
    await send({{"type": "http.response.start", "status": 200, "headers": []}})
    await send({{"type": "http.response.body", "body": body}})
"""


def write(place: Path, *names: str) -> None:
    """An application for each name, which tells where it is and what it was given."""
    for name in names:
        (place / f"{name}.py").write_text(TELLS.format(who=name))


def serving(place: Path, listeners: Mapping[str, str], applications: Mapping[str, Any], **root: Any) -> Server:
    """A server of such a file; listeners name their application, which lies in `place` unless it says otherwise."""
    document = {
        "listeners": {address: {"pass": f"applications/{name}"} for address, name in listeners.items()},
        "applications": {
            name: {"type": "python", "module": name, "path": str(place)} | described
            for name, described in applications.items()
        },
    }
    file = place / "config.json"
    file.write_text(json.dumps(document | root))
    server = Server("", str(file), command=COMMAND, app_dir=None, bind=(), ready=False)
    server.paths = [address.removeprefix("unix:") for address in listeners if address.startswith("unix:/")]
    return server


def ready(server: Server, name: str) -> tuple[str, int] | str:
    """Wait until an application is served; where."""
    url = server.log.take(rf"\[info\] bridged \S+ serves {name} \(\S+\) on (\S+) with \d+ workers?\n")[1]
    found = re.fullmatch(r"http://([\d.]+):(\d+)", url)
    return (found[1], int(found[2])) if found else url.removeprefix("unix:")


def ask(address: tuple[str, int] | str, path: str = "/") -> dict[str, Any]:
    """What the application there tells."""
    with Wire(address) as wire:
        answer = wire.get(path).answer()
        assert answer.status == 200, answer
        told: dict[str, Any] = json.loads(answer.body)
        return told


def workers(server: Server) -> list[int]:
    """Process ids of all workers."""
    prototypes = {process.pid for process in tree(server.main.pid) if process.parent == server.main.pid}
    return sorted(process.pid for process in server.living() if process.parent in prototypes)


def test_each_listener_has_its_application(tmp_path: Path) -> None:
    """Requests go to the application that their listener passes to; each has its own workers."""
    write(tmp_path, "shop", "blog")
    unix = f"unix:{tmp_path}/socket"
    listeners = {"127.0.0.1:0": "shop", "[::1]:0": "shop", unix: "blog"}
    with serving(tmp_path, listeners, {"shop": {"processes": 2}, "blog": {}}) as server:
        urls = server.log.take(r"serves shop \(shop\) on (\S+), (\S+) with 2 workers\n")
        blog = ready(server, "blog")
        shop = [ask((host, int(number))) for host, number in map(_split, urls.groups())]
        assert [told["who"] for told in shop] == ["shop", "shop"]
        assert ask(blog)["who"] == "blog"
        assert ask(blog)["server"] == [f"{tmp_path}/socket", None]
        assert len(workers(server)) == 3


def _split(url: str) -> tuple[str, int]:
    host, _, number = url.removeprefix("http://").rpartition(":")
    return host.strip("[]"), int(number)


def test_abstract_socket(tmp_path: Path) -> None:
    """A name of the abstract namespace is listened on, and leaves no file."""
    write(tmp_path, "shop")
    name = f"bridge-test-{os.getpid()}"
    with serving(tmp_path, {f"unix:@{name}": "shop"}, {"shop": {}}) as server:
        ready(server, "shop")
        told = ask(f"\0{name}")
        assert (told["who"], told["server"]) == ("shop", [f"@{name}", None])


def test_surroundings(tmp_path: Path) -> None:
    """Environment, working directory and a path relative to it are there when the module is imported."""
    (tmp_path / "inside" / "lib").mkdir(parents=True)
    write(tmp_path / "inside" / "lib", "shop")
    (tmp_path / "inside" / "first.py").write_text(
        "import os\nassert os.environ['STAGE'] == 'test'\nfrom shop import app"
    )
    variables = {f"BIG{number}": "x" * 20000 for number in range(10)} | {"STAGE": "test", "SERVER_SOFTWARE": "mine"}
    described = {
        "module": "first",
        "callable": "app",
        "working_directory": str(tmp_path / "inside"),
        "path": [".", "lib"],
        "environment": variables,
    }
    with serving(tmp_path, {"127.0.0.1:0": "shop"}, {"shop": described}) as server:
        told = ask(ready(server, "shop"))
        assert (told["cwd"], told["stage"], told["size"]) == (str(tmp_path / "inside"), "test", 20000)
        assert told["title"] == "mine"


def test_prefix(tmp_path: Path) -> None:
    """Below the prefix of an ASGI application it is the root path, and the path stays whole."""
    write(tmp_path, "shop")
    with serving(tmp_path, {"127.0.0.1:0": "shop"}, {"shop": {"prefix": "/a"}}) as server:
        address = ready(server, "shop")
        told = ask(address, "/a/b"), ask(address, "/ab")
        assert [(each["path"], each["root_path"]) for each in told] == [("/a/b", "/a"), ("/ab", "")]


@pytest.fixture(scope="module")
def venv(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A virtual environment with a module in it, and another one that is reached by a .pth file."""
    place = tmp_path_factory.mktemp("venv")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", place / "home"], check=True)
    packages = next((place / "home").glob("lib/python*/site-packages"))
    (packages / "gunicorn.py").write_text("MINE = True\n")
    (place / "editable").mkdir()
    (place / "editable" / "by_pth.py").write_text("")
    (packages / "editable.pth").write_text(f"{place / 'editable'}\n")
    return place / "home"


def test_virtual_environment(tmp_path: Path, venv: Path) -> None:
    """The application's own packages come first, .pth files work, and it finds itself in the environment."""
    write(tmp_path, "shop")
    (tmp_path / "inside.py").write_text(
        "import sys, by_pth\nfrom shop import app\nassert str(sys.executable).startswith(sys.prefix)\n"
    )
    described = {"module": "inside", "callable": "app", "home": str(venv)}
    with serving(tmp_path, {"127.0.0.1:0": "shop"}, {"shop": described}) as server:
        told = ask(ready(server, "shop"))
        assert told["prefix"] == told["venv"] == str(venv)


def test_packages_of_the_virtual_environment_win(tmp_path: Path, venv: Path) -> None:
    """A package that Bridge has too is the application's own where it is imported afresh."""
    (tmp_path / "shop.py").write_text(
        "import sys\nassert sys.path.index(sys.prefix + f'/lib/python3.{sys.version_info[1]}/site-packages') == 1\n"
        "async def app(scope, receive, send):\n    raise RuntimeError\n"
    )
    with serving(tmp_path, {"127.0.0.1:0": "shop"}, {"shop": {"home": str(venv)}}) as server:
        ready(server, "shop")


@pytest.mark.parametrize("kind", ["version", "none", "missing"])
def test_wrong_virtual_environment(tmp_path: Path, kind: str) -> None:
    """What is no virtual environment of this Python version is refused in one line that says of which it is."""
    write(tmp_path, "shop")
    home = tmp_path / "home"
    if kind != "missing":
        (home / "lib").mkdir(parents=True)
    if kind == "version":
        (home / "pyvenv.cfg").write_text("home = /usr/bin\nversion = 3.2.5\n")
    wanted = {"version": "is of Python 3.2, and this is Python 3", "none": "no virtual environment", "missing": "exist"}
    with serving(tmp_path, {"127.0.0.1:0": "shop"}, {"shop": {"home": str(home)}}) as server:
        line = server.log.take(r"\[error\] application 'shop': ([^\n]*)\n")[1]
        assert wanted[kind] in line
        server.main.send_signal(signal.SIGTERM)
        assert "Traceback" not in server.log.all()


def test_broken_application_hurts_nobody_else(tmp_path: Path) -> None:
    """Its requests get 503 at once, the log says why, the other one is served, and once mended it is served too."""
    write(tmp_path, "shop")
    (tmp_path / "blog.py").write_text("raise LookupError('on purpose')\n")
    sockets = {f"unix:{tmp_path}/a": "shop", f"unix:{tmp_path}/b": "blog"}
    with serving(tmp_path, sockets, {"shop": {}, "blog": {"processes": 3}}) as server:
        server.log.take(
            r"\[error\] application 'blog': importing \"blog\" failed: LookupError: on purpose\n"
            r"Traceback[^\0]*?raise LookupError\('on purpose'\)\n[^\n]*\n"
        )
        assert ask(ready(server, "shop"))["who"] == "shop"
        with Wire(f"{tmp_path}/b") as wire:
            began = time.monotonic()
            answer = wire.get("/").answer()
            assert time.monotonic() - began < 5
            assert (answer.status, answer.fields.get("retry-after")) == (503, "1")
        write(tmp_path, "blog")
        assert ask(ready(server, "blog"))["who"] == "blog"
        assert server.log.text.count("raise LookupError") == 1


def test_term_while_one_is_importing(tmp_path: Path) -> None:
    """An import that goes on after TERM is given some seconds, not all of graceful_timeout."""
    write(tmp_path, "shop")
    (tmp_path / "slow.py").write_text("import time\ntime.sleep(600)\n")
    sockets = {f"unix:{tmp_path}/a": "shop", f"unix:{tmp_path}/b": "slow"}
    general = {"graceful_timeout": 600}
    with serving(tmp_path, sockets, {"shop": {}, "slow": {"graceful_timeout": 600}}, settings=general) as server:
        ready(server, "shop")
        server.main.send_signal(signal.SIGTERM)
        assert server.main.wait(60) == 0


def test_killed_prototypes(tmp_path: Path) -> None:
    """Prototypes that are killed are replaced; workers of both applications serve on, and then give way."""
    write(tmp_path, "shop", "blog")
    sockets = {f"unix:{tmp_path}/a": "shop", f"unix:{tmp_path}/b": "blog"}
    with serving(tmp_path, sockets, {"shop": {}, "blog": {}}) as server:
        shop, blog = ready(server, "shop"), ready(server, "blog")
        before = {place: ask(place)["pid"] for place in (shop, blog)}
        for process in server.living():
            if process.parent == server.main.pid and "bridge.worker.prototype" in process.command:
                os.kill(process.pid, signal.SIGKILL)
        for name in ("shop", "blog"):
            server.log.take(rf"\[error\] application '{name}': the prototype \(pid \d+\) ended: signal SIGKILL[^\n]*\n")
        assert {ask(shop)["who"], ask(blog)["who"]} == {"shop", "blog"}
        until(lambda: all(ask(place)["pid"] != pid for place, pid in before.items()), "other workers answer")


def test_killed_router_serves_all_again(tmp_path: Path) -> None:
    """A new router serves every application, and knows which one is broken."""
    write(tmp_path, "shop", "blog")
    (tmp_path / "bad.py").write_text("import nowhere_to_be_found\n")
    sockets = {f"unix:{tmp_path}/{name}": name for name in ("shop", "blog", "bad")}
    with serving(tmp_path, sockets, {"shop": {}, "blog": {}, "bad": {}}) as server:
        server.log.take(r"\[error\] application 'bad': [^\n]*\nTraceback[^\0]*?ModuleNotFoundError[^\n]*\n")
        shop, blog = ready(server, "shop"), ready(server, "blog")
        os.kill(server.router, signal.SIGKILL)
        server.log.take(r"\[error\] the router \(pid \d+\) ended: signal SIGKILL[^\n]*\n")
        assert {ask(shop)["who"], ask(blog)["who"]} == {"shop", "blog"}
        with Wire(f"{tmp_path}/bad") as wire:
            assert wire.get("/").answer().status == 503
        server.main.send_signal(signal.SIGTERM)
        server.log.all()
        server.log.rest = re.sub(r"[^\n]*application 'bad': importing[^\n]*\n", "", server.log.rest)


def test_hup_reloads_all(tmp_path: Path) -> None:
    """HUP replaces the workers of every application."""
    write(tmp_path, "shop", "blog")
    sockets = {f"unix:{tmp_path}/{name}": name for name in ("shop", "blog")}
    with serving(tmp_path, sockets, {"shop": {}, "blog": {}}) as server:
        places = [ready(server, "shop"), ready(server, "blog")]
        before = [ask(place)["pid"] for place in places]
        server.main.send_signal(signal.SIGHUP)
        for name in ("shop", "blog"):
            server.log.take(rf"application '{name}': reloaded\n")
        until(lambda: not set(before) & {ask(place)["pid"] for place in places}, "new workers answer")


def test_backlog_of_a_listener(tmp_path: Path) -> None:
    """The kernel keeps as many connections as the listener says while the router accepts none."""
    write(tmp_path, "shop")
    server = serving(tmp_path, {f"unix:{tmp_path}/socket": "shop"}, {"shop": {}})
    file = tmp_path / "config.json"
    file.write_text(file.read_text().replace('"pass"', '"backlog": 7, "pass"'))
    with server:
        ready(server, "shop")
        router, kept = server.router, 0
        os.kill(router, signal.SIGSTOP)
        until(lambda: any(process.pid == router and process.state == "T" for process in server.living()), "it stands")
        try:
            with ExitStack() as clients, suppress(BlockingIOError):
                while kept < 100:
                    client = clients.enter_context(socket.socket(socket.AF_UNIX))
                    client.setblocking(False)
                    client.connect(f"{tmp_path}/socket")
                    kept += 1
        finally:
            os.kill(router, signal.SIGCONT)
        assert kept == 7 + 1  # Linux counts so


def test_body_size_of_a_file(tmp_path: Path) -> None:
    """A file that says nothing of it limits bodies to 8 MiB, as Unit does."""
    write(tmp_path, "shop")
    with serving(tmp_path, {"127.0.0.1:0": "shop"}, {"shop": {}}) as server, Wire(ready(server, "shop")) as wire:
        wire.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 8388609\r\n\r\n")
        assert wire.answer().status == 413


def test_the_smallest_file(tmp_path: Path) -> None:
    """config/minimal.json serves what it describes, from the repository's root."""
    text = (ROOT / "config" / "minimal.json").read_text()
    file = tmp_path / "minimal.json"
    file.write_text(text.replace("127.0.0.1:8000", f"unix:{tmp_path}/socket"))
    server = Server("", str(file), command=COMMAND, app_dir=None, bind=(), ready=False, cwd=ROOT)
    with server, Wire(str(ready(server, "hello"))) as wire:
        assert wire.get("/hello").answer().text == "Hello, world!\n"


def check(*arguments: str) -> subprocess.CompletedProcess[str]:
    """What `bridged serve` says that does not come to serve."""
    return subprocess.run([*COMMAND, *arguments], capture_output=True, text=True, check=False, timeout=PATIENCE)


def test_check(tmp_path: Path) -> None:
    """--check says nothing of a right file, and all that is wrong in a wrong one, and starts nothing."""
    for name in ("minimal.json", "demo.json"):
        done = check("--check", str(ROOT / "config" / name))
        assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    file = tmp_path / "wrong.json"
    file.write_text('{"listeners": {"*:80": {"pass": "applications/b"}},\n "applications": {"a": {"processes": "2"}}}')
    for arguments in (["--check", str(file)], [str(file)]):
        done = check(*arguments)
        assert done.returncode == 2
        assert done.stderr.splitlines() == [
            f"bridged: {file}:1:33: /listeners/*:80/pass: there is no application 'b'; there are: 'a'",
            f"bridged: {file}:2:24: /applications/a/module: missing, and it has no default",
            f"bridged: {file}:2:38: /applications/a/processes: expected an integer number, found the string '2'",
        ]


def test_no_file() -> None:
    """A file that is not there is one line."""
    done = check("/nowhere/config.json")
    assert (done.returncode, done.stderr) == (
        2,
        "bridged: /nowhere/config.json: cannot be read: No such file or directory\n",
    )


def test_assignments(tmp_path: Path) -> None:
    """--set replaces what the file says."""
    write(tmp_path, "shop")
    server = serving(tmp_path, {"127.0.0.1:0": "shop"}, {"shop": {}})
    server.add("--set", "applications.shop.processes=2")
    with server:
        ready(server, "shop")
        assert len(workers(server)) == 2
