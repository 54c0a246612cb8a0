"""What a cache knows about a request."""

from __future__ import annotations

import enum


class EntryState(enum.Enum):
    """The state of one request id in an `OrderedResponseCache`.

    PENDING, DONE, FAILED and EVICTED are entries or traces of one; the others say why there is
    none.
    """

    UNTRACKED = "untracked"
    """The id is one that caches ignore."""

    NEW = "new"
    """Never checked: the next check hands the request to its caller to run."""

    PENDING = "pending"
    """Being run; a duplicate waits."""

    DONE = "done"
    """Answered; the response is kept for duplicates."""

    FAILED = "failed"
    """Ended by an exception, which is kept for duplicates."""

    EVICTED = "evicted"
    """Answered, but the response was dropped to stay within the cache's bounds."""

    ACKNOWLEDGED = "acknowledged"
    """The client said that it has everything up to here."""

    CLOSED = "closed"
    """The cache was closed; it no longer knows its requests."""
