"""The server that a worker process runs: load the application, find out its interface, and serve it.

What follows after that is the life of an `asgi_server` or of a `wsgi_server`; both are told to leave through here.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any, Protocol

from bridge import config
from bridge.errors import TargetError
from bridge.ipc.link import Link
from bridge.ipc.status import Row
from bridge.worker import surroundings, target
from bridge.worker.asgi_server import AsgiServer
from bridge.worker.main_link import MainLink
from bridge.worker.wsgi import WsgiApplication
from bridge.worker.wsgi_server import WsgiServer


class Serving(Protocol):
    """A server of one interface, made when the application is loaded."""

    def run(self) -> int:
        """Start the application, serve and leave; returns the exit status."""

    def stop(self, graceful: bool) -> None:
        """Leave: finish what runs first, or quickly. May be called again, before `run`, and from a signal handler."""


class WorkerServer:
    """Serves one application in this process.

    Args:
        application: what the operator configured.
        control: link to main.
        row: this worker's row of the status page.
        load: returns the application, or raises TargetError; None = import it as configured.
    """

    def __init__(
        self,
        application: config.Application,
        control: Link,
        row: Row,
        load: Callable[[], Any] | None = None,
    ) -> None:
        self._settings = application
        self._main = MainLink(control)
        self._row = row
        self._load = load or self._import
        self._serving: Serving | None = None
        self._told: list[bool] = []  # how it was told to leave before it served

    def run(self) -> int:
        """Load, start, serve and leave; returns the exit status."""
        settings = self._settings
        try:
            surroundings.enter(settings)
            loaded = self._load()
            interface = target.interface(loaded, settings.target, settings.protocol)
        except TargetError as error:
            return self._main.failed(error)
        serving: Serving
        if interface == "asgi":
            serving = AsgiServer(settings, self._main, self._row, loaded)
        else:
            serving = WsgiServer(settings, self._main, self._row, self._gateway(loaded))
        self._serving = serving
        for graceful in self._told:
            serving.stop(graceful)
        return serving.run()

    def stop(self, graceful: bool) -> None:
        """Leave: finish what runs first, or quickly. May be called again, and from a signal handler."""
        if self._serving is not None:
            self._serving.stop(graceful)
        else:
            self._told.append(graceful)

    def _gateway(self, loaded: Any) -> WsgiApplication:
        settings = self._settings
        log = logging.getLogger("bridge")
        return WsgiApplication(loaded, log, settings.root_path, settings.prefixes, settings.threads, settings.processes)

    def _import(self) -> Any:
        settings = self._settings
        if settings.mounts:
            from bridge.worker.mount import shared  # noqa: PLC0415 - it loads Starlette

            return shared(settings)
        return target.load(settings.module, settings.callable, settings.factory, settings.path)
