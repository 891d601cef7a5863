"""`gunicorn -k bridge.gunicorn.AsgiWorker`: a user's gunicorn, with Bridge's router in front of its workers."""

from __future__ import annotations

import os
import signal
from pathlib import Path

from tests.end_to_end.gunicorn_load import Load
from tests.end_to_end.gunicorn_server import Gunicorn
from tests.end_to_end.server import until
from tests.end_to_end.wire import Wire


def held(server: Gunicorn, wire: Wire, gate: str) -> int:
    """Have a request wait at a gate; returns the worker's process id."""
    wire.get(f"/hold?gate={gate}")
    return int(server.log.take(rf"hold at {gate} in (\d+)\n")[1])


def worker_of(server: Gunicorn) -> int:
    """Process id of the worker that answers now."""
    with Wire(server.address) as wire:
        return int(wire.get("/pid").answer().body)


def refused(server: Gunicorn) -> bool:
    """Whether a new connection is refused."""
    try:
        with Wire(server.address):
            return False
    except ConnectionRefusedError:
        return True


# --- signals ------------------------------------------------------------------------------------------------


def test_term_finishes_what_runs() -> None:
    """TERM closes the idle, answers what runs, refuses the rest, and ends with status 0."""
    with Gunicorn("plain:app", "-w", "2") as server, Wire(server.address) as busy, Wire(server.address) as idle:
        idle.get("/hello").answer()
        held(server, busy, "end")
        server.main.send_signal(signal.SIGTERM)
        assert idle.ended()
        until(lambda: refused(server), "nobody listens any more")
        server.open("end")
        answer = busy.answer()
        assert (answer.status, answer.fields["connection"]) == (200, "close")
        server.finish()
        assert server.log.text.count("shut down") == 2


def test_graceful_timeout() -> None:
    """What still runs after graceful_timeout is ended, and the application is told to shut down."""
    with Gunicorn("plain:app", "--graceful-timeout", "1") as server, Wire(server.address) as busy:
        held(server, busy, "never")
        server.main.send_signal(signal.SIGTERM)
        assert busy.answer().status == 503
        assert server.main.wait(20) == 0
        server.log.take("shut down\n")
        server.log.take(r"[^\n]*cancelled, the server stops[^\n]*\n")


def test_term_while_importing(tmp_path: Path) -> None:
    """An import that goes on after TERM is given some seconds, not all of graceful_timeout."""
    (tmp_path / "slow.py").write_text("import time, sys\nprint('importing', file=sys.stderr)\ntime.sleep(600)\n")
    arguments = ("--pythonpath", str(tmp_path), "--graceful-timeout", "600")
    with Gunicorn("slow:app", *arguments, ready=False) as server:
        server.log.take("importing\n")
        server.main.send_signal(signal.SIGTERM)
        assert server.main.wait(60) == 0


def test_int_while_importing(tmp_path: Path) -> None:
    """Nobody waits for an import that takes long."""
    (tmp_path / "slow.py").write_text("import time, sys\nprint('importing', file=sys.stderr)\ntime.sleep(60)\n")
    with Gunicorn("slow:app", "-w", "2", "--pythonpath", str(tmp_path), ready=False) as server:
        server.log.take("importing\n")
        server.main.send_signal(signal.SIGINT)
        assert server.main.wait(20) == 0


def test_int_is_quick() -> None:
    """INT waits for no request."""
    with Gunicorn("plain:app") as server, Wire(server.address) as busy:
        held(server, busy, "never")
        server.main.send_signal(signal.SIGINT)
        assert busy.ended()
        server.log.all()
        server.log.take(r"[^\n]*cancelled, the server stops[^\n]*\n") if "cancelled" in server.log.rest else None


def test_ttin_and_ttou() -> None:
    """TTIN and TTOU change the number of workers by one each; the one that leaves answers its request first."""
    with Gunicorn("plain:app") as server:
        for count in (2, 3):
            server.main.send_signal(signal.SIGTTIN)
            until(lambda count=count: len(server.workers) == count, "one more")  # type: ignore[misc]
        (oldest, *_) = server.workers
        assert worker_of(server)
        with Load(server):
            for count in (2, 1):
                server.main.send_signal(signal.SIGTTOU)
                until(lambda count=count: len(server.workers) == count, "one fewer")  # type: ignore[misc]
        assert oldest not in server.workers
        server.main.send_signal(signal.SIGTTOU)
        until(lambda: server.log.text.count("Handling signal: ttou") == 3, "it was heard")
        assert len(server.workers) == 1


