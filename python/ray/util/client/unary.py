"""Unary calls that wait over an interruption of the session and go on."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import grpc

from ray.util.client.dataclient import DataClient
from ray.util.client.rpc_errors import recoverable

_FIRST_PAUSE_S = 0.02
_LONGEST_PAUSE_S = 0.5


class Deadline:
    """A point in time by which a caller wants its answer.

    Args:
        timeout: seconds from now; None is never.
    """

    def __init__(self, timeout: float | None) -> None:
        self._at = None if timeout is None else time.monotonic() + timeout

    def remaining(self) -> float | None:
        """Seconds that are left, not below 0; None if there is no deadline."""
        return None if self._at is None else max(0.0, self._at - time.monotonic())

    def within(self, seconds: float) -> float:
        """``seconds``, or what is left if that is less."""
        remaining = self.remaining()
        return seconds if remaining is None else min(seconds, remaining)

    @property
    def over(self) -> bool:
        return self._at is not None and time.monotonic() >= self._at


def call_over_gaps(
    data: DataClient,
    grace_period: float,
    deadline: Deadline,
    attempt: Callable[[], Any],
    progress: Callable[[], int] = lambda: 0,
    check_wanted: Callable[[], None] = lambda: None,
) -> Any:
    """Makes a call, again and again while failing may pass.

    It ends by the caller's deadline, by the session's end, or when the call alone (the session's
    stream being well) has failed for longer than the grace period.

    Args:
        data: the session's data stream, which knows when the session is interrupted or over.
        grace_period: seconds; 0 makes one attempt.
        deadline: the caller's.
        attempt: makes the gRPC call.
        progress: grows with what failed attempts achieve; a call that gets on is not given up.
        check_wanted: raises when nobody waits for the outcome any more.

    Raises:
        TimeoutError: the deadline is over.
        SessionLost: the session has ended.
        grpc.RpcError: the call failed and repeating it can't help.
    """
    pause = _FIRST_PAUSE_S
    give_up: Deadline | None = None
    achieved = progress()
    while True:
        check_wanted()
        data.check_alive()
        try:
            return attempt()
        except grpc.RpcError as e:
            data.check_alive()
            if not grace_period or not recoverable(e):
                raise
            if deadline.over:
                raise TimeoutError("no answer in time; the session is interrupted") from e
            if progress() != achieved:
                give_up, pause, achieved = None, _FIRST_PAUSE_S, progress()
            give_up = give_up or Deadline(grace_period)
            if give_up.over:
                raise
        time.sleep(deadline.within(pause))
        pause = min(2 * pause, _LONGEST_PAUSE_S)
        data.wait_connected(deadline.within(grace_period))
