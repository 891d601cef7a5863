"""How a server ends, and what a signal, a crash and a reload cost: as told, and nobody but those concerned."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import threading
import time
from pathlib import Path

import pytest

from tests.end_to_end.server import READY, Server, tree, until
from tests.end_to_end.wire import BrokenAnswer, Wire

DIED = r"[^\n]*\[error\] worker \d+ \(pid {}\) ended: signal SIGKILL\n"


def held(server: Server, wire: Wire, gate: str, path: str = "hold") -> int:
    """Have a request wait at a gate; returns the worker's process id."""
    if path == "hold_body":
        wire.send(f"POST /{path}?gate={gate} HTTP/1.1\r\nHost: t\r\nContent-Length: 100000\r\n\r\n".encode(), b"x" * 10)
    else:
        wire.get(f"/{path}?gate={gate}")
    return int(server.log.take(rf"{path} at {gate} in (\d+)\n")[1])


def worker_of(server: Server) -> int:
    """Process id of the worker that answers now."""
    with Wire(server.address) as wire:
        return int(wire.get("/pid").answer().body)


def ended(pid: int) -> bool:
    """Whether there is no such process any more, not even a zombie."""
    return not os.path.exists(f"/proc/{pid}")


def no_zombies(server: Server) -> None:
    """Nobody in the tree waits to be reaped."""
    until(lambda: all(process.state != "Z" for process in tree(server.main.pid)), "all dead processes are reaped")


def without_cancelled(server: Server) -> None:
    """Take out that requests were cancelled at the end, if any were."""
    server.log.all()
    server.log.rest = re.sub(r"[^\n]*cancelled, the server stops: [^\n]*\n", "", server.log.rest)


# --- told to end --------------------------------------------------------------------------------------------


def test_graceful() -> None:
    """TERM closes what is idle, answers what runs and what waits in the backlog, refuses what comes later: status 0."""
    with Server("plain:app") as server, Wire(server.address) as busy, Wire(server.address) as idle:
        idle.get("/hello").answer()
        held(server, busy, "end")
        os.kill(server.router, signal.SIGSTOP)
        with Wire(server.address) as waiting:
            waiting.get("/hello")
            server.main.send_signal(signal.SIGTERM)
            server.log.take("stopping: [^\n]*\n")
            os.kill(server.router, signal.SIGCONT)
            answer = waiting.answer()
            assert (answer.text, answer.fields["connection"]) == ("hello\n", "close")
        assert idle.ended()
        server.open("end")
        answer = busy.answer()
        assert (answer.status, answer.fields["connection"]) == (200, "close")
        server.finish()
        with pytest.raises(ConnectionRefusedError):
            Wire(server.address)


def test_graceful_upload_and_download() -> None:
    """TERM lets a body that is half received and one that is half sent come to their ends."""
    with Server("plain:app", "-w", "2") as server, Wire(server.address) as up, Wire(server.address) as down:
        held(server, up, "up", "hold_body")
        held(server, down, "down", "hold_response")
        server.main.send_signal(signal.SIGTERM)
        server.log.take("stopping: [^\n]*\n")
        server.open("up")
        server.open("down")
        up.send(b"x" * 99990)
        assert up.answer().text == "100000"
        assert down.answer().text == "0123456789"


def test_graceful_timeout() -> None:
    """A request that outlives the graceful timeout is cut off; the application is still told to shut down."""
    with Server("plain:app", "--graceful-timeout", "0.5") as server, Wire(server.address) as wire:
        held(server, wire, "never")
        server.main.send_signal(signal.SIGTERM)
        assert wire.ended()
        server.main.wait(20)
        server.log.take("shut down\n")
        without_cancelled(server)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGQUIT])
@pytest.mark.parametrize("before", [[], [signal.SIGTERM]])
def test_quick(number: signal.Signals, before: list[signal.Signals]) -> None:
    """INT and QUIT end it at once, requests in flight or not, also when TERM came before; status 0."""
    with Server("plain:app", "-w", "2") as server, Wire(server.address) as wire:
        held(server, wire, "never")
        for earlier in before:
            server.main.send_signal(earlier)
            server.log.take("stopping: [^\n]*\n")
        server.main.send_signal(number)
        server.main.wait(20)
        without_cancelled(server)


