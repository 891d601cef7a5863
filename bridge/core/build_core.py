"""Build description of `bridge.core._core`; setup.py runs it, nothing imports it."""

from __future__ import annotations

from pathlib import Path

from cffi import FFI

HERE = Path(__file__).parent
SOURCES = ("queue.c", "ring.c", "tracking.c", "chunk_map.c")
HEADERS = ("atomic.h", "layout.h", "ring.h", "queue.h", "tracking.h", "chunk_map.h", "core.cdef")
FLAGS = ["-std=c11", "-O2", "-Wall", "-Wextra", "-Wshadow", "-Werror=implicit-function-declaration"]

ffi = FFI()
ffi.cdef((HERE / "core.cdef").read_text())
ffi.set_source(
    "bridge.core._core",
    '#include "queue.h"\n#include "tracking.h"\n#include "chunk_map.h"\n',
    # Relative to setup.py: setuptools accepts no absolute paths.
    sources=[f"bridge/core/{name}" for name in SOURCES],
    depends=[f"bridge/core/{name}" for name in HEADERS],
    include_dirs=["bridge/core"],
    extra_compile_args=FLAGS,
    py_limited_api=True,
)
