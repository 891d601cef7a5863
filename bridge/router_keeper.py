"""The router as main keeps it: with the same listening sockets and the same workers however often it is replaced."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterable, Sequence
from typing import Any, Protocol

from bridge import config
from bridge.child import Child, describe
from bridge.errors import BridgeError
from bridge.ipc.status import Page
from bridge.log import log
from bridge.loop import Loop
from bridge.roster import Member, introduce
from bridge.router.listener import Listener
from bridge.supervised import Supervised


class Owner(Protocol):
    """What the router's news mean is decided here."""

    def members(self) -> Iterable[Member]:
        """The living workers of all applications."""

    def broken(self) -> Iterable[str]:
        """Names of the applications that cannot be started now."""

    def router_has_news(self) -> None:
        """It has begun to accept connections, or a worker has attached to it."""

    def router_drained(self) -> None:
        """Its last connection has ended, as it was told, or it has itself."""

    def fail(self, failure: BridgeError) -> None:
        """There is no serving at all."""


class RouterKeeper(Supervised):
    """Keeps one router alive.

    Args:
        command: its command line, without its link's number.
        settings: of the whole server.
        listeners: open listening sockets.
        page: the status page.
        loop: main's.
        owner: hears its news.
    """

    def __init__(
        self,
        command: Sequence[str],
        settings: config.Settings,
        listeners: list[Listener],
        page: Page,
        loop: Loop,
        owner: Owner,
    ) -> None:
        super().__init__("router", command, loop, {})
        self._settings = settings
        self._listeners = listeners
        self._page = page
        self._owner = owner
        self._ever_served = False
        self.serving = False  #: the living router accepts

    def configure(self, child: Child) -> None:
        """Send it settings, sockets and the living workers."""
        message = {
            "type": "configure",
            "listeners": [listener.to_json() for listener in self._listeners],
            "owner_pid": os.getpid(),
            "rows": self._page.rows,
        }
        sockets = [listener.socket.fileno() for listener in self._listeners]
        child.configure(message, config.to_json(self._settings), [self._page.fd, *sockets])
        for member in self._owner.members():
            introduce(member, child)
        for name in self._owner.broken():
            child.tell({"type": "broken", "application": name, "broken": True})

    def on_message(self, _: Child, message: dict[str, Any], __: list[int]) -> None:
        """It serves, is drained, or wants a worker to be ended."""
        if message["type"] == "serving":
            self.serving = self._ever_served = True
            self._owner.router_has_news()
        elif message["type"] == "attached":
            for member in self._owner.members():
                if member.pid == message["pid"]:
                    member.attached = True
            self._owner.router_has_news()
        elif message["type"] == "drained":
            self._owner.router_drained()
        elif message["type"] == "cut":
            for member in self._owner.members():
                if member.number == message["worker"]:
                    member.kill(signal.SIGKILL)

    def ended(self, child: Child, status: int) -> None:
        """Start another, unless this one never came to serve or none is wanted."""
        self.serving = False
        for member in self._owner.members():
            member.attached = False
        if self.stopping:
            self._owner.router_drained()
        elif not self._ever_served:
            self._owner.fail(BridgeError(f"the router ended before it served: {describe(status)}"))
        else:
            then = self.again(child)
            log.error(
                "the router (pid %d) ended: %s; %s; its connections went with it", child.pid, describe(status), then
            )

    def not_started(self, error: OSError) -> None:
        """Give up if there was none before."""
        if self._ever_served:
            log.error("the router cannot be started: %s", error)
        else:
            self._owner.fail(BridgeError(f"the router cannot be started: {error}"))
