"""The prototype: one application's gunicorn Arbiter, without listeners, told what to do by main over its link.

Run as `python -P -m bridge.worker.prototype FD`. It has no event loop and no threads, so it may fork its workers.
Of a worker's control link the worker keeps one end, main gets the other, the prototype keeps none, so the death of
either shows at once as end-of-file. How it keeps its workers stands in `keeper`.
"""

from __future__ import annotations

import os
import select
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any, NamedTuple

from gunicorn.app.base import BaseApplication

from bridge import config
from bridge.errors import PeerLost
from bridge.ipc import parcel
from bridge.ipc.link import Link
from bridge.ipc.signals import SignalPipe
from bridge.ipc.status import Page
from bridge.log import log, set_up
from bridge.worker.forked import QuietLog, Server, serve
from bridge.worker.keeper import LEAVE, POLL, SIGNALS, STARTING, Keeper, KeptWorker


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


class BridgeWorker(KeptWorker):
    """A worker that a prototype forks."""

    def __init__(self, age: int, *given: Any) -> None:
        super().__init__(age, *given)
        self.take_row(self.app.next_id, self.app.page.row(self.app.next_id))

    def init_process(self) -> None:
        """In the child: let go of what is the prototype's, serve, and end by SystemExit."""
        signal.set_wakeup_fd(-1)
        self.app.pipe.abandon()
        self.app.link.close()
        self.main_end.close()
        serve(self.app.application, self.control, self.tmp.row, self.app.server)


class _Stop(NamedTuple):
    graceful: bool
    timeout: float  #: seconds


class Prototype(Keeper):
    """Keeps one application's workers alive, as main says."""

    def __init__(self, app: App) -> None:
        self.application = app.application
        self._pipe = app.pipe
        self._link = app.link
        self._stop: _Stop | None = None
        self.LISTENERS: list[Any] = []
        self.begin_keeping()
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
            self._end(_Stop(graceful=False, timeout=LEAVE))
        self.reap_workers()

    def _obey(self, message: dict[str, Any]) -> None:
        match message.get("type"):
            case "ready":
                for worker in self.WORKERS.values():
                    if worker.worker_id == message["worker"]:
                        self.became_ready(worker)
            case "reload":
                self.begin_reload()
            case "stop":
                self._end(_Stop(graceful=bool(message["graceful"]), timeout=float(message["timeout"])))
            case other:
                log.debug("the prototype was told %r and does not know it", other)

    def _end(self, order: _Stop) -> None:
        self._stop = order
        self._ending = True

    def spawn_worker(self) -> int:
        """Fork a worker and introduce it to main; 0 when it could not be. The child does not come back from here."""
        free = self.free_id(self.app.ids, self.app.next_id)
        if free is None:
            return self.postpone("too many workers are still leaving")
        self.app.next_id = free
        pid = super().spawn_worker()
        if pid:
            self.app.next_id += 1
            worker = self.WORKERS[pid]
            self._report({"type": "worker", "worker": worker.worker_id, "pid": pid}, worker.main_end.fileno())
            worker.main_end.close()
        return pid

    def report_ended(self, worker: KeptWorker, status: int, *, expected: bool) -> None:
        """Tell main."""
        self._report(
            {
                "type": "reaped",
                "worker": worker.worker_id,
                "pid": worker.pid,
                "status": status,
                "ready": bool(worker.ready_at),
                "expected": expected,
                "reason": worker.reason,
            }
        )

    def report_reloaded(self, *, ok: bool) -> None:
        """Tell main, and who of the last version has been told to leave, for that takes a moment."""
        leaving = [worker.worker_id for worker in self.WORKERS.values() if worker.leave_by]
        self._report({"type": "reloaded", "ok": ok, "leaving": leaving})

    def stop(self, graceful: bool = True) -> None:
        """End all workers, as main said; called by gunicorn once its loop has ended."""
        order = self._stop or _Stop(graceful, LEAVE)
        self._end(order)
        deadline = self._dismiss(order)
        starting = time.monotonic() + STARTING
        while self.WORKERS and time.monotonic() < deadline:
            self._wait(min(POLL, max(0.0, deadline - time.monotonic())))
            if self._stop and self._stop != order:
                order = self._stop
                deadline = min(deadline, self._dismiss(order))
            if time.monotonic() >= starting:
                self.kill_starting()
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
            self._end(self._stop or _Stop(graceful=False, timeout=LEAVE))


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
    message, (page_fd, settings_fd) = received
    sys.argv = ["bridged"]
    set_up(message["log_level"])
    name = message["name"]
    application = config.from_json(config.Application, parcel.unpack(settings_fd), f"/applications/{name}")
    websocket = config.from_json(config.WebSocket, message.get("websocket", {}), "/settings/http/websocket")
    application = replace(application, name=name, mounted_at=tuple(message["mounted_at"]), websocket=websocket)
    ids = range(message["first_worker"], message["first_worker"] + message["workers"])
    try:
        App(application, link, Page(page_fd, message["rows"], first=message["first_row"]), ids, server).run()
    finally:
        link.close()


if __name__ == "__main__":
    main(int(sys.argv[1]))
