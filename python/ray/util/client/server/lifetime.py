"""Ray's lifetime inside a server: begun by the first client, ended after the last."""

from __future__ import annotations

import logging
import threading
from contextlib import contextmanager
from typing import Any, Callable, Dict, Iterator, Optional

import ray
from ray._private.client_mode_hook import disable_client_hook

logger = logging.getLogger(__name__)

# How long the end of Ray waits for calls into Ray to return, in seconds. They end within a slice
# (see ``waiting``) once they are told.
CALLS_END_S = 5.0


class RayLifetime:
    """Begins and ends Ray in this process, one at a time. Thread-safe.

    Args:
        connect: called as ``connect(job_config, **ray_init_kwargs)`` to begin Ray.
    """

    def __init__(self, connect: Callable[..., Any]) -> None:
        self._connect = connect
        self._begin_end_lock = threading.Lock()
        self._calls_changed = threading.Condition()
        self._calls = 0
        self._ending = False

    def begin(self, job_config: Any, ray_init_kwargs: Dict[str, Any]) -> Optional[Any]:
        """Begins Ray unless it runs.

        Returns:
            The job config of the job that ran already; None if this call began one.

        Raises:
            Exception: what the connect handler raises.
        """
        with self._begin_end_lock, disable_client_hook():
            if ray.is_initialized():
                return ray._private.worker.global_worker.core_worker.get_job_config()
            self._connect(job_config, **ray_init_kwargs)
            return None

    def end_if(self, unused: Callable[[], bool]) -> bool:
        """Ends Ray if ``unused()`` says so; returns what it said. No client begins it meanwhile."""
        with self._begin_end_lock, disable_client_hook():
            if not unused():
                return False
            self._end_calls()
            try:
                logger.debug("Shutting down ray.")
                ray.shutdown()
            finally:
                with self._calls_changed:
                    self._ending = False
            return True

    def _end_calls(self) -> None:
        # Ray does not survive being shut down under a thread that waits inside it.
        with self._calls_changed:
            self._ending = True
            if not self._calls_changed.wait_for(lambda: self._calls == 0, CALLS_END_S):
                logger.warning("Ray is shut down under %d calls that did not end.", self._calls)

    @contextmanager
    def blocking_call(self, context: Any) -> Iterator[Callable[[], bool]]:
        """To be held round a call that blocks in Ray; gives what tells whether to go on with it.

        Args:
            context: the gRPC context of the caller, or None.
        """
        with self._calls_changed:
            self._calls += 1
        try:
            yield lambda: not self._ending and (context is None or context.is_active())
        finally:
            with self._calls_changed:
                self._calls -= 1
                self._calls_changed.notify_all()
