"""Default bounds of the response caches, and the check of given ones."""

from __future__ import annotations

# A client that sends faster than the stream carries queues its acknowledgements behind its
# requests, so a healthy session can have tens of thousands of unacknowledged responses.
DEFAULT_MAX_ENTRIES = 128 * 1024
DEFAULT_MAX_BYTES = 256 * 1024 * 1024

# Threads of one client that make unary calls; ids of threads that ended stay until pushed out.
DEFAULT_MAX_THREADS = 4096


def positive_limit(name: str, limit: int) -> int:
    """Returns `limit`; raises ValueError, naming the argument `name`, if it is below 1."""
    if limit < 1:
        raise ValueError(f"{name} must be at least 1, not {limit}.")
    return limit
