"""The C core. Everything else stands in pyproject.toml; `cffi_modules` exists only as an argument of setup()."""

import sysconfig

from setuptools import setup

# One wheel for every CPython from 3.11 on; a free-threaded CPython has no stable ABI to build for.
STABLE_ABI = not sysconfig.get_config_var("Py_GIL_DISABLED")

setup(
    cffi_modules=["bridge/core/build_core.py:ffi"],
    options={"bdist_wheel": {"py_limited_api": "cp311"}} if STABLE_ABI else {},
)
