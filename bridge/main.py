"""Main: from settings to a running server, in the process that called.

The listening sockets are opened first: a wrong address is said before anything is started, and they outlive every
restart of the router. `Supervisor` does the rest.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from typing import Unpack

from bridge import config
from bridge.child import PROTOTYPE, ROUTER, hold_standard_files
from bridge.log import set_up
from bridge.router.access_log import open_file
from bridge.router.listener import Listener, bind
from bridge.supervisor import Supervisor


def run(target: str = "", **options: Unpack[config.Options]) -> None:
    """Serve the application `target` until a signal says stop; the command `bridged run` as a function.

    Works in the main thread only, because of the signals; puts back their handlers in the end. Meanwhile it reaps
    every child of this process.

    Args:
        target: `module` or `module:attribute`; may be left out where there is a `mount`.
        options: named as those of `bridged run`; see `bridge.config.Options`.

    Raises:
        ConfigError: an option is wrong.
        AddressError: an address cannot be listened on.
        TargetError: the application cannot be loaded or started; `report` is its traceback.
        BridgeError: the router or the prototype did not start.
    """
    serve(config.from_options(target, os.environ, **options))


def serve(
    settings: config.Settings,
    router: Sequence[str] = ROUTER,
    prototype: Sequence[str] = PROTOTYPE,
    *,
    patient: bool = False,
) -> None:
    """As `run`, from complete settings.

    Args:
        settings: what to serve.
        router: command line of the router; tests replace it.
        prototype: the same of every prototype.
        patient: an application that does not start is tried again, and meanwhile its requests get 503; otherwise it
            ends all.
    """
    hold_standard_files()
    set_up(settings.log_level)
    if settings.access_log:
        os.close(open_file(settings.access_log))  # said before anything is started; the router opens it again
    listeners: list[Listener] = []
    try:
        for key, described in settings.listeners.items():
            backlog = described.backlog or settings.backlog
            opened = bind(config.parse(key), backlog)
            listeners.append(replace(opened, application=described.application, backlog=backlog))
        Supervisor(settings, listeners, router, prototype, patient=patient).run()
    finally:
        for listener in listeners:
            listener.close()
