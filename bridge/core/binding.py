"""The compiled core, with types: the only file that sees cffi's `ffi` and `lib`.

What lies beside it in Python wraps the C file of the same name and calls `lib` with handles that are made here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from bridge.core.interface import Functions, Geometry

try:
    from bridge.core._core import ffi as _ffi
    from bridge.core._core import lib as _untyped_lib
except ModuleNotFoundError as error:
    if error.name != "bridge.core._core":
        raise
    # A server that puts its working directory in front of sys.path finds a source tree there, not what is installed.
    raise ImportError(
        f"the C core of Bridge is not compiled beside {__file__}: leave this source tree, or install it with"
        " `make run` or `pip install --editable .`"
    ) from None

if TYPE_CHECKING:
    from typing_extensions import Buffer  # comes with the type checker; nothing to install

lib = cast("Functions", _untyped_lib)


def new_handle(struct: str) -> Any:
    """A private struct of the core, zeroed: `queue`, `tracking` or `chunk_map`."""
    return _ffi.new(f"bridge_{struct} *")


def new_batch(size: int) -> tuple[Any, Any]:
    """Private memory for the core to copy to, and the buffer that Python reads it through, whose slices are bytes."""
    batch = _ffi.new("uint8_t[]", size)
    return batch, _ffi.buffer(batch)


def new_geometry(capacity: int, item_size: int, waiters: int) -> Geometry:
    """The geometry of a queue, in the core's form."""
    try:
        return cast("Geometry", _ffi.new("struct bridge_queue_geometry *", (capacity, item_size, waiters)))
    except OverflowError as error:
        raise ValueError(f"no queue has {capacity} items of {item_size} bytes and {waiters} waiters") from error


def _address(memory: Buffer, offset: int, needed: int) -> tuple[Any, Any]:
    """Address of `needed` writable bytes behind `offset`, and what pins the whole buffer as long as it lives.

    Slices would do without the offset, but a memoryview whose bytes are in use must not be cleared by the collector
    of cycles: CPython (3.11 to 3.13) crashes then.
    """
    whole = _ffi.from_buffer("uint8_t[]", memory, require_writable=True)
    if not 0 <= offset <= offset + needed <= len(whole):
        raise ValueError(f"bytes {offset} to {offset + needed} are not inside {len(whole)} bytes")
    return whole + offset, whole


def aligned(memory: Buffer, offset: int, needed: int) -> tuple[Any, Any]:
    """As `_address`, for words that are shared: these must not lie across two of the processor's lines."""
    address, whole = _address(memory, offset, needed)
    if int(_ffi.cast("uintptr_t", address)) % 8:
        raise ValueError("memory is not aligned to 8 bytes")
    return address, whole


def view(memory: Buffer, offset: int, size: int) -> Any:
    """A new writable buffer over bytes `offset` to `offset + size` of a mapping, with a life of its own.

    It keeps the mapping alive. A weak reference to it dies when the last reader of these bytes is gone: a
    memoryview, or a transport that has yet to send them. (Slices of one memoryview share their exporter with
    all others, so nothing can be learnt from those.) A range that leaves the mapping raises ValueError.
    """
    address, whole = _address(memory, offset, size)
    pinned = _ffi.gc(address, lambda _: whole)  # does nothing when it is called; until then it holds the mapping
    return _ffi.buffer(pinned, size)
