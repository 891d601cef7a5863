"""The supervisor: starts router and prototype, introduces workers to the router, and restarts what dies.

One thread that sleeps in `selectors` until a signal, a link or a timer has something. It holds the listening
sockets, so that a router's death loses no waiting connection, and a control link to every worker, so that a
prototype's death loses no worker. The two endings:

* TERM: the router stops accepting and finishes; then the workers. What still runs after `graceful_timeout` is ended
  as by INT, so that the application hears of it and can shut down.
* INT, QUIT or a second TERM: workers and router leave at once, within QUICK seconds.

When main itself is killed everyone else reads end-of-file and leaves; the router removes the socket files.
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from bridge import __version__, config
from bridge.child import Child, adopt_orphans, describe, reap
from bridge.errors import BridgeError, TargetError
from bridge.ipc.link import Link
from bridge.ipc.signals import SignalPipe
from bridge.ipc.status import Page
from bridge.log import log
from bridge.loop import Loop, read_all
from bridge.roster import FIRST_WORKER, RANGES, Member, free_range, introduce, read_report
from bridge.router.listener import Listener
from bridge.worker.backoff import BackOff

QUICK = 5.0  #: seconds for a quick end
HOPELESS = 1.0  #: seconds for the end after a start that failed
RETRY = 1.0  #: seconds
DEBOUNCE = 0.1  #: seconds: files saved together are one reload
MANAGED = [signal.SIGCHLD, signal.SIGTERM, signal.SIGINT, signal.SIGQUIT, signal.SIGHUP, signal.SIGUSR1]

_Handler = Callable[[Child, dict[str, Any], list[int]], None]


class Supervisor:
    """The whole work of the main process.

    Args:
        settings: what to serve.
        listeners: open listening sockets; the caller closes them.
        router: command line of the router, without its link's number.
        prototype: the same of the prototype.
    """

    def __init__(
        self, settings: config.Settings, listeners: list[Listener], router: Sequence[str], prototype: Sequence[str]
    ) -> None:
        self._settings = settings
        (self._application,) = settings.applications.values()
        self._listeners = listeners
        self._commands = (router, prototype)
        self._loop = Loop()
        self._ids = max(64, 4 * self._application.processes)
        self._page = Page.create(FIRST_WORKER + RANGES * self._ids)
        self._router: Child | None = None
        self._prototype: Child | None = None
        self._members: dict[int, Member] = {}
        self._deaths = (BackOff(free=1), BackOff(free=1))
        self._serving = False  #: the living router accepts
        self._ever_served = False
        self._ever_ready = False
        self._announced = False
        self._deadline: float | None = None  #: set once the end has begun
        self._quick = False
        self._workers_told = False
        self._failure: BridgeError | None = None
        self._explained: set[int] = set()  #: dead workers that said themselves why they could not start
        self._seen_changes: dict[str, int] = {}
        self._reload_due = False

    def run(self) -> None:
        """Start everything, watch it, and return when all of it has ended.

        Raises:
            BridgeError: it never came to serve.
        """
        self._signals = SignalPipe(MANAGED)
        self._loop.watch(self._signals, self._on_signals)
        adopt_orphans()
        try:
            self._start_router()
            self._start_prototype()
            while not self._over():
                self._loop.turn()
        finally:
            self._kill_all()
            self._collect()
            self._signals.close()
            adopt_orphans(adopt=False)
            self._loop.close()
            self._page.close()
        if self._failure:
            raise self._failure

    def _on_signals(self) -> None:
        for number in self._signals.receive():
            if number == signal.SIGCHLD:
                self._reap()
            elif number == signal.SIGTERM:
                self._stop(graceful=True)
            elif number == signal.SIGHUP:
                self._reload()
            elif number == signal.SIGUSR1:
                self._tell(self._router, {"type": "reopen"})
            else:
                self._stop(graceful=False)

    def _start(self, name: str, command: Sequence[str], handle: _Handler, again: Callable[[], None]) -> Child | None:
        """A new child whose messages go to `handle`; None if the machine has no room for it now."""
        try:
            child = Child(name, command)
        except OSError as error:
            if not self._ever_ready:
                raise BridgeError(f"the {name} cannot be started: {error}") from error
            log.error("the %s cannot be started: %s", name, error)
            self._loop.after(RETRY, again)
            return None

        def read() -> None:
            if not read_all(child.link, lambda message, fds: handle(child, message, fds)):
                # It is about to end and to be reaped. One that does not, or talks nonsense, is of no more use.
                self._loop.forget(child.link)
                self._loop.after(RETRY, lambda: child.kill() if child in (self._router, self._prototype) else None)

        self._loop.watch(child.link, read)
        return child

    def _tell(self, child: Child | None, message: dict[str, Any]) -> None:
        if child is not None:
            child.tell(message)

    # --- the router -----------------------------------------------------------------------------------------

    def _start_router(self) -> None:
        if self._deadline is not None:
            return
        router = self._router = self._start("router", self._commands[0], self._on_router, self._start_router)
        if router is None:
            return
        message = {
            "type": "configure",
            "listeners": [listener.to_json() for listener in self._listeners],
            "owner_pid": os.getpid(),
            "rows": self._page.rows,
        }
        sockets = [listener.socket.fileno() for listener in self._listeners]
        router.configure(message, config.to_json(self._settings), [self._page.fd, *sockets])
        for member in self._members.values():
            introduce(member, router)

    def _on_router(self, _: Child, message: dict[str, Any], __: list[int]) -> None:
        if message["type"] == "serving":
            self._serving = self._ever_served = True
            self._announce()
        elif message["type"] == "drained":
            self._stop_workers()
        elif message["type"] == "cut" and (member := self._members.get(message["worker"])):
            member.kill(signal.SIGKILL)

    def _router_ended(self, router: Child, status: int) -> None:
        self._loop.forget(router.link)
        router.link.close()
        self._router = None
        self._serving = False
        if self._deadline is not None:
            self._stop_workers()
        elif not self._ever_served:
            self._fail(BridgeError(f"the router ended before it served: {describe(status)}"))
        else:
            pause = self._deaths[0].died(router.lived)
            log.error("the router (pid %d) ended: %s; starting another%s", router.pid, describe(status), _in(pause))
            self._loop.after(pause, self._start_router)

    # --- the prototype --------------------------------------------------------------------------------------

    def _start_prototype(self) -> None:
        if self._deadline is not None:
            return
        first = free_range(self._members, self._ids)
        if first is None:
            self._loop.after(RETRY, self._start_prototype)
            return
        self._prototype = self._start("prototype", self._commands[1], self._on_prototype, self._start_prototype)
        message = {
            "type": "configure",
            "name": self._application.name,
            "log_level": self._settings.log_level,
            "first_worker": first,
            "workers": self._ids,
            "rows": self._page.rows,
        }
        if self._prototype:
            self._prototype.configure(message, config.to_json(self._application), [self._page.fd])

    def _on_prototype(self, prototype: Child, message: dict[str, Any], fds: list[int]) -> None:
        if message["type"] == "worker":
            member = Member(message["worker"], message["pid"], Link.adopt(fds[0]), prototype, self._application.name)
            self._members[member.number] = member
            self._loop.watch(member.link, lambda: self._read_member(member))
            if member.pidfd is not None:
                self._loop.watch(member.pidfd, lambda: self._drop(member))
            if self._router:
                introduce(member, self._router)
        elif message["type"] == "reaped":
            self._worker_ended(message)
        elif message["type"] == "reloaded":
            log.info("reloaded") if message["ok"] else log.error("not reloaded: the old version goes on serving")

    def _prototype_ended(self, prototype: Child, status: int) -> None:
        # Workers that it announced with its last breath are alive.
        read_all(prototype.link, lambda message, fds: self._on_prototype(prototype, message, fds))
        self._loop.forget(prototype.link)
        prototype.link.close()
        self._prototype = None
        if self._deadline is not None:
            self._stop_workers(again=True)
        elif not self._ever_ready:
            self._fail(BridgeError(f"the prototype ended before a worker was ready: {describe(status)}"))
        else:
            pause = self._deaths[1].died(prototype.lived)
            reason = f"the prototype (pid {prototype.pid}) ended: {describe(status)}"
            log.error("%s; its workers go on, starting another%s", reason, _in(pause))
            self._loop.after(pause, self._start_prototype)

    # --- workers --------------------------------------------------------------------------------------------

    def _read_member(self, member: Member) -> None:
        if not read_all(member.link, lambda message, fds: self._on_member(member, message, fds)):
            self._loop.forget(member.link)
            if member.pidfd is None:
                self._drop(member)

    def _on_member(self, member: Member, message: dict[str, Any], fds: list[int]) -> None:
        report = read_report(fds)
        if message["type"] == "ready":
            member.ready = self._ever_ready = True
            if member.prototype is self._prototype:
                self._tell(self._prototype, {"type": "ready", "worker": member.number})
            self._announce()
            self._relieve()
        elif message["type"] == "failed":
            self._explained.add(member.pid)
            self._target_failed(str(message["line"]), report)
        elif message["type"] == "changed" and self._seen_changes.get(message["path"]) != message["stamp"]:
            # Every worker tells of it; one reload is enough.
            self._seen_changes[message["path"]] = message["stamp"]
            if not self._reload_due:
                self._reload_due = True
                log.info("%s has changed", message["path"])
                self._loop.after(DEBOUNCE, self._reload)

    def _worker_ended(self, message: dict[str, Any]) -> None:
        member = self._members.get(message["worker"])
        if member and member.pid == message["pid"]:
            self._drop(member)  # reads what it said last
        explained = message["pid"] in self._explained
        self._explained.discard(message["pid"])
        if message["expected"] or explained or self._deadline is not None:
            return
        how = message["reason"] or describe(message["status"])
        who = f"worker {message['worker']} (pid {message['pid']})"
        if message["ready"]:
            (log.error if message["status"] else log.info)("%s ended: %s", who, how)
        else:
            self._target_failed(f"{who} ended while starting: {how}", "")

    def _target_failed(self, line: str, report: str) -> None:
        if self._ever_ready:
            log.error("%s%s", line, f"\n{report.rstrip()}" if report else "")
        elif self._deadline is None:  # else it is over already, and this is at most a consequence
            error = TargetError(line, report)
            if report:
                error.add_note(report)
            self._fail(error)

    def _drop(self, member: Member) -> None:
        """The process has ended: read what it said last, then forget it."""
        if self._members.get(member.number) is not member:
            return
        read_all(member.link, lambda message, fds: self._on_member(member, message, fds))
        del self._members[member.number]
        self._loop.forget(member.link)
        if member.pidfd is not None:
            self._loop.forget(member.pidfd)
        member.close()
        # A process that the application forked may hold the link to the router open: that one is told.
        gone = {"type": "gone", "application": member.application, "worker": member.number, "pid": member.pid}
        self._tell(self._router, gone)

    def _relieve(self) -> None:
        """Once a new prototype's workers are ready, those of the dead one may go."""
        ready = sum(member.ready for member in self._members.values() if member.prototype is self._prototype)
        if self._prototype and ready >= self._application.processes:
            for orphan in self._orphans():
                orphan.kill(signal.SIGTERM)
                self._loop.after(self._application.graceful_timeout, partial(orphan.kill, signal.SIGKILL))

    def _orphans(self) -> list[Member]:
        return [member for member in self._members.values() if member.prototype is not self._prototype]

    def _announce(self) -> None:
        ready = sum(member.ready for member in self._members.values())
        application = self._application
        if self._announced or not self._serving or ready < application.processes or self._deadline is not None:
            return
        self._announced = True
        where = ", ".join(listener.address.url for listener in self._listeners)
        line = "bridged %s serves %s on %s with %d worker" + "s" * (ready > 1)
        log.info(line, __version__, application.target, where, ready)

    def _reload(self) -> None:
        self._reload_due = False
        if self._deadline is None and self._prototype:
            log.info("reloading")
            self._tell(self._prototype, {"type": "reload"})

    # --- the end --------------------------------------------------------------------------------------------

    def _fail(self, failure: BridgeError) -> None:
        self._failure = failure
        self._stop(graceful=False, within=HOPELESS)

    def _stop(self, *, graceful: bool, within: float = QUICK) -> None:
        if graceful and self._deadline is None:
            within = self._settings.graceful_timeout
            log.info("stopping: requests in flight have %g seconds", within)
            self._loop.after(within, partial(self._stop, graceful=False))
        elif self._quick:
            return
        else:
            self._quick = True
            self._loop.after(within, self._kill_all)
        self._deadline = time.monotonic() + within
        if self._quick:
            self._stop_workers(again=True)
            self._tell(self._router, {"type": "quit"})
        elif self._router:
            self._tell(self._router, {"type": "drain"})
        else:
            self._stop_workers()

    def _stop_workers(self, *, again: bool = False) -> None:
        if self._workers_told and not again:
            return
        self._workers_told = True
        # The prototype kills what has not left in time; a little later main would kill the prototype.
        left = max(0.1, (self._deadline or 0.0) - time.monotonic() - 0.3)
        self._tell(self._prototype, {"type": "stop", "graceful": not self._quick, "timeout": left})
        for member in self._orphans():
            member.kill(signal.SIGQUIT if self._quick else signal.SIGTERM)

    def _over(self) -> bool:
        if self._deadline is None or self._prototype or self._members:
            return False
        if self._router and not self._quick:
            self._quick = True
            self._loop.after(QUICK, self._kill_all)
            self._tell(self._router, {"type": "quit"})
        return self._router is None

    def _kill_all(self) -> None:
        for child in (self._router, self._prototype):
            if child:
                child.kill()
        for member in self._members.values():
            member.kill(signal.SIGKILL)

    def _reap(self) -> None:
        for pid, status in reap():
            if self._router and pid == self._router.pid:
                self._router_ended(self._router, status)
            elif self._prototype and pid == self._prototype.pid:
                self._prototype_ended(self._prototype, status)
            else:
                for member in [member for member in self._members.values() if member.pid == pid]:
                    self._drop(member)

    def _collect(self) -> None:
        """After `_kill_all`: leave no zombie in the process that called `bridge.run`."""
        for child in (self._router, self._prototype):
            if child:
                with contextlib.suppress(ChildProcessError):
                    os.waitpid(child.pid, 0)
                child.link.close()
        for member in self._members.values():
            member.close()


def _in(pause: float) -> str:
    return f" in {pause:g} seconds" if pause else ""
