"""Stand-ins for the router and for a worker's server, so that the supervision is tested without either.

`python stand_in.py main SETTINGS` supervises them as `bridged run` would (SETTINGS is JSON), or, with a further
`patient`, as `bridged serve`. All of them write what happens to them, a line each, to the file `events` in the
application's directory (the router in that of the first one); files that a test creates there change how the server
behaves:

    broken    it says that the application cannot be loaded, with this file's text as the report
    dead      it ends at boot without a word
    stuck     it hangs at boot
    frozen    once ready its loop stands still
    stubborn  it does not leave when it is asked to
    strange   only those attach to the router whose numbers it holds
"""

from __future__ import annotations

import json
import os
import select
import sys
import time
from pathlib import Path

from bridge import config
from bridge.errors import BridgeError, PeerLost, TargetError
from bridge.ipc import parcel
from bridge.ipc.link import Link
from bridge.ipc.status import Row
from bridge.main import serve
from bridge.router.listener import SocketFile
from bridge.worker import prototype

HERE = [sys.executable, "-P", __file__]


class Server:
    """Behaves like `WorkerServer` towards main and the prototype, and serves nobody."""

    def __init__(self, application: config.Application, control: Link, row: Row) -> None:
        self.place = Path(application.path[0])
        self.control = control
        self.row = row
        self.told = False

    def note(self, event: str) -> None:
        """Write down that it happened to this process."""
        with (self.place / "events").open("a") as file:
            file.write(f"{event} {os.getpid()}\n")

    def asked(self, behaviour: str) -> bool:
        """Whether the test wants this."""
        return (self.place / behaviour).exists()

    def stop(self, graceful: bool) -> None:
        """As the real one."""
        self.told = not (graceful and self.asked("stubborn"))

    def run(self) -> int:
        """As the real one."""
        self.note("booting")
        if self.asked("broken"):
            return self.fail()
        if self.asked("dead"):
            os._exit(7)
        while self.asked("stuck") and not self.told:
            time.sleep(0.01)
        self.note("ready")  # before main is told: what follows from that is not to be seen earlier
        self.control.send({"type": "ready"})
        if self.asked("talkative"):
            self.control.send({"type": "ready"})
        while self.asked("frozen") and os.getppid() != 1:  # an orphan would stand there for ever
            time.sleep(0.01)
        while not self.told and self.turn():
            self.row.beat()
        self.note("left")
        return 0

    def fail(self) -> int:
        """Say why there is no application."""
        fd = os.memfd_create("report")
        os.write(fd, (self.place / "broken").read_bytes())
        self.control.send({"type": "failed", "line": "it is broken", "exit_status": 3}, [fd])
        return 3

    def turn(self) -> bool:
        """Wait a little for main; False at the end of the link."""
        select.select([self.control], [], [], 0.01)
        try:
            while received := self.control.receive():
                self.note("joined" if received[0]["type"] == "router" else received[0]["type"])
        except PeerLost:
            return False
        return True


def attaching(strangers: dict[int, int], listed: Path) -> list[int]:
    """Numbers of those that may attach now."""
    known = listed.read_text().split() if listed.exists() else None
    return [number for number in strangers if known is None or str(number) in known]


def router(fd: int) -> None:
    """A router that only keeps its link: it serves at once and drains at once."""
    link = Link.adopt(fd)
    place = Path()
    files: list[SocketFile] = []
    ports = []
    strangers: dict[int, int] = {}

    def note(event: object) -> None:
        with (place / "events").open("a") as file:
            file.write(f"router {event}\n")

    while True:
        for number in attaching(strangers, place / "strange"):
            link.send({"type": "attached", "pid": strangers.pop(number)})
            note(f"attached {number}")
        select.select([link], [], [], 0.01 if strangers else None)
        try:
            received = link.receive()
        except PeerLost:
            for file in files:
                file.unlink()
            return
        if received is None:
            continue
        message, fds = received
        if message["type"] == "configure":
            settings = config.from_json(config.Settings, parcel.unpack(fds[1]))
            place = Path(next(iter(settings.applications.values())).path[0])
            files = [SocketFile.from_json(item["file"]) for item in message["listeners"] if item["file"]]
            note(f"configured {os.getpid()} {len(fds)} {sorted(os.environ.keys() & {'NOTIFY_SOCKET', 'GUNICORN_FD'})}")
            link.send({"type": "serving"})
        elif message["type"] == "worker":
            ports.append(Link.adopt(fds[0]))
            note(f"worker {message['pid']}")
            strangers[message["worker"]] = message["pid"]
        elif message["type"] == "broken":
            note(f"broken {message['application']} {message['broken']}")
        elif message["type"] == "quit":
            return
        else:
            note(message["type"])
            if message["type"] == "drain":
                link.send({"type": "drained"})


def main() -> int:
    """Play the part that the first argument names."""
    if sys.argv[1] == "router":
        router(int(sys.argv[2]))
    elif sys.argv[1] == "prototype":
        prototype.main(int(sys.argv[2]), Server)
    else:
        settings = config.from_json(config.Settings, json.loads(sys.argv[2]))
        try:
            serve(settings, [*HERE, "router"], [*HERE, "prototype"], patient="patient" in sys.argv)
        except BridgeError as error:
            report = error.report if isinstance(error, TargetError) else ""
            sys.stderr.write(f"{report}{error}\n")
            return error.exit_status
    return 0


if __name__ == "__main__":
    sys.exit(main())