def test_usr1_opens_the_logs_anew(tmp_path: Path) -> None:
    """USR1: error log and access log go on in new files, when the old ones were moved away."""
    access, error = tmp_path / "access", tmp_path / "error"
    with Gunicorn("plain:app", "--access-logfile", str(access), "--error-logfile", str(error), ready=False) as server:
        until(lambda: error.exists() and "bridged" in error.read_text(), "it serves")
        host, number = error.read_text().split("http://")[-1].split(" ")[0].rsplit(":", 1)
        server.address = (host, int(number))
        with Wire(server.address) as wire:
            wire.get("/hello").answer()
            until(lambda: "GET /hello" in access.read_text(), "the request is logged")
            for path in (access, error):
                path.rename(path.with_suffix(".1"))
            server.main.send_signal(signal.SIGUSR1)
            until(lambda: access.exists() and error.exists(), "new files")
            wire.get("/pid").answer()
            until(lambda: "GET /pid" in access.read_text(), "the request is logged")


def test_usr2_and_the_end_of_the_old_master(tmp_path: Path) -> None:
    """USR2: another master serves on the same sockets; the old one ends, and no request is lost."""
    pidfile = tmp_path / "pid"
    with Gunicorn("plain:app", "--pid", str(pidfile)) as server:
        old = server.main.pid
        with Load(server, requests=1):
            server.main.send_signal(signal.SIGUSR2)
            server.log.take("bridged [^ ]+ serves [^\n]*\n")
            new = int(Path(f"{pidfile}.2").read_text())
            server.main.send_signal(signal.SIGTERM)
            assert server.main.wait(20) == 0
            until(lambda: pidfile.exists() and int(pidfile.read_text()) == new, "the new master is promoted")
        assert old != new
        os.kill(new, signal.SIGTERM)


# --- deaths -------------------------------------------------------------------------------------------------


def test_killed_router_is_replaced() -> None:
    """SIGKILL of the router: the next one serves on the same address with the living workers."""
    with Gunicorn("plain:app") as server:
        worker = worker_of(server)
        (router,) = server.routers
        os.kill(router, signal.SIGKILL)
        server.kill(router)
        assert worker_of(server) == worker
        assert server.routers != [router]


def test_killed_worker_costs_its_request() -> None:
    """SIGKILL of a worker: 502 for what it ran, a new worker for everybody else."""
    with Gunicorn("plain:app") as server, Wire(server.address) as busy:
        pid = held(server, busy, "never")
        os.kill(pid, signal.SIGKILL)
        assert busy.answer().status == 502
        server.log.take(rf"[^\n]*Worker \(pid:{pid}\) ended: signal SIGKILL\n")
        assert worker_of(server) != pid
        until(lambda: len(server.workers) == 1, "one worker")


def test_killed_master_leaves_nothing(tmp_path: Path) -> None:
    """SIGKILL of the master: router and workers leave, and the socket file is removed."""
    path = tmp_path / "s"
    with Gunicorn("plain:app", "-w", "2", bind=(f"unix:{path}",)) as server:
        server.status = -signal.SIGKILL
        server.main.kill()
        until(lambda: not server.living(), "everybody has left")
        assert not path.exists()


def test_standing_worker_is_killed() -> None:
    """A worker whose loop stands still beyond timeout is aborted, its place shown in the log, and replaced."""
    with Gunicorn("plain:app", "--timeout", "1") as server, Wire(server.address) as busy:
        before = worker_of(server)
        busy.get("/block?gate=never")
        server.log.take(r"[^\n]*WORKER TIMEOUT \(pid:\d+\)[^\n]*\n")
        assert busy.answer().status == 502
        assert worker_of(server) != before
        server.log.rest = ""  # the stack of the worker, and how it ended


# --- workers that come and go -------------------------------------------------------------------------------


def test_max_requests_under_load() -> None:
    """Workers are replaced after max_requests requests, while clients notice nothing."""
    with Gunicorn("plain:app", "-w", "2", "--max-requests", "50", "--max-requests-jitter", "10") as server:
        with Load(server) as one, Load(server) as two:
            until(lambda: len(one.pids | two.pids) > 6, "several generations have answered")
        server.log.take(r"has served \d+ requests")


def test_preload() -> None:
    """With preload_app the master loads the application, once."""
    with Gunicorn("plain:app", "-w", "2", "--preload") as server:
        assert worker_of(server) in server.workers
        with Load(server):
            server.hup()
            server.log.take("reloaded\n")