def test_second_term() -> None:
    """A second TERM does not wait any longer."""
    with Server("plain:app") as server, Wire(server.address) as wire:
        held(server, wire, "never")
        server.main.send_signal(signal.SIGTERM)
        server.log.take("stopping: [^\n]*\n")
        server.main.send_signal(signal.SIGTERM)
        server.main.wait(20)
        without_cancelled(server)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGQUIT])
def test_whole_group(number: signal.Signals) -> None:
    """Ctrl-C in a terminal reaches every process: it ends once, in order, without a traceback."""
    with Server("plain:app", "-w", "2") as server:
        worker_of(server)
        os.killpg(server.main.pid, number)
        server.main.wait(20)


def test_terminated_group() -> None:
    """TERM to every process, as service managers send it, still answers the request in flight."""
    with Server("plain:app", "-w", "2") as server, Wire(server.address) as wire:
        held(server, wire, "end")
        os.killpg(server.main.pid, signal.SIGTERM)
        server.log.take("stopping: [^\n]*\n")
        server.open("end")
        assert wire.answer().status == 200


def test_ended_while_starting(tmp_path: Path) -> None:
    """TERM before the application is ready ends the start."""
    text = "import os, time\nopen(os.environ['GATES'] + '/begun', 'w').close()\ntime.sleep(60)\n"
    (tmp_path / "slow.py").write_text(text)
    with Server("slow:app", app_dir=tmp_path, ready=False) as server:
        until((server.gates / "begun").exists, "the import has begun")
        server.main.send_signal(signal.SIGTERM)
        server.main.wait(20)
        server.status = server.main.returncode
        assert server.status >= 0


# --- workers that die ---------------------------------------------------------------------------------------


def test_worker_dies_in_a_request() -> None:
    """A killed worker costs its request a 502, and nobody else anything; another one takes its place."""
    with Server("plain:app", "-w", "2") as server, Wire(server.address) as first, Wire(server.address) as second:
        victim = held(server, first, "a")
        gate = "b"
        other = held(server, second, gate)
        while other == victim:  # both requests are with the same worker: try again
            server.open(gate)
            second.answer()
            gate += "b"
            other = held(server, second, gate)
        os.kill(victim, signal.SIGKILL)
        answer = first.answer()
        assert answer.status == 502
        assert first.get("/hello").answer().text == "hello\n"
        server.open(gate)
        assert second.answer().text == f"held by {other}"
        server.log.take(DIED.format(victim))
        until(lambda: len(server.workers) == 2 and victim not in server.workers, "there are two workers again")
        no_zombies(server)


def test_worker_dies_in_an_upload() -> None:
    """A worker that is killed while a body comes costs its request a 502, and the connection ends behind it."""
    with Server("plain:app") as server, Wire(server.address) as wire:
        victim = held(server, wire, "never", "hold_body")
        os.kill(victim, signal.SIGKILL)
        assert wire.answer().status == 502
        server.log.take(DIED.format(victim))
        assert worker_of(server) != victim


@pytest.mark.parametrize("query", ["", "&length=1"])
@pytest.mark.parametrize("version", ["1.0", "1.1"])
def test_worker_dies_in_a_response(query: str, version: str) -> None:
    """A worker that is killed while it answers leaves a broken connection, never an answer that looks whole."""
    with Server("plain:app") as server, Wire(server.address) as wire:
        wire.get(f"/hold_response?gate=never{query}", version=version)
        victim = int(server.log.take(r"hold_response at never in (\d+)\n")[1])
        assert wire.head().status == 200
        os.kill(victim, signal.SIGKILL)
        if query or version == "1.1":
            with contextlib.suppress(ConnectionResetError):
                assert b"56789" not in wire.rest()
        else:  # without a length only a reset tells the broken end from the right one
            with pytest.raises(ConnectionResetError):
                wire.rest()
        server.log.take(DIED.format(victim))
        assert worker_of(server) != victim


