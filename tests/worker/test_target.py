"""`module:attribute` → application, and what is said when there is none."""

from __future__ import annotations

import itertools
import os
import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from bridge.errors import TargetError
from bridge.worker.target import load

ASGI = "async def {}(scope, receive, send): pass\n"
Load = Callable[..., Any]


@pytest.fixture
def project(tmp_path: Path) -> Iterator[Path]:
    """A directory for the application's files; what was imported from it is forgotten afterwards."""
    path, modules = list(sys.path), set(sys.modules)
    yield tmp_path
    sys.path[:] = path
    for name in set(sys.modules) - modules:
        del sys.modules[name]


_number = itertools.count()


def write(project: Path, text: str, name: str = "") -> str:
    """Write a module; its name, a fresh one unless given."""
    name = name or f"shop{next(_number)}"
    file = project / (name.replace(".", "/") + ".py")
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(textwrap.dedent(text))
    return name


def refused(project: Path, module: str, callable: str | None = None, *, factory: bool = False) -> TargetError:  # noqa: A002
    with pytest.raises(TargetError) as caught:
        load(module, callable, factory, [str(project)])
    assert "\n" not in str(caught.value)
    assert caught.value.exit_status == 3
    return caught.value


# What is found


def test_attribute(project: Path) -> None:
    """The attribute of the module is the application, and the directory is in front of sys.path."""
    module = write(project, ASGI.format("api"))
    target = load(module, "api", False, [str(project)])
    assert target is sys.modules[module].api
    assert sys.path[0] == str(project.resolve())


@pytest.mark.parametrize(("names", "expected"), [(["app"], "app"), (["app", "application"], "application")])
def test_default_names(project: Path, names: list[str], expected: str) -> None:
    """Without an attribute, `application` is taken, then `app`."""
    module = write(project, "".join(map(ASGI.format, names)))
    assert load(module, None, False, [str(project)]).__name__ == expected


def test_dotted_attribute(project: Path) -> None:
    """An attribute may be inside an object of the module."""
    module = write(project, "class Site:\n    class inner:\n        async def app(scope, receive, send): pass\n")
    assert load(module, "Site.inner.app", False, [str(project)]).__name__ == "app"


def test_module_in_a_package(project: Path) -> None:
    """A module may be inside a package."""
    package = write(project, "", f"pack{next(_number)}.__init__").partition(".")[0]
    write(project, ASGI.format("app"), f"{package}.web")
    assert callable(load(f"{package}.web", "app", False, [str(project)]))


def test_factory(project: Path) -> None:
    """A factory is called without arguments, and what it returns is the application."""
    module = write(project, "async def app(scope, receive, send): pass\ndef make(debug=False): return app\n")
    assert load(module, "make", True, [str(project)]) is sys.modules[module].app


def test_module_written_after_a_look_into_the_directory(project: Path) -> None:
    """A file that is younger than what importlib remembers of its directory is found."""
    refused(project, "late_module")
    before = project.stat()
    write(project, ASGI.format("app"), "late_module")
    os.utime(project, ns=(before.st_atime_ns, before.st_mtime_ns))  # as if the clock had not moved
    assert callable(load("late_module", "app", False, [str(project)]))


# What is not


def test_unknown_module(project: Path) -> None:
    """The line says which files were looked for and where, and which name is near."""
    write(project, "", "storefront")
    error = refused(project, "storefrnot", "app")
    assert str(error) == (
        f'no module "storefrnot": looked for storefrnot.py and storefrnot/ in {project.resolve()}'
        ' and the rest of sys.path (did you mean "storefront"?)'
    )
    assert error.report == ""


def test_unknown_module_unlike_any(project: Path) -> None:
    """Nothing is suggested when nothing is near."""
    write(project, "", "storefront")
    assert "did you mean" not in str(refused(project, "zzz_q"))


