"""The prototype: one application's gunicorn Arbiter, without listeners, told what to do by main over its link.

Run as `python -P -m bridge.worker.prototype FD`. It has no event loop and no threads, so it may fork its workers.
From gunicorn it keeps the care for workers; replaced is what would hurt behind a router:

* HUP kills the old workers before the new ones can serve: here a reload has two phases (`Prototype.reload`);
* a worker that fails to boot stops the server: here it is reported, and tried again after a pause;
* a worker that hangs in its import is never killed: here boot has a deadline (`start_timeout`);
* a signal between fork and the worker's own handlers is lost: here they are blocked in between.

Worker n has row n of the status page. Its control link is made before the fork: the worker keeps one end, main
gets the other, the prototype keeps none, so the death of either shows at once as end-of-file.
"""

from __future__ import annotations

import os
import select
import signal
import sys
import time
from collections.abc import Callable
from typing import Any, NamedTuple

from gunicorn.app.base import BaseApplication
from gunicorn.arbiter import Arbiter
from gunicorn.workers.base import Worker

from bridge import config
from bridge.errors import PeerLost
from bridge.ipc.link import Link
from bridge.ipc.signals import SignalPipe
from bridge.ipc.status import Page
from bridge.log import log, set_up
from bridge.worker.backoff import BackOff
from bridge.worker.forked import Heartbeat, QuietLog, Server, serve

POLL = 1.0  #: seconds between two looks at heartbeats and deadlines
LEAVE = 2.0  #: seconds beyond its own grace that a leaving worker has before it is killed
SIGNALS = frozenset(
    signal.Signals[f"SIG{name}"]
    for name in ("CHLD", "TERM", "INT", "QUIT", "HUP", "USR1", "USR2", "TTIN", "TTOU", "WINCH")
)


class App(BaseApplication):  # type: ignore[misc]
    """Bridge's settings in gunicorn's form, and what workers need from before the fork.

    Args:
        application: what to serve.
        link: to main.
        page: the status page.
        ids: the worker ids that this prototype may give away.
        server: makes what a worker runs.
    """

    def __init__(
        self, application: config.Application, link: Link, page: Page, ids: range, server: Callable[..., Server]
    ) -> None:
        self.application = application
        self.link = link
        self.page = page
        self.ids = ids
        self.server = server
        self.next_id = ids.start
        self.pipe = SignalPipe(SIGNALS)
        super().__init__()

    def load_config(self) -> None:
        """Called by gunicorn at its start."""
        settings = {
            "bind": [],
            "workers": self.application.processes,
            "timeout": 0,  # `murder_workers` has its own deadlines
            "graceful_timeout": 1 + int(self.application.graceful_timeout),
            "control_socket_disable": True,
            "proc_name": self.application.name,
            "worker_class": BridgeWorker,
            "logger_class": QuietLog,
        }
        for name, value in settings.items():
            self.cfg.set(name, value)

    def load(self) -> None:
        """Nothing: each worker loads the target itself, so that a reload gets the new code."""

    def run(self) -> None:
        """Supervise until told to stop; ends by SystemExit, also in every forked worker."""
        Prototype(self).run()


class BridgeWorker(Worker):  # type: ignore[misc]
    """One worker, as the prototype sees it until the fork and as the worker process sees itself after it."""

    def __init__(self, age: int, *given: Any) -> None:
        # Not gunicorn's own: that one makes a temporary file, which a read-only file system refuses.
        self.age = age
        self.ppid, _, self.app, _, self.cfg, self.log = given
        self.pid: int = 0
        self.aborted = False
        self.booted = False
        self.worker_id: int = self.app.next_id
        self.control, self.main_end = Link.pair()
        self.tmp = Heartbeat(self.app.page.row(self.worker_id))
        self.generation = 0
        self.created = time.monotonic()
        self.ready_at = 0.0  #: 0 until main says that it is ready
        self.leave_by = 0.0  #: 0 until it was told to leave
        self.reason: str | None = None  #: why it was killed

    def init_process(self) -> None:
        """In the child: let go of what is the prototype's, serve, and end by SystemExit."""
        signal.set_wakeup_fd(-1)
        self.app.pipe.abandon()
        self.app.link.close()
        self.main_end.close()
        serve(self.app.application, self.control, self.tmp.row, self.app.server)

    def overdue(self, application: config.Application, now: float) -> str | None:
        """Why this worker must be killed, or None."""
        start, still = application.start_timeout, application.liveness_timeout
        if not self.ready_at:
            return f"it was not ready after {start:g} seconds" if start and now - self.created > start else None
        seen = max(self.ready_at, min(self.tmp.last_update(), now))
        return f"its loop stood still for {still:g} seconds" if still and now - seen > still else None


