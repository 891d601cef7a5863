"""Servers under load, one or several in turn: start, look whether it answers rightly, load, read the clocks, stop."""

from __future__ import annotations

import http.client
import os
import random
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import IO

from tests.bench import processes, sockets
from tests.bench.figures import Figures, figures, parse_wrk
from tests.bench.plan import WARMING, Group, Step
from tests.bench.rows import MANY, Row, complaint
from tests.end_to_end.wire import BrokenAnswer

HERE = Path(__file__).parent
ROOT = HERE.parent.parent
PATIENCE = 20.0  #: seconds until a server must answer, and until it must have ended
APPLICATIONS = "tests.bench.applications."


class NotMeasured(Exception):
    """A server cannot be measured; why, in a line."""


def free_address() -> tuple[str, int]:
    """A loopback address that nobody listens on now."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        host, number = listener.getsockname()
        return host, number


def ask(row: Row, address: tuple[str, int]) -> str:
    """Send the row's request once; what is wrong with the answer."""
    if row.message:
        return sockets.ask(row, address)
    connection = http.client.HTTPConnection(*address, timeout=PATIENCE)
    try:
        connection.request("POST" if row.upload else "GET", row.path, b"x" * row.upload if row.upload else None)
        answer = connection.getresponse()
        return complaint(row, answer.status, answer.read())
    finally:
        connection.close()


def wait_until_right(row: Row, address: tuple[str, int], server: subprocess.Popen[bytes], log: IO[bytes]) -> None:
    """Return as soon as a request is answered as it should be.

    Raises:
        NotMeasured: the server has ended, answers nothing, or something else.
    """
    end = time.monotonic() + PATIENCE
    wrong = "it does not listen"
    while time.monotonic() < end and server.poll() is None:
        try:
            if not (wrong := ask(row, address)):
                return
            break
        except ConnectionRefusedError:
            time.sleep(0.02)
        except (OSError, http.client.HTTPException, BrokenAnswer, AssertionError) as error:
            wrong = f"{type(error).__name__}: {error}"
            time.sleep(0.1)
    log.seek(0)
    lines = log.read().decode(errors="replace").strip().splitlines()
    status = f"exit status {server.returncode}" if server.poll() is not None else wrong
    raise NotMeasured(f"{status}; {lines[-1]}" if lines else status)


@contextmanager
def running(step: Step) -> Iterator[tuple[tuple[str, int], int]]:
    """A server for the length of the block: its address, and its process number."""
    host, number = free_address()
    target = APPLICATIONS + step.row.target
    command = step.server.command.format(target=target, host=host, number=number, workers=step.workers).split()
    command = [sys.executable, "-m", "bridge" if command[0] == "bridged" else command[0], *command[1:]]
    environment = {name: text for name, text in os.environ.items() if name not in ("PORT", "WEB_CONCURRENCY")}
    environment |= {"PYTHONPATH": str(ROOT)}
    with (
        tempfile.TemporaryFile() as log,
        subprocess.Popen(command, cwd=ROOT, env=environment, stdout=log, stderr=log, start_new_session=True) as server,
    ):
        try:
            wait_until_right(step.row, (host, number), server, log)
            yield (host, number), server.pid
        finally:
            stop(server)


def stop(server: subprocess.Popen[bytes]) -> None:
    """End a server and whatever it started: it leads its own process group."""
    server.terminate()
    try:
        server.wait(PATIENCE)
    except subprocess.TimeoutExpired:
        server.kill()
    try:
        os.killpg(server.pid, signal.SIGKILL)
    except ProcessLookupError:
        return  # nobody was left


@contextmanager
def client(address: tuple[str, int], row: Row, connections: int, seconds: float) -> Iterator[Callable[[], str]]:
    """What loads the server for so many seconds when it is called, and returns what the client writes.

    wrk opens its connections then. WebSockets are open before, and until the block ends: a handshake costs as much as
    many messages.
    """
    if row.message:
        with sockets.opened(row, address, connections, seconds) as send:
            yield send
    else:
        yield lambda: wrk(address, row, connections, seconds)


def wrk(address: tuple[str, int], row: Row, connections: int, seconds: float) -> str:
    """What wrk writes when it has loaded the server for so many seconds, whole ones."""
    url = f"http://{address[0]}:{address[1]}{row.path}"
    command = ["wrk", "-t1", f"-c{connections}", f"-d{seconds:.0f}s", "-s", str(HERE / "report.lua"), url]
    done = subprocess.run([*command, "--", str(row.upload)], capture_output=True, text=True, check=False)
    return done.stdout + done.stderr


def load(address: tuple[str, int], row: Row, connections: int, seconds: float, pid: int) -> Figures:
    """Load the server, and see what it cost."""
    with client(address, row, connections, seconds) as send:
        before = processes.tree(pid)
        numbers = parse_wrk(send())
        spent = processes.cpu_seconds(before, processes.tree(pid))
    return figures(numbers, spent, processes.pss(pid))


def idle(address: tuple[str, int], row: Row, connections: int, pid: int) -> Figures:
    """What it costs to open so many connections and to hold them."""
    before, memory = processes.tree(pid), processes.pss(pid)
    with sockets.held(row, address, connections) as report:
        numbers = parse_wrk(report)
        spent, with_them = processes.cpu_seconds(before, processes.tree(pid)), processes.pss(pid)
    each = round((with_them - memory) / 1024 / connections, 1)
    return replace(figures(numbers, spent, with_them), idle_kib=each)


def measure(step: Step, seconds: int) -> Iterator[tuple[int, Figures]]:
    """The figures of a step for each number of connections.

    Raises:
        NotMeasured: the server does not serve this, or not to the end.
    """
    with running(step) as (address, pid):
        try:
            load(address, step.row, MANY if step.row.idle else max(step.connections), WARMING, pid)
            for connections in step.connections:
                if step.row.idle:
                    yield connections, idle(address, step.row, connections, pid)
                    continue
                yield connections, load(address, step.row, connections, seconds, pid)
        except (ValueError, RuntimeError, OSError) as error:
            raise NotMeasured(str(error).partition("\n")[0]) from error


def measure_in_turn(group: Group, failed: Callable[[Step, str], None]) -> Iterator[tuple[Step, Figures]]:
    """The slices of a group as they are made, each time round in an order that chance makes.

    Args:
        group: what is measured.
        failed: called with a server that does not serve this, or not to the end, and why; the others go on.
    """
    row, connections, chance = group.steps[0].row, group.connections, random.Random(group.slices)
    with ExitStack() as up:
        servers: list[tuple[Step, tuple[str, int], int]] = []
        for step in group.steps:
            try:
                servers.append((step, *up.enter_context(running(step))))
            except NotMeasured as error:
                failed(step, str(error))
        for number in range(-1, group.slices):
            for server in chance.sample(servers, len(servers)):
                step, address, pid = server
                try:
                    one = load(address, row, connections, WARMING if number < 0 else group.seconds, pid)
                except (ValueError, RuntimeError, OSError) as error:
                    servers.remove(server)
                    failed(step, str(error).partition("\n")[0])
                else:
                    if number >= 0:
                        yield step, one
