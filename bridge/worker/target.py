"""`module:attribute` → the application, or one line that says what was looked for and what may have been meant.

Two kinds of failure look alike to Python and are kept apart here: the name is wrong (one line, no traceback), or
the application's own code raised while it was imported (its traceback, whole, without the frames of Bridge and
of importlib that lead to it).
"""

from __future__ import annotations

import difflib
import importlib
import inspect
import pkgutil
import sys
import traceback
from collections.abc import Iterable, Sequence
from pathlib import Path
from types import ModuleType, TracebackType
from typing import Any, NoReturn

from bridge.errors import TargetError
from bridge.worker import signature

DEFAULT_NAMES = ("application", "app")

_MOST_CANDIDATES = 5


def load(
    module: str,
    callable: str | None = None,  # noqa: A002 - as configured
    factory: bool = False,
    path: Sequence[str] = (".",),
) -> Any:
    """Import a module and find the application in it.

    Args:
        module: dotted name.
        callable: attribute, possibly dotted; None = "application", then "app".
        factory: the attribute is to be called, without arguments, to get the application.
        path: directories that are put in front of sys.path.

    Raises:
        TargetError: nothing callable is there, or the application's own code raised.
    """
    directories = [Path(each).resolve() for each in path]
    for directory in directories:
        if not directory.is_dir():
            raise TargetError(f'cannot load "{module}": the directory {directory} does not exist')
    names = [str(directory) for directory in directories]
    if sys.path[: len(names)] != names:
        sys.path[:0] = names
    loaded = _import(module, directories[0] if directories else Path.cwd())
    name, found = _find(loaded, callable)
    spelled = f"{module}:{name}"
    if not _is_callable(found):
        raise TargetError(f'"{spelled}" is {_kind(found)}, which cannot be called: it is no application{_hint(loaded)}')
    if factory:
        return _make(found, spelled)
    if signature.factory(found):
        raise TargetError(
            f'"{spelled}" takes no arguments: it is no application, but it looks like a factory of one'
            f" (if so, say it with --factory)"
        )
    return found


def interface(target: Any, name: str, protocol: str) -> str:
    """Which interface an application has: "asgi" or "wsgi".

    Args:
        target: what `load` returned.
        name: `module:attribute`, for the message.
        protocol: what the operator says it is; "auto" = it is recognised.

    Raises:
        TargetError: it is something else, or nothing can be known.
    """
    asgi, wsgi = signature.asgi(target), signature.wsgi(target)
    if protocol != "auto":
        if (wsgi if protocol == "wsgi" else asgi) is False:
            raise TargetError(_not_that(target, name, protocol))
        return protocol
    if asgi or (asgi is None and wsgi is False):
        return "asgi"
    if wsgi or (wsgi is None and asgi is False):
        return "wsgi"
    if asgi is None:
        raise TargetError(
            f'"{name}" looks like an ASGI or a WSGI application alike: say --interface asgi or --interface wsgi'
        )
    raise TargetError(_neither(target, name, "an ASGI or WSGI application"))


def _not_that(target: Any, name: str, protocol: str) -> str:
    found = "asgi" if signature.asgi(target) else "wsgi" if signature.wsgi(target) else ""
    if found:
        return f'"{name}" is {_NAMES[found]} application, and the setting says {protocol} (--interface, "protocol")'
    return _neither(target, name, f"{_NAMES[protocol]} application")


_NAMES = {"asgi": "an ASGI", "wsgi": "a WSGI"}


def _neither(target: Any, name: str, wanted: str) -> str:
    if inspect.isclass(target):
        return f'"{name}" is a class, not {wanted} (to serve an instance of it: --factory)'
    if signature.takes(target, 1):
        return f'"{name}" takes one argument, as ASGI 2 had it: applications take three (scope, receive, send)'
    arguments = "scope, receive, send" if "ASGI" in wanted else "environ, start_response"
    return f'"{name}" is {_kind(target)}, not {wanted} ({arguments})'


def _import(name: str, directory: Path) -> ModuleType:
    if not all(name.split(".")) or "/" in name or _is_file_name(name, directory):
        raise TargetError(f'"{name}" is no module name{_meant(_module_of(name), directory)}')
    importlib.invalidate_caches()  # the file may be younger than what a finder remembers of its directory
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as exc:
        missing = exc.name or ""
        if (name == missing or name.startswith(missing + ".")) and _own_frames(exc) is None:
            raise TargetError(_not_found(name, missing, directory)) from None
        _blame(exc, f'importing "{name}"')
    except (Exception, SystemExit) as exc:  # noqa: BLE001 - whatever the application raises
        _blame(exc, f'importing "{name}"')


def _is_file_name(name: str, directory: Path) -> bool:
    """Whether `name` is "main.py" and not the module py of a package main."""
    return name.endswith(".py") and (directory / name).is_file()


def _module_of(name: str) -> str:
    """The module name that somebody meant who gave a path or a file name."""
    return name.removesuffix(".py").strip("./").replace("/", ".")


def _meant(module: str, directory: Path) -> str:
    if module and (directory / module.replace(".", "/")).with_suffix(".py").is_file():
        return f' (did you mean "{module}"?)'
    return " (a dotted name is wanted, as in package.module)"


