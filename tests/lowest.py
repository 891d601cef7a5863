"""`make test-lowest`: the suite with the oldest version of everything that pyproject.toml still allows.

"Everything" is what Bridge needs to run and to be built; the tools of the tests are the newest. The environment is
.venvs/lowest-3.x. Arguments are handed to pytest. A bound without `>=` is an error: it could not be tested.
"""

from __future__ import annotations

import subprocess
import sys
import tomllib

from tests.every_python import ROOT

HOME = ROOT / ".venvs" / f"lowest-{sys.version_info[0]}.{sys.version_info[1]}"


def lowest(requirements: list[str]) -> list[str]:
    """`name==version` for each requirement, with the version behind its `>=`.

    Raises:
        ValueError: there is none.
    """
    found = []
    for text in requirements:
        name, mark, rest = text.partition(">=")
        if not mark:
            raise ValueError(f"{text!r} names no oldest version")
        found.append(f"{name.strip()}=={rest.partition(',')[0].partition(';')[0].strip()}")
    return found


def main(arguments: list[str]) -> int:
    """Install and test; pytest's exit status."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    building, running = lowest(project["build-system"]["requires"]), lowest(project["project"]["dependencies"])
    pins = sorted({*building, *running})
    print(" ".join(pins), flush=True)
    if not HOME.exists():
        subprocess.run([sys.executable, "-m", "venv", HOME], check=True)
    inside = str(HOME / "bin" / "python")
    (HOME / "pins.txt").write_text("\n".join(pins) + "\n")
    pip = [inside, "-m", "pip", "--quiet", "--disable-pip-version-check", "install", "--constraint"]
    pip.append(str(HOME / "pins.txt"))
    subprocess.run([*pip, *building], check=True)
    subprocess.run([*pip, "--no-build-isolation", "--editable", ".[test]"], cwd=ROOT, check=True)
    return subprocess.run([inside, "-m", "pytest", *arguments], cwd=ROOT, check=False).returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