def test_unknown_module_in_a_package(project: Path) -> None:
    """Near misses inside a package are searched in that package."""
    write(project, "", "pack_a.__init__")
    write(project, "", "pack_a.web")
    error = refused(project, "pack_a.wbe", "app")
    assert f"looked for wbe.py and wbe/ in {project.resolve() / 'pack_a'} (did you mean" in str(error)
    assert '"pack_a.web"' in str(error)


def test_unknown_package(project: Path) -> None:
    """When the package is missing, the missing part is named and the rest is kept in the suggestion."""
    write(project, "", "pack_b.__init__")
    error = refused(project, "pakc_b.web", "app")
    assert 'no module "pakc_b.web" (there is no "pakc_b")' in str(error)
    assert 'did you mean "pack_b.web"' in str(error)


def test_module_inside_a_module(project: Path) -> None:
    """A dotted name through something that is no package says so."""
    write(project, "", "plain_c")
    assert '"plain_c" (' in str(error := refused(project, "plain_c.web"))
    assert "is not a package" in str(error)


@pytest.mark.parametrize("name", ["files_d.py", "./files_d.py", "./files_d"])
def test_file_name_instead_of_a_module(project: Path, name: str) -> None:
    """Who names the file is told the module, and the file is not run."""
    write(project, "raise LookupError", "files_d")
    assert 'no module name (did you mean "files_d"?)' in str(refused(project, name))


@pytest.mark.parametrize("name", ["", ".", "a..b", ".a", "a/b"])
def test_what_is_no_module_name(project: Path, name: str) -> None:
    """Names that cannot be imported are refused before importlib sees them."""
    assert "a dotted name is wanted" in str(refused(project, name))


def test_directory_that_does_not_exist(project: Path) -> None:
    """A wrong directory is named instead of the module."""
    assert f"the directory {project.resolve() / 'nowhere'} does not exist" in str(refused(project / "nowhere", "a"))


def test_unknown_attribute(project: Path) -> None:
    """The line names module, file and attribute, and the nearest callable."""
    module = write(project, ASGI.format("storefront") + "storefrnot2 = 7\n")
    error = refused(project, module, "storefrnot")
    file = project.resolve() / f"{module}.py"
    assert str(error) == f'module "{module}" ({file}) has no attribute "storefrnot" (did you mean "storefront"?)'
    assert error.report == ""


def test_unknown_attribute_unlike_any(project: Path) -> None:
    """When no name is near, what looks like an application is listed."""
    other = write(project, ASGI.format("imported"))
    module = write(project, f"from {other} import imported\nimport json\nclass C: pass\n" + ASGI.format("site"))
    assert str(refused(project, module, "zzz")).endswith('(what looks like an application there: "site")')


def test_no_default_name(project: Path) -> None:
    """Without an attribute, the line names both defaults and lists what looks like an application."""
    text = "from starlette.applications import Starlette\nsite = Starlette()\ndef helper(x): pass\n_private = site\n"
    module = write(project, text)
    error = str(refused(project, module))
    assert 'has neither "application" nor "app"' in error
    assert error.endswith('(what looks like an application there: "site")')


def test_attribute_that_is_a_module_of_the_package(project: Path) -> None:
    """Who writes package:module.attribute is told package.module:attribute."""
    write(project, "", "pack_e.__init__")
    write(project, ASGI.format("app"), "pack_e.web")
    assert 'did you mean "pack_e.web:app"' in str(refused(project, "pack_e", "web.app"))


def test_unknown_part_of_a_dotted_attribute(project: Path) -> None:
    """The part that is missing is named, with the object that it was looked for in."""
    module = write(project, "class Site:\n    async def app(scope, receive, send): pass\nsite = Site()\n")
    error = str(refused(project, module, "site.apps"))
    assert '"site" (a Site) has no attribute "apps" (did you mean "app"?)' in error


def test_not_callable(project: Path) -> None:
    """What cannot be called is refused by its type."""
    module = write(project, "app = {}\n" + ASGI.format("site"))
    error = str(refused(project, module, "app"))
    assert f'"{module}:app" is a dict, which cannot be called' in error
    assert '"site"' in error


