"""gunicorn's master as Bridge's main: it keeps the workers and the router, and does what gunicorn's signals mean.

It is gunicorn's own object, of another class since `take_over`: hooks, the pid file, the control socket, USR2 and
the log are gunicorn's. What is different, beside what `worker.keeper` says:

* the listening sockets go to the router; workers never see them;
* HUP: see `gunicorn.reload`;
* TERM: the router stops accepting and finishes what has come, then the workers are told.
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

from gunicorn.errors import HaltServer

from bridge import __version__
from bridge.child import describe
from bridge.config import MOST_PROCESSES
from bridge.errors import BridgeError
from bridge.gunicorn import settings as settings_of
from bridge.gunicorn.logs import forward
from bridge.gunicorn.reload import Reloading
from bridge.gunicorn.routers import Introduced, Order, Routers, command
from bridge.gunicorn.sockets import close, listener, remember_file
from bridge.ipc.signals import SignalPipe
from bridge.ipc.status import Page
from bridge.loop import Loop, read_all
from bridge.roster import FIRST_WORKER, RANGES, read_report
from bridge.worker.keeper import POLL, SIGNALS, STARTING, KeptWorker

QUICK = 5.0  #: seconds for a quick end
MOST_NEWS = 16  #: messages of one worker that are read at once
DEBOUNCE = 0.1  #: seconds: files saved together are one reload


def take_over(server: Any, interface: str) -> None:
    """Make gunicorn's master, which has opened its addresses and forked nothing yet, one of ours.

    Ends the process if a setting forbids it.
    """
    server.__class__ = Master
    server.begin(interface)


class Master(Reloading):
    """See the head of the file."""

    worker_class: Any
    reexec_pid: int
    dirty_arbiter_pid: int

    def begin(self, interface: str) -> None:
        """Judge the configuration and start the router; gunicorn starts the workers next."""
        self.begin_keeping()
        self.begin_reloading(interface)
        self._stopped = False
        self._ever_ready = False
        self._announced = False
        self._failure: HaltServer | None = None
        self._explained: set[int] = set()
        self._changes: dict[str, int] = {}
        self._reload_due = False
        self._next_id = FIRST_WORKER
        self._hurry = False
        self._loop = Loop()
        self._pipe = SignalPipe(SIGNALS)
        self._loop.watch(self._pipe, lambda: None)
        forward(lambda: self.log)
        self._name = self.cfg.proc_name  # of the application in the router; a HUP does not change it
        self._room = 0  # workers that the router has room for
        # As many as a HUP may ask for; rows of the page that nobody has used cost nothing.
        self._ids = range(FIRST_WORKER, FIRST_WORKER + RANGES * MOST_PROCESSES)
        self._page = Page.create(self._ids.stop)
        self._routers = Routers(self._loop, self._page, self._everybody, self._cut, self._announce)
        for opened in self.LISTENERS:
            remember_file(opened)
        try:
            self.judge(self.cfg)
            self.apply(self.cfg)
            self.use_router()
        except (BridgeError, OSError) as error:
            self.log.error("%s", error)
            self.halt(reason="Bridge cannot serve this configuration.", exit_status=1)
        os.environ.pop("SERVER_SOFTWARE", None)  # gunicorn's name, which applications would show

    # --- configuration --------------------------------------------------------------------------------------

    def judge(self, cfg: Any) -> None:
        """As `Reloading.judge`."""
        judgement = settings_of.judge(cfg, self._interface)
        for line in judgement.warned:
            self.log.warning("%s", line)
        if judgement.refused:
            raise BridgeError("; ".join(judgement.refused))

    def apply(self, cfg: Any) -> None:
        """From now on workers are started with this configuration."""
        self._settings = settings_of.from_gunicorn(
            cfg,
            getattr(self.app, "app_uri", None) or cfg.proc_name,
            self._interface,
            name=self._name,
            access_in_worker=settings_of.worker_logs_access(cfg, cfg.logger_class),
            environment=os.environ,
        )
        self.application = settings_of.application_of(self._settings)

    def use_router(self) -> None:
        """From now on the router has the configuration that workers have."""
        self._routers.own_files(own=self.owns_files)
        listeners = tuple(listener(opened, self.application.name) for opened in self.LISTENERS)
        start = command(self.cfg.uid, self.cfg.gid, initgroups=self.cfg.initgroups)
        grace = self.application.graceful_timeout
        processes = max(self._room, settings_of.room(self.num_workers))
        self._use(Order(settings_of.for_router(self._settings, processes), listeners, start, grace))

    def _use(self, order: Order) -> None:
        self._routers.use(order)
        self._order = order
        told = settings_of.application_of(order.settings)
        self._room, self._threads = told.processes, told.threads

    def _make_room(self) -> None:
        """Have a router with room for the workers that are about to be started, and its other settings as they are."""
        processes = settings_of.room(self.num_workers)
        try:
            self._use(
                replace(
                    self._order,
                    settings=settings_of.with_seats(self._order.settings, processes, self.application.threads),
                )
            )
        except OSError as error:
            self.postpone(f"no router with room for more workers can be started: {error}")

    # --- waiting --------------------------------------------------------------------------------------------

    def init_signals(self) -> None:
        """Done in `begin`; gunicorn calls this before."""

    def wakeup(self) -> None:
        """As gunicorn's: from the control socket's thread."""
        self._pipe.wake()

    def wait_for_signals(self, timeout: float = POLL) -> list[int]:
        """Wait for a signal, a message or the next deadline; returns the signals, for gunicorn to handle."""
        pause = max(0.0, self._spawn_at - time.monotonic())
        self._loop.turn(min(timeout, pause or timeout))
        numbers: list[int] = [int(number) for number in self._pipe.receive()]
        with contextlib.suppress(Exception):  # those from before `begin`
            while True:
                numbers.append(self.SIG_QUEUE.get_nowait())
        # Messages before the dead: who was ready when it died did not fail to boot.
        self.reap_workers()
        if self._failure:
            raise self._failure
        return [number for number in numbers if number in self.SIG_NAMES]

    # --- workers --------------------------------------------------------------------------------------------

    def manage_workers(self) -> None:
        """As `Keeper.manage_workers`, once the router has room for them."""
        if self.num_workers > MOST_PROCESSES:
            self.log.error("%d workers are too many: there are %d at most", self.num_workers, MOST_PROCESSES)
            self.num_workers = MOST_PROCESSES
        if self.num_workers > self._room or self.application.threads > self._threads:
            self._make_room()
        super().manage_workers()

    def spawn_worker(self) -> int:
        """Fork a worker and introduce it; 0 when it could not be. The child does not come back from here."""
        number = self.free_id(self._ids, self._next_id)
        if number is None:
            return self.postpone("too many workers are still leaving")
        worker_class = self.worker_class
        self.worker_class = partial(self._make_worker, worker_class, number)
        try:
            pid = super().spawn_worker()
        finally:
            self.worker_class = worker_class
        if pid:
            self._next_id = number + 1
            worker = self.WORKERS[pid]
            self._loop.watch(worker.main_end, lambda: self._read(worker))
            self._routers.introduce(self._introducible(worker))
        return pid

    def _make_worker(self, worker_class: Callable[..., Any], number: int, *given: Any) -> Any:
        worker = worker_class(*given)
        worker.join(self, number, self._page.row(number))
        return worker

    def release(self) -> None:
        """In a new worker: let go of what is the master's."""
        for opened in self.all_sockets:
            opened.close()
        self._pipe.abandon()
        self._loop.close()
        self._routers.release()
        self._page.close()

    def _introducible(self, worker: KeptWorker) -> Introduced:
        return Introduced(worker.worker_id, self.application.name, worker.pid, worker.main_end, self.kill_worker)

    def _everybody(self) -> list[Introduced]:
        return [self._introducible(worker) for worker in self.WORKERS.values()]

    def _read(self, worker: KeptWorker) -> None:
        if not read_all(worker.main_end, lambda message, fds: self._on_message(worker, message, fds), MOST_NEWS):
            self._loop.forget(worker.main_end)

    def _on_message(self, worker: KeptWorker, message: dict[str, Any], fds: list[int]) -> None:
        report = read_report(fds)
        if message["type"] == "ready":
            self._ever_ready = True
            self.became_ready(worker)
        elif message["type"] == "spent":
            worker.spent = True
            self.log.info("Worker (pid:%s) has served %s requests: replacing it", worker.pid, self.cfg.max_requests)
        elif message["type"] == "failed":
            self._explained.add(worker.pid)
            self.log.error("%s%s", message["line"], f"\n{report.rstrip()}" if report else "")
        elif message["type"] == "changed" and self._changes.get(message["path"]) != message["stamp"]:
            # Every worker tells of it; one reload is enough.
            self._changes[message["path"]] = message["stamp"]
            if not self._reload_due:
                self._reload_due = True
                self.log.info("Reloading: %s modified", message["path"])
                self._loop.after(DEBOUNCE, self._reload_changed)

    def _reload_changed(self) -> None:
        self._reload_due = False
        self.begin_reload()

    def _announce(self) -> None:
        ready = 0 if self._announced else self._routers.serving(self.num_workers)
        if ready:
            self._announced = True
            where = ", ".join(opened.bridge_address.url for opened in self.LISTENERS)
            line = "bridged %s serves %s on %s with %d worker" + "s" * (ready > 1)
            self.log.info(line, __version__, self.application.target, where, ready)

    def _cut(self, number: int) -> None:
        for pid, worker in self.WORKERS.items():
            if worker.worker_id == number:
                self.kill_worker(pid, signal.SIGKILL)
                break

    def report_ended(self, worker: KeptWorker, status: int, *, expected: bool) -> None:
        """Read what it said last, tell the router, and log or end everything."""
        self._read(worker)
        self._loop.forget(worker.main_end)
        self._routers.gone(self._introducible(worker))
        code = os.waitstatus_to_exitcode(status)
        explained = worker.pid in self._explained
        self._explained.discard(worker.pid)
        if code in (self.WORKER_BOOT_ERROR, self.APP_LOAD_ERROR) and not self._ever_ready and not self._failure:
            reason = "App failed to load." if code == self.APP_LOAD_ERROR else "Worker failed to boot."
            self._failure = HaltServer(reason, code)
        elif not expected and not explained:
            how = worker.reason or describe(status)
            (self.log.error if status else self.log.info)("Worker (pid:%s) ended: %s", worker.pid, how)

    def report_overdue(self, worker: KeptWorker) -> None:
        """Say it in the words that gunicorn's users look for."""
        self.log.critical("WORKER TIMEOUT (pid:%s): %s", worker.pid, worker.reason)

    def reap_workers(self) -> None:
        """As `Keeper.reap_workers`, once gunicorn has looked after its dirty arbiter by itself."""
        self.reap_dirty_arbiter()
        super().reap_workers()

    def other_child_ended(self, pid: int, status: int) -> None:
        """The router, the master of a USR2, gunicorn's dirty arbiter, or somebody who was left to process 1."""
        if pid == self.reexec_pid:
            self.reexec_pid = 0
        elif pid == self.dirty_arbiter_pid:
            self.dirty_arbiter_pid = 0
        elif self._routers.ended(pid, status) and not self._routers.ever_served:
            self._failure = HaltServer("The router did not start.", self.WORKER_BOOT_ERROR)

    # --- signals --------------------------------------------------------------------------------------------

    def handle_usr1(self) -> None:
        """Open all logs anew."""
        super().handle_usr1()
        self._routers.reopen()

    def handle_winch(self) -> None:
        """As gunicorn's: a daemon stops its workers gracefully; requests wait for the next ones."""
        if self.cfg.daemon:
            self.num_workers = 0

    def reexec(self) -> None:
        """USR2: the next master inherits the sockets, which nobody else does; the files are nobody's for that long."""
        self._routers.own_files(own=False)
        for opened in self.LISTENERS:
            opened.set_inheritable(True)
        super().reexec()
        for opened in self.LISTENERS:
            opened.set_inheritable(False)

    @property
    def owns_files(self) -> bool:
        """Whether socket files are ours to remove: not as long as there are two masters, and never systemd's."""
        return self.reexec_pid == self.master_pid == 0 and not self.systemd

    def maybe_promote_master(self) -> None:
        """As gunicorn's: the old master is gone; or the new one is, and the files are ours again."""
        super().maybe_promote_master()
        self._routers.own_files(own=self.owns_files)

    # --- the end --------------------------------------------------------------------------------------------

    def stop(self, graceful: bool = True) -> None:
        """End the router and all workers; called by gunicorn, perhaps twice."""
        if self._stopped:
            return
        self._stopped = self._ending = True
        self._hurry = not graceful or self._failure is not None
        limit = time.monotonic() + (QUICK if self._hurry else self.cfg.graceful_timeout)
        self.log.info("Stopping: requests in flight have %g seconds", 0 if self._hurry else self.cfg.graceful_timeout)
        # The router's copies stay open until it has accepted what waits there.
        close(self.LISTENERS, unlink=self.owns_files)
        self.LISTENERS = []
        self.drop_coming()
        self._routers.quit() if self._hurry else self._routers.drain()
        self._wait(lambda: not self._routers.busy, limit)
        if self.dirty_arbiter_pid:  # workers may have asked it until now
            self.kill_dirty_arbiter(signal.SIGQUIT if self._hurry else signal.SIGTERM)
        self._dismiss()
        self._wait(lambda: not self.WORKERS, min(limit, time.monotonic() + STARTING))
        self.kill_starting()
        self._wait(lambda: not self.WORKERS, limit)
        if self.WORKERS:
            self._hurry = True
            self._dismiss()
        self._hurry = False
        self._wait(lambda: not self.WORKERS, time.monotonic() + QUICK)  # the router passes on their last answers
        self._routers.quit()
        self._wait(self._alone, time.monotonic() + QUICK)
        self.kill_workers(signal.SIGKILL)
        self.kill_dirty_arbiter(signal.SIGKILL)
        self._routers.kill()
        self._wait(self._alone, time.monotonic() + QUICK)

    def _dismiss(self) -> None:
        for pid, worker in list(self.WORKERS.items()):
            # One that is still importing has nothing to finish, and may not hear of it for long.
            quick = signal.SIGQUIT if worker.ready_at else signal.SIGKILL
            self.kill_worker(pid, quick if self._hurry else signal.SIGTERM)

    def _alone(self) -> bool:
        return not (self.WORKERS or self._routers.alive or self.dirty_arbiter_pid)

    def _wait(self, over: Callable[[], bool], limit: float) -> None:
        """Live on until something is over, a time has come, or somebody is in a hurry."""
        while not over() and not self._hurry and (left := limit - time.monotonic()) > 0:
            self._loop.turn(min(POLL, left))
            self.reap_workers()
            if {signal.SIGINT, signal.SIGQUIT} & set(self._pipe.receive()):
                self.log.info("Quick shutdown requested")
                self._hurry = True
