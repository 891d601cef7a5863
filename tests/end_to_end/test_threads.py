"""WSGI on threads, in real processes: requests side by side, and every way in which a process can end under them."""

from __future__ import annotations

import os
import re
import signal
import time
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.end_to_end.applications.threaded import pattern
from tests.end_to_end.server import Server, until
from tests.end_to_end.wire import Answer, BrokenAnswer, Wire

APP = "threaded:app"
DIED = r"[^\n]*\[error\] worker \d+ \(pid {}\) ended: signal SIGKILL\n"


def wires(stack: ExitStack, server: Server, count: int) -> list[Wire]:
    """So many connections."""
    return [stack.enter_context(Wire(server.address)) for _ in range(count)]


def answers(open_wires: list[Wire], path: str) -> list[Answer]:
    """Ask for the same on all of them at once."""
    for wire in open_wires:
        wire.get(path)
    return [wire.answer() for wire in open_wires]


def held(server: Server, wire: Wire, gate: str) -> int:
    """Have a request wait at a gate; returns the worker's process id."""
    wire.get(f"/hold?gate={gate}")
    return int(server.log.take(rf"hold at {gate} in (\d+)\n")[1])


def used_by(pid: int) -> int:
    """Nanoseconds of processor time that the threads of a process have used."""
    return sum(int((task / "schedstat").read_text().split()[0]) for task in Path("/proc", str(pid), "task").iterdir())


def switches(pid: int) -> dict[str, int]:
    """How often each thread of a process has gone to sleep, by the thread's id."""
    found = {}
    for task in Path("/proc", str(pid), "task").iterdir():
        status = (task / "status").read_text()
        found[task.name] = int(re.findall(r"^voluntary_ctxt_switches:\s*(\d+)$", status, re.MULTILINE)[0])
    return found


def asleep(pid: int) -> bool:
    """Whether every thread of a process sleeps."""
    states = [(task / "stat").read_text().rpartition(")")[2].split()[0] for task in Path(f"/proc/{pid}/task").iterdir()]
    return set(states) == {"S"}


def settle(pid: int, threads: int) -> dict[str, int]:
    """Wait until so many threads besides the main one sleep, and none has done so anew; returns `switches`."""
    seen: dict[str, int] = {}

    def same() -> bool:
        nonlocal seen
        before, seen = seen, switches(pid)
        return asleep(pid) and seen == before and len(seen) > threads

    until(same, "all threads sleep")
    return seen


def test_requests_side_by_side() -> None:
    """Four threads run four requests at once, each on a thread of its own."""
    with Server(APP, "--threads", "4", environment={"TOGETHER": "4"}) as server, ExitStack() as stack:
        found = {answer.text for answer in answers(wires(stack, server, 4), "/who")}
        assert len(found) == 4
        assert len({line.split()[0] for line in found}) == 1


def test_threads_of_several_workers() -> None:
    """So many requests run at once as there are threads in all workers, and no worker takes more than it has."""
    with Server(APP, "--threads", "2", "--workers", "2") as server, ExitStack() as stack:
        open_wires = wires(stack, server, 4)
        pids = [held(server, wire, "end") for wire in open_wires]
        assert sorted(pids.count(pid) for pid in server.workers) == [2, 2]
        server.open("end")
        assert [wire.answer().text for wire in open_wires] == ["held\n"] * 4


def test_more_requests_than_threads() -> None:
    """What finds no free thread waits, also when all of them have been busy for long; nobody is forgotten."""
    with Server(APP, "--threads", "2") as server, ExitStack() as stack:
        first, second, *others = wires(stack, server, 20)
        held(server, first, "one")
        held(server, second, "two")
        for wire in others:
            wire.get("/hello")
        server.open("one")
        assert [wire.answer().text for wire in others] == ["hello\n"] * 18
        server.open("two")
        assert first.answer().text == second.answer().text == "held\n"


TINY = ("chunk_size=64", "chunks=64", "item_size=256", "queue=4", "window=512", "limit=16384", "junk_fill=true")


@pytest.mark.parametrize("geometry", [(), TINY], ids=["normal", "tiny"])
def test_bodies(geometry: tuple[str, ...]) -> None:
    """Bodies of every size arrive whole in both directions, at once, in pieces and out of a file, behind any head."""
    options = [word for setting in geometry for word in ("--set", f"memory.{setting}")]
    with Server(APP, "--threads", "2", *options) as server, Wire(server.address) as wire:
        for size in (0, 10, 200, 900, 5000, 300_000, 3_000_000):
            body = pattern(size)
            assert wire.post("/echo", body).answer().body == body
            assert wire.post("/echo", body, "X-Long: " + 7900 * "v").answer().body == body
            assert wire.post("/length?piece=999", body).answer().text == str(size)
            assert wire.get(f"/big?size={size}").answer().body == body
            assert wire.get(f"/pieces?size={size}&piece=7000").answer().body == body
            server.log.take("pieces: closed, False\n")
            if size:
                assert wire.get(f"/file?size={size}").answer().body == body


