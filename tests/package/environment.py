"""Virtual environments that hold exactly what somebody declared to need, made without a network.

The distributions are copied from the environment that the tests run in, with all that they need themselves.
"""

from __future__ import annotations

import shutil
import sys
import venv
from collections.abc import Iterable
from importlib.metadata import Distribution, distribution
from pathlib import Path

from packaging.requirements import Requirement

from tests.package.build import call


def closure(requirements: Iterable[str]) -> dict[str, Distribution]:
    """The installed distributions that satisfy the requirements, and theirs.

    Raises:
        AssertionError: one is installed in a version that is not allowed.
    """
    found: dict[str, Distribution] = {}
    wanted = [Requirement(text) for text in requirements]
    while wanted:
        requirement = wanted.pop()
        if requirement.marker and not requirement.marker.evaluate({"extra": ""}):
            continue
        there = distribution(requirement.name)
        assert requirement.specifier.contains(there.version, prereleases=True), f"{requirement} but {there.version}"
        if requirement.name not in found:
            found[requirement.name] = there
            wanted += [Requirement(text) for text in there.requires or ()]
    return found


def create(home: Path, requirements: Iterable[str]) -> Path:
    """A new environment that holds these and nothing else, not even pip; its `bin`."""
    venv.EnvBuilder(symlinks=True).create(home)
    packages = home / "lib" / f"python{sys.version_info[0]}.{sys.version_info[1]}" / "site-packages"
    for there in closure(requirements).values():
        for file in there.files or ():
            source = Path(str(there.locate_file(file)))
            if ".." not in file.parts and source.suffix != ".pyc":  # commands and documents lie outside
                (packages / file).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(source, packages / file)
    return home / "bin"


def install(programs: Path, file: Path) -> None:
    """Install a wheel or a source distribution there; what it needs must be there already."""
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--python", str(programs / "python")]
    call([*pip, "install", "--no-index", "--no-build-isolation", "--no-cache-dir", str(file)])
