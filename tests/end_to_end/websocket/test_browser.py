"""A real browser: Debian's Chromium without a window, and a page whose script opens WebSockets."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.end_to_end.server import Server

BROWSERS = ("chromium", "chromium-browser", "google-chrome")


@contextmanager
def browser(program: str, url: str, home: Path) -> Iterator[None]:
    """The browser shows a page for the length of the block; it leads its own process group."""
    options = ["--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run"]
    options += ["--disable-background-networking", "--disable-component-update", f"--user-data-dir={home}"]
    with (home / "log").open("wb") as log:
        process = subprocess.Popen(
            [program, *options, url],
            stdout=log,
            stderr=log,
            start_new_session=True,
            env=os.environ | {"HOME": str(home)},
        )
        try:
            yield
        finally:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def test_chromium(server: Server, tmp_path: Path) -> None:
    """It agrees on subprotocol and compression, echoes text and binary, and hears codes and reasons as they were."""
    program = next((found for name in BROWSERS if (found := shutil.which(name))), None)
    if program is None:
        pytest.skip("there is no Chromium here (Debian: apt-get install chromium)")
    with browser(program, f"{server.url}/browser", tmp_path):
        found = json.loads(server.log.take(r"report: ([^\n]*)\n", patience=90)[1])
    assert "error" not in found, found
    assert found.pop("protocol") == "one"
    assert found.pop("extensions").startswith("permessage-deflate")
    assert found.pop("closed") == [4001, "schön", True]
    assert found.pop("ended") == [4002, "enough", True]
    assert found.pop("raised") == [1011, "sorry", True]
    assert found.pop("refused") == [1006, "", False]
    assert set(found.values()) == {True}, found
    server.log.take(r"browser: left 4001 'schön'\n")
