"""What one side of a port has received over its link: records without their markers, and messages without their end.

Nothing of it is believed: see `record` for what an honest sender keeps to. Reassembly goes by the stream, within what
one sender has sent, for each port has an inbox of its own. It is bounded, and what belongs to a stream goes with it.

A router forgets a stream that its worker has ended, and that has said all by then. A worker lets go of one while the
router may go on: it drops what has begun, and then begins nothing of it any more (`wanted`); markers that are still to
come find their records.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from bridge.errors import RemoteProtocolError
from bridge.ipc.link import close_all
from bridge.ipc.message import HEADER
from bridge.ipc.record import AT_ONCE, FRAGMENT, LONGEST, MF, NF, PREFIX

MOST_RECORDS = 1024  #: suspended ones
MOST_BYTES = 2 * AT_ONCE * LONGEST  #: of everything that is held
MOST_FILES = 1  #: in one message
MOST_HELD = 256  #: files of suspended records


class Arrived(NamedTuple):
    """One whole message."""

    message: bytes
    files: list[int]  #: whose owner is the caller from now on
    lost: bool  #: its files are lost, for this process may open no more


class _Record(NamedTuple):
    stream: int
    flags: int
    total: int
    data: bytes
    files: list[int]
    lost: bool


class _Partial(NamedTuple):
    total: int
    parts: list[bytes]
    files: list[int]
    lost: bool


class Inbox:
    """See the head of the file."""

    __slots__ = ("_partial", "_records", "held")

    def __init__(self) -> None:
        self._records: dict[int, _Record] = {}
        self._partial: dict[int, _Partial] = {}
        self.held = 0  #: bytes

    def __contains__(self, serial: int) -> bool:
        """Whether the record that a marker names has come."""
        return serial in self._records

    def put(self, data: bytes, files: list[int], *, lost: bool = False) -> int:
        """Suspend a record until its marker comes; returns its stream. `lost`: its files could not be received.

        Raises:
            RemoteProtocolError: it is none, or one too many; its files are closed.
        """
        try:
            if len(data) <= PREFIX.size:
                raise RemoteProtocolError(f"a record of {len(data)} bytes")
            _, flags, zero, serial, total, stream = PREFIX.unpack_from(data)
            body = data[PREFIX.size :]
            first = not flags & NF
            if flags & ~(NF | MF) or zero or not stream or not HEADER.size <= total <= LONGEST or len(body) > FRAGMENT:
                raise RemoteProtocolError("a record that no sender of ours makes")
            if flags & MF and len(body) != FRAGMENT:
                raise RemoteProtocolError("a fragment that is not full, and not the last")
            if first and body[:8] != stream.to_bytes(8, "little"):
                raise RemoteProtocolError(f"a record of stream {stream:#x} with another stream's message")
            if len(files) > (MOST_FILES if first else 0):
                raise RemoteProtocolError(f"a record with {len(files)} files")
            if files and sum(len(record.files) for record in self._records.values()) >= MOST_HELD:
                raise RemoteProtocolError("files without the markers that belong to them")
            if serial in self._records or len(self._records) >= MOST_RECORDS or self.held > MOST_BYTES:
                raise RemoteProtocolError("records without the markers that belong to them")
        except RemoteProtocolError:
            close_all(files)
            raise
        record = _Record(stream, flags, total, body, files, lost)
        self._records[serial] = record
        self.held += len(body)
        return record.stream

    def take(self, serial: int, wanted: Callable[[int], bool] = lambda _: True) -> Arrived | None:
        """The marker of a record has come: the message that is complete with it, or None.

        Args:
            serial: of the record.
            wanted: whether anybody waits for a stream's messages, asked when one begins; as a rule all are.

        Raises:
            RemoteProtocolError: there is no such record, or it does not continue what came before; files are closed.
        """
        record = self._records.pop(serial, None)
        if record is None:
            raise RemoteProtocolError(f"the record {serial} has not come")
        self.held -= len(record.data)
        if record.flags & NF:
            return self._continue(record)
        if record.stream in self._partial:
            close_all(record.files)
            raise RemoteProtocolError(f"a second message of stream {record.stream:#x} within the first")
        if not wanted(record.stream):
            close_all(record.files)
            return None
        partial = _Partial(record.total, [], record.files, record.lost)
        return self._append(partial, record)

    def forget(self, stream: int) -> None:
        """The stream is over: let go of everything that belongs to it."""
        for serial in [serial for serial, record in self._records.items() if record.stream == stream]:
            record = self._records.pop(serial)
            self.held -= len(record.data)
            close_all(record.files)
        self.drop(stream)

    def drop(self, stream: int) -> None:
        """Let go of a message that has begun."""
        partial = self._partial.pop(stream, None)
        if partial is not None:
            self.held -= sum(map(len, partial.parts))
            close_all(partial.files)

    def close(self) -> None:
        """The sender is gone: let go of everything."""
        for stream in {record.stream for record in self._records.values()} | set(self._partial):
            self.forget(stream)

    def _continue(self, record: _Record) -> Arrived | None:
        partial = self._partial.get(record.stream)
        if partial is None:
            return None  # the stream was forgotten: this is the rest of a message that nobody wants
        if partial.total != record.total:
            self.drop(record.stream)
            raise RemoteProtocolError(f"a fragment of another message of stream {record.stream:#x}")
        return self._append(partial, record)

    def _append(self, partial: _Partial, record: _Record) -> Arrived | None:
        partial.parts.append(record.data)
        self._partial[record.stream] = partial
        self.held += len(record.data)
        size = sum(map(len, partial.parts))
        more = bool(record.flags & MF)
        if size > partial.total or (size < partial.total) != more:
            self.drop(record.stream)
            raise RemoteProtocolError(f"fragments of {size} bytes where {partial.total} were announced")
        if more:
            return None
        del self._partial[record.stream]
        self.held -= size
        return Arrived(b"".join(partial.parts), partial.files, partial.lost)
