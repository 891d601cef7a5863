"""The supervision of real processes: who is started, restarted, told and killed, and in which order.

Router and server are stand-ins (`stand_in.py`), main and the prototype are real.
"""

from __future__ import annotations

import os
import signal
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.running import Running, alive, wait_for


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Running]:
    """A server to start; whatever is left of it is killed, and nothing may be left."""
    running = Running(tmp_path)
    yield running
    if running.process:
        running.process.kill()
        running.process.wait()
    pids = {*running.pids("booting"), *running.routers()}
    wait_for(lambda: not any(map(alive, pids)), f"the end of all of {pids}")


def test_term_ends_all_in_order(server: Running) -> None:
    """TERM drains the router first, then lets the workers leave, and main ends with status 0."""
    workers = server.begin()
    server.send(signal.SIGTERM)
    assert server.ended() == 0
    assert sorted(server.pids("left")) == sorted(workers)
    events = [line.split()[0] + " " + line.split()[1] for line in server.events()]
    assert events.index("router drain") < min(events.index(f"left {pid}") for pid in workers)


def test_announcement_names_the_real_address(server: Running) -> None:
    """The line that says where the server is shows the number that the kernel chose."""
    server.begin()
    number = int(server.log().partition("http://127.0.0.1:")[2].split()[0])
    socket.create_connection(("127.0.0.1", number)).close()
    assert "serves m on" in server.log()
    assert "with 2 workers" in server.log()


def serves_when_all_may_attach(server: Running) -> None:
    """It has not said that it serves, and does as soon as nobody is kept from the router."""
    server.send(signal.SIGHUP)
    wait_for(lambda: "reloaded" in server.log(), "main has heard of two that are ready, and of all before that")
    assert "serves" not in server.log()
    (server.place / "strange").unlink()
    wait_for(lambda: "serves m on" in server.log())


def test_it_serves_when_the_router_has_the_workers(server: Running) -> None:
    """Who reads that it serves finds a router that knows what its applications are; not before is it said."""
    (server.place / "strange").touch()
    server.start()
    wait_for(lambda: len(server.pids("ready")) == 2)
    serves_when_all_may_attach(server)


def test_a_router_that_dies_takes_its_workers_along(server: Running) -> None:
    """Those that had attached to it have to attach to the next one before it is said that it serves."""
    (server.place / "strange").write_text("2")
    server.start()
    wait_for(lambda: len(server.pids("ready")) == 2)
    wait_for(lambda: "router attached 2" in server.events())
    (server.place / "strange").write_text("3")
    os.kill(server.routers()[0], signal.SIGKILL)
    wait_for(lambda: "router attached 3" in server.events())
    serves_when_all_may_attach(server)


def test_children_do_not_see_what_is_for_main(server: Running) -> None:
    """NOTIFY_SOCKET and GUNICORN_FD are not inherited; the router gets page, settings and listening socket."""
    server.begin()
    assert f"router configured {server.routers()[0]} 3 []" in server.events()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGQUIT])
def test_quick_end(server: Running, number: signal.Signals) -> None:
    """INT and QUIT end at once, without draining the router first, and even if a worker would not leave."""
    server.begin()
    (server.place / "stubborn").touch()
    server.send(number)
    assert server.ended() == 0
    assert "router drain" not in server.events()


def test_second_term_is_quick(server: Running) -> None:
    """A second TERM does not wait for a worker that the first one could not move."""
    (server.place / "stubborn").touch()
    server.begin(timeout=300)
    server.send(signal.SIGTERM)
    wait_for(lambda: "router drain" in server.events())
    server.send(signal.SIGTERM)
    assert server.ended() == 0


def test_graceful_timeout_bounds_the_end(server: Running) -> None:
    """A worker that does not leave is killed when the graceful timeout is over."""
    (server.place / "stubborn").touch()
    server.begin(timeout=0.5)
    server.send(signal.SIGTERM)
    assert server.ended() == 0
    assert server.pids("left") == []


def test_killed_worker_is_replaced(server: Running) -> None:
    """A worker that is killed is reported, replaced, and its successor introduced to the router."""
    first = server.begin()
    os.kill(first[0], signal.SIGKILL)
    wait_for(lambda: len(server.pids("ready")) == 3)
    new = server.pids("ready")[2]
    wait_for(lambda: f"router worker {new}" in server.events())
    wait_for(lambda: new in server.pids("joined"))
    wait_for(lambda: f"(pid {first[0]}) ended: signal SIGKILL" in server.log())
    assert "router gone" in server.events()


def test_killed_router_is_replaced(server: Running) -> None:
    """A new router gets the same listening socket and is introduced to the living workers; none is restarted."""
    workers = server.begin()
    address = ("127.0.0.1", int(server.log().partition("http://127.0.0.1:")[2].split()[0]))
    wait_for(lambda: all(server.events().count(f"router worker {pid}") == 1 for pid in workers))
    os.kill(server.routers()[0], signal.SIGKILL)
    wait_for(lambda: len(server.routers()) == 2)
    wait_for(lambda: all(server.events().count(f"router worker {pid}") == 2 for pid in workers))
    wait_for(lambda: all(server.pids("joined").count(pid) == 2 for pid in workers))
    socket.create_connection(address).close()
    assert server.pids("ready") == workers


def test_killed_prototype_keeps_its_workers(server: Running) -> None:
    """Workers outlive their prototype until those of the next one are ready; then they leave."""
    old = server.begin()
    os.kill(server.prototype(), signal.SIGKILL)
    wait_for(lambda: len(server.pids("left")) == 2)
    events = [line.split()[0] for line in server.events() if line.split()[0] in ("ready", "left")]
    assert events == ["ready"] * 4 + ["left"] * 2
    assert sorted(server.pids("left")) == sorted(old)
    # Their numbers were still taken when the new ones came, so the router could tell all of them apart.
    server.send(signal.SIGTERM)
    assert server.ended() == 0