@pytest.mark.parametrize("text", ["def app(): pass", "def app(debug=False): pass", "class app: pass"])
def test_factory_that_was_not_announced(project: Path, text: str) -> None:
    """What takes no arguments is recognised as a factory."""
    module = write(project, text + "\n")
    assert "say it with --factory" in str(refused(project, module, "app"))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("async def make(): pass", "is a coroutine function"),
        ("def make(a, b, c=1): pass", "wants 2 arguments"),
        ("def make(): return 7", "returned an int, which cannot be called"),
        ("def make(): pass", "returned a NoneType"),
    ],
)
def test_broken_factory(project: Path, text: str, expected: str) -> None:
    """A factory that makes no application is refused with the reason."""
    module = write(project, text + "\n")
    error = refused(project, module, "make", factory=True)
    assert f'the factory "{module}:make" {expected}' in str(error)
    assert error.report == ""


# The application's own errors


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("def f():\n    raise LookupError('no shelf')\nf()", "LookupError: no shelf"),
        ("import no_such_library_x", "ModuleNotFoundError: No module named 'no_such_library_x'"),
        ("from json import no_such_name", "ImportError: cannot import name 'no_such_name' from 'json'"),
        ("import sys\nsys.exit('no settings')", "SystemExit: no settings"),
    ],
)
def test_import_that_raises(project: Path, text: str, expected: str) -> None:
    """The application's own error has its own traceback, which begins in its own file."""
    module = write(project, text + "\n")
    error = refused(project, module)
    assert str(error).startswith(f'importing "{module}" failed: {expected}')
    lines = error.report.splitlines()
    assert lines[0] == "Traceback (most recent call last):"
    assert lines[1].startswith(f'  File "{project.resolve() / module}.py", line ')
    assert lines[-1].startswith(expected)
    assert "importlib" not in error.report
    assert "bridge" not in error.report


def test_import_that_raises_deeper(project: Path) -> None:
    """The traceback is whole: every file of the application between its top and the error, and the cause."""
    inner = write(
        project, "try:\n    1 / 0\nexcept ZeroDivisionError as e:\n    raise LookupError('no shelf') from e\n"
    )
    outer = write(project, f"import {inner}\n")
    report = refused(project, outer).report
    assert f"{outer}.py" in report
    assert f"{inner}.py" in report
    assert "ZeroDivisionError" in report
    assert "direct cause" in report


def test_syntax_error(project: Path) -> None:
    """A syntax error says where it is, in the line and in the report."""
    module = write(project, "x = 1\ndef f(:\n")
    error = refused(project, module)
    assert f"SyntaxError: invalid syntax ({project.resolve() / module}.py, line 2)" in str(error)
    assert "def f(:" in error.report
    assert "importlib" not in error.report


def test_package_that_imports_a_missing_module_of_its_own(project: Path) -> None:
    """The wanted name, missing inside the application's own import, is the application's error."""
    write(project, "import pack_f.web\n", "pack_f.__init__")
    error = refused(project, "pack_f.web", "app")
    assert "pack_f/__init__.py" in error.report


@pytest.mark.parametrize("error", ["LookupError('no shelf')", "SystemExit('no shelf')"])
def test_factory_that_raises(project: Path, error: str) -> None:
    """A factory's error has its traceback, from the factory on."""
    module = write(project, f"def make():\n    raise {error}\n")
    caught = refused(project, module, "make", factory=True)
    assert f'calling the factory "{module}:make" failed: ' in str(caught)
    assert caught.report.splitlines()[1].endswith("line 2, in make")


def test_property_that_raises(project: Path) -> None:
    """Code that runs to find the attribute is the application's own too."""
    module = write(project, "def __getattr__(name):\n    raise LookupError(name)\n")
    error = refused(project, module, "app")
    assert 'looking up "app" failed' in str(error)
    assert "in __getattr__" in error.report
