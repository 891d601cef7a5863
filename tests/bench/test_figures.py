"""The arithmetic of the benchmark: figures that are printed must be right."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.bench.figures import Case, Figures, Key, Results, figures, parse_wrk

WRK = """Running 1s test @ http://127.0.0.1:1/
  1 threads and 64 connections
JSON {"requests":50000,"microseconds":2000000,"p50":1500,"p99":9000,"errors":3}
"""
KEY = Key("hello-asgi", 64, 1, "bridge")


def figure(cpu_us: float, errors: int = 0) -> Figures:
    """A measurement of which only this matters."""
    return Figures(1000.0, 1.0, 2.0, cpu_us, 50.0, errors)


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
    assert figures(parse_wrk(WRK), cpu_seconds=0.8, pss=3 << 20) == Figures(25000.0, 1.5, 9.0, 16.0, 3.0, 3)


def test_one_bad_round_moves_no_median_and_hides_no_error() -> None:
    """Rounds are combined by the median, errors are added up, and the spread shows the bad round."""
    case = Case(KEY, [figure(16.0, 1), figure(900.0, 2), figure(17.0)])
    assert (case.middle("cpu_us"), case.errors) == (17.0, 3)
    assert case.spread("cpu_us") == pytest.approx((900 - 16) / 2 / 17)


def test_results_survive_their_file() -> None:
    """What is read back is what was written: cases, rounds, failures and circumstances."""
    results = Results({"date": "2026-01-01", "versions": {"bridged": "1"}}, failures={"hello-wsgi x": "no"})
    results.add(KEY, figure(16.0))
    results.add(KEY, figure(17.0, 2))
    results.add(Key("hello-asgi", 64, 2, "uvicorn"), figure(20.0))
    results.add(Key("ws-idle", 5000, 1, "bridge"), replace(figure(20.0), idle_kib=12.5))
    assert Results.load(results.dump()) == results
