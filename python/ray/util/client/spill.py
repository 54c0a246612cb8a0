"""Keeps messages of the journal on disk that do not fit into its memory.

Messages lie one behind the other in files that have no name (any more), so that nothing is left
behind however the process ends. A file's room is free again when nothing in it is kept any more.
"""

from __future__ import annotations

import os
import tempfile
import threading
from typing import Any, BinaryIO, NamedTuple

# A file takes messages until it is this large, in bytes.
_FILE_BYTES = 64 * 2**20


class Spilled(NamedTuple):
    """A message on disk. Whoever has it keeps the file alive.

    Attributes:
        file: where it is.
        start: of the message, in bytes.
        message_size: bytes of the message itself …
        payload_size: … and of the payload behind it; None if it has none.
    """

    file: Any
    start: int
    message_size: int
    payload_size: int | None

    def read(self) -> tuple[bytes, bytes | None]:
        """The message's bytes and its payload.

        Raises:
            OSError: they can't be read any more.
        """
        message = _read(self.file, self.start, self.message_size)
        if self.payload_size is None:
            return message, None
        return message, _read(self.file, self.start + self.message_size, self.payload_size)


def _read(file: BinaryIO, start: int, size: int) -> bytes:
    parts = []
    while size > 0:
        part = os.pread(file.fileno(), min(size, 2**30), start)
        if not part:
            raise OSError("a spilled message is cut off")
        parts.append(part)
        start, size = start + len(part), size - len(part)
    return b"".join(parts)


class SpillStore:
    """Writes messages to disk. Thread-safe.

    Args:
        folder: an existing one.
    """

    def __init__(self, folder: str) -> None:
        self._folder = folder
        self._writing = threading.Lock()
        self._file: Any = None
        self._end = 0

    def write(self, message: bytes, payload: Any) -> Spilled:
        """Writes a message and its payload (bytes-like, or None).

        Raises:
            OSError: there is no room, or the folder is gone.
        """
        with self._writing:
            if self._file is None or self._end >= _FILE_BYTES:
                self._file, self._end = tempfile.TemporaryFile(dir=self._folder, buffering=0), 0
            start = self._end
            for part in (message, payload or b""):
                self._end += _write(self._file, part, self._end)
            size = None if payload is None else len(payload)
            return Spilled(self._file, start, len(message), size)


def _write(file: BinaryIO, data: Any, at: int) -> int:
    view, done = memoryview(data), 0
    while done < len(view):
        done += os.pwrite(file.fileno(), view[done : done + 2**30], at + done)
    return done
