"""`gunicorn -k bridge.gunicorn.WsgiWorker`: threads behind the router, under a user's gunicorn."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from tests.end_to_end.gunicorn_load import Load
from tests.end_to_end.gunicorn_server import ASGI, WSGI, Gunicorn
from tests.end_to_end.server import APPLICATIONS, until
from tests.end_to_end.wire import Wire


def held(server: Gunicorn, wire: Wire, gate: str) -> int:
    """Have a request wait at a gate; returns the worker's process id."""
    wire.get(f"/hold?gate={gate}")
    return int(server.log.take(rf"hold at {gate} in (\d+)\n")[1])


def test_threads_run_at_once() -> None:
    """A worker runs as many requests at once as `threads` says."""
    with Gunicorn("threaded:app", "--threads", "3", environment={"TOGETHER": "3"}, command=WSGI) as server:
        wires = [Wire(server.address).get("/who") for _ in range(3)]
        answers = {wire.answer().text for wire in wires}
        for wire in wires:
            wire.socket.close()
        assert len(answers) == 3
        assert len({answer.split()[0] for answer in answers}) == 1


def test_hup_term_and_max_requests_lose_nothing() -> None:
    """Workers come and go by max_requests, HUP, TTIN and TTOU under load; TERM finishes what runs."""
    options = ("-w", "2", "--threads", "2", "--max-requests", "50")
    with Gunicorn("threaded:app", *options, command=WSGI) as server:
        before = server.workers
        with Load(server) as one, Load(server) as two:
            until(lambda: len(one.pids | two.pids) > 4, "several generations have answered")
            server.hup()
            server.log.take("reloaded\n")
            server.main.send_signal(signal.SIGTTIN)
            server.log.take("Handling signal: ttin\n")
            server.main.send_signal(signal.SIGTTOU)
            server.log.take("Handling signal: ttou\n")
            until(lambda: not set(before) & set(server.workers), "the old ones are gone")
        with Wire(server.address) as busy:
            held(server, busy, "end")
            server.main.send_signal(signal.SIGTERM)
            server.log.take("Stopping")
            server.open("end")
            assert busy.answer().text == "held\n"


def test_killed_router_and_worker() -> None:
    """The next router finds the living worker; the death of a worker costs what it ran."""
    with Gunicorn("threaded:app", command=WSGI) as server:
        (router,), (worker,) = server.routers, server.workers
        os.kill(router, signal.SIGKILL)
        server.kill(router)
        with Wire(server.address) as wire:
            assert int(wire.get("/pid").answer().text) == worker
        with Wire(server.address) as busy:
            held(server, busy, "never")
            os.kill(worker, signal.SIGKILL)
            assert busy.answer().status == 502
        server.log.take(rf"[^\n]*Worker \(pid:{worker}\) ended: signal SIGKILL\n")
        with Wire(server.address) as wire:
            assert int(wire.get("/pid").answer().text) != worker


def test_new_router_beside_a_held_request(tmp_path: Path) -> None:
    """HUP with other limits: a request of the old router is answered, and the new one has the new limits."""
    path = tmp_path / "s"
    with Gunicorn("threaded:app", "--threads", "2", bind=(f"unix:{path}",), command=WSGI) as server:
        (old,) = server.routers
        with Wire(str(path)) as busy:
            held(server, busy, "g")
            server.config.write_text("limit_request_line = 100")
            server.hup()
            server.log.take("reloaded\n")
            until(lambda: refuses_long_lines(path), "the new limit")
            server.open("g")
            assert busy.answer().text == "held\n"
        until(lambda: old not in server.routers, "the old router is gone")


def test_more_threads(tmp_path: Path) -> None:
    """HUP with more threads: new workers serve the old router with as many as it knows of, the new one with all."""
    path = tmp_path / "s"
    with Gunicorn("threaded:app", config="threads = 2", bind=(f"unix:{path}",), command=WSGI) as server:
        (worker,) = server.workers
        with Wire(str(path)) as one, Wire(str(path)) as two, Wire(str(path)) as late:
            for wire in (one, two):
                held(server, wire, "old")  # the old router stays for their sake
            late.get("/pid")
            server.config.write_text("threads = 4\nlimit_request_line = 100")
            server.hup()
            server.log.take("reloaded\n")
            until(lambda: refuses_long_lines(path), "the new router")
            (new,) = set(server.workers) - {worker}
            wires = [Wire(str(path)) for _ in range(4)]
            assert {held(server, wire, "new") for wire in wires} == {new}
            server.open("new")
            assert [wire.answer().text for wire in wires] == ["held\n"] * 4
            for wire in wires:
                wire.socket.close()
            assert int(late.answer().text) == new
            server.open("old")
            assert one.answer().text == two.answer().text == "held\n"


def refuses_long_lines(path: Path) -> bool:
    """Whether a request line of more than 100 bytes is too long."""
    with Wire(str(path)) as wire:
        return wire.get("/hello?" + "x" * 100).answer().status == 414