def test_not_begun_runs_elsewhere() -> None:
    """Requests that a worker has not begun when it is killed are run by another one: only what it ran gets a 502."""
    with Server("plain:app") as server, Wire(server.address) as blocked:
        victim = held(server, blocked, "never", "block")
        waiting = [Wire(server.address).get("/pid") for _ in range(20)]
        uploads = [Wire(server.address).post("/count", b"x" * 100) for _ in range(5)]
        os.kill(victim, signal.SIGKILL)
        assert blocked.answer().status == 502
        assert {int(wire.answer().body) for wire in waiting} == {worker_of(server)}
        assert {wire.answer().text.split()[0] for wire in uploads} == {"100"}
        for wire in waiting + uploads:
            wire.socket.close()
        server.log.take(DIED.format(victim))


def test_all_workers_die_again_and_again() -> None:
    """Whatever kills workers, the server is there again, and nothing piles up."""
    with Server("plain:app", "-w", "2") as server:
        for _ in range(3):
            victims = server.workers
            for victim in victims:
                os.kill(victim, signal.SIGKILL)
            for victim in victims:  # some of them are not ready yet, and tell so
                server.log.take(rf"[^\n]*\(pid {victim}\) ended( while starting)?: signal SIGKILL\n")
            assert worker_of(server) not in victims
            until(lambda: len(server.workers) == 2, "there are two workers again")
        no_zombies(server)


# --- others that die ----------------------------------------------------------------------------------------


def test_router_dies(tmp_path: Path) -> None:
    """A killed router cuts its connections; the addresses stay, and the next one goes on with the same workers."""
    path = f"{tmp_path}/socket"
    with Server("plain:app", "-w", "2", bind=["127.0.0.1:0", f"unix:{path}"]) as server:
        workers, router = server.workers, server.router
        with Wire(server.address) as wire:
            held(server, wire, "never")
            os.kill(router, signal.SIGKILL)
            with Wire(server.address) as other, Wire(path) as third:  # the kernel keeps them for the next router
                assert int(other.get("/pid").answer().body) in workers
                assert int(third.get("/pid").answer().body) in workers
            with pytest.raises(BrokenAnswer):
                wire.answer()
        server.log.take(rf"[^\n]*the router \(pid {router}\) ended: signal SIGKILL; starting another[^\n]*\n")
        server.open("never")
        assert server.router != router
        assert server.workers == workers
        no_zombies(server)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_router_ends_in_a_response_without_length(number: signal.Signals) -> None:
    """However the router ends, a body that the close would end is reset: its client must not think it whole."""
    with Server("plain:app") as server, Wire(server.address) as wire:
        wire.get("/hold_response?gate=never", version="1.0")
        server.log.take(r"hold_response at never in \d+\n")
        assert wire.head().status == 200
        if number == signal.SIGKILL:
            os.kill(server.router, number)
            server.log.take(r"[^\n]*the router [^\n]*; starting another[^\n]*\n")
        else:
            server.main.send_signal(number)
        with pytest.raises(ConnectionResetError):
            wire.rest()
        server.open("never")
        if number == signal.SIGINT:
            without_cancelled(server)


def test_prototype_dies() -> None:
    """The workers of a killed prototype go on serving, finish what they run, and are replaced."""
    with Server("plain:app", "-w", "2") as server, Wire(server.address) as wire:
        workers, prototype = server.workers, server.prototype
        held(server, wire, "end")
        os.kill(prototype, signal.SIGKILL)
        assert worker_of(server)
        server.log.take(rf"[^\n]*\(pid {prototype}\) ended: signal SIGKILL; its workers go on[^\n]*\n")
        until(lambda: sum(map(ended, workers)) == 1, "the idle one of the old workers has gone")
        server.open("end")
        assert wire.answer().status == 200
        until(lambda: all(map(ended, workers)), "the other one has gone too")
        assert worker_of(server) not in workers
        assert len(server.workers) == 2
        no_zombies(server)


