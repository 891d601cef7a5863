"""The worker classes that `gunicorn -k` names.

gunicorn chooses its master by no setting, but asks the worker class to check the configuration once the addresses
are open and before anything was forked (`check_config`). There `when_ready`, the hook that follows at once and is
given the master, is put behind one of ours, which makes that very master a `master.Master`.
"""

from __future__ import annotations

import os
import random
import signal
import sys
import traceback
from collections.abc import Callable
from types import FrameType
from typing import Any, ClassVar

from gunicorn import util
from gunicorn.errors import AppImportError

from bridge import config
from bridge.errors import TargetError
from bridge.gunicorn.hooks import Around, around_asgi, around_wsgi
from bridge.gunicorn.master import take_over
from bridge.gunicorn.settings import is_changed, worker_logs_access
from bridge.ipc.link import Link
from bridge.ipc.status import Row
from bridge.worker import target
from bridge.worker.forked import Heartbeat, serve
from bridge.worker.keeper import KeptWorker
from bridge.worker.main_link import MainLink
from bridge.worker.reload import Watcher
from bridge.worker.server import WorkerServer

SHOWN = 12  #: calls that are logged of a worker that stands still


class NoApplication(TargetError):
    """There is no such application: gunicorn has an exit status of its own for that."""

    exit_status = 4


class Parked(Heartbeat):
    """The heartbeat, and the master's end of the control link: gunicorn closes this at all the right times.

    That is in each new worker for all its siblings, and when the worker was reaped.

    Args:
        row: of the status page.
        link: closed with the heartbeat.
    """

    def __init__(self, row: Row, link: Link) -> None:
        super().__init__(row)
        self._link = link

    def notify(self) -> None:
        """As gunicorn's workers do; some hooks call it."""
        self.row.beat()

    def fileno(self) -> int:
        """Descriptor that closes with the worker."""
        return self._link.fileno()

    def close(self) -> None:
        """Let go of the link."""
        self._link.close()


class BridgeWorker(KeptWorker):
    """A worker of a `Master`, before the fork and, in the child, after it."""

    interface: ClassVar[str]
    master: Any  #: since `join`

    def __init__(self, age: int, *given: Any) -> None:
        super().__init__(age, *given)
        self.alive = True
        self.nr = 0
        self.reloader = None
        jitter = random.randint(0, self.cfg.max_requests_jitter)  # noqa: S311 - spreads restarts, hides nothing
        self.max_requests = self.cfg.max_requests + jitter if self.cfg.max_requests else sys.maxsize

    @classmethod
    def check_config(cls, cfg: Any, _: Any) -> None:
        """Called by gunicorn's master just before `when_ready`; see the head of the file."""
        theirs = cfg.when_ready

        def when_ready(server: Any) -> None:
            take_over(server, cls.interface)
            theirs(server)

        cfg.set("when_ready", when_ready)

    def join(self, master: Any, number: int, row: Row) -> None:
        """Become one of the master's workers."""
        self.master = master
        self.take_row(number, row)
        self.tmp = Parked(row, self.main_end)

    # --- in the child ---------------------------------------------------------------------------------------

    def init_process(self) -> None:
        """Let go of what is the master's, become the configured user, serve, and end by SystemExit."""
        signal.set_wakeup_fd(-1)
        self.master.release()
        self.main_end.close()
        os.environ.update(self.cfg.env)
        os.environ.setdefault("UV_USE_IO_URING", "0")  # what libuv would open is of no use to a worker
        util.set_owner_process(self.cfg.uid, self.cfg.gid, initgroups=self.cfg.initgroups)
        util.seed()
        self.log.close_on_exec()
        serve(self.master.application, self.control, self.tmp.row, self._server)

    def _server(self, application: config.Application, control: Link, row: Row) -> WorkerServer:
        self._main = MainLink(control)
        return _Server(self, application, control, row, self._load)

    def _load(self) -> Any:
        """The application, with what is configured around it; called in the child, when nothing has run yet."""
        signal.signal(signal.SIGUSR1, self._reopen)
        signal.signal(signal.SIGABRT, self._abort)
        if self.cfg.reload:
            Watcher(self.cfg.chdir, extra=self.cfg.reload_extra_files).start(self._changed)
        try:
            self.wsgi = self.app.wsgi()
        except AppImportError as error:
            raise NoApplication(str(error)) from error
        except (Exception, SystemExit) as error:
            summary = traceback.format_exception_only(error)[-1].strip()
            raise TargetError(f"loading the application failed: {summary}", traceback.format_exc()) from error
        application = self.master.application
        target.interface(self.wsgi, application.target, application.protocol)
        self.booted = True
        self.cfg.post_worker_init(self)
        return self._around(self.wsgi)

    def _around(self, application: Any) -> Any:
        def hook(name: str) -> Callable[..., Any] | None:
            found: Callable[..., Any] = getattr(self.cfg, name)
            # gunicorn's own pre_request logs a line at debug: that is worth a call only then.
            return found if is_changed(self.cfg, name) or self.cfg.loglevel == "debug" else None

        around = Around(
            self,
            worker_logs_access(self.cfg, type(self.log)),
            hook("pre_request"),
            hook("post_request"),
            lambda: self._say({"type": "spent"}),
        )
        if not around.needed:
            return application
        return around_asgi(application, around) if self.interface == "asgi" else around_wsgi(application, around)

    def _say(self, message: dict[str, Any]) -> None:
        self._main.tell(message)  # if the master is gone, the worker learns it by itself

    def _changed(self, path: str, stamp: int) -> None:
        self._say({"type": "changed", "path": path, "stamp": stamp})

    def _reopen(self, _: int, __: FrameType | None) -> None:
        self.log.reopen_files()

    def _abort(self, _: int, frame: FrameType | None) -> None:
        """The master's first word to a worker that stands still: hooks, as under gunicorn, and the end."""
        stack = "".join(traceback.format_stack(frame, SHOWN))
        self.log.error("Worker (pid:%s) is aborted; it stood here:\n%s", self.pid, stack.rstrip())
        try:
            self.cfg.worker_abort(self)
            self.cfg.worker_exit(self.master, self)
        except Exception:
            self.log.exception("Exception in a hook")
        finally:
            # An exception would end the request that hangs, and nothing else: an application may catch it.
            os._exit(1)


class AsgiWorker(BridgeWorker):
    """`gunicorn -k bridge.gunicorn.AsgiWorker`."""

    interface = "asgi"


class WsgiWorker(BridgeWorker):
    """`gunicorn -k bridge.gunicorn.WsgiWorker`: `--threads` requests at once in each worker."""

    interface = "wsgi"


class _Server(WorkerServer):
    """The server of a worker, which tells a hook when it is to end quickly."""

    def __init__(self, worker: BridgeWorker, *given: Any) -> None:
        super().__init__(*given)
        self._worker = worker

    def stop(self, graceful: bool) -> None:
        """As `WorkerServer.stop`."""
        if self._worker.alive and not graceful:
            self._worker.cfg.worker_int(self._worker)
        self._worker.alive = False
        super().stop(graceful)
