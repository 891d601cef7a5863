"""The rules that keep Bridge's parts apart, as tables and one walk over the syntax trees.

Imports count wherever they stand: at the top, inside functions, under TYPE_CHECKING, and as the literal
argument of `import_module`. Every rule is a function from sources to complaints, and is itself shown to bite:
`test_rule_bites` feeds it a source that breaks it.
"""

from __future__ import annotations

import ast
import re
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent

# --- the tables ---------------------------------------------------------------------------------------------

FREE = {"bridge.errors", "bridge.log", "bridge.__version__"}  #: everyone may import these
ARROWS = {  #: part → parts it may import, beside itself and FREE; the longest matching name rules
    "bridge.errors": set[str](),
    "bridge.log": set[str](),
    "bridge.config": set[str](),
    "bridge.core": set[str](),
    "bridge.ipc": {"bridge.core"},
    "bridge.router": {"bridge.ipc", "bridge.core", "bridge.config"},
    "bridge.worker": {"bridge.ipc", "bridge.core", "bridge.config"},
    "bridge.control": {"bridge.ipc", "bridge.config"},
    "bridge": {"bridge"},  # main, cli, gunicorn.py, __main__ and __init__ stand on top
}
ONLY_IN = {  #: what is imported → the only modules that may
    "bridge.core._core": {"bridge.core.binding"},
    "bridge.core.binding": {
        "bridge.core",
        "bridge.core.queue",
        "bridge.core.draft",
        "bridge.core.tracking",
        "bridge.core.chunk_map",
    },
    "cffi": {"bridge.core.build_core"},
    "_cffi_backend": set[str](),
    "httptools": {"bridge.router.http1"},
    "gunicorn": {
        "bridge.gunicorn.import_path",
        "bridge.gunicorn.master",
        "bridge.gunicorn.reload",
        "bridge.gunicorn.sockets",
        "bridge.gunicorn.worker",
        "bridge.worker.keeper",
        "bridge.worker.prototype",
    },
    "starlette": {"bridge.control.api", "bridge.worker.mount"},
    "websockets": {"bridge.worker.deflate", "bridge.worker.frames", "bridge.worker.masking"},
    "uvloop": {"bridge.router.process", "bridge.worker.asgi_server"},
}
NEVER = {  #: part → what it never imports, whatever the other tables say
    "bridge.core": {"os", "socket", "mmap", "time", "asyncio", "logging", "threading"},
    "bridge.ipc": {"asyncio"},
    "bridge.main": {"asyncio", "threading"},
    "bridge.router.http1": {"bridge.router.application", "bridge.router.exchange", "bridge.router.process"},
}
PURE = {  #: decide, and touch nothing: no clock, file, socket, log; of Bridge they import only one another
    "bridge.errors",
    "bridge.config",
    "bridge.config.address",
    "bridge.config.check",
    "bridge.config.document",
    "bridge.config.mounts",
    "bridge.config.options",
    "bridge.config.prefixes",
    "bridge.config.reader",
    "bridge.config.settings",
    "bridge.ipc.message",
    "bridge.ipc.head",
    "bridge.ipc.stream",
    "bridge.router.ceiling",
    "bridge.router.expected",
    "bridge.router.framing",
    "bridge.router.line",
    "bridge.router.mounts",
    "bridge.router.pace",
    "bridge.router.tally",
    "bridge.worker.answers",
    "bridge.worker.appetite",
    "bridge.worker.deflate",
    "bridge.worker.early_text",
    "bridge.worker.environ",
    "bridge.worker.fields",
    "bridge.worker.frames",
    "bridge.worker.head_of_scope",
    "bridge.worker.masking",
    "bridge.worker.opening",
    "bridge.worker.scope",
    "bridge.worker.types",
    "bridge.worker.ways",
}
IMPURE = {"os", "socket", "mmap", "time", "asyncio", "logging", "selectors", "subprocess", "threading", "pathlib"}

BAD_NAMES = {"utils", "util", "common", "helpers", "helper", "misc"}
LONGEST_FILE = 400  #: lines
BAD_WORDS = re.compile(r"\b(TODO|FIXME|XXX|HACK)\b|(?i:\b(agents?|sessions?)\b)|/root/|/work/(?:main|shared)")
FOREIGN_WORDS = re.compile(r"(?i)user[-_]agent|scope=\"session\"|contrib\.sessions|pytest\.Session|session: pytest")

