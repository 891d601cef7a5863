"""The operator's log: every process writes whole lines of one form to standard error.

    2026-11-20 13:00:00 [4711] [info] bridged 0.1.0 serves app:app on http://127.0.0.1:8000 with 2 workers

Everyone may import this file, as `errors`. An application's own logging is left alone: nothing here touches the
root logger, and our records do not reach it.
"""

from __future__ import annotations

import logging
import sys

FORMAT = "%(asctime)s [%(process)d] [%(level)s] %(message)s"
TIME = "%Y-%m-%d %H:%M:%S"

log = logging.getLogger("bridge")


class _Formatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        record.level = record.levelname.lower()
        return super().format(record)


class _StandardError(logging.Handler):
    """Writes to whatever `sys.stderr` is at that moment, one write for one record."""

    def emit(self, record: logging.LogRecord) -> None:
        try:
            sys.stderr.write(self.format(record) + "\n")
            sys.stderr.flush()
        except (OSError, ValueError, AttributeError):
            pass  # standard error is closed or full: a server does not end for want of a log


def set_up(level: str = "info") -> None:
    """Let this process log from `level` (debug, info, warning, error, critical) upwards; may be called again."""
    handler = _StandardError()
    handler.setFormatter(_Formatter(FORMAT, TIME))
    log.handlers[:] = [handler]
    log.propagate = False
    log.setLevel(level.upper())
