"""`make dist`: the source distribution, and from it the one wheel for every CPython; into the directory that is named.

Nothing is downloaded: what building needs stands in the environment that runs this (extra `dist`). The sources are
copied first, so that nothing an earlier build left behind gets in.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent
#: Directories that are no sources, and what compilers and interpreters leave beside sources.
LEFTOVERS = shutil.ignore_patterns(
    ".git", ".venv", ".venvs", ".*_cache", "__pycache__", "build", "dist", "*.egg-info", "*.so", "results"
)


def call(command: Sequence[str], environment: Mapping[str, str] | None = None) -> None:
    """Run a program and show what it wrote only if it failed.

    Raises:
        SystemExit: it failed.
    """
    done = subprocess.run(
        command,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        check=False,
    )
    if done.returncode:
        raise SystemExit(f"{' '.join(command)}\n{done.stdout.decode(errors='replace')}\nexit status {done.returncode}")


def build(into: Path) -> tuple[Path, Path]:
    """Build both; the files of the source distribution and of the wheel.

    The wheel is made of the source distribution's files alone. auditwheel reads from the compiled core which C library
    it needs, and names the wheel accordingly: manylinux_2_17 for glibc 2.17 and newer.
    """
    tools = {**os.environ, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', os.defpath)}"}
    with tempfile.TemporaryDirectory(prefix="bridge-dist-") as directory:
        sources, made = Path(directory, "sources"), Path(directory, "made")
        shutil.copytree(ROOT, sources, ignore=LEFTOVERS)
        call([sys.executable, "-m", "build", "--no-isolation", "--outdir", str(made), str(sources)])
        (raw,) = made.glob("*.whl")
        call([sys.executable, "-m", "auditwheel", "repair", "--wheel-dir", str(made / "repaired"), str(raw)], tools)
        (wheel,) = (made / "repaired").glob("*.whl")
        (sdist,) = made.glob("*.tar.gz")
        into.mkdir(parents=True, exist_ok=True)
        return Path(shutil.copy(sdist, into)), Path(shutil.copy(wheel, into))


def main(into: Path) -> None:
    """Build into an empty directory and say what came of it."""
    shutil.rmtree(into, ignore_errors=True)
    for path in build(into):
        print(f"{path}  {path.stat().st_size:,} bytes")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
