"""PURE. The masks of clients (RFC 6455, section 5.3): the compiled function of `websockets`, or its slow one."""

from __future__ import annotations

try:
    from websockets.speedups import apply_mask
except ImportError:  # pragma: no cover - where there is no wheel for the platform
    from websockets.utils import apply_mask

__all__ = ["apply_mask"]
