"""What a user's gunicorn command line, configuration file and hooks do when Bridge's workers are chosen."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import pytest

from tests.end_to_end.gunicorn_server import Gunicorn
from tests.end_to_end.server import until
from tests.end_to_end.wire import Wire


def worker_of(server: Gunicorn) -> int:
    """Process id of the worker that answers now."""
    with Wire(server.address) as wire:
        return int(wire.get("/pid").answer().body)


# --- the start ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("target", "status", "line"),
    [
        ("nowhere:app", 3, "No module named 'nowhere'"),
        ("plain:missing", 4, "Failed to find attribute 'missing' in 'plain'"),
        ("plain:say", 3, "plain:say"),
    ],
)
def test_broken_application_ends_the_start(target: str, status: int, line: str) -> None:
    """An application that cannot be loaded ends everything with gunicorn's status, and is named."""
    with Gunicorn(target, "-w", "2", ready=False) as server:
        server.status = status
        assert server.main.wait(20) == status
        server.log.take(line)
        server.log.rest = ""


@pytest.mark.parametrize(
    "option",
    [
        ("--certfile", __file__),
        ("--reuse-port",),
        ("--proxy-protocol",),
        ("--forwarder-headers", "REMOTE_USER"),
        ("--header-map", "dangerous"),
        ("--strip-header-spaces",),
    ],
)
def test_refused_setting(option: tuple[str, ...], tmp_path: Path) -> None:
    """A setting that security hangs on and that is not honoured ends the start, and leaves nothing."""
    path, pid = tmp_path / "s", tmp_path / "pid"
    with Gunicorn("plain:app", *option, "--pid", str(pid), bind=(f"unix:{path}",), ready=False) as server:
        server.status = 1
        server.log.take(rf"\[ERROR\] [^\n]*{option[0].removeprefix('--').replace('-', '_')} is refused: [^\n]*\n")
        server.log.take(r"[^\n]*\[ERROR\] Shutting down[^\n]*\n")
        server.log.take(r"[^\n]*\[ERROR\] Reason: Bridge cannot serve this configuration[^\n]*\n")
        assert server.main.wait(20) == 1
        assert not pid.exists()


def test_setting_without_effect_is_said() -> None:
    """A changed setting that is not honoured is named; the server starts."""
    with Gunicorn("plain:app", "--threads", "4", config="asgi_lifespan = 'off'") as server:
        server.log.take(r"[^\n]*\[WARNING\] asgi_lifespan has no effect: [^\n]*\n")
        server.log.take(r"[^\n]*\[WARNING\] threads has no effect: [^\n]*\n")
        assert worker_of(server)


def test_unix_address_and_pidfile(tmp_path: Path) -> None:
    """A socket file appears with the umask that was asked for, and goes with the pid file in the end."""
    path, pid = tmp_path / "s", tmp_path / "pid"
    with Gunicorn("plain:app", "--pid", str(pid), "-m", "007", bind=(f"unix:{path}",)) as server:
        assert path.stat().st_mode & 0o777 == 0o770
        assert int(pid.read_text()) == server.main.pid
        with Wire(str(path)) as wire:
            assert wire.get("/hello").answer().text == "hello\n"
    assert not path.exists()
    assert not pid.exists()


HOOKS = """
import os
def note(name, *details):
    with open(os.environ["NOTES"], "a") as file:
        file.write(" ".join([name, *map(str, details)]) + f" in {os.getpid()}\\n")
def on_starting(server): note("on_starting")
def on_reload(server): note("on_reload")
def when_ready(server): note("when_ready", len(server.LISTENERS))
def pre_fork(server, worker): note("pre_fork", worker.age)
def post_fork(server, worker): note("post_fork", worker.age)
def post_worker_init(worker): note("post_worker_init", worker.wsgi.__name__)
def worker_int(worker): note("worker_int", worker.pid)
def worker_abort(worker): note("worker_abort", worker.pid)
def pre_request(worker, req): note("pre_request", req.method, req.uri, req.path, req.query, req.version)
def post_request(worker, req, environ, resp):
    note("post_request", dict(req.headers)["X-ASKED"], environ["REQUEST_METHOD"], resp.status, resp.sent)
def child_exit(server, worker): note("child_exit", worker.pid)
def worker_exit(server, worker): note("worker_exit", worker.pid)
def nworkers_changed(server, new, old): note("nworkers_changed", new, old)
def on_exit(server): note("on_exit")
"""


