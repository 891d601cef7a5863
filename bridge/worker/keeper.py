"""The care for one application's workers: gunicorn's Arbiter with what would hurt behind a router replaced.

* HUP kills the old workers before the new ones can serve: here a reload has two phases (`Keeper.begin_reload`);
* a worker that fails to boot stops the server: here it is reported, and tried again after a pause;
* a worker that hangs in its import is never killed: here boot has a deadline (`start_timeout`);
* a signal between fork and the worker's own handlers is lost: here they are blocked in between.

Two processes are keepers: the prototype, which main tells what to do, and gunicorn's own master when the user
starts gunicorn (`bridge.gunicorn`). Worker n has row n of the status page. Its control link is made before the
fork: the worker keeps one end, whoever plays main the other.
"""

from __future__ import annotations

import itertools
import os
import signal
import time
from typing import Any, ClassVar

from gunicorn.arbiter import Arbiter
from gunicorn.workers.base import Worker

from bridge import config
from bridge.ipc.link import Link
from bridge.ipc.status import Row
from bridge.log import log
from bridge.worker.backoff import BackOff
from bridge.worker.forked import Heartbeat

POLL = 1.0  #: seconds between two looks at heartbeats and deadlines
LEAVE = 2.0  #: seconds beyond its own grace that a leaving worker has before it is killed
STARTING = 5.0  #: seconds that a worker has to end its start after TERM: nobody waits for what it would serve
SIGNALS = frozenset(
    signal.Signals[f"SIG{name}"]
    for name in ("CHLD", "TERM", "INT", "QUIT", "HUP", "USR1", "USR2", "TTIN", "TTOU", "WINCH")
)


class KeptWorker(Worker):  # type: ignore[misc]
    """One worker, as its keeper sees it until the fork and as the worker process sees itself after it.

    Args:
        age: gunicorn's count of workers.
        given: what gunicorn gives every worker.
    """

    def __init__(self, age: int, *given: Any) -> None:
        # Not gunicorn's own: that one makes a temporary file, which a read-only file system refuses.
        self.age = age
        self.ppid, self.sockets, self.app, self.timeout, self.cfg, self.log = given
        self.pid: int = 0
        self.aborted = False
        self.booted = False
        self.worker_id: int = 0
        self.control, self.main_end = Link.pair()
        self.generation = 0
        self.created = time.monotonic()
        self.ready_at = 0.0  #: 0 until it said that it is ready
        self.leave_by = 0.0  #: 0 until it was told to leave
        self.spent = False  #: it has served as many requests as it should, and goes on until there is another one
        self.reason: str | None = None  #: why it was killed

    def take_row(self, number: int, row: Row) -> None:
        """Give it its number and its row of the status page."""
        self.worker_id = number
        self.tmp = Heartbeat(row)

    def overdue(self, application: config.Application, now: float) -> str | None:
        """Why this worker must be killed, or None."""
        start, still = application.start_timeout, application.liveness_timeout
        if not self.ready_at:
            return f"it was not ready after {start:g} seconds" if start and now - self.created > start else None
        seen = max(self.ready_at, min(self.tmp.last_update(), now))
        return f"its loop stood still for {still:g} seconds" if still and now - seen > still else None