def test_hooks_and_access_log(tmp_path: Path) -> None:
    """Hooks and the user's access log see status, headers and size of lists, iterators, files and failures."""
    notes = tmp_path / "notes"
    config = f"""
accesslog = "{tmp_path / "access"}"
access_log_format = "%(m)s %(U)s %(s)s %(B)s"
def post_request(worker, req, environ, resp):
    with open("{notes}", "a") as file:
        file.write(f"{{req.path}} {{environ['QUERY_STRING']}} {{resp.status}} {{resp.sent}}\\n")
"""
    with Gunicorn("threaded:app", config=config, command=WSGI) as server, Wire(server.address) as wire:
        hello = wire.get("/hello").answer()
        assert (hello.text, hello.fields["content-length"]) == ("hello\n", "6")
        assert len(wire.get("/pieces?size=5000").answer().body) == 5000
        assert len(wire.get("/file?size=70000").answer().body) == 70000
        assert wire.get("/nothing").answer().status == 500
        server.log.take(r"(?s)[^\n]*\[ERROR\] exception in the application: GET /nothing.*KeyError: 'nothing'\n")
        until(lambda: notes.exists() and notes.read_text().count("\n") == 4, "all hooks have run")
        assert notes.read_text().splitlines() == [
            "/hello  200 OK 6",
            "/pieces size=5000 200 OK 5000",
            "/file size=70000 200 OK 70000",
            "/nothing  500 Internal Server Error 0",
        ]
        server.log.take("pieces: closed, False\n")
        assert (tmp_path / "access").read_text().splitlines()[0] == "GET /hello 200 6"


def test_script_name() -> None:
    """SCRIPT_NAME in the environment is moved from the path, as under gunicorn."""
    with Gunicorn("threaded:app", environment={"SCRIPT_NAME": "/shop"}, command=WSGI) as server:
        for path in ("/shop/hello", "/hello"):
            with Wire(server.address) as wire:
                assert wire.get(path).answer().text == "hello\n"


@pytest.mark.parametrize(("target", "command"), [("threaded:app", ASGI), ("plain:app", WSGI)])
def test_application_of_the_other_kind(target: str, command: tuple[str, ...]) -> None:
    """An application that the worker class is not for ends the start with one line that says so."""
    with Gunicorn(target, command=command, ready=False) as server:
        server.status = 3
        assert server.main.wait(20) == 3
        server.log.take(rf'\[ERROR\] "{target}" is an? (?:WSGI|ASGI) application[^\n]*\n')
        server.log.rest = ""


def together(server: Gunicorn, count: int) -> None:
    """Have so many requests meet in one worker: none is answered before all of them run."""
    wires = [Wire(server.address).get("/who") for _ in range(count)]
    answers = {wire.answer().text for wire in wires}
    for wire in wires:
        wire.socket.close()
    assert len(answers) == count


def test_hup_changes_the_number_of_threads() -> None:
    """More threads and fewer come with a HUP, under load: all of them run requests, and none is lost."""
    with Gunicorn("threaded:app", config="threads = 1", environment={"TOGETHER": "3"}, command=WSGI) as server:
        for threads in (3, 1, 3):
            before = server.workers
            server.config.write_text(f"threads = {threads}")
            with Load(server, requests=1):
                server.hup()
                server.log.take("reloaded\n")
                until(lambda before=before: not set(before) & set(server.workers), "the old one is gone")  # type: ignore[misc]
                until(lambda: len(server.routers) == 1, "and its router")
        together(server, 3)
        until(lambda: len(server.workers) == 1, "one worker")  # a router that is about to end has no name any more


def test_hup_to_many_workers() -> None:
    """Workers for whom the router had no room have a new router before they are started."""
    with Gunicorn("threaded:app", config="workers = 1", command=WSGI) as server:
        (router,) = server.routers
        server.config.write_text("workers = 70")
        with Load(server, requests=1):
            server.hup()
            server.log.take("reloaded\n")
        until(lambda: len(server.workers) == 70, "all are there")
        until(lambda: len(server.routers) == 1 and server.routers != [router], "one router")


def test_ttin_beyond_the_room_of_the_router() -> None:
    """The router is replaced when the number of workers has outgrown it."""
    with Gunicorn("threaded:app", "-w", "16", command=WSGI) as server:
        (router,) = server.routers
        with Load(server, requests=1):
            server.main.send_signal(signal.SIGTTIN)
            until(lambda: len(server.workers) == 17, "one more")
            until(lambda: len(server.routers) == 1 and server.routers != [router], "one router")


def test_hup_changes_the_application() -> None:
    """Another application of another name serves after a HUP, though the router knew the first by its name."""
    environment = {"PYTHONPATH": str(APPLICATIONS)}
    command = (*WSGI, "--chdir", str(APPLICATIONS))
    with Gunicorn(
        "", config="wsgi_app = proc_name = 'threaded:app'", environment=environment, command=command
    ) as server:
        before = server.workers
        server.config.write_text("wsgi_app = proc_name = 'wsgi_plain:app'")
        server.hup()
        server.log.take("reloaded\n")
        until(lambda: not set(before) & set(server.workers), "the old one is gone")
        with Wire(server.address) as wire:
            assert wire.get("/hello").answer().status == 200
