"""An application as main keeps it: its prototype, the workers of this and earlier prototypes, and its failures.

A prototype that dies is replaced; its workers, main's own children from then on, leave when those of the next one are
ready. An application that cannot be started ends a server that serves nothing else (`bridged run`); where there
are others (`bridged serve`) it is said once, its requests get a 503, and it is tried again and again.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Sequence
from functools import partial
from typing import Any, NamedTuple, Protocol

from bridge import __version__, config
from bridge.child import Child, describe
from bridge.errors import BridgeError, TargetError
from bridge.ipc.link import Link
from bridge.ipc.status import Page
from bridge.log import log
from bridge.loop import Loop, read_all
from bridge.roster import Member, free_range, introduce, read_report
from bridge.router_keeper import RouterKeeper
from bridge.supervised import RETRY, Supervised

DEBOUNCE = 0.1  #: seconds: files saved together are one reload
QUIET = 10.0  #: seconds in which the same failure is not said a second time
LEAST_IDS = 32
MOST_NEWS = 16  #: messages of one worker that are read at once
MOST_FILES = 16384  #: whose changes are remembered


class Place(NamedTuple):
    """Where an application's workers and news go.

    Args:
        page: the application's own status page, whose rows are those of its workers.
        first: the first worker id.
        patient: a failed start is not the end.
        several: it is not the only one, so its name is said.
        where: the addresses whose requests it gets, for the log.
        log_level: of its processes.
    """

    page: Page
    first: int
    patient: bool
    several: bool
    where: str
    log_level: str


class Owner(Protocol):
    """What an application's failure means is decided here."""

    def fail(self, failure: BridgeError) -> None:
        """There is no serving at all."""


def ids(application: config.Application) -> int:
    """Worker ids that one of its prototypes may give away: there are several generations while they are replaced."""
    return max(LEAST_IDS, 4 * application.processes)


