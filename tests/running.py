"""A supervised server of stand-ins (`stand_in.py`), as the tests of main start it and look at it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

STAND_IN = Path(__file__).parent / "stand_in.py"
WATCHDOG = 20.0  #: seconds; only a failing test waits that long


def wait_for(condition: Callable[[], Any], what: str = "") -> Any:
    """What `condition` returns, once that is true."""
    end = time.monotonic() + WATCHDOG
    while time.monotonic() < end:
        if value := condition():
            return value
        time.sleep(0.005)
    raise AssertionError(f"never happened: {what or condition}")


def alive(pid: int) -> bool:
    """Whether a process runs, zombies aside."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


class Running:
    """A supervised server in a directory of its own."""

    def __init__(self, place: Path) -> None:
        self.place = place
        self.process: subprocess.Popen[bytes] | None = None

    def start(self, *, listeners: tuple[str, ...] = ("127.0.0.1:0",), timeout: float = 10, **application: Any) -> None:
        """Start it with one application; further arguments are its settings."""
        described = {"module": "m", "path": str(self.place), "processes": 2, "graceful_timeout": timeout} | application
        settings = {
            "applications": {"app": described},
            "listeners": {key: {"pass": "applications/app"} for key in listeners},
            "settings": {"graceful_timeout": timeout},
        }
        self.serve(settings)

    def serve(self, settings: dict[str, Any], *options: str) -> None:
        """Start it with any settings."""
        environment = dict(os.environ, NOTIFY_SOCKET="/nowhere", GUNICORN_FD="3")
        with (self.place / "log").open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, STAND_IN, "main", json.dumps(settings), *options], stderr=log, env=environment
            )

    def begin(self, **settings: Any) -> list[int]:
        """Start it and wait until it serves; returns the workers' process ids."""
        self.start(**settings)
        wait_for(lambda: "serves" in self.log(), "serves")
        return self.pids("ready")

    def log(self) -> str:
        """What it wrote to standard error."""
        return (self.place / "log").read_text()

    def events(self) -> list[str]:
        """What happened to router and workers, in order."""
        path = self.place / "events"
        return path.read_text().splitlines() if path.exists() else []

    def pids(self, event: str) -> list[int]:
        """Process ids of the workers that this happened to, in order."""
        return [int(line.split()[1]) for line in self.events() if line.split()[0] == event]

    def routers(self) -> list[int]:
        """Process ids of all routers so far."""
        return [int(line.split()[2]) for line in self.events() if line.startswith("router configured")]

    def send(self, number: signal.Signals) -> None:
        """Signal main."""
        assert self.process
        self.process.send_signal(number)

    def ended(self) -> int:
        """Wait for main; its exit status."""
        assert self.process
        return self.process.wait(WATCHDOG)

    def prototype(self) -> int:
        """Process id of the prototype: the parent of the worker that came last."""
        return int(Path(f"/proc/{self.pids('booting')[-1]}/stat").read_text().rpartition(")")[2].split()[1])
