"""`make bench`: Bridge and uvicorn in turn, one worker each, under the same loads. Needs wrk.

Every round measures every server once, in an order that turns round, so that a machine that gets slower or
faster is fair to all. Each measurement starts the server anew and warms it up first.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

from tests.bench import processes
from tests.bench.report import Figures, figures, parse_wrk, table

HERE = Path(__file__).parent
ROOT = HERE.parent.parent
SERVERS = {  #: one worker, no access log, the fastest parts that the documentation names
    "bridge": "bridged run tests.bench.apps:hello -b {address} -w 1 --log-level warning",
    "uvicorn": "uvicorn tests.bench.apps:hello --host {host} --port {number} --workers 1"
    " --loop uvloop --http httptools --lifespan off --no-access-log --log-level warning",
}


@dataclass(frozen=True)
class Load:
    """What wrk does to a server."""

    body: int  #: bytes that each request uploads; 0 = GET
    connections: int


LOADS = {
    "hello": Load(body=0, connections=64),
    "upload 1 MiB": Load(body=1 << 20, connections=4),
}
WRK_MISSING = """make bench needs wrk, which is not on the PATH. On Debian and Ubuntu: apt-get install wrk
From source: git clone https://github.com/wg/wrk && make -C wrk && install wrk/wrk /usr/local/bin"""


def free_address() -> tuple[str, int]:
    """A loopback address that nobody listens on now."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        host, number = listener.getsockname()
        return host, number


def wait_until_served(address: tuple[str, int], server: subprocess.Popen[bytes], patience: float = 15.0) -> None:
    """Return as soon as a request is answered."""
    end = time.monotonic() + patience
    while time.monotonic() < end and server.poll() is None:
        try:
            with socket.create_connection(address, timeout=1) as client:
                client.sendall(b"GET / HTTP/1.1\r\nHost: bench\r\nConnection: close\r\n\r\n")
                if client.recv(65536).startswith(b"HTTP/1.1 200"):
                    return
        except OSError:
            pass
        time.sleep(0.02)
    raise SystemExit(f"{server.args!r} answers nothing; exit status {server.poll()}")


@contextmanager
def running(name: str) -> Iterator[tuple[str, int]]:
    """A server for the length of the block: its address and its process number."""
    host, number = free_address()
    command = SERVERS[name].format(address=f"{host}:{number}", host=host, number=number).split()
    command[0] = str(Path(sys.executable).with_name(command[0]))
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    with subprocess.Popen(command, cwd=ROOT, env=environment) as server:
        try:
            wait_until_served((host, number), server)
            yield f"http://{host}:{number}/", server.pid
        finally:
            server.terminate()
            try:
                server.wait(15)
            except subprocess.TimeoutExpired:
                server.kill()


def wrk(url: str, load: Load, seconds: float) -> dict[str, int]:
    """Run wrk for that long; its figures."""
    seconds_text = f"{max(1, round(seconds))}s"
    command = ["wrk", "-t1", f"-c{load.connections}", f"-d{seconds_text}", "-s", str(HERE / "report.lua"), url]
    done = subprocess.run([*command, "--", str(load.body)], capture_output=True, text=True, check=False)
    return parse_wrk(done.stdout + done.stderr)


def measure(server: str, name: str, seconds: float) -> Figures:
    """One server, one load, once."""
    load = LOADS[name]
    with running(server) as (url, pid):
        wrk(url, load, seconds / 5)  # warm up
        before = processes.tree(pid)
        numbers = wrk(url, load, seconds)
        spent = processes.cpu_seconds(before, processes.tree(pid))
        return figures(server, name, numbers, spent, processes.pss(pid))


def machine(servers: list[str]) -> dict[str, str]:
    """What the figures depend on."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    model = next((line.partition(": ")[2] for line in lines if line.startswith("model name")), platform.machine())
    packages = ["bridged" if server == "bridge" else server for server in servers] + ["uvloop", "httptools"]
    return {
        "date": datetime.now(UTC).date().isoformat(),
        "cpu": f"{len(os.sched_getaffinity(0))} x {model}",
        "kernel": platform.release(),
        "python": platform.python_version(),
        **{name: version(name) for name in packages},
    }


def options() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="make bench ARGS=…", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--seconds", type=float, default=5.0, help="length of one measurement (default 5)")
    parser.add_argument("--rounds", type=int, default=5, help="how often each server is measured (default 5)")
    parser.add_argument("--only", action="append", choices=[*SERVERS, *LOADS], help="that server or load; repeatable")
    return parser.parse_args()


def main() -> None:
    """Measure, write the JSON, print the table."""
    chosen = options()
    if not shutil.which("wrk"):
        raise SystemExit(WRK_MISSING)
    servers = [name for name in SERVERS if name in (chosen.only or ())] or list(SERVERS)
    loads = [name for name in LOADS if name in (chosen.only or ())] or list(LOADS)
    rounds: list[Figures] = []
    for number in range(chosen.rounds):
        for load in loads:
            for server in servers if number % 2 == 0 else reversed(servers):
                rounds.append(one := measure(server, load, chosen.seconds))
                line = f"{load:14} {server:9} {one.requests_per_second:9,.0f}/s {one.cpu_us:9,.1f} µs CPU"
                print(f"round {number + 1}  {line}", flush=True)
    about = machine(servers)
    results = HERE / "results"
    results.mkdir(exist_ok=True)
    file = results / f"{datetime.now(UTC):%Y%m%dT%H%M%SZ}.json"
    file.write_text(json.dumps({"machine": about, "rounds": [asdict(one) for one in rounds]}, indent=1) + "\n")
    print(
        f"\n{table(rounds)}\n\nmedians of {chosen.rounds} rounds of {chosen.seconds:g} s; one worker each; "
        f"{', '.join(f'{key} {value}' for key, value in about.items())}\n{file.relative_to(ROOT)}"
    )


if __name__ == "__main__":
    main()
