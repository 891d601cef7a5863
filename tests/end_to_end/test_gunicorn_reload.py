"""HUP and `--reload` of `gunicorn -k bridge.gunicorn.AsgiWorker`: the old version serves until the new one does."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from tests.end_to_end.gunicorn_load import Load
from tests.end_to_end.gunicorn_server import PLAIN, Gunicorn
from tests.end_to_end.server import APPLICATIONS, until
from tests.end_to_end.wire import Wire


def held(server: Gunicorn, wire: Wire, gate: str) -> int:
    """Have a request wait at a gate; returns the worker's process id."""
    wire.get(f"/hold?gate={gate}")
    return int(server.log.take(rf"hold at {gate} in (\d+)\n")[1])


def worker_of(server: Gunicorn) -> int:
    """Process id of the worker that answers now."""
    with Wire(server.address) as wire:
        return int(wire.get("/pid").answer().body)


def test_hup_replaces_workers_without_a_gap() -> None:
    """HUP under load: all workers are new in the end, no request is lost, and the router stays."""
    with Gunicorn("plain:app", "-w", "2") as server:
        before, router = server.workers, server.routers
        with Load(server) as load:
            server.hup()
            server.log.take("reloaded\n")
            until(lambda: len(server.workers) == 2 and not set(before) & set(server.workers), "two new workers")
            seen = load.answers
            until(lambda: load.answers > seen + 50, "the new ones answer")
        assert server.routers == router


def test_hup_reads_the_configuration(tmp_path: Path) -> None:
    """HUP applies a new number of workers, new limits and a new address; a held request is answered by the old."""
    path = tmp_path / "s"
    with Gunicorn("plain:app", bind=(), config=f'bind = "unix:{path}"') as server, Wire(str(path)) as busy:
        held(server, busy, "g")
        new = tmp_path / "new"
        server.config.write_text(f'bind = ["unix:{path}", "unix:{new}"]\nworkers = 3\nkeepalive = 1\n')
        server.hup()
        server.log.take("reloaded\n")
        until(lambda: new.exists() and len(server.routers) == 2, "the new router beside the old one")
        for address in (new, path):
            with Wire(str(address)) as wire:
                assert wire.get("/hello").answer().text == "hello\n"
        server.open("g")
        assert busy.answer().status == 200
        until(lambda: len(server.routers) == 1 and len(server.workers) == 3, "the old ones are gone")


@pytest.mark.parametrize(
    ("config", "line"),
    [
        ("bind = 'nonsense:x:y'", "configuration cannot be used"),
        ("1 / 0", "configuration cannot be used"),
        ("certfile = __file__", "certfile is refused"),
        ("worker_class = 'sync'", "only by a restart"),
        ("limit_request_line = -1", "configuration cannot be used"),
    ],
)
def test_hup_with_a_broken_configuration_changes_nothing(config: str, line: str) -> None:
    """A configuration that cannot be used is named, and everything goes on as it was."""
    good = "worker_class = 'bridge.gunicorn.AsgiWorker'\nbind = '127.0.0.1:0'\n"
    with Gunicorn("plain:app", config=f"{good}workers = 2", bind=(), command=PLAIN) as server:
        before = server.workers
        server.config.write_text(good + config)
        server.hup()
        server.log.take(rf"[^\n]*not reloaded[^\n]*{line}[^\n]*\n")
        server.log.rest = ""  # the traceback of the configuration file is gunicorn's
        assert worker_of(server) in before
        server.config.write_text(f"{good}workers = 1")
        server.hup()
        server.log.take("reloaded\n")
        until(lambda: len(server.workers) == 1, "a good one is taken later")


FULL = """
import os
bind = ["127.0.0.1:0"]
wsgi_app = "plain:app"
pidfile = {pidfile!r}
{more}
"""
RAISES = "def on_reload(server): raise ValueError('no')"
PRELOAD = "preload_app = True\nwsgi_app = 'nowhere:app'"
TAKEN = "bind.append('unix:/proc/nowhere')"


