"""The wheel and the source distribution: what is in them, and that they can be installed and serve.

Both are built once. When BRIDGE_WHEEL names a wheel, that one is tested instead of one that this Python has built:
so `make test-all` tests one file on every Python.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tarfile
import tomllib
import zipfile
from email.message import Message
from email.parser import BytesParser
from pathlib import Path

import pytest
from packaging.metadata import Metadata
from packaging.requirements import Requirement
from packaging.utils import parse_wheel_filename
from readme_renderer import markdown
from trove_classifiers import classifiers

from bridge import __version__
from tests.end_to_end.server import Server
from tests.end_to_end.wire import Wire
from tests.package.build import LEFTOVERS, ROOT, build
from tests.package.environment import create, install

INFO = f"bridged-{__version__}.dist-info"


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The source distribution and the wheel; their directory is named as `make dist` does, relative to the current."""
    place = Path.cwd()
    sdist, wheel = (place / path for path in build(Path(os.path.relpath(tmp_path_factory.mktemp("dist")))))
    return sdist, Path(os.environ.get("BRIDGE_WHEEL") or wheel)


@pytest.fixture(scope="module")
def sdist(built: tuple[Path, Path]) -> Path:
    """The source distribution."""
    return built[0]


@pytest.fixture(scope="module")
def wheel(built: tuple[Path, Path]) -> Path:
    """The wheel."""
    return built[1]


def read_wheel(wheel: Path, name: str) -> bytes:
    """One file of the wheel."""
    with zipfile.ZipFile(wheel) as archive:
        return archive.read(name)


def metadata(wheel: Path) -> Message:
    """The wheel's METADATA."""
    return BytesParser().parsebytes(read_wheel(wheel, f"{INFO}/METADATA"))


def sources(*tops: str) -> set[str]:
    """Files of the tree below these, without what builds leave behind."""
    found = set()
    for top in tops:
        for folder, folders, files in os.walk(ROOT / top):
            folders[:] = set(folders) - LEFTOVERS(folder, folders)
            found |= {
                (Path(folder) / name).relative_to(ROOT).as_posix() for name in set(files) - LEFTOVERS(folder, files)
            }
    return found


def test_one_wheel_for_every_cpython(wheel: Path) -> None:
    """The wheel is named for the stable ABI of CPython 3.11, and for manylinux alone."""
    name, version, _, tags = parse_wheel_filename(wheel.name)
    assert (name, str(version)) == ("bridged", __version__)
    assert {(tag.interpreter, tag.abi) for tag in tags} == {("cp311", "abi3")}
    assert all(tag.platform.startswith("manylinux") for tag in tags)


def test_wheel_promises_no_older_c_library_than_it_needs(wheel: Path) -> None:
    """The oldest glibc in the wheel's name has every symbol version that the compiled core asks for."""
    core = read_wheel(wheel, "bridge/core/_core.abi3.so")
    needed = {(int(major), int(minor)) for major, minor in re.findall(rb"GLIBC_(\d+)\.(\d+)", core)}
    promised = {(int(major), int(minor)) for major, minor in re.findall(r"manylinux_(\d+)_(\d+)_", wheel.name)}
    assert needed
    assert max(needed) <= min(promised)


def test_what_the_wheel_holds(wheel: Path) -> None:
    """The package with its types and its architecture page, the compiled core, and neither C sources nor tests."""
    with zipfile.ZipFile(wheel) as archive:
        held = {name for name in archive.namelist() if not name.startswith(INFO) and not name.endswith("/")}
    expected = {name for name in sources("bridge") if name.endswith(".py")}
    assert held == expected | {"bridge/py.typed", "bridge/README.md", "bridge/core/_core.abi3.so"}


def test_what_the_source_distribution_holds(sdist: Path) -> None:
    """Everything that is needed to build, to test and to read, and nothing that a build left behind."""
    with tarfile.open(sdist) as archive:
        held = {member.name.partition("/")[2] for member in archive.getmembers() if member.isfile()}
    made = {"PKG-INFO", "setup.cfg"} | {name for name in held if name.startswith("bridged.egg-info/")}
    single = {
        ".dockerignore",
        "CHANGELOG.md",
        "LICENSE",
        "MANIFEST.in",
        "Makefile",
        "README.md",
        "SECURITY.md",
        "pyproject.toml",
        "setup.py",
    }
    assert held - made == sources("bridge", "tests", "apps", "config", "docker", ".ci") | single


def test_metadata(wheel: Path) -> None:
    """What an index would check: valid fields, known classifiers, a description that can be rendered."""
    text = read_wheel(wheel, f"{INFO}/METADATA")
    fields = Metadata.from_email(text, validate=True)
    assert set(fields.classifiers or ()) <= set(classifiers)
    assert fields.description
    rendered = markdown.render(fields.description) or ""
    assert "<h1" in rendered
    assert "<table" in rendered
    assert metadata(wheel)["Description-Content-Type"] == "text/markdown"


def test_dependencies_are_those_of_the_project(wheel: Path) -> None:
    """What pip will install beside Bridge is what pyproject.toml gives reasons for."""
    declared = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
    always = [text for text in metadata(wheel).get_all("Requires-Dist", []) if "extra ==" not in text]
    assert {str(Requirement(text)) for text in always} == {str(Requirement(text)) for text in declared}


def serve(programs: Path, place: Path) -> None:
    """`bridged` from this environment, with nothing else on the PATH, says its version and serves ASGI and WSGI."""
    bare = {"PATH": str(programs), "CC": "false", "PYTHONNOUSERSITE": "1", "PYTHONPATH": "", "HOME": str(place)}
    assert not [name for name in ("cc", "gcc", "clang", "c99") if shutil.which(name, path=bare["PATH"])]
    command = str(programs / "bridged")
    said = subprocess.run([command, "--version"], env=bare, cwd=place, capture_output=True, text=True, check=True)
    assert said.stdout.split() == ["bridged", __version__]
    for target in ("plain:app", "threaded:app"):  # ASGI and WSGI
        with Server(target, command=(command, "run"), environment=bare) as server, Wire(server.address) as wire:
            assert wire.get("/hello").answer().status == 200
            python = {Path(f"/proc/{pid}/exe").resolve() for pid in (server.router, *server.workers)}
            assert python == {(programs / "python").resolve()}
            mapped = Path(f"/proc/{server.router}/maps").read_text()
            assert str(programs.parent) in mapped
            assert str(ROOT / "bridge") not in mapped


def test_wheel_serves_where_there_is_no_compiler(wheel: Path, tmp_path: Path) -> None:
    """In an environment that holds the declared dependencies alone, the installed wheel serves an application."""
    programs = create(tmp_path / "environment", metadata(wheel).get_all("Requires-Dist", []))
    install(programs, wheel)
    serve(programs, tmp_path)


def test_source_distribution_is_built_and_serves(sdist: Path, tmp_path: Path) -> None:
    """With the build system that it names, and a compiler, pip makes of the source distribution what serves."""
    with tarfile.open(sdist) as archive:
        file = archive.extractfile(f"bridged-{__version__}/pyproject.toml")
        assert file
        project = tomllib.loads(file.read().decode())
    needed = [*project["project"]["dependencies"], *project["build-system"]["requires"]]
    programs = create(tmp_path / "environment", needed)
    install(programs, sdist)
    serve(programs, tmp_path)
