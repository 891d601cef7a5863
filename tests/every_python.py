"""`make test-all`: the suite on every CPython from 3.11 on that this machine has, and a table at the end.

Interpreters are looked for on the PATH and under ~/.pyenv/versions; each version gets its own environment in
.venvs/. The oldest builds the wheel that tests/package then tries on all of them. Arguments are handed to pytest. The
exit status is 1 when the suite failed on any of them.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parent.parent
ASK = "import sys; print(sys.implementation.name, *sys.version_info[:3], 't' in sys.abiflags)"
Version = tuple[int, int, int]


def candidates() -> Iterator[Path]:
    """Every file that looks like an interpreter, good or not."""
    folders = [Path(folder) for folder in os.get_exec_path()]
    folders += sorted(Path.home().glob(".pyenv/versions/*/bin"))
    for folder in folders:
        yield from folder.glob("python3.[0-9][0-9]")


def interpreters() -> dict[Version, Path]:
    """The newest CPython of each minor version, without the free-threaded builds: they have no stable ABI."""
    found: dict[Version, Path] = {}
    for path in candidates():
        asked = subprocess.run([path, "-I", "-c", ASK], capture_output=True, text=True, check=False)
        match asked.stdout.split():
            case ["cpython", major, minor, micro, "False"]:
                found.setdefault((int(major), int(minor), int(micro)), path)
            case _:
                pass  # a pyenv shim whose version is not selected, another implementation
    newest = {version[:2]: version for version in sorted(found)}
    return {version: found[version] for version in newest.values() if version >= (3, 11)}


def run(python: Path, version: Version, arguments: list[str]) -> str:
    """Install and test with one interpreter; what came of it, in a word."""
    home = ROOT / ".venvs" / ".".join(map(str, version))
    inside = home / "bin" / "python"
    install = [str(inside), "-m", "pip", "--quiet", "--disable-pip-version-check", "install", "--editable", ".[test]"]
    if not inside.exists() and subprocess.run([python, "-m", "venv", home], check=False).returncode:
        return "no environment"
    if subprocess.run(install, cwd=ROOT, check=False).returncode:
        return "not installed"
    wheels = ROOT / ".venvs" / "dist"
    if "BRIDGE_WHEEL" not in os.environ:
        if subprocess.run([inside, "-m", "tests.package.build", wheels], cwd=ROOT, check=False).returncode:
            return "no wheel"
        (wheel,) = wheels.glob("*.whl")
        os.environ["BRIDGE_WHEEL"] = str(wheel)
    tested = subprocess.run([inside, "-m", "pytest", *arguments], cwd=ROOT, check=False)
    return "failed" if tested.returncode else "passed"


def main(arguments: list[str]) -> int:
    """Test with each interpreter in turn, then print the table."""
    rows = []
    for version, python in interpreters().items():
        name = ".".join(map(str, version))
        print(f"--- CPython {name} ({python})", flush=True)
        begin = time.monotonic()
        rows.append((name, run(python, version, arguments), time.monotonic() - begin))
    print(f"\n{'CPython':10} {'result':15} {'time':>6}")
    for name, result, seconds in rows:
        print(f"{name:10} {result:15} {seconds:5.0f}s")
    if not rows:
        print("no CPython from 3.11 on was found")
    return int(not rows or any(result != "passed" for _, result, _ in rows))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