@pytest.mark.parametrize(
    ("pidfile", "more", "line"),
    [
        ("nowhere/pid", "workers = 1", "nowhere doesn't exist"),
        ("other", RAISES, "ValueError: no"),
        ("other", "def nworkers_changed(server, new, old): 1 / 0", "ZeroDivisionError"),
        ("other", PRELOAD, "No module named 'nowhere'"),
        ("other", TAKEN, "said just above"),
        ("other", "import sys; sys.exit(1)", "said just above"),
        ("other", "raw_env = ['NOTHING']", "environment setting 'NOTHING' invalid"),
    ],
)
def test_hup_that_cannot_be_carried_out_changes_nothing(tmp_path: Path, pidfile: str, more: str, line: str) -> None:
    """Whatever step of it fails: the server lives, with the pid file, workers and application that it had."""
    pid, other = tmp_path / "pid", tmp_path / pidfile
    good = FULL.format(pidfile=str(pid), more="")
    with Gunicorn("", config=good, bind=(), environment={"PYTHONPATH": str(APPLICATIONS)}) as server:
        server.main.send_signal(signal.SIGTTIN)
        until(lambda: len(server.workers) == 2, "one more")
        before = server.workers
        server.config.write_text(FULL.format(pidfile=str(other), more=more))
        server.hup()
        server.log.take(rf"[^\n]*not reloaded, the configuration cannot be used: [^\n]*{line}[^\n]*\n")
        assert worker_of(server) in before
        assert server.workers == before
        assert int(pid.read_text()) == server.main.pid
        assert not other.exists()
        server.main.send_signal(signal.SIGTTIN)
        until(lambda: len(server.workers) == 3, "one more, of the same application")
        server.config.write_text(FULL.format(pidfile=str(tmp_path / "new"), more=""))
        server.hup()
        server.log.take("reloaded\n")
        assert not pid.exists()
        assert int((tmp_path / "new").read_text()) == server.main.pid
        server.log.rest = ""  # gunicorn's own lines about what is wrong


@pytest.mark.parametrize("more", [RAISES, "wsgi_app = 'nowhere:app'"], ids=["at once", "in its workers"])
def test_what_is_not_reloaded_is_said_in_the_log_that_stays(tmp_path: Path, more: str) -> None:
    """And when all is as it was: nobody looks into the file of a version that has never served."""
    pid, new = tmp_path / "pid", tmp_path / "log"
    good = FULL.format(pidfile=str(pid), more="")
    with Gunicorn("", config=good, bind=(), environment={"PYTHONPATH": str(APPLICATIONS)}) as server:
        server.config.write_text(FULL.format(pidfile=str(tmp_path / "other"), more=f"errorlog = {str(new)!r}\n{more}"))
        server.hup()
        server.log.take("not reloaded")
        assert "not reloaded" not in new.read_text()
        assert not (tmp_path / "other").exists()
        server.log.rest = ""


def test_hup_with_a_broken_application_keeps_the_pid_file(tmp_path: Path) -> None:
    """The pid file follows when the new version serves, and not before: it may never come to that."""
    pid, other = tmp_path / "pid", tmp_path / "other"
    broken = tmp_path / "broken.py"
    broken.write_text("1 / 0")
    good = FULL.format(pidfile=str(pid), more="")
    path = os.pathsep.join((str(tmp_path), str(APPLICATIONS)))
    with Gunicorn("", config=good, bind=(), environment={"PYTHONPATH": path}) as server:
        before = server.workers
        server.config.write_text(FULL.format(pidfile=str(other), more="wsgi_app = 'broken:app'"))
        server.hup()
        server.log.take("not reloaded: the old version goes on serving\n")
        until(lambda: server.workers == before, "the one that was tried is gone")
        assert worker_of(server) in before
        assert int(pid.read_text()) == server.main.pid
        assert not other.exists()
        server.log.rest = ""


