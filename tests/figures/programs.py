"""The C programs of tests/core as the figures run them: optimised, without sanitizers, for long."""

from __future__ import annotations

import subprocess
from functools import cache
from pathlib import Path
from typing import NamedTuple

CORE = Path(__file__).parent.parent / "core"
PATIENCE = 900.0  #: seconds after which a program hangs


class Run(NamedTuple):
    """What one run of a program came to."""

    numbers: tuple[int, ...]  #: what it printed; nothing if it failed
    complaint: str  #: what was not so; empty if all was


@cache
def _built() -> Path:
    subprocess.run(["make", "--silent", "-C", str(CORE)], check=True)
    return CORE / "build" / "plain"


def run(program: str, *arguments: object) -> Run:
    """Build the program if need be, and run it."""
    command = [str(_built() / program), *map(str, arguments)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=PATIENCE)
    except subprocess.TimeoutExpired:
        return Run((), f"{program} did not end")
    if done.returncode:
        return Run((), done.stderr.strip() or f"{program} ended with status {done.returncode}")
    return Run(tuple(map(int, done.stdout.split())), "")
