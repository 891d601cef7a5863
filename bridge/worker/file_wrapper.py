"""`wsgi.file_wrapper`: an application's way to say that the response is a file."""

from __future__ import annotations

import io
import os
import stat
from typing import Any, NamedTuple

_BUFFERED = (io.BufferedReader, io.BufferedRandom)


class FileWrapper:
    """What an application returns in place of an iterable of blocks.

    Args:
        filelike: has read(), and may have close().
        blksize: bytes of one block, where the file is read and not sent.
    """

    def __init__(self, filelike: Any, blksize: int = 8192) -> None:
        self.filelike = filelike
        self.blksize = blksize

    def __iter__(self) -> FileWrapper:
        return self

    def __next__(self) -> Any:
        block = self.filelike.read(self.blksize)
        if not block:
            raise StopIteration
        return block

    def close(self) -> None:
        """Close the file, if it can be closed; an application may have put a close() there."""
        close = getattr(self.filelike, "close", None)
        if close is not None:
            close()


class Part(NamedTuple):
    """Bytes of a regular file."""

    file: int
    offset: int
    length: int


def part_of_file(filelike: Any) -> Part | None:
    """What is left to read of a regular file; None where only read() can tell.

    A descriptor does not prove that the file's bytes are what read() gives: that of a GzipFile leads to the
    compressed ones. So read() must be the method of a plain file, be it by way of an object that only passes it on,
    as those of Django do. A file without a size is one of the kernel's, whose text exists when it is read.
    """
    read = getattr(filelike, "read", None)
    owner: Any = getattr(read, "__self__", None)
    plain = owner.__class__ is io.FileIO or (owner.__class__ in _BUFFERED and owner.raw.__class__ is io.FileIO)
    if not plain:
        return None
    try:
        owner.flush()  # what was written through the same object, and is not in the file yet
        file, offset = owner.fileno(), owner.tell()
        status = os.fstat(file)
    except OSError:  # a pipe has no position; and of a file that cannot be completed read() tells why
        return None
    if not stat.S_ISREG(status.st_mode) or offset >= status.st_size:
        return None
    return Part(file, offset, status.st_size - offset)