def test_main_dies(tmp_path: Path) -> None:
    """When main is killed everything else leaves, and nothing stays behind, not even the socket's file."""
    path = f"{tmp_path}/socket"
    with Server("plain:app", "-w", "2", bind=[f"unix:{path}"]) as server, Wire(path) as wire:
        held(server, wire, "never")
        server.status = -signal.SIGKILL
        server.main.kill()
        server.main.wait()
        assert wire.ended()
        until(lambda: not os.path.exists(path), "the socket file is gone")
        without_cancelled(server)


# --- reload -------------------------------------------------------------------------------------------------


def test_reload_under_load() -> None:
    """HUP replaces every worker while requests keep coming, and none of them fails."""
    with Server("plain:app", "-w", "2") as server:
        over = threading.Event()
        failures: list[str] = []
        served = [0, 0]

        def ask(number: int) -> None:
            with Wire(server.address) as wire:
                while not over.is_set():
                    try:
                        status = wire.get("/pid").answer().status
                        text = wire.post("/echo", b"x" * 20000).answer().body
                        assert (status, len(text)) == (200, 20000)
                    except (AssertionError, BrokenAnswer, OSError) as error:
                        failures.append(repr(error))
                        return
                    served[number] += 1

        clients = [threading.Thread(target=ask, args=[number]) for number in range(2)]
        for client in clients:
            client.start()
        try:
            for _ in range(2):
                workers = server.workers
                server.main.send_signal(signal.SIGHUP)
                server.log.take("reloading\n")
                server.log.take("reloaded\n")
                until(lambda old=workers: all(map(ended, old)), "the old workers have left")  # type: ignore[misc]
                assert len(server.workers) == 2
        finally:
            over.set()
            for client in clients:
                client.join()
        assert failures == []
        assert min(served) > 0


def test_reloaded_is_said_when_no_old_worker_takes_requests() -> None:
    """An old worker that has not noticed yet that it is to leave could still take the next one."""
    with Server("plain:app") as server:
        worker = worker_of(server)
        os.kill(worker, signal.SIGSTOP)
        try:
            server.main.send_signal(signal.SIGHUP)
            status = Path("/proc", str(worker), "status")
            until(lambda: re.search(r"^ShdPnd:\t[0-9a-f]*[4-7]...$", status.read_text(), re.MULTILINE), "TERM waits")
            time.sleep(0.1)  # nothing is to happen
            assert "reloaded" not in server.log.text
        finally:
            os.kill(worker, signal.SIGCONT)
        server.log.take("reloaded\n")
        assert worker_of(server) != worker


def test_reload_waits_for_requests() -> None:
    """A request that runs during a reload is finished by the worker that has begun it."""
    with Server("plain:app") as server, Wire(server.address) as wire:
        worker = held(server, wire, "end")
        server.main.send_signal(signal.SIGHUP)
        server.log.take("reloaded\n")
        assert worker_of(server) != worker
        server.open("end")
        assert wire.answer().text == f"held by {worker}"
        until(lambda: ended(worker), "the old worker has left")


def test_development_mode() -> None:
    """Python's development mode finds nothing to complain about: no unclosed file, no slow callback, no warning."""
    with Server("plain:app", environment={"PYTHONDEVMODE": "1"}) as server, Wire(server.address) as wire:
        assert re.search(READY, server.log.text)
        assert wire.post("/mirror", b"x" * 300000).answer().body == b"x" * 300000
        victim = server.workers[0]
        os.kill(victim, signal.SIGKILL)
        server.log.take(DIED.format(victim))
        assert worker_of(server) != victim
        os.kill(server.router, signal.SIGKILL)
        server.log.take(r"[^\n]*the router [^\n]*; starting another[^\n]*\n")
        assert worker_of(server)
        server.main.send_signal(signal.SIGTERM)