def test_hup_with_a_broken_application_keeps_the_old_one(tmp_path: Path) -> None:
    """A version that does not load is tried once; the old workers serve on, and a repaired one is taken."""
    module = tmp_path / "changing.py"
    good = "from plain import app\n"
    module.write_text(good)
    with Gunicorn("changing:app", "-w", "2", "--pythonpath", str(tmp_path)) as server:
        before = server.workers
        module.write_text("raise ValueError('broken')\n")
        server.hup()
        server.log.take(r"[^\n]*loading the application failed: ValueError: broken\n(?:[^\n]*\n)*?ValueError: broken\n")
        server.log.take(r"[^\n]*not reloaded: the old version goes on serving\n")
        until(lambda: server.workers == before, "the one that was tried is gone")
        assert worker_of(server) in before
        module.write_text(good)
        server.hup()
        server.log.take("reloaded\n")


def test_reload(tmp_path: Path) -> None:
    """With reload a changed file replaces the workers, and nothing else: the router and its addresses stay."""
    module = tmp_path / "changing.py"
    module.write_text("from plain import app\n")
    with Gunicorn("changing:app", "--reload", "--pythonpath", str(tmp_path)) as server:
        before, routers = worker_of(server), server.routers
        module.write_text("from plain import app as other\napp = other\n")
        server.log.take(r"Reloading: [^\n]*changing.py modified\n")
        server.log.take("reloaded\n")
        until(lambda: before not in server.workers, "the old worker is gone")
        assert worker_of(server) in server.workers
        assert server.routers == routers


def test_reload_of_a_broken_file_keeps_the_old_workers(tmp_path: Path) -> None:
    """A file that was saved half done is said; the old workers serve on."""
    module = tmp_path / "changing.py"
    module.write_text("from plain import app\n")
    with Gunicorn("changing:app", "-w", "2", "--reload", "--pythonpath", str(tmp_path)) as server:
        before = server.workers
        module.write_text("raise ValueError('half')\n")
        server.log.take(r"[^\n]*not reloaded: the old version goes on serving\n")
        until(lambda: server.workers == before, "the one that was tried is gone")
        assert worker_of(server) in before
        server.log.rest = ""


SLOW = """
import os, sys, time
print("importing", file=sys.stderr)
while not os.path.exists(os.environ["GATES"] + "/import"):
    time.sleep(0.01)
from plain import app
"""


def test_second_hup_during_the_first(tmp_path: Path) -> None:
    """What the second one reads is what serves in the end, whatever the first had begun; no address is closed."""
    (tmp_path / "slow.py").write_text(SLOW)
    first, second = tmp_path / "first", tmp_path / "second"
    with Gunicorn("slow:app", "--pythonpath", str(tmp_path), bind=(), config=HUPPED, ready=False) as server:
        server.open("import")
        server.wait_ready()
        server.log.take("importing\n")
        (server.gates / "import").unlink()
        before = server.workers
        server.config.write_text(f"{HUPPED}bind.append('unix:{first}')\nworkers = 3\n")
        server.hup()
        server.log.take("importing\n")
        assert first.exists()
        server.config.write_text(f"{HUPPED}bind.append('unix:{second}')\nworkers = 2\n")
        server.hup()
        server.log.take("given up")
        server.log.take("importing\n")
        assert worker_of(server) in before
        server.open("import")
        server.log.take("reloaded\n")
        until(lambda: len(server.workers) == 2 and not set(before) & set(server.workers), "two new workers")
        until(lambda: len(server.routers) == 1, "one router")
        assert not first.exists()
        for address in (server.address, str(second)):
            with Wire(address) as wire:
                assert int(wire.get("/pid").answer().body) in server.workers


HUPPED = "bind = ['127.0.0.1:0']\n"