class Keeper(Arbiter):  # type: ignore[misc]
    """Keeps `num_workers` workers of the newest loadable version alive.

    A subclass sets `application`, calls `begin_keeping` before the first worker, `became_ready` when one is, and
    is told by `report_ended` and `report_reloaded`.
    """

    application: config.Application
    first_signals: ClassVar[frozenset[signal.Signals]] = SIGNALS  #: blocked around a fork

    def begin_keeping(self) -> None:
        """Set up what this class remembers."""
        self._boot = BackOff()
        self._crash = BackOff(grown=2.0, free=3)
        self._spawn_at = 0.0
        self._generation = 0
        self._reloading = False
        self._reload_again = False
        self._ending = False  #: nobody who dies now is replaced
        self.WORKERS: dict[int, KeptWorker] = {}

    def report_ended(self, worker: KeptWorker, status: int, *, expected: bool) -> None:
        """A worker was reaped; `status` as `os.waitpid` gives it."""

    def report_overdue(self, worker: KeptWorker) -> None:
        """A worker is about to be killed for its `reason`."""

    def report_reloaded(self, *, ok: bool) -> None:
        """A reload is over: new workers serve, the old were told to leave; or (not `ok`) only the old serve, still."""

    def became_ready(self, worker: KeptWorker) -> None:
        """This worker can take requests."""
        if not worker.ready_at:
            worker.ready_at = time.monotonic()
            self._boot.recovered()

    def manage_workers(self) -> None:
        """One step towards `num_workers` ready workers of the newest generation, and no others."""
        staying = [worker for worker in self.WORKERS.values() if not worker.leave_by]
        current = [worker for worker in staying if worker.generation == self._generation and not worker.spent]
        ready = [worker for worker in current if worker.ready_at]
        if len(ready) >= self.num_workers:
            # Spent workers and those of the last version have served until now.
            for worker in staying:
                if worker not in current:
                    self._retire(worker, signal.SIGTERM)
            if self._reloading:
                self._end_reload(ok=True)
            for worker in sorted(current, key=lambda worker: worker.age)[: len(current) - self.num_workers]:
                self._retire(worker, signal.SIGTERM)
        # A version that may not load is tried by one worker first: it fails once, not once per worker.
        trial = not ready and (self._reloading or self._boot.trouble)
        for _ in range((1 if trial else self.num_workers) - len(current)):
            if time.monotonic() < self._spawn_at:
                break
            self.spawn_worker()

    def begin_reload(self) -> None:
        """Begin to replace all workers: new ones first; the old are retired once as many new ones are ready."""
        if self._reloading:
            self._reload_again = True
            return
        self._reloading = True
        self._generation += 1
        self._spawn_at = 0.0
        self._boot.recovered()

    def _end_reload(self, *, ok: bool) -> None:
        self._reloading = False
        if not ok:
            self._retire_newest()
        self.report_reloaded(ok=ok)
        if self._reload_again:
            self._reload_again = False
            self.begin_reload()

    def give_up_reload(self) -> None:
        """Try the newest version no longer: its workers leave, and the old ones go on. Nothing is reported."""
        self._reloading = self._reload_again = False
        self._retire_newest()

    def _retire_newest(self) -> None:
        for worker in self.WORKERS.values():
            if worker.generation == self._generation and not worker.leave_by:
                # One that is ready may run requests.
                self._retire(worker, signal.SIGTERM if worker.ready_at else signal.SIGQUIT)
            worker.generation = self._generation

    def _retire(self, worker: KeptWorker, number: signal.Signals) -> None:
        worker.leave_by = time.monotonic() + self.application.graceful_timeout + LEAVE
        self.kill_worker(worker.pid, number)

    def murder_workers(self) -> None:
        """Kill workers that did not boot, do not move or do not leave in time."""
        now = time.monotonic()
        for pid, worker in list(self.WORKERS.items()):
            if worker.aborted or (worker.leave_by and now > worker.leave_by):
                self.kill_worker(pid, signal.SIGKILL)
            elif not worker.leave_by and (reason := worker.overdue(self.application, now)):
                # ABRT first: it shows in the log where the worker stands.
                worker.reason = reason
                worker.aborted = True
                self.report_overdue(worker)
                self.kill_worker(pid, signal.SIGABRT)

    def kill_starting(self) -> None:
        """At the end, STARTING seconds after TERM: kill the workers that are not ready; they have nothing to finish."""
        for pid, worker in list(self.WORKERS.items()):
            if not worker.ready_at:
                self.kill_worker(pid, signal.SIGKILL)

    def spawn_worker(self) -> int:
        """Fork a worker; 0 when it could not be. The child does not come back from here."""
        signal.pthread_sigmask(signal.SIG_BLOCK, self.first_signals)
        try:
            pid: int = super().spawn_worker()
        except OSError as error:
            return self.postpone(f"no worker can be started: {error}")
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, [])
        worker = self.WORKERS[pid]
        worker.generation = self._generation
        worker.control.close()
        return pid

    def free_id(self, ids: range, following: int) -> int | None:
        """A worker id that nobody has, or None.

        Args:
            ids: those that may be given away.
            following: where to begin: in turn, so that an id comes back late. Whoever still talks about the last
                worker of that id has stopped by then.
        """
        taken = {worker.worker_id for worker in self.WORKERS.values()}
        turn = itertools.chain(range(following, ids.stop), ids)
        return next((number for number in turn if number not in taken), None)

    def postpone(self, reason: str) -> int:
        """Log why no worker is started now, and try again later."""
        log.error("%s", reason)
        self._spawn_at = time.monotonic() + POLL
        return 0

    def reap_workers(self) -> None:
        """Collect every dead child. Replaces gunicorn's, which stops the server after a failed boot."""
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if not pid:
                return
            worker = self.WORKERS.pop(pid, None)
            if worker is None:
                self.other_child_ended(pid, status)
            else:
                self._bury(worker, status)
                worker.tmp.close()
                self.cfg.child_exit(self, worker)

    def other_child_ended(self, pid: int, status: int) -> None:
        """A child that is no worker was reaped."""

    def _bury(self, worker: KeptWorker, status: int) -> None:
        expected = bool(worker.leave_by or self._ending)
        self.report_ended(worker, status, expected=expected)
        if expected:
            return
        now = time.monotonic()
        if worker.ready_at:
            self._spawn_at = now + self._crash.died(now - worker.ready_at)
        elif self._reloading and worker.generation == self._generation:
            self._end_reload(ok=False)
        else:
            self._spawn_at = now + self._boot.died(0.0)
