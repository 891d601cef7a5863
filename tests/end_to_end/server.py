"""A real server: `python -m bridge run …` as a tree of processes, watched from its first line to its last.

`Server` waits for the line that says that it serves, and in the end makes sure that nothing is left: no process, no
socket file, no shared memory, no temporary file, and no line in its log that a test has not asked for.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import IO, Self

APPLICATIONS = Path(__file__).parent / "applications"
PATIENCE = 20.0  #: seconds that anything may take before the test has failed; far more than it does take
READY = r"bridged [^ ]+ serves [^ ]+ on ([^\n]*) with \d+ workers?\n"
#: What may not stand in a log unless the test has taken it out.
BAD = re.compile(
    r"Traceback|Exception ignored|Fatal|never retrieved|never awaited|was destroyed|Warning:|Segmentation"
    r"|\[(?i:warning|error|critical)\]"
)
COMMAND = (sys.executable, "-m", "bridge", "run")


class Output:
    """What a process tree writes to one pipe, collected by a thread."""

    def __init__(self, pipe: IO[bytes]) -> None:
        self._pipe = pipe
        self._changed = threading.Condition()
        self._ended = False
        self.text = ""  #: all of it
        self.rest = ""  #: what no test has taken yet
        threading.Thread(target=self._collect, daemon=True).start()

    def _collect(self) -> None:
        while data := os.read(self._pipe.fileno(), 65536):
            text = data.decode(errors="replace")
            with self._changed:
                self.text += text
                self.rest += text
                self._changed.notify_all()
        self._pipe.close()
        with self._changed:
            self._ended = True
            self._changed.notify_all()

    def take(self, pattern: str, patience: float = PATIENCE) -> re.Match[str]:
        """Wait until `pattern` was written, at most `patience` seconds, and take it out of `rest`."""
        found: re.Match[str] | None = None
        with self._changed:

            def look() -> bool:
                nonlocal found
                found = re.search(pattern, self.rest)
                return bool(found) or self._ended

            self._changed.wait_for(look, patience)
            if found is None:
                raise AssertionError(f"{pattern!r} was not written, but:\n{self.text}")
            self.rest = self.rest[: found.start()] + self.rest[found.end() :]
        return found

    def all(self) -> str:
        """Everything, once no process holds the pipe any more."""
        with self._changed:
            assert self._changed.wait_for(lambda: self._ended, PATIENCE), f"somebody still writes:\n{self.text}"
        return self.text


@dataclass(frozen=True, slots=True)
class Process:
    """One process of the tree."""

    pid: int
    parent: int
    state: str
    started: int
    command: str


def until(condition: Callable[[], object], what: str, patience: float = PATIENCE) -> None:
    """Wait until `condition` is true, at most `patience` seconds."""
    end = time.monotonic() + patience
    while not condition():
        assert time.monotonic() < end, f"it did not come to pass: {what}"
        time.sleep(0.01)


def tree(leader: int) -> list[Process]:
    """Every process, living or zombie, that descends from the one that `Server` has started."""
    found = []
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                stat = Path("/proc", name, "stat").read_text().rpartition(")")[2].split()
                command = Path("/proc", name, "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            except OSError:
                continue  # it has ended meanwhile
            if int(stat[3]) == leader:
                found.append(Process(int(name), int(stat[1]), stat[0], int(stat[19]), command))
    return found


class Server:
    """A server of `target`, ready when the `with` block begins.

    Args:
        target: `module:attribute`.
        options: of `bridged run`.
        app_dir: where the module lies; None = not said.
        bind: addresses; none are said when empty.
        environment: added to that of the tests.
        command: what comes before the target.
        cwd: current directory; None = a new one.
        inherited: descriptors that it keeps open.
        ready: False = it is not expected to serve; nothing is waited for.
    """

    def __init__(
        self,
        target: str,
        *options: str,
        app_dir: Path | None = APPLICATIONS,
        bind: Sequence[str] = ("127.0.0.1:0",),
        environment: Mapping[str, str] | None = None,
        command: Sequence[str] = COMMAND,
        cwd: Path | None = None,
        inherited: Sequence[int] = (),
        ready: bool = True,
    ) -> None:
        self.directory = Path(tempfile.mkdtemp(prefix="bridge-test-"))
        self.temporary = self.directory / "tmp"
        self.gates = self.directory / "gates"
        for path in (self.temporary, self.gates, self.directory / "cwd"):
            path.mkdir()
        self._arguments = [*command, *([target] if target else []), *options]
        if app_dir:
            self._arguments += ["--app-dir", str(app_dir)]
        for address in bind:
            self._arguments += ["--bind", address]
        known = {name: value for name, value in os.environ.items() if name not in ("PORT", "WEB_CONCURRENCY")}
        known |= {"TMPDIR": str(self.temporary), "GATES": str(self.gates), "PYTHONDONTWRITEBYTECODE": "1"}
        self._environment = known | dict(environment or {})
        self._cwd = cwd or self.directory / "cwd"
        self._inherited = inherited
        self._ready = ready
        self.paths = [address.removeprefix("unix:") for address in bind if address.startswith("unix:")]
        self.status: int | None = 0  #: expected exit status
        self.address: tuple[str, int] = ("", 0)

    def add(self, *arguments: str) -> None:
        """Further arguments of the command, before it is started."""
        self._arguments += arguments

    def __enter__(self) -> Self:
        self._shared = set(os.listdir("/dev/shm"))
        self.main = subprocess.Popen(
            self._arguments,
            cwd=self._cwd,
            env=self._environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
            pass_fds=self._inherited,
        )
        assert self.main.stdout
        assert self.main.stderr
        self.output, self.log = Output(self.main.stdout), Output(self.main.stderr)
        if self._ready:
            try:
                self.wait_ready()
            except BaseException:
                self._kill_everybody()
                raise
        return self

    def wait_ready(self) -> None:
        """Wait for the line that says that it serves, and read the address there."""
        self.url = self.log.take(READY)[1]
        if found := re.search(r"http://(?:\[(.*?)\]|([^:\[\]]*)):(\d+)", self.url):
            self.address = (found[1] or found[2], int(found[3]))

    def __exit__(self, kind: type[BaseException] | None, _: BaseException | None, __: TracebackType | None) -> None:
        try:
            if kind is None:
                self.finish()
        finally:
            self._kill_everybody()
            shutil.rmtree(self.directory, ignore_errors=True)
            if kind is not None:
                print(f"--- log of the server\n{self.log.text}\n--- its output\n{self.output.text[-10000:]}")

    def finish(self) -> None:
        """Stop it if it runs, then look whether everything is as it should be."""
        if self.status == 0 and self.main.poll() is None:
            self.main.send_signal(signal.SIGTERM)
        status = self.main.wait(PATIENCE)
        self.log.all()
        self.output.all()
        until(lambda: not self.living(), "the last process has ended")
        assert status == self.status, f"exit status {status}:\n{self.log.text}"
        assert [path for path in self.paths if os.path.exists(path)] == []
        assert list(self.temporary.iterdir()) == []
        until(lambda: set(os.listdir("/dev/shm")) <= self._shared, "nothing new is in /dev/shm")
        assert not BAD.search(self.log.rest), f"unexpected lines:\n{self.log.rest}"

    def _kill_everybody(self) -> None:
        for process in tree(self.main.pid):
            try:
                os.kill(process.pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
        self.main.wait()

    def living(self) -> list[Process]:
        """Processes of the tree that have not ended; one without a command line is just doing that."""
        return [process for process in tree(self.main.pid) if process.state not in "ZX" and process.command]

    @property
    def router(self) -> int:
        """Process id of the router."""
        return next(process.pid for process in self.living() if "bridge.router.process" in process.command)

    @property
    def prototype(self) -> int:
        """Process id of the newest prototype."""
        found = [
            process
            for process in self.living()
            if process.parent == self.main.pid and "bridge.worker.prototype" in process.command
        ]
        return max(found, key=lambda process: process.started).pid

    @property
    def workers(self) -> list[int]:
        """Process ids of the prototype's workers."""
        prototype = self.prototype
        return sorted(process.pid for process in self.living() if process.parent == prototype)

    def open(self, gate: str) -> None:
        """Let the request go on that waits at this gate (see applications/plain.py)."""
        (self.gates / gate).touch()
