"""Which files count as changed."""

from __future__ import annotations

import os
import sys
import threading
import types
from pathlib import Path

import pytest

from bridge.worker.reload import Watcher


def touch(path: Path, seconds: float) -> int:
    """Give the file a later time; its new stamp."""
    stamp = path.stat().st_mtime_ns + int(seconds * 1e9)
    os.utime(path, ns=(stamp, stamp))
    return stamp


def test_written_new_and_removed_files(tmp_path: Path) -> None:
    """A file that is written, made or removed is told once, with its stamp."""
    (tmp_path / "package").mkdir()
    old = tmp_path / "package" / "old.py"
    old.write_text("")
    (tmp_path / "notes.txt").write_text("")
    watcher = Watcher(str(tmp_path))
    assert watcher.changes() == []
    stamp = touch(old, 1)
    touch(tmp_path / "notes.txt", 1)
    assert watcher.changes() == [(str(old), stamp)]
    new = tmp_path / "new.py"
    new.write_text("")
    stamp = touch(new, 1)
    assert watcher.changes() == [(str(new), stamp)]
    new.unlink()
    assert watcher.changes() == [(str(new), 0)]
    assert watcher.changes() == []


def test_environments_and_hidden_directories_are_skipped(tmp_path: Path) -> None:
    """Virtual environments, caches and hidden directories are nobody's source."""
    for name in ("venv", ".git", "__pycache__", "node_modules"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "x.py").write_text("")
    (tmp_path / "venv" / "pyvenv.cfg").write_text("")
    watcher = Watcher(str(tmp_path))
    for path in tmp_path.glob("*/x.py"):
        touch(path, 1)
    assert watcher.changes() == []


def test_modules_elsewhere_are_watched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An imported module outside the directory counts, unless it is old and only imported late."""
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    source = elsewhere / "module.py"
    source.write_text("")
    touch(source, -1000)
    (tmp_path / "application").mkdir()
    watcher = Watcher(str(tmp_path / "application"))
    module = types.ModuleType("module")
    module.__file__ = str(source)
    monkeypatch.setitem(sys.modules, "bridge_test_module", module)
    assert watcher.changes() == []
    stamp = touch(source, 2000)
    assert watcher.changes() == [(str(source), stamp)]


def test_the_thread_reports(tmp_path: Path) -> None:
    """`start` reports changes by itself."""
    source = tmp_path / "a.py"
    source.write_text("")
    watcher = Watcher(str(tmp_path))
    reported = threading.Event()
    seen: list[str] = []

    def report(path: str, _: int) -> None:
        if path.startswith(str(tmp_path)):  # the suite's own files are watched too, and may be edited meanwhile
            seen.append(path)
            reported.set()

    watcher.start(report)
    touch(source, 1)
    assert reported.wait(20)
    assert seen == [str(source)]