class ApplicationKeeper(Supervised):
    """Keeps one application alive.

    Args:
        command: command line of its prototype, without its link's number.
        application: what the operator configured.
        place: see there.
        router: is told of its workers.
        loop: main's.
        owner: is told that it does not start.
    """

    def __init__(
        self,
        command: Sequence[str],
        application: config.Application,
        place: Place,
        router: RouterKeeper,
        loop: Loop,
        owner: Owner,
    ) -> None:
        super().__init__("prototype", command, loop, application.environment)
        self.application = application
        self.members: dict[int, Member] = {}
        self.broken = False  #: it has no worker and its last start failed
        self._place = place
        self._router = router
        self._owner = owner
        self._about = f"application {application.name!r}: " if place.several else ""
        self._ever_ready = False
        self._announced = False
        self._told_to_stop = False
        self._graceful = True
        self._explained: set[int] = set()  # dead workers that said themselves why they could not start
        self._former: list[set[int]] = []  # for each reload the workers that may still take a request
        self._seen_changes: dict[str, object] = {}
        self._reload_due = False
        self._last_failure: tuple[str, list[str]] = ("", [])
        self._said_at = float("-inf")

    @property
    def over(self) -> bool:
        """Whether nobody of it is left."""
        return self.child is None and not self.members

    # --- the prototype --------------------------------------------------------------------------------------

    def start(self) -> None:
        """Start a prototype, as soon as there are ids for its workers."""
        if free_range(self.members, ids(self.application), self._place.first) is None:
            self.loop.after(RETRY, self.start)
        else:
            super().start()

    def configure(self, child: Child) -> None:
        """Send it the application's settings."""
        size = ids(self.application)
        message = {
            "type": "configure",
            "name": self.application.name,
            "mounted_at": self.application.mounted_at,
            "log_level": self._place.log_level,
            "websocket": config.to_json(self.application.websocket),
            "first_worker": free_range(self.members, size, self._place.first),
            "workers": size,
            "rows": self._place.page.rows,
            "first_row": self._place.page.first,
        }
        child.configure(message, config.to_json(self.application), [self._place.page.fd])

    def on_message(self, child: Child, message: dict[str, Any], fds: list[int]) -> None:
        """A worker was forked or has ended, or a reload is over."""
        if message["type"] == "worker":
            link = Link.adopt(fds[0], sender=message["pid"])
            member = Member(message["worker"], message["pid"], link, child, self.application.name)
            self.members[member.number] = member
            self.loop.watch(member.link, lambda: self._read_member(member))
            if member.pidfd is not None:
                self.loop.watch(member.pidfd, lambda: self._drop(member))
            if self._router.child:
                introduce(member, self._router.child)
        elif message["type"] == "reaped":
            self._worker_ended(message)
        elif message["type"] == "reloaded" and message["ok"]:
            members = [self.members[number] for number in message["leaving"] if number in self.members]
            self._former.append({member.number for member in members if not member.draining})
            self._say_reloaded()
        elif message["type"] == "reloaded":
            log.error("%snot reloaded: the old version goes on serving", self._about)

    def ended(self, child: Child, status: int) -> None:
        """Start another, unless none is wanted."""
        how = describe(status)
        if self.stopping:
            if self._told_to_stop:
                self._dismiss_orphans()
        elif not self._ever_ready and not self._place.patient:
            self._owner.fail(BridgeError(f"{self._about}the prototype ended before a worker was ready: {how}"))
        else:
            then = self.again(child)
            reason = f"{self._about}the prototype (pid {child.pid}) ended: {how}"
            log.error("%s; its workers go on, %s", reason, then)
            self._find_out()

    def not_started(self, error: OSError) -> None:
        """Give up if that was the first attempt and there is nothing else to serve."""
        if self._ever_ready or self._place.patient:
            log.error("%sthe prototype cannot be started: %s", self._about, error)
        else:
            self._owner.fail(BridgeError(f"{self._about}the prototype cannot be started: {error}"))

    # --- workers --------------------------------------------------------------------------------------------

    def has(self, pid: int) -> bool:
        """Whether the process that was reaped is one of these workers; it is forgotten then."""
        found = [member for member in self.members.values() if member.pid == pid]
        for member in found:
            self._drop(member)
        return bool(found)

    def _read_member(self, member: Member) -> None:
        if not read_all(member.link, lambda message, fds: self._on_member(member, message, fds), MOST_NEWS):
            self.loop.forget(member.link)
            if member.pidfd is None:
                self._drop(member)
            else:  # it is dying; or it is broken, and nobody could tell it to leave any more
                self.loop.after(RETRY, partial(member.kill, signal.SIGKILL))

    def _on_member(self, member: Member, message: dict[str, Any], fds: list[int]) -> None:
        report = read_report(fds)
        kind = message["type"]
        if kind != "changed":
            if kind in member.told:
                raise ValueError(f"worker {member.number} has said {kind!r:.40} before")
            member.told.add(kind)
        if kind == "ready":
            member.ready = self._ever_ready = True
            self._last_failure = ("", [])
            if member.prototype is self.child:
                self.tell({"type": "ready", "worker": member.number})
            self._set_broken(broken=False)
            self.announce()
            self._relieve()
        elif kind == "draining":
            member.draining = True
            self._say_reloaded(member.number)
        elif kind == "failed":
            self._explained.add(member.pid)
            self._failed(str(message["line"]), report)
        elif kind == "changed" and self.application.reload:
            self._changed(str(message["path"]), message["stamp"])
        else:
            raise ValueError(f"worker {member.number} has said {kind!r:.40}")

    def _changed(self, path: str, stamp: object) -> None:
        # Every worker tells of it; one reload is enough.
        if self._seen_changes.get(path) == stamp:
            return
        if len(self._seen_changes) >= MOST_FILES:
            self._seen_changes.clear()
        self._seen_changes[path] = stamp
        if not self._reload_due:
            self._reload_due = True
            log.info("%s%s has changed", self._about, path)
            self.loop.after(DEBOUNCE, self.reload)

    def _say_reloaded(self, left: int = 0) -> None:
        """Say so when nobody of the last version takes requests any more; `left`: the worker that has stopped."""
        for former in self._former:
            former.discard(left)
        ended = self._former.count(set())
        self._former = [former for former in self._former if former]
        for _ in range(0 if self.stopping else ended):
            log.info("%sreloaded", self._about)

    def _worker_ended(self, message: dict[str, Any]) -> None:
        member = self.members.get(message["worker"])
        if member and member.pid == message["pid"]:
            self._drop(member)  # reads what it said last
        explained = message["pid"] in self._explained
        self._explained.discard(message["pid"])
        if message["expected"] or explained or self.stopping:
            return
        status = message["status"]
        how = message["reason"] or describe(status)
        who = f"worker {message['worker']} (pid {message['pid']})"
        if not message["ready"]:
            # Who was killed from outside, by the kernel for want of memory or by a person, says nothing about the next.
            killed = message["reason"] is None and os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL
            self._failed(f"{who} ended while starting: {how}", "", conclusive=not killed)
        elif status:
            log.error("%s%s ended: %s", self._about, who, how)
        else:
            log.info("%s%s ended: %s", self._about, who, how)

    def _failed(self, line: str, report: str, *, conclusive: bool = True) -> None:
        """A worker could not be started; `conclusive`: so the next one will hardly start either."""
        if self._ever_ready or self._place.patient:
            now = time.monotonic()
            # Without source lines: a file that was changed meanwhile shows others for the same failure.
            places = [text for text in report.splitlines() if not text.startswith("    ")]
            known = self._last_failure == (line, places)
            if not known or now - self._said_at > QUIET:
                # The same traceback again every few seconds would hide everything else in the log.
                log.error("%s%s%s", self._about, line, f"\n{report.rstrip()}" if report and not known else "")
                self._said_at = now
            if self._place.patient:
                self._last_failure = (line, places)
            if conclusive:
                self._find_out()
        elif not self.stopping:  # else it is over already, and this is at most a consequence
            error = TargetError(f"{self._about}{line}", report)
            if report:
                error.add_note(report)
            self._owner.fail(error)

    def _find_out(self) -> None:
        """A start has failed: without any worker that serves, requests need not wait for one."""
        self._set_broken(broken=not any(member.ready for member in self.members.values()))

    def _set_broken(self, *, broken: bool) -> None:
        if broken != self.broken:
            self.broken = broken
            if broken:
                log.info("%sno worker serves: its requests get 503 until a start succeeds", self._about)
            elif self._announced:
                log.info("%sserves again", self._about)
            self._router.tell({"type": "broken", "application": self.application.name, "broken": broken})

    def _drop(self, member: Member) -> None:
        """The process has ended: read what it said last, then forget it."""
        if self.members.get(member.number) is not member:
            return
        read_all(member.link, lambda message, fds: self._on_member(member, message, fds), MOST_NEWS)
        del self.members[member.number]
        self._say_reloaded(member.number)
        self.loop.forget(member.link)
        if member.pidfd is not None:
            self.loop.forget(member.pidfd)
        member.close()
        # A process that the application forked may hold the link to the router open: that one is told.
        gone = {"type": "gone", "application": member.application, "worker": member.number, "pid": member.pid}
        self._router.tell(gone)

    def _relieve(self) -> None:
        """Once a new prototype's workers are ready, those of the dead one may go."""
        ready = sum(member.ready for member in self.members.values() if member.prototype is self.child)
        if self.child and ready >= self.application.processes:
            for orphan in self._orphans():
                orphan.kill(signal.SIGTERM)
                self.loop.after(self.application.graceful_timeout, partial(orphan.kill, signal.SIGKILL))

    def _orphans(self) -> list[Member]:
        return [member for member in self.members.values() if member.prototype is not self.child]

    def announce(self) -> None:
        """Say once that it is served, when it is: by workers that have attached to the router."""
        if self._announced or not self._router.serving or self.stopping:
            return
        ready = sum(member.ready and member.attached for member in self.members.values())
        if ready < self.application.processes:
            return
        self._announced = True
        target = self.application.target
        what = f"{self.application.name} ({target})" if self._place.several else target
        line = "bridged %s serves %s on %s with %d worker" + "s" * (ready > 1)
        log.info(line, __version__, what, self._place.where, ready)

    # --- orders ---------------------------------------------------------------------------------------------

    def reload(self) -> None:
        """Replace all workers."""
        self._reload_due = False
        if not self.stopping and self.child:
            log.info("%sreloading", self._about)
            self.tell({"type": "reload"})

    def stop(self, *, graceful: bool, left: float, again: bool) -> None:
        """Let all workers leave.

        Args:
            graceful: they finish their requests first.
            left: seconds until they are killed.
            again: also if they were told already.
        """
        self.stopping = True
        if self._told_to_stop and not again:
            return
        self._told_to_stop = True
        self._graceful = graceful
        self.tell({"type": "stop", "graceful": graceful, "timeout": left})
        self._dismiss_orphans()

    def _dismiss_orphans(self) -> None:
        for member in self._orphans():
            member.kill(signal.SIGTERM if self._graceful else signal.SIGQUIT)

    def kill(self) -> None:
        """End prototype and workers by force."""
        super().kill()
        for member in self.members.values():
            member.kill(signal.SIGKILL)

    def collect(self) -> None:
        """As `Supervised.collect`, and let go of the workers."""
        super().collect()
        for member in self.members.values():
            member.close()
        self._place.page.close()
