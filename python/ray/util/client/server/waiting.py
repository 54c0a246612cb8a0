"""Blocking Ray calls, made in slices so that they end soon after their caller has gone."""

from __future__ import annotations

import time
from typing import Any, Callable, Iterator, List, Optional, Sequence, Tuple

import ray
from ray.exceptions import GetTimeoutError, RayTaskError

# Longest time that Ray is let to block, in seconds. A result ends a slice at once.
SLICE_S = 1.0


class CallerGone(Exception):
    """Nobody waits for the outcome any more."""


def _slices(timeout: Optional[float], wanted: Callable[[], bool]) -> Iterator[Tuple[float, bool]]:
    """Yields (seconds, whether it is the last slice) until ``timeout`` seconds are used up."""
    deadline = None if timeout is None else time.monotonic() + timeout
    while wanted():
        left = SLICE_S if deadline is None else max(deadline - time.monotonic(), 0.0)
        last = deadline is not None and left <= SLICE_S
        yield min(left, SLICE_S), last
    raise CallerGone()


def get(refs: Sequence[Any], timeout: Optional[float], wanted: Callable[[], bool]) -> List[Any]:
    """``ray.get`` of several references.

    Args:
        refs: what to get.
        timeout: seconds; None waits for ever.
        wanted: tells whether the caller is still there.

    Raises:
        CallerGone: it is not.
        Exception: what ``ray.get`` raises.
    """
    for seconds, last in _slices(timeout, wanted):
        try:
            return ray.get(list(refs), timeout=seconds)
        except GetTimeoutError as e:
            # A task that itself raised a GetTimeoutError is done, and no time brings another end.
            if last or isinstance(e, RayTaskError):
                raise
    raise AssertionError("unreachable")


def wait(
    refs: Sequence[Any], num_returns: int, timeout: Optional[float], wanted: Callable[[], bool]
) -> Tuple[List[Any], List[Any]]:
    """``ray.wait``. Arguments and errors as in :func:`get`; ``num_returns`` as in Ray."""
    for seconds, last in _slices(timeout, wanted):
        ready, rest = ray.wait(list(refs), num_returns=num_returns, timeout=seconds)
        if last or len(ready) >= num_returns:
            return ready, rest
    raise AssertionError("unreachable")