C_INCLUDES = re.compile(r"#\s*include\s*[<\"](Python\.h|unistd\.h|sys/[^>\"]*|pthread\.h|stdio\.h|stdlib\.h)")
C_WORDS = re.compile(r"\b(volatile|atomic_thread_fence|atomic_signal_fence|__sync_\w+|mfence)\b")
C_COMMENT = re.compile(r"/\*.*?\*/|//[^\n]*", re.DOTALL)
SYNC_POINT = re.compile(r"SYNC POINT:\s*([\w -]*\w)")


@dataclass(frozen=True)
class Source:
    """One file as the rules see it."""

    path: str  #: relative to the repository
    text: str

    @property
    def module(self) -> str:
        """Dotted name: a package is called like its directory."""
        return self.path.removesuffix(".py").removesuffix("/__init__").replace("/", ".")

    @property
    def tree(self) -> ast.Module:
        """The syntax tree of a Python file."""
        return ast.parse(self.text, self.path)


Rule = Callable[[list[Source]], Iterator[str]]


def inside(name: str, part: str) -> bool:
    """Whether a dotted name is that part or lies in it."""
    return name == part or name.startswith(part + ".")


def imports(source: Source) -> Iterator[tuple[int, str]]:
    """Line and full dotted name of everything a file imports: `from a import b` is a.b, be it module or not."""
    package = source.module if source.path.endswith("__init__.py") else source.module.rpartition(".")[0]
    for node in ast.walk(source.tree):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                above = package.split(".")[: len(package.split(".")) - node.level + 1]
                base = ".".join([*above, base] if base else above)
            yield from ((node.lineno, f"{base}.{alias.name}") for alias in node.names)
        elif isinstance(node, ast.Call) and node.args and isinstance(node.args[0], ast.Constant):
            called = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            if called in {"import_module", "__import__"} and isinstance(node.args[0].value, str):
                yield node.lineno, node.args[0].value


# --- the rules ----------------------------------------------------------------------------------------------


def arrows(sources: list[Source]) -> Iterator[str]:
    """Parts import only what lies below them."""
    for source in sources:
        part = max((part for part in ARROWS if inside(source.module, part)), key=len)
        allowed = ARROWS[part] | {part} | FREE
        for line, name in imports(source):
            if inside(name, "bridge") and not any(inside(name, other) for other in allowed):
                yield f"{source.path}:{line}: {part} may not import {name}"


def libraries(sources: list[Source]) -> Iterator[str]:
    """Each library, and the C core, is known to the files named for it alone."""
    for source in sources:
        for line, name in imports(source):
            for library, places in ONLY_IN.items():
                if inside(name, library) and source.module not in places:
                    yield f"{source.path}:{line}: {library} belongs to {sorted(places)}"


def bans(sources: list[Source]) -> Iterator[str]:
    """Some parts never touch some things."""
    for source in sources:
        banned = {name for part, names in NEVER.items() if inside(source.module, part) for name in names}
        for line, name in imports(source):
            if any(inside(name, other) for other in banned):
                yield f"{source.path}:{line}: {source.module} never imports {name}"


def purity(sources: list[Source]) -> Iterator[str]:
    """Pure files do no input or output and depend on pure files only."""
    for source in sources:
        if source.module not in PURE:
            continue
        for line, name in imports(source):
            ours = inside(name, "bridge") and not any(inside(name, pure) for pure in PURE | {"bridge.__version__"})
            if ours or name.split(".")[0] in IMPURE:
                yield f"{source.path}:{line}: pure file imports {name}"


def cycles(sources: list[Source]) -> Iterator[str]:
    """No module imports itself by way of others."""
    modules = {source.module for source in sources} | {"bridge.core._core"}  # compiled, so not among the sources

    def module(name: str) -> str:
        return name if name in modules or not name else module(name.rpartition(".")[0])

    found = {source.module: {name for _, name in imports(source)} - FREE for source in sources}
    above = {importer: {module(name) for name in targets} & modules - {importer} for importer, targets in found.items()}
    while leaves := {name for name, targets in above.items() if not targets & above.keys()}:
        above = {name: targets for name, targets in above.items() if name not in leaves}
    if above:
        yield f"import cycle among or below {sorted(above)}"


