"""The core's C test programs, under two sanitizers and at two geometries."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest

HERE = Path(__file__).parent
PROGRAMS = sorted(path.stem for path in HERE.glob("*.c"))
SANITIZERS = ["address,undefined", "thread"]
ENVIRONMENT = os.environ | {"TSAN_OPTIONS": "halt_on_error=1", "ASAN_OPTIONS": "detect_leaks=0"}


@cache
def built(sanitizer: str) -> tuple[Path, str]:
    """Where the programs are, and what make complained about."""
    make = subprocess.run(
        ["make", "--silent", "-j2", "-C", str(HERE), f"SAN={sanitizer}"], capture_output=True, text=True, check=False
    )
    return HERE / "build" / sanitizer, make.stderr if make.returncode else ""


@cache
def launcher(sanitizer: str) -> list[str]:
    """ThreadSanitizer needs its own places in memory: without randomised addresses where that is allowed."""
    fixed = ["setarch", platform.machine(), "-R"]
    if sanitizer != "thread" or shutil.which("setarch") is None:
        return []
    return fixed if subprocess.run([*fixed, "true"], capture_output=True, check=False).returncode == 0 else []


@pytest.fixture(scope="module")
def run() -> Callable[[str, str, str], subprocess.CompletedProcess[str]]:
    """Builds what is missing, then runs one program."""

    def run_program(sanitizer: str, program: str, geometry: str) -> subprocess.CompletedProcess[str]:
        directory, complaint = built(sanitizer)
        assert not complaint, complaint
        command = [*launcher(sanitizer), str(directory / program), geometry]
        return subprocess.run(command, capture_output=True, text=True, env=ENVIRONMENT, timeout=60, check=False)

    return run_program


@pytest.mark.parametrize("geometry", ["normal", "tiny"])
@pytest.mark.parametrize("sanitizer", SANITIZERS)
@pytest.mark.parametrize("program", PROGRAMS)
def test_program(
    run: Callable[[str, str, str], subprocess.CompletedProcess[str]], program: str, sanitizer: str, geometry: str
) -> None:
    """The facts that the program states hold, and the sanitizer saw nothing wrong on the way."""
    result = run(sanitizer, program, geometry)
    assert (result.returncode, result.stdout, result.stderr) == (0, "", "")
