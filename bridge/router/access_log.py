"""The access log: one line per request, written in batches by a thread of its own.

The loop only appends to a list. A slow disk or a reader of standard output that has stalled costs lines, which are
counted and reported, never requests.

    127.0.0.1 - - [20/Nov/2026:13:00:00 +0000] "GET /hello HTTP/1.1" 200 12 "-" "curl/7.88.1"
"""

from __future__ import annotations

import asyncio
import logging
import os
import queue
import re
import threading
import time

from bridge.errors import ConfigError

FLUSH_AFTER = 0.25  #: seconds that a line may wait
MAX_BATCHES = 64  #: batches that may wait for the disk; later ones are counted and dropped
_REFERER = re.compile(rb"\r\n(referer|user-agent):[ \t]*([^\r\n]*)", re.IGNORECASE)
_UNSAFE = re.compile(r'["\\\x00-\x1f\x7f-\uffff]')


def open_file(path: str) -> int:
    """A descriptor to append lines to `path`, or to standard output for "-".

    Raises:
        ConfigError: the file cannot be opened.
    """
    try:
        if path == "-":
            return os.dup(1)
        return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o644)
    except OSError as error:
        raise ConfigError("access_log", f"cannot open {path!r}: {error.strerror}") from error


class AccessLog:
    """Appends lines to a file, or to standard output for "-".

    Args:
        path: file name or "-".

    Raises:
        ConfigError: the file cannot be opened.
    """

    def __init__(self, path: str) -> None:
        self._path = path
        self._fd = open_file(path)
        self._lines: list[str] = []
        self._timer: asyncio.TimerHandle | None = None
        self._batches: queue.Queue[bytes | None] = queue.Queue(MAX_BATCHES)
        self._dropped = 0
        self._stamp = (0, "")
        self._thread = threading.Thread(target=self._write, name="access-log", daemon=True)
        self._thread.start()

    def line(self, client: str, head: bytes, status: int, size: int) -> None:
        """Log one request.

        Args:
            client: address of the client, empty for a unix socket.
            head: request head as it was received; empty when there was none that could be read.
            status: of the answer; 0 = the client left before there was one (logged as 499).
            size: bytes of the response's body that were handed to the connection.
        """
        end = head.find(b"\r\n")
        request = _quoted(head[:end]) if end > 0 else "-"
        fields = {name.lower(): value for name, value in _REFERER.findall(head)}
        referer = _quoted(fields.get(b"referer", b"-"))
        user_agent = _quoted(fields.get(b"user-agent", b"-"))
        host = _quoted(client.encode("latin-1", "replace")) or "-"
        self._lines.append(
            f'{host} - - [{self._now()}] "{request}" {status or 499} {size} "{referer}" "{user_agent}"\n'
        )
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(FLUSH_AFTER, self.flush)

    def _now(self) -> str:
        now = int(time.time())
        if self._stamp[0] != now:
            self._stamp = (now, time.strftime("%d/%b/%Y:%H:%M:%S %z", time.localtime(now)))
        return self._stamp[1]

    def flush(self) -> None:
        """Hand the lines so far to the writing thread."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if not self._lines:
            return
        batch = "".join(self._lines).encode("ascii")
        try:
            self._batches.put_nowait(batch)
        except queue.Full:
            self._dropped += len(self._lines)
        else:
            if self._dropped:
                logging.getLogger("bridge").warning("access log: %d lines were lost to a slow file", self._dropped)
                self._dropped = 0
        self._lines = []

    def _write(self) -> None:
        while (batch := self._batches.get()) is not None:
            try:
                while batch:
                    batch = batch[os.write(self._fd, batch) :]
            except OSError as error:
                logging.getLogger("bridge").error("access log: %s", error)

    def reopen(self) -> None:
        """Open the file anew, after it was rotated away."""
        if self._path == "-":
            return
        self.flush()
        try:
            fd = open_file(self._path)
        except ConfigError as error:
            logging.getLogger("bridge").error("%s; it goes on in the file that was open", error)
            return
        # The number stays: the thread may be about to write to it, and whoever got it next would get the lines.
        os.dup2(fd, self._fd, inheritable=False)
        os.close(fd)

    def close(self) -> None:
        """Write what is left; waits at most two seconds for a slow file."""
        self.flush()
        try:
            self._batches.put(None, timeout=1)
        except queue.Full:
            return
        self._thread.join(timeout=2)
        if not self._thread.is_alive():
            os.close(self._fd)


def _quoted(value: bytes) -> str:
    text = value.decode("latin-1")
    return _UNSAFE.sub(lambda match: f"\\x{ord(match[0]):02X}", text)
