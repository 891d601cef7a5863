"""The command line: what is said and with which status it ends when something is wrong, and where things are found."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from bridge import __version__
from tests.end_to_end.server import APPLICATIONS, COMMAND, PATIENCE, Server, until
from tests.end_to_end.wire import Wire

SMALL = """\
async def app(scope, receive, send):
    if scope["type"] == "http":
        body = {body!r}
        await send({{"type": "http.response.start", "status": 200, "headers": []}})
        await send({{"type": "http.response.body", "body": body}})


def make():
    return app
"""


def write(place: Path, body: str = "small", name: str = "small.py") -> Path:
    """A small application; returns its directory."""
    (place / name).write_text(SMALL.format(body=body.encode()))
    return place


def failed(
    target: str, *options: str, status: int, app_dir: Path | None = APPLICATIONS, cwd: Path | None = None
) -> str:
    """What a server writes that does not start, and ends with this status."""
    bind = () if "-b" in options else ("127.0.0.1:0",)
    with Server(target, *options, app_dir=app_dir, cwd=cwd, bind=bind, ready=False) as server:
        server.status = status
        server.main.wait(PATIENCE)
        text = server.log.all()
        server.log.rest = ""
        assert server.output.all() == ""
    return text


def line_of(text: str) -> str:
    """The only line."""
    assert text.count("\n") == 1, text
    assert "Traceback" not in text
    return text


def test_usual_habits(tmp_path: Path) -> None:
    """The current directory is importable, and 127.0.0.1:8000 or $PORT on every interface is the address."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        number = probe.getsockname()[1]
    with (
        Server("small", cwd=write(tmp_path), app_dir=None, bind=(), environment={"PORT": str(number)}) as server,
        Wire(("127.0.0.1", number)) as wire,
    ):
        assert server.url == f"http://0.0.0.0:{number}"
        assert wire.get("/").answer().text == "small"


def test_application_directory(tmp_path: Path) -> None:
    """--app-dir is searched first, before the current directory."""
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    write(tmp_path / "a", "a")
    with (
        Server("small:app", cwd=write(tmp_path / "b", "b"), app_dir=tmp_path / "a") as server,
        Wire(server.address) as wire,
    ):
        assert wire.get("/").answer().text == "a"


def test_factory(tmp_path: Path) -> None:
    """--factory calls the attribute, and a factory that is served without it is recognized."""
    with Server("small:make", "--factory", app_dir=write(tmp_path)) as server, Wire(server.address) as wire:
        assert wire.get("/").answer().text == "small"
    assert "--factory" in line_of(failed("small:make", app_dir=tmp_path, status=3))


@pytest.mark.parametrize("options", [("-w", "3"), ("--set", "application.processes=3")])
def test_workers(options: tuple[str, ...]) -> None:
    """So many workers as are asked for."""
    with Server("plain:app", *options) as server:
        assert len(server.workers) == 3


def test_workers_by_environment() -> None:
    """WEB_CONCURRENCY is the default of --workers."""
    with Server("plain:app", environment={"WEB_CONCURRENCY": "2"}) as server:
        assert len(server.workers) == 2


def test_log_level() -> None:
    """--log-level error says nothing that is no error."""
    with Server("plain:app", "--log-level", "error", ready=False) as server:
        until(lambda: len(server.living()) == 4, "all processes are there")
        server.main.send_signal(signal.SIGTERM)
        assert "[info]" not in server.log.all()


@pytest.mark.parametrize("arguments", [["--version"], ["run", "--version"]])
@pytest.mark.parametrize("command", [[sys.executable, "-m", "bridge"], [str(Path(sys.executable).parent / "bridged")]])
def test_version(command: list[str], arguments: list[str]) -> None:
    """The command and the module say the version."""
    result = subprocess.run([*command, *arguments], capture_output=True, text=True, check=True)
    assert (result.stdout, result.stderr) == (f"bridged {__version__}\n", "")


def test_help() -> None:
    """The help names every option and shows examples."""
    text = subprocess.run([*COMMAND, "--help"], capture_output=True, text=True, check=True).stdout
    options = "bind workers factory app-dir root-path forwarded-allow-ips reload log-level access-log version help set"
    assert [name for name in options.split() if f"--{name}" not in text] == []
    assert "bridged run hello:app -b 127.0.0.1:8080 -w 4" in text