def test_killed_prototype_while_stopping(server: Running) -> None:
    """A prototype that dies during the end leaves nobody behind, and main still ends."""
    (server.place / "stubborn").touch()
    server.begin(timeout=1)
    prototype = server.prototype()
    server.send(signal.SIGTERM)
    wait_for(lambda: "router drain" in server.events())
    os.kill(prototype, signal.SIGKILL)
    assert server.ended() == 0


def test_hup_replaces_workers_without_a_gap(server: Running) -> None:
    """On HUP the new workers are ready before the first old one is told to leave."""
    old = server.begin()
    server.send(signal.SIGHUP)
    wait_for(lambda: len(server.pids("left")) == 2)
    events = [line.split()[0] for line in server.events() if line.split()[0] in ("ready", "left")]
    assert events == ["ready"] * 4 + ["left"] * 2
    assert sorted(server.pids("left")) == sorted(old)


def test_hup_with_a_broken_version(server: Running) -> None:
    """A version that does not load is tried once, reported with its traceback, and the old one goes on serving."""
    old = server.begin()
    (server.place / "broken").write_text("Traceback: here\n")
    server.send(signal.SIGHUP)
    wait_for(lambda: "the old version goes on" in server.log())
    assert len(server.pids("booting")) == 3
    assert server.log().count("it is broken") == server.log().count("Traceback: here") == 1
    assert "ended while starting" not in server.log()
    assert all(map(alive, old))
    (server.place / "broken").unlink()
    server.send(signal.SIGHUP)
    wait_for(lambda: sorted(server.pids("left")) == sorted(old))


def test_hup_twice_reloads_twice(server: Running) -> None:
    """A HUP during a reload is not lost: code that was saved in between is loaded."""
    server.begin()
    (server.place / "stuck").touch()
    server.send(signal.SIGHUP)
    wait_for(lambda: len(server.pids("booting")) == 3)
    server.send(signal.SIGHUP)
    wait_for(lambda: server.log().count("reloading") == 2)
    (server.place / "stuck").unlink()
    wait_for(lambda: server.log().count("reloaded") == 2)
    assert len(server.pids("ready")) == 6


def test_broken_application_ends_the_start(server: Running) -> None:
    """An application that does not load ends main with status 3 and says so once, with its traceback."""
    (server.place / "broken").write_text("Traceback: here\n")
    server.start(processes=4)
    assert server.ended() == 3
    assert server.log() == "Traceback: here\nit is broken\n"


def test_worker_that_dies_while_starting_ends_the_start(server: Running) -> None:
    """A worker that ends at boot without a word is reported with its status."""
    (server.place / "dead").touch()
    server.start(processes=1)
    assert server.ended() == 3
    assert "ended while starting: exit status 7" in server.log()


def test_worker_that_hangs_while_starting_ends_the_start(server: Running) -> None:
    """Boot has a deadline also where nothing beats yet."""
    (server.place / "stuck").touch()
    server.start(processes=1, start_timeout=0.3)
    assert server.ended() == 3
    assert "it was not ready after 0.3 seconds" in server.log()


def test_failures_after_success_are_retried(server: Running) -> None:
    """Once it has served, a failing start is logged and tried again until it works."""
    first = server.begin(processes=1)
    (server.place / "broken").write_text("Traceback: here\n")
    os.kill(first[0], signal.SIGKILL)
    wait_for(lambda: server.log().count("it is broken") >= 2)
    (server.place / "broken").unlink()
    wait_for(lambda: len(server.pids("ready")) == 2)


def test_all_end_when_main_is_killed(server: Running, tmp_path: Path) -> None:
    """After kill -9 of main nobody is left, and the router has removed the socket file."""
    path = tmp_path / "socket"
    workers = server.begin(listeners=(f"unix:{path}",))
    prototype = server.prototype()
    assert path.is_socket()
    server.send(signal.SIGKILL)
    wait_for(lambda: not any(map(alive, [*workers, prototype, *server.routers()])))
    assert not path.exists()


def test_socket_file_is_removed(server: Running, tmp_path: Path) -> None:
    """After a regular end the socket file is gone."""
    path = tmp_path / "socket"
    server.begin(listeners=(f"unix:{path}",))
    server.send(signal.SIGTERM)
    assert server.ended() == 0
    assert not path.exists()


def test_usr1_reaches_the_router(server: Running) -> None:
    """USR1 makes the router reopen its access log."""
    server.begin()
    server.send(signal.SIGUSR1)
    wait_for(lambda: "router reopen" in server.events())


def test_saved_files_reload_once(server: Running) -> None:
    """With --reload, files saved together replace the workers once, although every worker reports every file."""
    for name in ("a.py", "b.py"):
        (server.place / name).write_text("")
    old = server.begin(reload=True)
    for name in ("a.py", "b.py"):
        os.utime(server.place / name, ns=(time.time_ns(), time.time_ns()))
    wait_for(lambda: sorted(server.pids("left")) == sorted(old))
    assert server.log().count("reloading") == 1


def test_no_zombies(server: Running) -> None:
    """Dead children of main are reaped while it runs."""
    workers = server.begin()
    for pid in (server.routers()[0], server.prototype(), workers[0]):
        os.kill(pid, signal.SIGKILL)
    wait_for(lambda: workers[1] in server.pids("left"))
    assert server.process
    children = Path(f"/proc/{server.process.pid}/task/{server.process.pid}/children")
    wait_for(lambda: all(map(alive, map(int, children.read_text().split()))))
