"""Waiting for something that gives no notice when it comes about."""

from __future__ import annotations

import time
from typing import Callable, TypeVar

T = TypeVar("T")

# A guard against hanging for ever, never a promise about speed.
PATIENCE_S = 60.0
_POLL_S = 0.02


def eventually(
    probe: Callable[[], T], what: str, patience_s: float = PATIENCE_S, poll_s: float = _POLL_S
) -> T:
    """Calls ``probe`` until it returns something true, and returns that.

    Args:
        probe: called again and again; what it raises is not caught.
        what: completes "gave up waiting for …" in the error's text.
        patience_s: seconds after which it gives up.
        poll_s: seconds between two calls.

    Raises:
        AssertionError: ``probe`` returned nothing true within ``patience_s``.
    """
    end = time.monotonic() + patience_s
    while True:
        found = probe()
        if found:
            return found
        if time.monotonic() > end:
            raise AssertionError(f"gave up waiting for {what} after {patience_s:g} s")
        time.sleep(poll_s)
