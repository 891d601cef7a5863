"""What a user's gunicorn command line, configuration file and hooks do when Bridge's workers are chosen."""

from __future__ import annotations

import os
import signal
import socket
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


def test_user_without_a_name() -> None:
    """A number that no user has, as in containers, is a user all the same; initgroups has no groups to add then."""
    if os.getuid() != 0:
        pytest.skip("only root can become somebody else")
    with Gunicorn("plain:app", "--user", "54321", "--group", "54321", "--initgroups") as server:
        for pid in (*server.routers, *server.workers):
            lines = Path(f"/proc/{pid}/status").read_text().splitlines()
            assert next(line.split()[1:] for line in lines if line.startswith("Uid:")) == ["54321"] * 4
        assert worker_of(server) in server.workers


def test_access_log_that_the_user_may_not_open(tmp_path: Path) -> None:
    """The router says that it cannot open the file, and everything ends in order, without a second try."""
    if os.getuid() != 0:
        pytest.skip("only root can become somebody else")
    tmp_path.chmod(0o700)
    options = ("--user", "65534", "--group", "65534", "--access-logfile", str(tmp_path / "log"))
    with Gunicorn("plain:app", *options, ready=False) as server:
        server.status = 3
        server.log.take(r"[^\n]*\[CRITICAL\] router \(pid \d+\): access_log: cannot open [^\n]*Permission denied\n")
        server.log.take(r"[^\n]*the router \(pid \d+\) ended before it served: exit status 0\n")
        server.log.take(r"[^\n]*\[ERROR\] Shutting down[^\n]*\n")
        server.log.take(r"[^\n]*\[ERROR\] Reason: The router did not start.\n")
        server.finish()


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


def test_inherited_socket() -> None:
    """An address may be a descriptor that somebody else has opened."""
    with socket.create_server(("127.0.0.1", 0)) as opened:
        opened.set_inheritable(True)
        with Gunicorn("plain:app", bind=(f"fd://{opened.fileno()}",), inherited=(opened.fileno(),)) as server:
            assert server.address == opened.getsockname()
            assert worker_of(server) in server.workers


def test_users_logging(tmp_path: Path) -> None:
    """Bridge's lines, the router's too, and the access log go where the user's logging configuration says."""
    path = tmp_path / "log"
    config = f"""
logconfig_dict = {{
    "root": {{"level": "INFO", "handlers": ["file"]}},
    "formatters": {{"short": {{"format": "%(name)s:%(levelname)s:%(message)s"}}}},
    "handlers": {{"file": {{"class": "logging.FileHandler", "filename": "{path}", "formatter": "short"}}}},
    "loggers": {{name: {{"handlers": ["file"], "level": "INFO", "propagate": False}}
                for name in ("gunicorn.error", "gunicorn.access")}},
}}
access_log_format = "%(r)s"
"""
    with Gunicorn("plain:app", config=config, ready=False) as server:
        until(lambda: path.exists() and "bridged" in path.read_text(), "it serves")
        host, _, number = path.read_text().partition("on http://")[2].partition(" ")[0].partition(":")
        server.address = (host, int(number))
        with Wire(server.address) as wire:
            wire.get("/hello").answer()
        until(lambda: "gunicorn.access:INFO:GET /hello HTTP/1.1\n" in path.read_text(), "the request is logged")
        (router,) = server.routers
        os.kill(router, signal.SIGKILL)
        until(lambda: f"gunicorn.error:ERROR:the router (pid {router}) ended" in path.read_text(), "its end is logged")
        assert worker_of(server)


def test_error_log_takes_output_of_the_application(tmp_path: Path) -> None:
    """With capture_output what the application prints stands in the error log."""
    path = tmp_path / "log"
    with Gunicorn("plain:app", "--error-logfile", str(path), "--capture-output", ready=False) as server:
        until(lambda: path.exists() and "bridged" in path.read_text(), "it serves")
        server.main.send_signal(signal.SIGTERM)
        assert server.main.wait(20) == 0
        assert "shut down" in path.read_text()


def test_dirty_workers_are_kept(tmp_path: Path) -> None:
    """Gunicorn's dirty arbiter is started again when it dies, and ends with the rest."""
    (tmp_path / "dirty.py").write_text(
        "from gunicorn.dirty.app import DirtyApp\n"
        "class App(DirtyApp):\n"
        "    def init(self): pass\n"
        "    def __call__(self, action, *args, **kwargs): return 1\n"
        "    def close(self): pass\n"
    )
    config = 'dirty_apps = ["dirty:App"]\ndirty_workers = 1\n'
    with Gunicorn("plain:app", "--pythonpath", str(tmp_path), config=config) as server:
        worker = worker_of(server)
        (arbiter,) = set(server.workers) - {worker}
        os.kill(arbiter, signal.SIGTERM)  # by KILL it would leave its worker behind, also without Bridge
        until(lambda: set(server.workers) - {worker, arbiter}, "another one")
        assert worker_of(server) == worker


ABORTED = """
def worker_abort(worker): worker.log.info("hook: abort %s", worker.pid)
def worker_exit(server, worker): worker.log.info("hook: exit %s", worker.pid)
def child_exit(server, worker): server.log.info("hook: child %s", worker.pid)
def pre_exec(server): server.log.info("hook: exec")
"""


def test_hooks_of_an_abort() -> None:
    """A worker that stands still has its hooks called before it is killed."""
    with Gunicorn("plain:app", "--timeout", "1", config=ABORTED) as server, Wire(server.address) as busy:
        busy.get("/block?gate=never")
        pid = server.log.take(r"WORKER TIMEOUT \(pid:(\d+)\)")[1]
        for hook in ("abort", "exit", "child"):
            server.log.take(rf"hook: {hook} {pid}\n")
        assert busy.answer().status == 502
        server.log.rest = ""
