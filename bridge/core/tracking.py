"""Tracking words in shared memory: what C calls `tracking.h`, for Python."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bridge.core.binding import aligned, lib, new_handle
from bridge.core.interface import Numbers, checked_owner
from bridge.errors import RemoteProtocolError

if TYPE_CHECKING:
    from typing_extensions import Buffer  # comes with the type checker; nothing to install

_SLOT = 0xFFFFFFFF  # bits of a stream that are the number of its slot
_OWNER = 0xFFFF  # bits of a word that are its owner
_START = Numbers.START
_CANCELLED = (Numbers.CANCELLED, Numbers.CANCELLING)


class Tracking(Numbers):
    """One 64-bit word per request in flight: generation of its slot, state, owner.

    A *stream* is the name of a request: generation << 32 | slot, never 0. States and events have the numbers of
    `bridge.ipc.stream`, which also holds their table.

    Args:
        memory: at least `bytes_needed` bytes, shared.
        slots: number of words.
        owner: id of this process, which a CLAIM writes into the word.
        create: lay all words out as FREE; False joins.
    """

    __slots__ = ("_handle", "_owner", "_pins", "_states", "_version", "_versions", "_words")

    @staticmethod
    def bytes_needed(slots: int) -> int:
        """Bytes of shared memory for `slots` words."""
        return lib.bridge_tracking_bytes(slots)

    def __init__(self, memory: Buffer, *, slots: int, owner: int, create: bool, offset: int = 0) -> None:
        address, whole = aligned(memory, offset, self.bytes_needed(slots))
        self._owner = checked_owner(owner)
        self._handle = new_handle("tracking")
        self._pins = whole
        # The byte of each word that holds the state.
        self._states = memoryview(memory)[offset + self.bytes_needed(0) : offset + self.bytes_needed(slots)][3::8]
        self._words = memoryview(memory)[offset + self.bytes_needed(0) : offset + self.bytes_needed(slots)].cast("Q")
        if lib.bridge_tracking_open(self._handle, address, slots, owner, create) < 0:
            raise RemoteProtocolError("the memory holds no tracking words of this version")
        self._versions = memoryview(memory)[offset : offset + 4].cast("I")
        self._version = self._versions[0]

    def arm(self, slot: int) -> int:
        """Make a free or finished slot QUEUED in its next generation: the stream, or LOST if it is in use."""
        return lib.bridge_tracking_arm(self._handle, slot)

    def move(self, stream: int, event: int, owner: int | None = None) -> int:
        """Move a stream by an event; ARM is no such event, see `arm`.

        Args:
            stream: which one.
            event: what happens to it.
            owner: with CLAIM, who claims (unless given, this process). With any other event, who must hold the
                stream for the move to be legal (unless given, it does not matter).

        Returns:
            The new state; or LOST, and nothing has changed.
        """
        if owner is None:
            owner = self._owner if event == self.CLAIM else 0
        return lib.bridge_tracking_move(self._handle, stream, event, owner)

    def start(self, stream: int) -> bool:
        """As `move` by START, which every request needs; False if it was LOST."""
        return lib.bridge_tracking_move(self._handle, stream, _START, 0) >= 0

    def state(self, stream: int) -> int:
        """The state of a stream, or LOST if its slot is in another generation."""
        return lib.bridge_tracking_state(self._handle, stream)

    def cancelled(self, stream: int) -> bool:
        """Whether nobody waits for a stream that this process holds, as far as a plain look can tell.

        It calls nothing in C, and is advisory: it orders no other memory, and knows no generations. Whoever acts on the
        stream is told by `move` or `answer`.
        """
        return self._states[stream & _SLOT] in _CANCELLED

    def intact(self) -> bool:
        """Whether others can still join: what they look at first is as it was."""
        return self._versions[0] == self._version

    def held_by(self, stream: int, owner: int) -> bool:
        """Whether a stream's slot carries this owner, as far as a plain look can tell; as `cancelled`."""
        return self._words[stream & _SLOT] & _OWNER == owner

    def word(self, stream: int) -> tuple[int, int, int]:
        """Generation, state and owner that a stream's slot carries, as far as a plain look can tell.

        The state is any number below 65536: it is one of `Numbers` only if the bits beside it are 0 as they should be.
        """
        word = self._words[stream & _SLOT]
        return word >> 32, (word >> 24 & 0xFF) | (word >> 8 & 0xFF00), word & _OWNER

    def owner(self, stream: int) -> int:
        """Who claimed a stream, 0 if nobody has, or LOST if its slot is in another generation."""
        return lib.bridge_tracking_owner(self._handle, stream)

    def recover(self, owner: int) -> list[tuple[int, int]]:
        """Make every stream that a dead process held DONE and nobody's.

        Returns:
            Each stream with the state it was in. Those in DONE were finished; if the caller still waits for the last
            message of one, its owner died before it could publish it.
        """
        found: list[tuple[int, int]] = []
        start = lib.bridge_tracking_recover(self._handle, checked_owner(owner), 0)
        while start:
            found.append((self._handle.found_stream, self._handle.found_state))
            start = lib.bridge_tracking_recover(self._handle, owner, start)
        return found
