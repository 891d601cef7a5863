"""HUP and `--reload`: another version is tried beside the one that serves, and that one stays until the other serves.

A version is a configuration with what was read along with it: the application's place, addresses, the pid file. It is
settled once as many of its workers serve as it asks for. Whatever goes wrong before, there or in a hook of the user's,
leaves the settled one as it was.
"""

from __future__ import annotations

import contextlib
import os
from dataclasses import dataclass
from typing import Any

from gunicorn import util
from gunicorn.pidfile import Pidfile

from bridge.errors import BridgeError, ConfigError
from bridge.gunicorn.logs import forward
from bridge.gunicorn.sockets import close, open_addresses
from bridge.worker.keeper import Keeper


@dataclass(frozen=True, slots=True)
class Coming:
    """What a HUP has opened for the version that is being tried."""

    sockets: list[Any]
    pidfile: Any


class Reloading(Keeper):
    """The part of the master that tries versions. A subclass says what `judge`, `apply` and `use_router` are."""

    LISTENERS: list[Any]
    app: Any
    num_workers: int
    pidfile: Any

    def begin_reloading(self, interface: str) -> None:
        """The configuration that was read at the start is the settled one.

        Args:
            interface: "asgi" or "wsgi"; it stays as long as the master does.
        """
        self._interface = interface
        self._coming: Coming | None = None  # None: no HUP is being tried
        self._kept_workers = self.num_workers  # how many there are to be if it is not settled
        self._settle()

    def judge(self, cfg: Any) -> None:
        """Say what has no effect; BridgeError if something forbids to serve this configuration."""
        raise NotImplementedError

    def apply(self, cfg: Any) -> None:
        """From now on workers are started with this configuration; ConfigError if a value is out of range."""
        raise NotImplementedError

    def use_router(self) -> None:
        """From now on the router has the configuration that workers have; OSError if it cannot be started."""
        raise NotImplementedError

    @property
    def owns_files(self) -> bool:
        """Whether socket files are ours to remove."""
        raise NotImplementedError

    @property
    def all_sockets(self) -> list[Any]:
        """What is open, whether it is in use or about to be."""
        return [*self.LISTENERS, *(self._coming.sockets if self._coming else ())]

    def _settle(self) -> None:
        self._settled = self.cfg
        self._settled_app = dict(vars(self.app))  # its configuration, its place and, if it was preloaded, itself

    def reload(self) -> None:
        """HUP: read the configuration again, and begin to replace workers and, if need be, the router."""
        self._stats["reloads"] += 1
        if self._ending:
            return
        changed_files = self._reloading and self._coming is None
        if self._reloading:
            self.log.info("The version that was being tried is given up: there is a newer one")
            self.give_up_reload()
            if self._coming:
                self._go_back()
        self._kept_workers = self.num_workers
        self._forget_environment()
        try:
            self._try()
        except (Exception, SystemExit) as error:  # noqa: BLE001 - whatever configuration, application and hooks raise
            self._go_back()
            self.log.error("not reloaded, the configuration cannot be used: %s", _reason(error))
            if changed_files:
                self.begin_reload()
            return
        self._entitle()
        self.begin_reload()

    def _try(self) -> None:
        self.app.reload()
        cfg = self.app.cfg
        self.judge(cfg)
        if getattr(cfg.worker_class, "interface", None) != self._interface:
            raise ConfigError("worker_class", "it becomes another one only by a restart")
        self.apply(cfg)
        sockets = open_addresses(cfg, self._settled, self.LISTENERS, self.log)
        self._coming = Coming(sockets, self.pidfile)
        self._coming = Coming(sockets, self._open_pidfile(cfg))
        self.setup(self.app)
        forward(lambda: self.log)
        self.log.reopen_files()
        self.cfg.on_reload(self)

    def report_reloaded(self, *, ok: bool) -> None:
        """The new workers serve, or cannot; after a HUP the router and what it has opened follow."""
        coming = self._coming
        if not ok:
            if coming:
                self._go_back()
            self.log.error("not reloaded: the old version goes on serving")
            return
        if coming:
            self._coming = None
            self._settle()
            dropped = [opened for opened in self.LISTENERS if opened not in coming.sockets]
            self.LISTENERS = coming.sockets
            try:
                self.use_router()
            except OSError as error:
                self.log.error("the new router cannot be started: %s; the old one goes on", error)
            close(dropped, unlink=self.owns_files)
            if self.pidfile is not None and self.pidfile is not coming.pidfile:
                self.pidfile.unlink()
            self.pidfile = coming.pidfile
        self.log.info("reloaded")

    def drop_coming(self) -> None:
        """Close what a version has opened that does not come to serve."""
        if self._coming is None:
            return
        close([opened for opened in self._coming.sockets if opened not in self.LISTENERS], unlink=True)
        if self._coming.pidfile is not None and self._coming.pidfile is not self.pidfile:
            self._coming.pidfile.unlink()
        self._coming = None

    def _go_back(self) -> None:
        """Forget a version that does not come to serve."""
        self._forget_environment()
        self.drop_coming()
        vars(self.app).clear()
        vars(self.app).update(self._settled_app)
        with contextlib.suppress(OSError, AttributeError):
            self.app.chdir()
        if self.cfg is not self._settled:
            self.setup(self.app)
            forward(lambda: self.log)
            self._entitle()
        if self.num_workers != self._kept_workers:
            self.num_workers = self._kept_workers
        os.environ.update(self.cfg.env)
        self.apply(self.cfg)

    def _forget_environment(self) -> None:
        try:
            names = [*self.app.cfg.env]
        except RuntimeError:
            return  # it cannot be read, so nothing of it was set
        for name in names:
            if name in self.app.cfg.env_orig:
                os.environ[name] = self.app.cfg.env_orig[name]
            else:
                os.environ.pop(name, None)

    def _entitle(self) -> None:
        util._setproctitle(f"master [{self.proc_name}]")  # noqa: SLF001 - gunicorn's own way to do that

    def _open_pidfile(self, cfg: Any) -> Any:
        """The pid file that this configuration asks for, or None; RuntimeError, OSError if it cannot be written."""
        if cfg.pidfile is None:
            return None
        name = f"{cfg.pidfile}.2" if self.master_pid else cfg.pidfile
        same = self.pidfile is not None and os.path.abspath(self.pidfile.fname) == os.path.abspath(name)
        file = self.pidfile if same else Pidfile(name)
        file.create(self.pid)
        return file


def _reason(error: BaseException) -> str:
    if isinstance(error, SystemExit):
        return "what is wrong was said just above"  # by gunicorn, or by the parser of its command line
    return str(error) if isinstance(error, BridgeError) else f"{type(error).__name__}: {error}"
