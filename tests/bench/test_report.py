"""The arithmetic of the benchmark: figures that are printed must be right."""

from __future__ import annotations

import os
import time
from dataclasses import replace

import pytest

from tests.bench import processes
from tests.bench.report import Figures, combine, figures, parse_wrk, table

WRK = """Running 1s test @ http://127.0.0.1:1/
  1 threads and 64 connections
JSON {"requests":50000,"microseconds":2000000,"p50":1500,"p99":9000,"errors":3}
"""
ONE = Figures("bridge", "hello", 100.0, 1.0, 2.0, 16.0, 50.0, 1)


def test_wrk_output_is_read() -> None:
    """The line that report.lua writes is found among wrk's own."""
    assert parse_wrk(WRK) == {"requests": 50000, "microseconds": 2000000, "p50": 1500, "p99": 9000, "errors": 3}


@pytest.mark.parametrize("output", ["", "unable to connect", WRK.replace("50000", "0")])
def test_wrk_without_figures_is_refused(output: str) -> None:
    """A run that measured nothing is an error, not a row of zeros."""
    with pytest.raises(ValueError, match=r"report|answered"):
        parse_wrk(output)


def test_units() -> None:
    """Seconds, milliseconds, microseconds and mebibytes end up in the columns that are called after them."""
    row = figures("bridge", "hello", parse_wrk(WRK), cpu_seconds=0.8, pss=3 << 20)
    assert row == Figures("bridge", "hello", 25000.0, 1.5, 9.0, 16.0, 3.0, 3)


def test_rounds_are_combined_by_median() -> None:
    """One bad round moves no figure, and hides no error."""
    row = combine([ONE, replace(ONE, cpu_us=900.0, errors=2), replace(ONE, cpu_us=17.0)])
    assert (row.cpu_us, row.errors) == (17.0, 4)


def test_table_compares_cpu_time() -> None:
    """Each load has its rows, and the ratio of CPU time is taken within a load."""
    lines = table([ONE, replace(ONE, server="uvicorn", cpu_us=20.0), replace(ONE, load="upload")]).splitlines()
    assert [line.split(" | ")[6] for line in lines[2:]] == ["0.80", "1.00", "1.00"]


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
