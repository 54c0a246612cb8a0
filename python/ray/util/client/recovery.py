"""What a user sets about the recovery of a session. See docs/recovery.md."""

from __future__ import annotations

import enum
import os
from typing import NamedTuple

JOURNAL_BYTES = "RAY_CLIENT_JOURNAL_BYTES"
JOURNAL_ENTRIES = "RAY_CLIENT_JOURNAL_ENTRIES"
SPILL_FOLDER = "RAY_CLIENT_JOURNAL_SPILL"


class Recovery(enum.Enum):
    """What happens to what the session's server had when it dies, by RAY_CLIENT_RECOVERY."""

    REPLAY = "replay"  # all is restored that may be
    RECONNECT = "reconnect"  # the session goes on with an empty server
    OFF = "off"  # the session ends

    @classmethod
    def from_environment(cls) -> Recovery:
        """Reads the setting; REPLAY if there is none.

        Raises:
            ValueError: it is none of the above.
        """
        text = os.environ.get("RAY_CLIENT_RECOVERY", cls.REPLAY.value)
        try:
            return cls(text)
        except ValueError:
            known = ", ".join(one.value for one in cls)
            raise ValueError(f"RAY_CLIENT_RECOVERY is one of {known}; not {text!r}") from None


class Limits(NamedTuple):
    """Bounds of a session's journal.

    Attributes:
        max_bytes: of messages in memory.
        max_entries: of the journal.
        max_value_bytes: of values that were seen and are kept.
        spill_folder: where messages go that do not fit into memory; None: nowhere.
    """

    max_bytes: int
    max_entries: int
    max_value_bytes: int
    spill_folder: str | None = None

    @classmethod
    def from_environment(cls) -> Limits:
        """Reads RAY_CLIENT_JOURNAL_BYTES, …_ENTRIES, …_SPILL and RAY_CLIENT_VALUE_BYTES.

        Raises:
            ValueError: a number is no whole number, or below 0; or the folder can't be written to.
        """
        return cls(
            _whole_number(JOURNAL_BYTES, 512 * 2**20),
            _whole_number(JOURNAL_ENTRIES, 1_000_000),
            _whole_number("RAY_CLIENT_VALUE_BYTES", 64 * 2**20),
            _folder(SPILL_FOLDER),
        )


def _whole_number(variable: str, default: int) -> int:
    text = os.environ.get(variable)
    if text is None:
        return default
    try:
        number = int(text)
    except ValueError:
        number = -1
    if number < 0:
        raise ValueError(f"{variable} is a whole number, 0 or more, not {text!r}")
    return number


def _folder(variable: str) -> str | None:
    path = os.environ.get(variable)
    if not path:
        return None
    if not os.path.isdir(path) or not os.access(path, os.W_OK):
        raise ValueError(f"{variable} names a folder that can be written to, not {path!r}")
    return path
