"""Which source file has changed: for `--reload`, in a thread of each worker.

Watched are the files of all imported modules that are not installed packages, and every `*.py` below the
application's directories, so that a file which an unloadable version needs is seen too. Files are compared by their
modification times, twice a second: no dependency, and it works on every file system.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import sys
import sysconfig
import threading
import time
from collections.abc import Callable, Iterable, Iterator

INTERVAL = 0.5  #: seconds between two looks
MOST_FILES = 20_000  #: of one directory tree; enough for any project, and an end for `--app-dir /`
_SKIPPED = {"__pycache__", "node_modules", "site-packages", "dist-packages"}


class Watcher:
    """Compares files with how they were when it was made, so make it before the application is imported.

    Args:
        directories: the application's.
        extra: files that are watched beside all others.
    """

    def __init__(self, *directories: str, extra: Iterable[str] = ()) -> None:
        self._directories = tuple(map(os.path.abspath, directories))
        self._extra = [os.path.realpath(path) for path in extra]
        self._installed = tuple(
            os.path.join(os.path.realpath(path), "")
            for name, path in sysconfig.get_paths().items()
            if name in ("stdlib", "platstdlib", "purelib", "platlib")
        )
        self._stamps: dict[str, int] = {}
        self._made = time.time_ns()
        self.changes()

    def changes(self) -> list[tuple[str, int]]:
        """Path and stamp of each file that changed since the last call: new, written, or (stamp 0) removed."""
        found = dict(self._look())
        changed = []
        for path, stamp in found.items():
            before = self._stamps.get(path)
            # A module imported late is an old file seen for the first time, and no change.
            if stamp != before and (before is not None or stamp > self._made):
                changed.append((path, stamp))
        changed += [(path, 0) for path in self._stamps if path not in found and not os.path.exists(path)]
        self._stamps = found
        return changed

    def start(self, report: Callable[[str, int], None]) -> None:
        """Call `report(path, stamp)` for every change from now on, in a daemon thread that ends if it raises."""

        def run() -> None:
            pause = threading.Event()
            while True:
                pause.wait(INTERVAL)
                for path, stamp in self.changes():
                    report(path, stamp)

        threading.Thread(target=run, name="bridge-reload", daemon=True).start()

    def _look(self) -> Iterator[tuple[str, int]]:
        trees = itertools.chain.from_iterable(map(_sources, self._directories))
        for path in {*self._modules(), *trees, *self._extra}:
            with contextlib.suppress(OSError):
                yield path, os.stat(path).st_mtime_ns

    def _modules(self) -> Iterator[str]:
        for module in list(sys.modules.values()):
            path = getattr(module, "__file__", None)
            if isinstance(path, str) and path.endswith(".py"):
                path = os.path.realpath(path)
                if not path.startswith(self._installed):
                    yield path


def _sources(directory: str) -> Iterable[str]:
    left = MOST_FILES
    for place, directories, files in os.walk(directory):
        directories[:] = [
            name
            for name in directories
            if name not in _SKIPPED
            and not name.startswith(".")
            and not os.path.exists(os.path.join(place, name, "pyvenv.cfg"))
        ]
        left -= len(files)
        for name in files:
            if name.endswith(".py"):
                yield os.path.realpath(os.path.join(place, name))
        if left < 0:
            return
