"""Bridge's lines in gunicorn's log: its files, formats, levels and logger class are the user's."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

from bridge.log import log


def forward(logger: Callable[[], Any]) -> None:
    """Give what Bridge logs in this process, and in those forked from it, to gunicorn's logger.

    Args:
        logger: asked at each line, because a reload may set up another one.
    """
    log.handlers[:] = [_Forward(logger)]
    log.propagate = False
    log.setLevel(getattr(logger(), "loglevel", logging.INFO))


class _Forward(logging.Handler):
    def __init__(self, logger: Callable[[], Any]) -> None:
        super().__init__()
        self._logger = logger

    def emit(self, record: logging.LogRecord) -> None:
        self._logger().log(record.levelno, "%s", record.getMessage(), exc_info=record.exc_info)
