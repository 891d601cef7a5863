"""How long to wait before a process that died is started again: at once, unless it keeps dying young."""

from __future__ import annotations


class BackOff:
    """Counts early deaths in a row.

    Args:
        first: seconds of the first wait; each further early death doubles it.
        most: longest wait, in seconds.
        grown: a process that lived this many seconds did not die early.
        free: early deaths that cost nothing.
    """

    __slots__ = ("_early", "_first", "_free", "_grown", "_most")

    def __init__(self, first: float = 0.5, most: float = 30.0, grown: float = 5.0, free: int = 0) -> None:
        self._first = first
        self._most = most
        self._grown = grown
        self._free = free
        self._early = 0

    @property
    def trouble(self) -> bool:
        """Whether the last process died early."""
        return self._early > 0

    def died(self, lived: float) -> float:
        """Seconds to wait before the next start, after a process that lived `lived` seconds."""
        if lived >= self._grown:
            self._early = 0
            return 0.0
        self._early += 1
        excess = self._early - self._free
        return min(self._most, self._first * 2.0 ** min(excess - 1, 32)) if excess > 0 else 0.0

    def recovered(self) -> None:
        """The process that was started is well: the next death is a first one."""
        self._early = 0
