"""What a worker hears from main and tells it, whichever interface its application has."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from typing import Any

from bridge.errors import FilesLost, PeerLost, RemoteProtocolError, TargetError
from bridge.ipc.link import Link

QUICK = 1.0  #: seconds that requests have to end when a worker leaves without grace, as when main is gone


class MainLink:
    """A worker's end of its link to main.

    Args:
        link: stays its owner's to close.
    """

    def __init__(self, link: Link) -> None:
        self._link = link

    def fileno(self) -> int:
        """Descriptor to wait for readability on."""
        return self._link.fileno()

    def tell(self, message: dict[str, Any], *fds: int) -> bool:
        """Send one message; False = main is gone."""
        try:
            self._link.send(message, fds)
        except PeerLost:
            return False
        return True

    def failed(self, error: TargetError) -> int:
        """Say why there is no application; returns the exit status of this process.

        The application's traceback travels as a file, so that it may be of any length.
        """
        message = {"type": "failed", "line": str(error), "exit_status": error.exit_status}
        if not error.report:
            self.tell(message)
            return error.exit_status
        fd = os.memfd_create("bridge-report", os.MFD_CLOEXEC)
        with open(fd, "wb") as file:
            file.write(error.report.encode("utf-8", "backslashreplace"))
            file.flush()
            self.tell(message, fd)
        return error.exit_status

    def hear(self, introduced: Callable[[Link], None], stop: Callable[[bool], None]) -> bool:
        """Handle every message that is there.

        Args:
            introduced: called with the link to each router that main introduces; owns it.
            stop: called with True when main asks to drain, with False when main is gone.

        Returns:
            False when main is gone, and with it whoever could use the answers.
        """
        try:
            while received := self._link.receive():
                message, fds = received
                if message["type"] == "router":
                    introduced(Link.adopt(fds[0]))
                elif message["type"] == "drain":
                    stop(True)
        except PeerLost:
            stop(False)
            return False
        except FilesLost as error:
            logging.getLogger("bridge").critical("this worker leaves: it cannot join a router: %s", error)
            stop(True)
        except (RemoteProtocolError, KeyError, IndexError) as error:
            logging.getLogger("bridge").error("main sent what a worker does not understand: %r", error)
        return True