def _not_found(name: str, missing: str, directory: Path) -> str:
    """Names the missing part of a dotted name, the files that were looked for, and the nearest name that is there."""
    parent, _, leaf = missing.rpartition(".")
    package = sys.modules.get(parent) if parent else None
    if package is not None and not hasattr(package, "__path__"):
        file = getattr(package, "__file__", None)
        return f'no module "{name}": "{parent}" ({file}) is not a package'
    places = list(package.__path__) if package is not None else [str(directory)]
    near = _near(leaf, (info.name for info in pkgutil.iter_modules(places)))
    hint = _ask(".".join(filter(None, (parent, near[0], name[len(missing) + 1 :])))) if near else ""
    rest = "" if parent else " and the rest of sys.path"
    part = f' (there is no "{missing}")' if missing != name else ""
    return f'no module "{name}"{part}: looked for {leaf}.py and {leaf}/ in {places[0]}{rest}{hint}'


def _find(module: ModuleType, wanted: str | None) -> tuple[str, Any]:
    """Name and value of the attribute."""
    if wanted is None:
        for name in DEFAULT_NAMES:
            found = _attribute(module, name, name)
            if found is not _MISSING:
                return name, found
        names = " nor ".join(f'"{name}"' for name in DEFAULT_NAMES)
        raise TargetError(f"{_where(module)} has neither {names}{_hint(module)}")
    found = module
    for part in wanted.split("."):
        owner, found = found, _attribute(found, part, wanted)
        if found is _MISSING:
            raise TargetError(_no_attribute(module, owner, part, wanted))
    return wanted, found


_MISSING: Any = object()


def _attribute(owner: Any, name: str, wanted: str) -> Any:
    try:
        return getattr(owner, name)
    except AttributeError:
        return _MISSING
    except (Exception, SystemExit) as exc:  # noqa: BLE001 - a property or a module's __getattr__
        _blame(exc, f'looking up "{wanted}"')


def _no_attribute(module: ModuleType, owner: Any, part: str, wanted: str) -> str:
    if owner is not module:
        prefix = wanted[: wanted.rindex(part) - 1] if wanted.count(part) == 1 else wanted
        near = _near(part, dir(owner))
        return f'{_where(module)}: "{prefix}" ({_kind(owner)}) has no attribute "{part}"{_ask(near[0]) if near else ""}'
    line = f'{_where(module)} has no attribute "{part}"'
    if hasattr(module, "__path__") and any(info.name == part for info in pkgutil.iter_modules(module.__path__)):
        rest = wanted.partition(".")[2]
        return line + _ask(f"{module.__name__}.{part}" + (f":{rest}" if rest else ""))
    near = _near(part, (name for name, value in vars(module).items() if _is_callable(value)))
    return line + (_ask(near[0]) if near else _hint(module))


def _make(factory: Any, spelled: str) -> Any:
    """Call a factory."""
    if inspect.iscoroutinefunction(factory):
        raise TargetError(f'the factory "{spelled}" is a coroutine function: an application is made without a loop')
    required = signature.required_arguments(factory)
    if required:
        raise TargetError(f'the factory "{spelled}" wants {required} arguments, but it is called without any')
    try:
        made = factory()
    except (Exception, SystemExit) as exc:  # noqa: BLE001 - whatever the application raises
        _blame(exc, f'calling the factory "{spelled}"')
    if not _is_callable(made):
        raise TargetError(
            f'the factory "{spelled}" returned {_kind(made)}, which cannot be called: it is no application'
        )
    return made


def _blame(exc: BaseException, what: str) -> NoReturn:
    """The application's own code raised."""
    trace = _own_frames(exc)
    summary = traceback.format_exception_only(exc)[-1].strip()
    if isinstance(exc, SyntaxError):
        summary += f" ({exc.filename}, line {exc.lineno})"
    report = "".join(traceback.format_exception(type(exc), exc, trace))
    raise TargetError(f"{what} failed: {summary}", report) from exc


def _own_frames(exc: BaseException) -> TracebackType | None:
    """The traceback from the application's first frame on; None if none of its code ran."""
    ours = (_own_frames.__code__.co_filename, importlib.__file__)
    trace = exc.__traceback__
    while trace is not None:
        file = trace.tb_frame.f_code.co_filename
        if file not in ours and not file.startswith("<frozen importlib"):
            break
        trace = trace.tb_next
    return trace


def _is_callable(value: Any) -> bool:
    return callable(value)


def _hint(module: ModuleType) -> str:
    """Lists what in a module looks like an application."""
    seen = [
        name
        for name, value in vars(module).items()
        if not name.startswith("_") and _is_callable(value) and not inspect.isclass(value)
        if not inspect.isroutine(value) or value.__module__ == module.__name__  # imported objects yes, functions no
        if signature.asgi(value) or "start_response" in signature.names(value)
    ]
    if not seen:
        return ""
    names = ", ".join(f'"{name}"' for name in seen[:_MOST_CANDIDATES])
    return f" (what looks like an application there: {names})"


def _where(module: ModuleType) -> str:
    file = getattr(module, "__file__", None) or "a namespace package"
    return f'module "{module.__name__}" ({file})'


def _kind(value: Any) -> str:
    name = type(value).__name__
    return f"{'an' if name[:1] in 'aeiouAEIOU' else 'a'} {name}"


def _near(word: str, names: Iterable[str]) -> list[str]:
    return difflib.get_close_matches(word, [name for name in names if not name.startswith("__")], n=1)


def _ask(name: str) -> str:
    return f' (did you mean "{name}"?)'
