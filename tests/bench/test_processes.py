"""CPU time and memory out of /proc."""

from __future__ import annotations

import os
import time

import pytest

from tests.bench import processes


def test_stat_with_a_difficult_name() -> None:
    """A program name with a space and a parenthesis shifts no field."""
    assert processes.parse_stat("7 (a) b) S 3 7 7 0 -1 0 0 0 0 0 11 5 2 1 20 0") == (3, 16)


def test_pss_is_bytes() -> None:
    """Only the proportional size counts, and kibibytes become bytes."""
    assert processes.parse_pss("00-ff ---p [rollup]\nRss:  900 kB\nPss:  12 kB\nPss_Anon:  3 kB\n") == 12 * 1024


def test_own_cpu_time_is_seen() -> None:
    """Work done between two looks at the process tree is counted, in seconds."""
    before, begin = processes.tree(os.getpid()), time.process_time()
    while (spent := time.process_time() - begin) < 0.2:
        pass
    assert processes.cpu_seconds(before, processes.tree(os.getpid())) == pytest.approx(spent, abs=0.1)


def test_changed_processes_are_refused() -> None:
    """A worker that died during a measurement spoils it instead of making it cheap."""
    with pytest.raises(RuntimeError, match="changed"):
        processes.cpu_seconds({1: 5, 2: 5}, {1: 6})
