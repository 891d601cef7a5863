"""Freed memory is kept for the next body."""

from __future__ import annotations

import subprocess
import sys

PROGRAM = """
import resource, sys
from bridge.worker import heap
if sys.argv[1] == "keep":
    assert heap.keep()
held = [bytes(262144) for _ in range(4)]
held.clear()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(200):
    held = [b"x" * 262144 for _ in range(4)]
    held.clear()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def faults(how: str) -> int:
    """Page faults of 200 rounds of four blocks of 256 KiB."""
    done = subprocess.run([sys.executable, "-c", PROGRAM, how], check=True, capture_output=True, text=True)
    return int(done.stdout)


def test_blocks_that_are_freed_fault_only_once() -> None:
    """After the advice, blocks that come and go cost few page faults; without it, they cost them each time."""
    assert faults("keep") < 2000
    assert faults("leave") > 10 * faults("keep")