@pytest.mark.parametrize(
    ("target", "words"),
    [
        ("plian:app", ['no module "plian"', 'did you mean "plain"?', str(APPLICATIONS)]),
        ("plain:ap", ['"ap"', 'did you mean "app"?', "plain.py"]),
        ("plain.py:app", ['did you mean "plain"?']),
        ("plain:PATHS", ["dict", "cannot be called"]),
        ("nowhere.at.all:app", ['no module "nowhere.at.all"']),
    ],
)
def test_wrong_target(target: str, words: list[str]) -> None:
    """A wrong module or attribute is one line that names what was looked for and what may have been meant."""
    line = line_of(failed(target, status=3))
    assert [word for word in words if word not in line] == []


@pytest.mark.parametrize("workers", ["1", "4"])
def test_import_error(tmp_path: Path, workers: str) -> None:
    """What the application's own import raises is shown whole, once, whatever the number of workers."""
    (tmp_path / "outer.py").write_text("import inner\n")
    (tmp_path / "inner.py").write_text("def f():\n    raise LookupError('on purpose')\n\n\nf()\n")
    text = failed("outer:app", "-w", workers, app_dir=tmp_path, status=3)
    assert text.count("Traceback") == text.count("    raise LookupError('on purpose')") == 1
    assert 'outer.py", line 1' in text
    assert "importlib" not in text
    assert "/bridge/" not in text
    assert text.splitlines()[-1].startswith("bridged: ")


def test_missing_dependency(tmp_path: Path) -> None:
    """A module that the application lacks is the application's own error: with its traceback."""
    (tmp_path / "outer.py").write_text("import not_installed_anywhere\n")
    text = failed("outer:app", app_dir=tmp_path, status=3)
    assert text.count("Traceback") == 1
    assert "No module named 'not_installed_anywhere'" in text


@pytest.mark.parametrize("workers", ["1", "4"])
def test_failed_startup(tmp_path: Path, workers: str) -> None:
    """A startup that fails is seen, once, and ends the run."""
    (tmp_path / "failing.py").write_text(
        "import contextlib\nfrom starlette.applications import Starlette\n\n\n@contextlib.asynccontextmanager\n"
        "async def lifespan(app):\n    raise ConnectionError('no database')\n    yield\n\n\n"
        "app = Starlette(lifespan=lifespan)\n"
    )
    text = failed("failing:app", "-w", workers, app_dir=tmp_path, status=3)
    assert text.count("raise ConnectionError('no database')") == 1
    assert "startup failed: ConnectionError: no database" in text.splitlines()[-1]


def test_dying_worker(tmp_path: Path) -> None:
    """An application that ends its process while it is imported ends the run."""
    (tmp_path / "dying.py").write_text("import os\nos._exit(7)\n")
    assert "exit status 7" in line_of(failed("dying:app", app_dir=tmp_path, status=3))


def test_address_in_use() -> None:
    """An address that somebody listens on is one line, for TCP and for unix sockets, which stay usable."""
    with tempfile.TemporaryDirectory() as place, socket.create_server(("127.0.0.1", 0)) as taken:
        number = taken.getsockname()[1]
        line = line_of(failed("plain:app", "-b", f"127.0.0.1:{number}", status=1))
        assert f"127.0.0.1:{number}" in line
        assert "in use" in line
        with Server("plain:app", bind=[f"unix:{place}/socket"]):
            assert "in use" in line_of(failed("plain:app", "-b", f"unix:{place}/socket", status=1))
            with Wire(f"{place}/socket") as wire:
                assert wire.get("/hello").answer().status == 200


def test_stale_socket_file(tmp_path: Path) -> None:
    """The socket file of a server that is gone is replaced; a file that is no socket is left alone."""
    path = str(tmp_path / "socket")
    with socket.socket(socket.AF_UNIX) as old:
        old.bind(path)
    with Server("plain:app", bind=[f"unix:{path}"]), Wire(path) as wire:
        assert wire.get("/hello").answer().status == 200
    (tmp_path / "file").write_text("mine")
    line_of(failed("plain:app", "-b", f"unix:{tmp_path}/file", status=1))
    assert (tmp_path / "file").read_text() == "mine"


@pytest.mark.parametrize(
    ("address", "status", "word"),
    [
        ("nonsense", 2, "host:number"),
        ("127.0.0.1:99999", 2, "host:number"),
        ("8000", 2, "did you mean '127.0.0.1:8000'"),
        ("::1:8000", 2, "brackets"),
        ("unix:relative", 2, "unix:/absolute/path"),
        ("192.0.2.1:8000", 1, "no such address"),
        ("no-such-host.invalid:8000", 1, "no-such-host.invalid"),
        ("unix:/nowhere/at/all", 1, "directory does not exist"),
    ],
)
def test_bad_address(address: str, status: int, word: str) -> None:
    """An address that is none, or not this machine's, is one line."""
    assert word in line_of(failed("plain:app", "-b", address, status=status))


