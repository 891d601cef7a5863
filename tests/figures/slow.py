"""Clients that take their time, many in one process: `python -m tests.figures.slow HOST NUMBER READERS UPLOADERS`.

A reader takes 16 KiB of /download each time, an uploader sends 8 KiB of 10 MiB, both twice a second. The process says
"begun" when each reader has its head and each uploader has sent something, and goes on until its standard input
ends, or one of them is refused or cut off, which it says too.
"""

from __future__ import annotations

import heapq
import select
import socket
import sys
import time

EVERY = 0.5  #: seconds
TAKEN = 16384  #: bytes
GIVEN = 8192
SIZE = 10 << 20
_DOWNLOAD = b"GET /download HTTP/1.1\r\nHost: t\r\n\r\n"
_UPLOAD = b"POST /upload HTTP/1.1\r\nHost: t\r\nContent-Length: %d\r\n\r\n" % SIZE


class Slow:
    """One client."""

    def __init__(self, address: tuple[str, int], reads: bool) -> None:
        self.reads = reads
        self.moved = 0
        self._socket = socket.socket()
        self._socket.settimeout(20)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
        self._socket.connect(address)
        self._socket.sendall(_DOWNLOAD if reads else _UPLOAD)
        self._socket.setblocking(False)

    def step(self) -> None:
        """Take or give a little; nothing happens if the server has nothing, or takes nothing."""
        try:
            if self.reads:
                data = self._socket.recv(TAKEN)
                if not data or (not self.moved and not data.startswith(b"HTTP/1.1 200 ")):
                    raise ConnectionError(f"a reader got {data[:100]!r} behind {self.moved} bytes")
                self.moved += len(data)
            else:
                self.moved += self._socket.send(bytes(GIVEN))
        except BlockingIOError:
            pass


def main(host: str, number: str, readers: str, uploaders: str) -> None:
    """Be all of them."""
    count = int(readers) + int(uploaders)
    begun = False
    clients: list[Slow] = []
    due: list[tuple[float, int]] = []
    for index in range(count):
        clients.append(Slow((host, int(number)), index < int(readers)))
        heapq.heappush(due, (time.monotonic() + EVERY * index / count, index))
    while True:
        at, index = due[0]
        if select.select([sys.stdin], [], [], max(0.0, at - time.monotonic()))[0]:
            return
        if time.monotonic() >= at:
            clients[index].step()
            heapq.heapreplace(due, (at + EVERY, index))
        if not begun and all(client.moved for client in clients):
            begun = True
            print("begun", flush=True)


if __name__ == "__main__":
    try:
        main(*sys.argv[1:])
    except OSError as error:
        print(error, flush=True)