def test_every_hook_runs_where_gunicorn_runs_it(tmp_path: Path) -> None:
    """Each hook is called in the process, at the time and with the arguments that gunicorn documents."""
    notes = tmp_path / "notes"
    with Gunicorn("plain:app", config=HOOKS, environment={"NOTES": str(notes)}) as server:
        master, worker = server.main.pid, worker_of_hooks(server)
        server.hup()
        server.log.take("reloaded\n")
        until(lambda: f"child_exit {worker} in {master}" in notes.read_text(), "the old worker is gone")
        (second,) = server.workers
        server.main.send_signal(signal.SIGQUIT)
        assert server.main.wait(20) == 0
    lines = notes.read_text().splitlines()
    assert lines == [
        f"nworkers_changed 1 None in {master}",
        f"on_starting in {master}",
        f"when_ready 1 in {master}",
        f"pre_fork 1 in {master}",
        f"post_fork 1 in {worker}",
        f"post_worker_init app in {worker}",
        f"pre_request GET /pid?a=b%20c /pid a=b%20c (1, 1) in {worker}",
        f"post_request yes GET 200 {len(str(worker))} in {worker}",
        f"nworkers_changed 1 1 in {master}",
        f"on_reload in {master}",
        f"pre_fork 2 in {master}",
        f"post_fork 2 in {second}",
        f"post_worker_init app in {second}",
        f"worker_exit {worker} in {worker}",
        f"child_exit {worker} in {master}",
        f"worker_int {second} in {second}",
        f"worker_exit {second} in {second}",
        f"child_exit {second} in {master}",
        f"on_exit in {master}",
    ]


def worker_of_hooks(server: Gunicorn) -> int:
    """The worker's process id, by a request with a query and a field."""
    with Wire(server.address) as wire:
        return int(wire.get("/pid?a=b%20c", "X-Asked: yes").answer().body)


# --- logs ---------------------------------------------------------------------------------------------------


def test_access_log_in_the_users_format(tmp_path: Path) -> None:
    """With a format of the user's the workers write the access log, through gunicorn's logger."""
    path = tmp_path / "access"
    form = "%(m)s %(U)s %(q)s %(s)s %(B)s %({x-asked}i)s %(h)s"
    with Gunicorn("plain:app", "--access-logfile", str(path), "--access-logformat", form) as server:
        with Wire(server.address) as wire:
            wire.get("/hello?a=1", "X-Asked: yes").answer()
        until(path.read_text, "the line is there")
        assert path.read_text() == "GET /hello a=1 200 6 yes 127.0.0.1\n"


def test_limits_of_heads() -> None:
    """Request lines, fields and their number are refused beyond gunicorn's limits, on every request."""
    limits = ("--limit-request-line", "100", "--limit-request-field_size", "200", "--limit-request-fields", "5")
    with Gunicorn("plain:app", *limits) as server:
        for path, fields, status in (
            ("/hello?" + "x" * 70, (), 200),
            ("/hello?" + "x" * 90, (), 414),
            ("/hello", ("X: " + "x" * 190,), 200),
            ("/hello", ("X: " + "x" * 200,), 431),
            ("/hello", ("X: x",) * 4, 200),
            ("/hello", ("X: x",) * 5, 431),
        ):
            with Wire(server.address) as wire:
                assert wire.get("/hello").answer().status == 200
                assert wire.get(path, *fields).answer().status == status


def test_privileges_are_given_up(tmp_path: Path) -> None:
    """With user and group set, router and workers run as these; the master does not."""
    if os.getuid() != 0:
        pytest.skip("only root can become somebody else")
    path = tmp_path / "s"
    with Gunicorn("plain:app", "--user", "65534", "--group", "65534", bind=(f"unix:{path}",)) as server:
        for pid in (*server.routers, *server.workers):
            lines = Path(f"/proc/{pid}/status").read_text().splitlines()
            ids = [line.split()[1:] for line in lines if line.startswith(("Uid:", "Gid:"))]
            assert ids == [["65534"] * 4] * 2
        with Wire(str(path)) as wire:
            assert wire.get("/hello").answer().text == "hello\n"


def test_idle_server_does_nothing() -> None:
    """A server without requests uses next to no time."""
    with Gunicorn("plain:app") as server:
        worker_of(server)
        ticks = [used(process.pid) for process in server.living()]
        time.sleep(1.0)  # what is measured is that nothing happens
        assert sum(used(process.pid) for process in server.living()) - sum(ticks) <= 10


def used(pid: int) -> int:
    """Processor time of a process, in hundredths of a second."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return int(fields[11]) + int(fields[12])