@pytest.fixture
def locked() -> Iterator[Path]:
    """A directory that everyone can see and nobody may write to."""
    place = Path(tempfile.mkdtemp())
    place.chmod(stat.S_IRUSR | stat.S_IXUSR | stat.S_IRGRP | stat.S_IXGRP | stat.S_IROTH | stat.S_IXOTH)
    yield place
    place.rmdir()


def test_missing_permission(locked: Path) -> None:
    """A socket file that this user may not make is one line."""
    user = [] if os.geteuid() else ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"]
    probe = [*user, sys.executable, "-c", "import bridge.cli"]
    if (user and not shutil.which("setpriv")) or subprocess.run(probe, cwd="/", check=False).returncode:
        pytest.skip("root cannot run Python as somebody else here")
    command = [*user, *COMMAND, "plain:app", "-b", f"unix:{locked}/socket"]
    result = subprocess.run(command, cwd="/", capture_output=True, text=True, check=False)
    assert result.returncode == 1
    assert "permission denied" in line_of(result.stderr)


@pytest.mark.parametrize(
    ("options", "word"),
    [
        (["--wrokers", "2"], "--workers"),
        (["--host", "0.0.0.0"], "--bind"),
        (["--workers", "none"], "none"),
        (["--workers", "0"], "1 to"),
        (["--log-level", "loud"], "debug, info"),
        (["--forwarded-allow-ips", "proxy"], "IP address"),
        (["--set", "http.max_boddy_size=1"], "max_body_size"),
        (["--set", "memory.queue=5"], "power of two"),
        (["--root-path", "shop"], "starts with /"),
        (["--app-dir", "/nowhere"], "/nowhere"),
    ],
)
def test_wrong_option(options: list[str], word: str) -> None:
    """A wrong option is one line that says what is right."""
    app_dir = None if "--app-dir" in options else APPLICATIONS
    status = 3 if "--app-dir" in options else 2
    assert word in line_of(failed("plain:app", *options, app_dir=app_dir, status=status))


def test_run_function(tmp_path: Path) -> None:
    """`bridge.run` is the command as a function: it returns when it is told to stop."""
    code = "import bridge; bridge.run('small:app', bind='127.0.0.1:0', workers=2); print('returned')"
    with Server("", command=[sys.executable, "-c", code], cwd=write(tmp_path), app_dir=None, bind=()) as server:
        with Wire(server.address) as wire:
            assert wire.get("/").answer().text == "small"
        server.finish()
        assert server.output.text == "returned\n"


def test_run_function_fails(tmp_path: Path) -> None:
    """`bridge.run` raises what the command says in a line."""
    code = "import bridge; bridge.run('smoll:app', bind='127.0.0.1:0')"
    command = [sys.executable, "-c", code]
    result = subprocess.run(command, cwd=write(tmp_path), capture_output=True, text=True, check=False)
    assert result.stderr.splitlines()[-1].startswith('bridge.errors.TargetError: no module "smoll"')


def test_reload(tmp_path: Path) -> None:
    """--reload serves the new source, keeps the old while the new is broken, and serves the one that mends it."""
    with Server("small:app", "--reload", app_dir=write(tmp_path, "first")) as server:

        def served(text: str) -> bool:
            with Wire(server.address) as wire:
                return wire.get("/").answer().text == text

        assert served("first")
        write(tmp_path, "the second")
        server.log.take("small.py has changed\n")
        server.log.take("reloaded\n")
        assert served("the second")
        (tmp_path / "small.py").write_text("raise RuntimeError('half-way')\n")
        server.log.take(r"[^\n]*\[error\] importing[^\n]*\nTraceback[\s\S]*?RuntimeError: half-way\n")
        server.log.take(r"[^\n]*\[error\] not reloaded: the old version goes on serving\n")
        assert served("the second")
        write(tmp_path, "the last of them")
        server.log.take("reloaded\n")
        assert served("the last of them")


def test_a_stop_before_anybody_listens() -> None:
    """TERM at the very beginning is not lost where it is blocked: a container's process 1 gets no other."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    try:
        server = Server("plain:app", ready=False)
        with server:
            server.main.send_signal(signal.SIGTERM)
            assert server.main.wait(PATIENCE) == 0
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
