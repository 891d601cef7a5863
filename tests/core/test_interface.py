"""What Python believes about the core is what C says."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import bridge.core
from bridge.core import CANCELLED, FULL, LOST, NONE, binding, interface

CORE = Path(bridge.core.__file__).parent


def test_results_have_the_numbers_of_the_header() -> None:
    """Each outcome and each fault is the number in layout.h, which cffi compares as it hands it out."""
    lib = binding.lib
    numbers = {name: getattr(lib, f"BRIDGE_{name}") for name in ("FULL", "NONE", "CANCELLED", "LOST", "TOO_LONG")}
    mine = {"FULL": FULL, "NONE": NONE, "CANCELLED": CANCELLED, "LOST": LOST, "TOO_LONG": interface.TOO_LONG}
    assert numbers == mine


def test_every_declared_function_is_typed() -> None:
    """The list of functions in interface.py and the one in core.cdef name the same, with as many arguments."""
    declared = {
        name: arguments.count(",") + 1
        for name, arguments in re.findall(r"(bridge_\w+)\(([^)]+)\);", (CORE / "core.cdef").read_text())
    }
    typed = {
        name: str(kind)[len("Callable[[") :].partition("]")[0].count(",") + 1
        for name, kind in interface.Functions.__annotations__.items()
    }
    assert typed == declared
    assert all(hasattr(binding.lib, name) for name in typed)


def test_a_source_tree_that_is_not_compiled_says_so(tmp_path: Path) -> None:
    """Who starts a server in a source tree may meet its package there, and not the one that is installed."""
    package = Path(bridge.__file__).parent
    shutil.copytree(package, tmp_path / "bridge", ignore=shutil.ignore_patterns("*.so", "__pycache__"))
    program = f"import sys; sys.path.insert(0, {str(tmp_path)!r}); import bridge.core"
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False, cwd="/")
    assert ended.returncode == 1
    place = tmp_path / "bridge" / "core" / "binding.py"
    last = ended.stderr.splitlines()[-1]
    assert last.startswith(f"ImportError: the C core of Bridge is not compiled beside {place}: leave this source tree")
