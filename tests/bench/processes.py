"""CPU time and memory of a process and all its descendants, from /proc."""

from __future__ import annotations

import os
from pathlib import Path

PROC = Path("/proc")
TICK = 1 / os.sysconf("SC_CLK_TCK")  #: seconds of one unit of CPU time in /proc/PID/stat


def parse_stat(text: str) -> tuple[int, int]:
    """Parent and CPU time, user and system, in clock ticks, of a /proc/PID/stat.

    The name of the program stands in parentheses and may itself hold spaces and parentheses.
    """
    fields = text.rpartition(")")[2].split()
    return int(fields[1]), int(fields[11]) + int(fields[12])


def parse_pss(text: str) -> int:
    """Proportional set size, in bytes, of a /proc/PID/smaps_rollup."""
    return sum(int(line.split()[1]) * 1024 for line in text.splitlines() if line.startswith("Pss:"))


def tree(root: int) -> dict[int, int]:
    """CPU ticks of `root` and of each living descendant, by process number."""
    found = {}
    for folder in PROC.glob("[0-9]*"):
        try:
            found[int(folder.name)] = parse_stat((folder / "stat").read_text())
        except OSError:
            continue  # it ended while we looked
    family = {root}
    while grown := {pid for pid, (parent, _) in found.items() if parent in family} - family:
        family |= grown
    return {pid: found[pid][1] for pid in family if pid in found}


def cpu_seconds(before: dict[int, int], after: dict[int, int]) -> float:
    """CPU time between two `tree`s.

    Raises:
        RuntimeError: a process ended or began in between, and its time cannot be told.
    """
    if before.keys() != after.keys():
        raise RuntimeError(f"the processes changed during the measurement: {sorted(before)} → {sorted(after)}")
    return sum(after[pid] - before[pid] for pid in before) * TICK


def pss(root: int) -> int:
    """Memory of the tree in bytes, what is shared counted once."""
    return sum(parse_pss((PROC / str(pid) / "smaps_rollup").read_text()) for pid in tree(root))