class _Stop(NamedTuple):
    graceful: bool
    timeout: float  #: seconds


class Prototype(Arbiter):  # type: ignore[misc]
    """Keeps `processes` workers of the newest loadable version alive."""

    def __init__(self, app: App) -> None:
        self._pipe = app.pipe
        self._link = app.link
        self._boot = BackOff()
        self._crash = BackOff(grown=2.0, free=3)
        self._spawn_at = 0.0
        self._generation = 0
        self._reloading = False
        self._reload_again = False
        self._stop: _Stop | None = None
        self.LISTENERS: list[Any] = []
        self.WORKERS: dict[int, BridgeWorker] = {}
        self._poll = select.poll()
        for source in (self._pipe, self._link):
            self._poll.register(source.fileno(), select.POLLIN)
        super().__init__(app)
        os.environ.pop("SERVER_SOFTWARE", None)  # gunicorn's name, which applications would show

    def init_signals(self) -> None:
        """The handlers stand since `App`; main had blocked these signals for the time before."""
        signal.pthread_sigmask(signal.SIG_SETMASK, [])

    def wait_for_signals(self, timeout: float = POLL) -> list[int]:
        """Wait for main, for a child's end, or for the next deadline; returns nothing for gunicorn to handle."""
        self._wait(timeout)
        if self._stop:
            raise StopIteration  # gunicorn's own word for the end of its loop
        return []

    def _wait(self, timeout: float) -> None:
        pause = min(timeout, max(0.0, self._spawn_at - time.monotonic()) or timeout)
        self._poll.poll(pause * 1000)
        self._pipe.receive()  # they wake; apart from a child's end, what they mean is main's to decide
        # Main's messages before the dead: who was ready when it died did not fail to boot.
        try:
            while received := self._link.receive():
                message, fds = received
                for fd in fds:
                    os.close(fd)
                self._obey(message)
        except PeerLost:
            self._stop = _Stop(graceful=False, timeout=LEAVE)
        self.reap_workers()

    def _obey(self, message: dict[str, Any]) -> None:
        match message.get("type"):
            case "ready":
                for worker in self.WORKERS.values():
                    if worker.worker_id == message["worker"] and not worker.ready_at:
                        worker.ready_at = time.monotonic()
                        self._boot.recovered()
            case "reload":
                self.reload()
            case "stop":
                self._stop = _Stop(graceful=bool(message["graceful"]), timeout=float(message["timeout"]))
            case other:
                log.debug("the prototype was told %r and does not know it", other)

    def manage_workers(self) -> None:
        """One step towards `processes` ready workers of the newest generation, and no others."""
        staying = [worker for worker in self.WORKERS.values() if not worker.leave_by]
        current = [worker for worker in staying if worker.generation == self._generation]
        ready = sum(1 for worker in current if worker.ready_at)
        if self._reloading and ready >= self.num_workers:
            self._end_reload([worker for worker in staying if worker not in current], ok=True)
        # A version that may not load is tried by one worker first: it fails once, not once per worker.
        trial = not ready and (self._reloading or self._boot.trouble)
        for _ in range((1 if trial else self.num_workers) - len(current)):
            if time.monotonic() < self._spawn_at:
                break
            self.spawn_worker()

    def reload(self) -> None:
        """Begin to replace all workers: new ones first; the old are retired once as many new ones are ready."""
        if self._reloading:
            self._reload_again = True
            return
        self._reloading = True
        self._generation += 1
        self._spawn_at = 0.0
        self._boot.recovered()

    def _end_reload(self, leaving: list[BridgeWorker], *, ok: bool) -> None:
        self._reloading = False
        for worker in leaving:
            self._retire(worker, signal.SIGTERM if ok else signal.SIGQUIT)
        if not ok:
            for worker in self.WORKERS.values():
                worker.generation = self._generation
        self._report({"type": "reloaded", "ok": ok})
        if self._reload_again:
            self._reload_again = False
            self.reload()

    def _retire(self, worker: BridgeWorker, number: signal.Signals) -> None:
        worker.leave_by = time.monotonic() + self.app.application.graceful_timeout + LEAVE
        self.kill_worker(worker.pid, number)

    def murder_workers(self) -> None:
        """Kill workers that did not boot, do not move or do not leave in time."""
        now = time.monotonic()
        for pid, worker in list(self.WORKERS.items()):
            if worker.aborted or (worker.leave_by and now > worker.leave_by):
                self.kill_worker(pid, signal.SIGKILL)
            elif not worker.leave_by and (reason := worker.overdue(self.app.application, now)):
                # ABRT first: it shows in the log where the worker stands.
                worker.reason = reason
                worker.aborted = True
                self.kill_worker(pid, signal.SIGABRT)

    def spawn_worker(self) -> int:
        """Fork a worker and introduce it to main; 0 when it could not be. The child does not come back from here."""
        taken = {worker.worker_id for worker in self.WORKERS.values()}
        # In turn, so that an id comes back late: whoever still talks about the last one has stopped by then.
        turn = (*range(self.app.next_id, self.app.ids.stop), *self.app.ids)
        free = next((number for number in turn if number not in taken), None)
        if free is None:
            return self._postpone("too many workers are still leaving")
        self.app.next_id = free
        signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
        try:
            pid: int = super().spawn_worker()
        except OSError as error:
            signal.pthread_sigmask(signal.SIG_SETMASK, [])
            return self._postpone(f"no worker can be started: {error}")
        signal.pthread_sigmask(signal.SIG_SETMASK, [])
        self.app.next_id += 1
        worker = self.WORKERS[pid]
        worker.generation = self._generation
        worker.control.close()
        self._report({"type": "worker", "worker": worker.worker_id, "pid": pid}, worker.main_end.fileno())
        worker.main_end.close()
        return pid

    def _postpone(self, reason: str) -> int:
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
            if worker is not None:
                worker.tmp.close()
                self._bury(worker, status)

    def _bury(self, worker: BridgeWorker, status: int) -> None:
        self._report(
            {
                "type": "reaped",
                "worker": worker.worker_id,
                "pid": worker.pid,
                "status": status,
                "ready": bool(worker.ready_at),
                "expected": bool(worker.leave_by or self._stop),
                "reason": worker.reason,
            }
        )
        if worker.leave_by or self._stop:
            return
        now = time.monotonic()
        if worker.ready_at:
            self._spawn_at = now + self._crash.died(now - worker.ready_at)
        elif self._reloading and worker.generation == self._generation:
            failed = [other for other in self.WORKERS.values() if other.generation == self._generation]
            self._end_reload([other for other in failed if not other.leave_by], ok=False)
        else:
            self._spawn_at = now + self._boot.died(0.0)

    def stop(self, graceful: bool = True) -> None:
        """End all workers, as main said; called by gunicorn once its loop has ended."""
        order = self._stop or _Stop(graceful, LEAVE)
        self._stop = order
        deadline = self._dismiss(order)
        while self.WORKERS and time.monotonic() < deadline:
            self._wait(min(POLL, max(0.0, deadline - time.monotonic())))
            if self._stop != order:
                order = self._stop
                deadline = min(deadline, self._dismiss(order))
        self.kill_workers(signal.SIGKILL)
        last = time.monotonic() + LEAVE
        while self.WORKERS and time.monotonic() < last:
            self._wait(POLL)

    def _dismiss(self, order: _Stop) -> float:
        self._spawn_at = 0.0
        for pid, worker in list(self.WORKERS.items()):
            # One that is still importing has nothing to finish, and may not hear of it for long.
            quick = signal.SIGQUIT if worker.ready_at else signal.SIGKILL
            self.kill_worker(pid, signal.SIGTERM if order.graceful else quick)
        return time.monotonic() + order.timeout

    def _report(self, message: dict[str, Any], *fds: int) -> None:
        try:
            self._link.send(message, fds)
        except PeerLost:
            self._stop = self._stop or _Stop(graceful=False, timeout=LEAVE)


def main(fd: int, server: Callable[..., Server] | None = None) -> None:
    """The whole life of a prototype, and, after a fork, of a worker; ends by SystemExit.

    Args:
        fd: inherited end of the link to main, whose first message is the configuration.
        server: makes what workers run; None = `bridge.worker.server.WorkerServer`.
    """
    if server is None:
        from bridge.worker.server import WorkerServer  # noqa: PLC0415 - tests run the prototype without it

        server = WorkerServer
    link = Link.adopt(fd)
    waiting = select.poll()
    waiting.register(fd, select.POLLIN)
    waiting.poll()
    try:
        received = link.receive()
    except PeerLost:
        return
    if received is None:
        return
    message, (page_fd,) = received
    sys.argv = ["bridged"]
    set_up(message["log_level"])
    application = config.from_json(config.Application, message["application"], "/application")
    ids = range(message["first_worker"], message["first_worker"] + message["workers"])
    try:
        App(application, link, Page(page_fd, message["rows"]), ids, server).run()
    finally:
        link.close()


if __name__ == "__main__":
    main(int(sys.argv[1]))