def test_a_client_that_leaves() -> None:
    """A thread that waits for a slow client is free as soon as the client has left, and the iterable is closed."""
    options = ["--threads", "1", "--set", "http.max_temp_file_size=0", "--set", "memory.window=65536"]
    with Server(APP, *options) as server:
        with Wire(server.address, receive_buffer=4096) as wire:
            wire.get("/pieces?size=50000000&piece=100000").head()
        server.log.take("pieces: closed, True\n")
        with Wire(server.address) as wire:
            assert wire.get("/hello").answer().text == "hello\n"


def test_a_worker_that_is_killed() -> None:
    """Its requests get 502, those that wait are served by the others, and it is replaced."""
    with Server(APP, "--threads", "2", "--workers", "2") as server, ExitStack() as stack:
        open_wires = wires(stack, server, 4)
        pids = [held(server, wire, "end") for wire in open_wires]
        waiting = stack.enter_context(Wire(server.address))
        waiting.get("/hello")
        os.kill(pids[0], signal.SIGKILL)
        server.log.take(DIED.format(pids[0]))
        assert waiting.answer().text == "hello\n"
        server.open("end")
        found = sorted(
            (answer.status, pid == pids[0])
            for pid, wire in zip(pids, open_wires, strict=True)
            for answer in [wire.answer()]
        )
        assert found == [(200, False), (200, False), (502, True), (502, True)]
        until(lambda: len(server.workers) == 2, "another worker")


def test_a_router_that_is_killed() -> None:
    """Threads that run a request of the dead router end with it and serve the next router; so do those that sleep."""
    with Server(APP, "--threads", "2") as server:
        with Wire(server.address) as wire:
            worker = held(server, wire, "end")
            router = server.router
            os.kill(router, signal.SIGKILL)
            server.log.take(rf"[^\n]*\[error\] the router \(pid {router}\) ended: signal SIGKILL[^\n]*\n")
            with pytest.raises((BrokenAnswer, ConnectionResetError)):
                wire.answer()
        with Wire(server.address) as wire:
            assert int(wire.get("/pid").answer().body) == worker
            server.open("end")
            with ExitStack() as stack:
                both = wires(stack, server, 2)
                assert {held(server, each, gate) for each, gate in zip(both, "ab", strict=True)} == {worker}
                server.open("a")
                server.open("b")
                assert [each.answer().text for each in both] == ["held\n"] * 2


def test_graceful() -> None:
    """TERM lets what runs come to its end."""
    with Server(APP, "--threads", "3") as server, Wire(server.address) as wire:
        held(server, wire, "end")
        server.main.send_signal(signal.SIGTERM)
        server.log.take("stopping: [^\n]*\n")
        server.open("end")
        assert wire.answer().text == "held\n"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_thread_that_is_stuck(number: signal.Signals) -> None:
    """It is left behind when its time is over; what the application had written is not lost."""
    with Server(APP, "--threads", "2", "--graceful-timeout", "0.5") as server, Wire(server.address) as wire:
        wire.get("/stuck")
        server.log.take("stuck in a request\n")
        server.main.send_signal(number)
        server.main.wait(20)
        server.log.take(r"[^\n]*1 requests still run and are left behind\n")
        assert server.output.all() == "last words"
        server.log.all()
        server.log.rest = re.sub(r"[^\n]*\[warning\] [^\n]*\n", "", server.log.rest)


def test_replaced_without_a_gap() -> None:
    """HUP replaces workers while requests run: the old one ends with what it has, the new one serves the rest."""
    with Server(APP, "--threads", "2") as server, Wire(server.address) as old, Wire(server.address) as new:
        before = held(server, old, "end")
        server.main.send_signal(signal.SIGHUP)

        def served_by() -> int:
            return int(new.get("/pid").answer().body)

        until(lambda: served_by() != before, "the new worker serves")
        server.open("end")
        assert old.answer().text == "held\n"
        until(lambda: len(server.workers) == 1, "the old worker has ended")


def test_idle_workers_sleep() -> None:
    """Nothing but the heartbeat happens in a worker without requests."""
    with Server(APP, "--threads", "8") as server, Wire(server.address) as wire:
        worker = int(wire.get("/pid").answer().body)
        before, used = settle(worker, 8), used_by(worker)
        begun = time.monotonic()
        time.sleep(2.0)  # what is measured is that nothing happens
        after = switches(worker)
        spent = used_by(worker) - used
        seconds = time.monotonic() - begun
        assert spent <= 5_000_000 * seconds, spent
        woken = {task: after[task] - before[task] for task in before}
        assert woken.pop(str(worker)) <= 3 * seconds
        assert set(woken.values()) == {0}


def test_one_request_wakes_one_thread_once() -> None:
    """Eight threads sleep: each request wakes one of them, once."""
    requests = 20
    with Server(APP, "--threads", "8") as server, Wire(server.address) as wire:
        worker = int(wire.get("/pid").answer().body)
        before = settle(worker, 8)
        for _ in range(requests):
            wire.get("/hello").answer()
            after = settle(worker, 8)
        woken = {task: after[task] - before[task] for task in before if task != str(worker)}
        # A thread that waits for the interpreter's lock sleeps too; so there may be a few more, but not eight times.
        assert requests <= sum(woken.values()) <= 2 * requests