def names(sources: list[Source]) -> Iterator[str]:
    """A file is called after its one idea."""
    for source in sources:
        if bad := BAD_NAMES & set(source.module.split(".")):
            yield f"{source.path}: {bad} says nothing"


def public(node: ast.AST, prefix: str = "") -> Iterator[tuple[str, ast.AST]]:
    """Name and node of every function and class that is meant to be used from outside the file."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            setter = any(isinstance(mark, ast.Attribute) and mark.attr == "setter" for mark in child.decorator_list)
            if not child.name.startswith("_") and not setter:
                yield prefix + child.name, child
                if isinstance(child, ast.ClassDef):
                    yield from public(child, f"{prefix}{child.name}.")


def docstring(node: ast.AST) -> str:
    """What the function, class or module says about itself."""
    assert isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)
    return ast.get_docstring(node) or ""


def docstrings(sources: list[Source]) -> Iterator[str]:
    """Everything public says what it is."""
    for source in sources:
        for name, node in [("the module", source.tree), *public(source.tree)]:
            if source.text and not docstring(node):
                yield f"{source.path}: {name} has no docstring"


def sentences(sources: list[Source]) -> Iterator[str]:
    """Every test says in a sentence what holds."""
    for source in sources:
        for name, node in public(source.tree):
            first = docstring(node).split("\n\n")[0]
            if name.rpartition(".")[2].startswith("test_") and not first.endswith("."):
                yield f"{source.path}: {name} is not described by a sentence"


def length(sources: list[Source]) -> Iterator[str]:
    """A file that has grown too long holds a second idea."""
    for source in sources:
        if (lines := source.text.count("\n")) > LONGEST_FILE:
            yield f"{source.path}: {lines} lines"


def words(sources: list[Source]) -> Iterator[str]:
    """No promises, no words that mean something else here, no paths of one machine."""
    for source in sources:
        for number, line in enumerate(source.text.splitlines(), 1):
            if found := BAD_WORDS.search(FOREIGN_WORDS.sub("", line)):
                yield f"{source.path}:{number}: {found[0]}"


def c_rules(sources: list[Source]) -> Iterator[str]:
    """The core is memory only: no system calls, orders named in one file, nothing that sanitizers cannot see."""
    for source in sources:
        code = C_COMMENT.sub("", source.text)
        for pattern in (C_INCLUDES, C_WORDS):
            yield from (f"{source.path}: {found[1]} in the core" for found in pattern.finditer(code))
        if "memory_order" in code and not source.path.endswith("/atomic.h"):
            yield f"{source.path}: memory_order belongs to atomic.h"


def sync_points(sources: list[Source]) -> Iterator[str]:
    """Whoever releases and whoever acquires carry the same label."""
    labels = Counter(label for source in sources for label in SYNC_POINT.findall(source.text))
    yield from (f"SYNC POINT: {label} has only one end" for label, count in labels.items() if count < 2)


# --- what they are applied to -------------------------------------------------------------------------------


def read(*patterns: str) -> list[Source]:
    """The files of the repository that match, without what builds leave behind and without this file."""
    skipped = {"build", "results", "_core.c", "__pycache__", Path(__file__).name}
    paths = sorted({path for pattern in patterns for path in ROOT.glob(pattern)})
    kept = [path.relative_to(ROOT) for path in paths if not skipped & set(path.relative_to(ROOT).parts)]
    return [Source(path.as_posix(), (ROOT / path).read_text()) for path in kept]


PACKAGE = "bridge/**/*.py"
C_CORE = ("bridge/core/*.c", "bridge/core/*.h")
PYTHON = (PACKAGE, "tests/**/*.py", "apps/*.py")
ALL = (
    *PYTHON,
    *C_CORE,
    "tests/**/*.[ch]",
    "*.md",
    "bridge/**/*.md",
    "tests/**/*.md",
    "*.toml",
    "*.py",
    "Makefile",
    "config/*",
    "docker/*",
)

RULES: dict[Rule, tuple[str, ...]] = {
    arrows: (PACKAGE,),
    libraries: (PACKAGE,),
    bans: (PACKAGE,),
    purity: (PACKAGE,),
    cycles: (PACKAGE,),
    names: (PACKAGE,),
    docstrings: (PACKAGE, "apps/*.py"),
    sentences: ("tests/**/*.py",),
    length: (*PYTHON, *C_CORE, "tests/core/*.[ch]"),
    words: ALL,
    c_rules: C_CORE,
    sync_points: C_CORE,
}

BREAKERS: list[tuple[Rule, str, str]] = [
    (arrows, "bridge/router/x.py", "import bridge.worker.asgi"),
    (arrows, "bridge/worker/x.py", "def f():\n    from bridge.router import http1"),
    (arrows, "bridge/ipc/x.py", "if TYPE_CHECKING:\n    from bridge.config import Http"),
    (arrows, "bridge/control/x.py", "from bridge import core"),
    (arrows, "bridge/core/x.py", "from ..ipc import message"),
    (arrows, "bridge/router/x.py", "from bridge import main"),
    (arrows, "bridge/router/x.py", "import_module('bridge.worker.asgi')"),
    (libraries, "bridge/router/listener.py", "import httptools"),
    (libraries, "bridge/worker/asgi.py", "from bridge.core.binding import lib"),
    (libraries, "bridge/ipc/port.py", "from bridge.core._core import ffi"),
    (libraries, "bridge/main.py", "from gunicorn.arbiter import Arbiter"),
    (libraries, "bridge/control/store.py", "def f():\n    import starlette.routing"),
    (libraries, "bridge/main.py", "import uvloop"),
    (libraries, "bridge/worker/websocket.py", "from websockets.frames import Frame"),
    (bans, "bridge/ipc/port.py", "import asyncio"),
    (bans, "bridge/core/__init__.py", "import mmap"),
    (bans, "bridge/router/http1.py", "from bridge.router import exchange"),
    (bans, "bridge/main.py", "from asyncio import run"),
    (purity, "bridge/router/framing.py", "import time"),
    (purity, "bridge/config/reader.py", "from os import path"),
    (purity, "bridge/ipc/message.py", "from bridge import log"),
    (names, "bridge/ipc/utils.py", ""),
    (names, "bridge/common/x.py", ""),
    (docstrings, "bridge/x.py", '"""M."""\ndef f(): ...'),
    (docstrings, "bridge/x.py", '"""M."""\nclass C:\n    """C."""\n    def f(self): ...'),
    (docstrings, "bridge/x.py", "x = 1"),
    (sentences, "tests/test_x.py", "def test_f(): ..."),
    (sentences, "tests/test_x.py", '"""M."""\ndef test_f():\n    """No full stop"""'),
    (length, "bridge/x.py", "x = 1\n" * (LONGEST_FILE + 1)),
    (words, "bridge/x.py", "# TODO: later"),
    (words, "README.md", "Each Session has"),
    (words, "tests/x.py", "an agent and its User-Agent"),
    (words, "Makefile", "cd /root/x"),
    (c_rules, "bridge/core/queue.c", "#include <sys/mman.h>"),
    (c_rules, "bridge/core/queue.h", '# include "Python.h"'),
    (c_rules, "bridge/core/queue.c", "x = memory_order_relaxed;"),
    (c_rules, "bridge/core/queue.c", "/* no */ volatile int x;"),
    (c_rules, "bridge/core/atomic.h", "atomic_thread_fence(memory_order_seq_cst);"),
    (sync_points, "bridge/core/queue.c", "/* SYNC POINT: hand-over */"),
]


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_rule_holds(rule: Rule) -> None:
    """The repository obeys the rule."""
    assert list(rule(read(*RULES[rule]))) == []


@pytest.mark.parametrize(("rule", "path", "text"), BREAKERS, ids=lambda value: getattr(value, "__name__", None))
def test_rule_bites(rule: Rule, path: str, text: str) -> None:
    """A source that breaks the rule is reported."""
    assert list(rule([Source(path, text)]))


def test_cycle_bites() -> None:
    """Two modules that import each other, one of them only inside a function, are reported."""
    there = Source("bridge/router/a.py", "from bridge.router import b")
    back = Source("bridge/router/b.py", "def f():\n    from .a import x")
    assert list(cycles([there, back]))


def test_every_rule_is_shown_to_bite() -> None:
    """No rule stands in the table without a source that breaks it."""
    assert {rule for rule, _, _ in BREAKERS} | {cycles} == set(RULES)


def test_foreign_words_pass() -> None:
    """Other people's names for things are no complaint."""
    text = 'b"User-Agent"; HTTP_USER_AGENT; @pytest.fixture(scope="session"); start_new_session=True'
    assert list(words([Source("tests/x.py", text)])) == []
