"""The RayletLogStreamer service: sends a client Ray's log records and its workers' output."""

from __future__ import annotations

import io
import logging
import os
import threading
import uuid
from collections import deque
from typing import Any, Deque, Dict, Iterator, Optional

import grpc

import ray
from ray._private import services
from ray._private.ray_logging import global_worker_stdstream_dispatcher
from ray._private.worker import print_worker_logs
from ray.util.client import protocol
from ray.util.client.limits import CLIENT_SERVER_MAX_THREADS
from ray.util.client.session import wire

logger = logging.getLogger(__name__)

# Lines that a slow client may be behind; older ones are dropped.
MAX_WAITING = 10_000

# Levels by which LogData marks workers' output.
_STDOUT, _STDERR = -1, -2

# The handler by which Ray prints workers' output in its driver, if it is to do so.
_DRIVERS_OWN = "ray_print_logs"
# Its lines tell for how long the driver has run, so they are the driver's to show.
_AUTOSCALER = "autoscaler"


def worker_output() -> Optional[Any]:
    """The WorkerOutput of this process's job; None if there is no job, or its output is not wanted.

    To be called without client hooks.
    """
    if all(name != _DRIVERS_OWN for name, _ in global_worker_stdstream_dispatcher.handlers):
        return None
    return protocol.WorkerOutput(
        job=ray.get_runtime_context().get_job_id(),
        node_ip=services.get_node_ip_address(),
        colour=os.environ.get("RAY_COLOR_PREFIX", ""),
    )


class LogQueue:
    """What waits to be sent to one client. Bounded: the oldest goes first. Thread-safe."""

    def __init__(self, limit: int = MAX_WAITING) -> None:
        self._changed = threading.Condition()
        self._waiting: Deque[Any] = deque(maxlen=limit)
        self._dropped = 0
        self._closed = False

    def put(self, data: Any) -> None:
        """Adds a LogData. Never blocks; does nothing after :meth:`close`."""
        with self._changed:
            if self._closed:
                return
            self._dropped += len(self._waiting) == self._waiting.maxlen
            self._waiting.append(data)
            self._changed.notify()

    def close(self) -> None:
        """Lets nothing more in; the iteration ends after what still waits."""
        with self._changed:
            self._closed = True
            self._changed.notify()

    def __iter__(self) -> Iterator[Any]:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._closed or self._waiting)
                if not self._waiting:
                    return
                dropped, self._dropped = self._dropped, 0
                data = self._waiting.popleft()
            if dropped:
                yield protocol.LogData(
                    msg=f"{dropped} log messages were dropped: they came faster than this "
                    "connection takes them.",
                    level=logging.WARNING,
                    name=logger.name,
                )
            yield data


class LogstreamHandler(logging.Handler):
    """Puts log records into a queue."""

    def __init__(self, queue: LogQueue, level: int) -> None:
        super().__init__(level)
        self._queue = queue

    def emit(self, record: logging.LogRecord) -> None:
        """Queues the record's text."""
        try:
            data = protocol.LogData(msg=record.getMessage(), level=record.levelno, name=record.name)
        except Exception:  # Logging's rule: a record that can't be formatted harms nobody.
            self.handleError(record)
            return
        self._queue.put(data)


class _LevelWishes:
    """Keeps Ray's logger at the lowest level that anybody asks for, and else as it was."""

    def __init__(self, target: logging.Logger) -> None:
        self._target = target
        self._lock = threading.Lock()
        self._wishes: Dict[Any, int] = {}
        self._own_level = logging.NOTSET

    def set(self, who: Any, level: int) -> None:
        with self._lock:
            if not self._wishes:
                self._own_level = self._target.level
            self._wishes[who] = level
            self._apply()

    def drop(self, who: Any) -> None:
        with self._lock:
            if self._wishes.pop(who, None) is not None:
                self._apply()

    def _apply(self) -> None:
        self._target.setLevel(self._own_level)
        if self._wishes:
            wished = min(self._wishes.values())
            # 0 would not mean "all" but "as the parent logger".
            self._target.setLevel(max(min(wished, self._target.getEffectiveLevel()), 1))


_ray_logger = logging.getLogger("ray")
_levels = _LevelWishes(_ray_logger)


class LogTap:
    """Feeds one client's queue as the client's settings say.

    Not thread-safe; ``apply`` and ``remove`` are to be called by one thread.

    Args:
        queue: to be fed.
        output: whether with what workers print.
    """

    def __init__(self, queue: LogQueue, output: bool = True) -> None:
        self._queue = queue
        self._output = output
        self._id = str(uuid.uuid4())
        self._handler: Optional[LogstreamHandler] = None

    def apply(self, settings: Any) -> None:
        """Takes a LogSettingsRequest, which replaces the one before."""
        self.remove()
        if not settings.enabled:
            return
        self._handler = LogstreamHandler(self._queue, settings.loglevel)
        global_worker_stdstream_dispatcher.add_handler(self._id, self._worker_output)
        _ray_logger.addHandler(self._handler)
        _levels.set(self._id, settings.loglevel)

    def remove(self) -> None:
        """Stops the feed and puts Ray's logger back."""
        if self._handler is None:
            return
        _levels.drop(self._id)
        _ray_logger.removeHandler(self._handler)
        global_worker_stdstream_dispatcher.remove_handler(self._id)
        self._handler = None

    def _worker_output(self, lines: Dict[str, Any]) -> None:
        if not self._output and lines["pid"] != _AUTOSCALER:
            return
        text = io.StringIO()
        print_worker_logs(lines, text)
        if not text.getvalue():
            return
        is_err = lines["is_err"]
        self._queue.put(
            protocol.LogData(
                msg=text.getvalue(),
                level=_STDERR if is_err else _STDOUT,
                name="stderr" if is_err else "stdout",
            )
        )


def _follow_settings(requests: Iterator[Any], tap: LogTap, queue: LogQueue) -> None:
    """Applies the client's settings until its stream ends."""
    try:
        for settings in requests:
            tap.apply(settings)
    except Exception as e:  # gRPC tells the end of a broken call by bare Exceptions.
        logger.debug("The log stream broke: %r", e)
    finally:
        tap.remove()
        queue.close()


class LogstreamServicer:
    """Serves log streams; several at a time, also of one client. Thread-safe."""

    def __init__(self) -> None:
        self._count_lock = threading.Lock()
        self.num_clients = 0

    def Logstream(self, request_iterator: Iterator[Any], context: Any) -> Iterator[Any]:
        """Sends LogData as the client's latest LogSettingsRequest says, until the stream ends."""
        if not self._admit():
            logger.warning("No room for one more log stream.")
            context.set_code(grpc.StatusCode.RESOURCE_EXHAUSTED)
            context.set_details("The server has as many log streams as it can take.")
            return
        queue = LogQueue()
        told = dict(context.invocation_metadata())
        tap = LogTap(queue, output=wire.OUTPUT_KEY not in told)
        try:
            threading.Thread(
                target=_follow_settings,
                args=(request_iterator, tap, queue),
                name="ray_client_log_settings",
                daemon=True,
            ).start()
            yield from queue
        finally:
            queue.close()
            with self._count_lock:
                self.num_clients -= 1

    def _admit(self) -> bool:
        with self._count_lock:
            if self.num_clients + 1 >= CLIENT_SERVER_MAX_THREADS / 2:
                return False
            self.num_clients += 1
            return True
