"""How many bytes a kept response is charged with."""

from __future__ import annotations

import functools
from typing import Any

# What an object is charged with that can't tell its size: exceptions, markers, test doubles.
FLAT_SIZE = 256


def response_size(response: Any) -> int:
    """Returns the size of `response` in bytes.

    Exact for bytes-like objects and protobuf messages, the number of characters for text, and
    FLAT_SIZE for anything else.

    Raises:
        ValueError: its ByteSize() is negative.
    """
    if isinstance(response, (bytes, bytearray, str)):
        return len(response)
    if has_flat_size(type(response)):
        return FLAT_SIZE
    if isinstance(response, memoryview):
        return response.nbytes
    return checked_size(response.ByteSize())


@functools.lru_cache(maxsize=64)
def has_flat_size(kind: type) -> bool:
    """Tells whether every instance of `kind` is charged with FLAT_SIZE."""
    return not (issubclass(kind, (bytes, bytearray, str, memoryview)) or is_message(kind))


def is_message(kind: type) -> bool:
    """Tells whether instances of `kind` tell their size as protobuf messages do."""
    return hasattr(kind, "ByteSize")


def checked_size(size: int) -> int:
    """Returns `size`; raises ValueError if it is negative."""
    if size < 0:
        raise ValueError(f"A response can't have a size of {size} bytes.")
    return size
