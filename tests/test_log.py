"""The operator's log."""

from __future__ import annotations

import logging
import os
import re
import sys
from collections.abc import Iterator

import pytest

from bridge.log import log, set_up


@pytest.fixture(autouse=True)
def _restored() -> Iterator[None]:
    before = (log.handlers[:], log.level, log.propagate)
    yield
    log.handlers[:], log.level, log.propagate = before


def test_lines_have_one_form(capsys: pytest.CaptureFixture[str]) -> None:
    """Time, process, level, text; lower levels are left out; nothing reaches the root logger."""
    set_up("info")
    set_up("info")
    log.info("one %d", 1)
    log.debug("two")
    pattern = rf"\d{{4}}-\d\d-\d\d \d\d:\d\d:\d\d \[{os.getpid()}\] \[info\] one 1\n"
    assert re.fullmatch(pattern, capsys.readouterr().err)
    assert log.propagate is False
    assert logging.getLogger() is not log


def test_a_closed_standard_error_is_survived(monkeypatch: pytest.MonkeyPatch) -> None:
    """Logging to nowhere raises nothing."""
    set_up("info")
    monkeypatch.setattr(sys, "stderr", None)
    log.error("lost")
