"""Who holds which chunk of shared memory: what C calls `chunk_map.h`, for Python."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bridge.core.binding import aligned, lib, new_handle
from bridge.core.interface import NONE, checked_owner
from bridge.errors import RemoteProtocolError

if TYPE_CHECKING:
    from typing_extensions import Buffer  # comes with the type checker; nothing to install


class ChunkMap:
    """Who holds which chunk of a segment: one 16-bit word per chunk, 0 = free, else the id of its owner.

    Args:
        memory: at least `bytes_needed` bytes, shared.
        count: chunks.
        owner: id of this process.
        create: lay the map out, all free; False joins.
    """

    __slots__ = ("_handle", "_owner", "_pins")

    @staticmethod
    def bytes_needed(count: int) -> int:
        """Bytes of shared memory for the map of `count` chunks."""
        return lib.bridge_chunk_map_bytes(count)

    def __init__(self, memory: Buffer, *, count: int, owner: int, create: bool, offset: int = 0) -> None:
        address, whole = aligned(memory, offset, self.bytes_needed(count))
        self._owner = checked_owner(owner)
        self._handle = new_handle("chunk_map")
        self._pins = whole
        if lib.bridge_chunk_map_open(self._handle, address, count, owner, create) < 0:
            raise RemoteProtocolError("the memory holds no chunk map of this version")

    def claim(self, wanted: int) -> int:
        """Claim the first free run of exactly `wanted` chunks: its first chunk, or NONE and nothing has changed."""
        return lib.bridge_chunk_map_claim(self._handle, wanted)

    def claim_some(self, wanted: int, least: int) -> tuple[int, int]:
        """Claim the first free run of `least` chunks and grow it up to `wanted`: (first, chunks) or (NONE, 0)."""
        result = lib.bridge_chunk_map_claim_some(self._handle, wanted, least)
        return (NONE, 0) if result < 0 else (result >> 32, result & 0xFFFFFFFF)

    def grow(self, end: int, wanted: int, least: int) -> int:
        """Claim chunks from `end` on, up to `wanted`: how many; if fewer than `least`, 0 and nothing has changed."""
        return lib.bridge_chunk_map_grow(self._handle, end, wanted, least)

    def transfer(self, first: int, count: int, old: int, new: int) -> bool:
        """Hand a run over from one owner to another.

        Returns:
            False, and nothing has changed, if the run leaves the map or one of its chunks is not `old`'s: the
            descriptor that named it was forged, or came twice.
        """
        return lib.bridge_chunk_map_transfer(self._handle, first, count, old, new) == 1

    def release(self, first: int, count: int, owner: int | None = None) -> int:
        """Free those chunks of a run that `owner` (unless given: this process) holds: how many these were.

        After it, `take_waiting` says whether somebody is to be rung.
        """
        return lib.bridge_chunk_map_release(self._handle, first, count, self._owner if owner is None else owner)

    def wait(self) -> bool:
        """Set the waiting flag, after a claim that failed and before one last try: True if it was not set yet."""
        return lib.bridge_chunk_map_wait(self._handle) == 1

    def take_waiting(self) -> bool:
        """After a release: True if somebody waits for chunks and is to be rung; clears the flag."""
        return lib.bridge_chunk_map_take_waiting(self._handle) == 1

    def recover(self, owner: int) -> int:
        """Free everything that a dead process held: how many chunks these were."""
        return lib.bridge_chunk_map_recover(self._handle, checked_owner(owner))

    def busy(self) -> int:
        """Chunks that somebody holds; advisory."""
        return lib.bridge_chunk_map_busy(self._handle)
