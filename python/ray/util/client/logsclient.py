"""Shows in the client what the session's workers print and log."""

from __future__ import annotations

import logging
import queue
import sys
import threading
from collections.abc import Callable, Iterable
from typing import Any

import grpc

from ray.util.client import protocol
from ray.util.client.rpc_errors import recoverable

logger = logging.getLogger(__name__)
# A record that went to the "ray" logger would be sent by the server and come back.
logger.propagate = False

_PAUSE_S = 0.1
# How long its end is waited for. Its thread may be held up by what the program prints to.
_PATIENCE_S = 5.0
# The cluster keeps what it has sent until it is told that it was shown.
_TELL_EVERY_CHARS = 256 * 1024


class LogstreamClient:
    """The session's log stream; opened again after an interruption. Thread-safe.

    What workers print in an interruption is shown after it, and nothing is shown twice.

    Args:
        channel: the gRPC channel to the cluster.
        metadata: makes the metadata of a call.
        wait_connected: waits for the session, at most so many seconds; raises when it has ended.
    """

    def __init__(
        self,
        channel: grpc.Channel,
        metadata: Callable[[], list[Any]],
        wait_connected: Callable[[float], None],
    ) -> None:
        self._channel = channel
        self._metadata = metadata
        self._wait_connected = wait_connected
        self._closing = threading.Event()
        self._lock = threading.Lock()
        self._wanted: Any | None = None
        # The session's jobs; the cluster told them, and may have to be told.
        self._outputs: list[Any] = []
        # Of what workers printed, the newest that was shown, and how much since the cluster knows.
        self._shown = 0
        self._untold_chars = 0
        self._call: Any = None
        self._requests: queue.SimpleQueue = queue.SimpleQueue()
        self.log_thread = threading.Thread(
            target=self._run, name="ray_client_log_stream", daemon=True
        )
        self.log_thread.start()

    def log(self, level: int, msg: str) -> None:
        """Takes a log record of the server. Replaceable. ``level``: as in ``logging``."""
        logger.log(level=level, msg=msg)

    def stdstream(self, level: int, msg: str) -> None:
        """Takes what a worker printed. Replaceable. ``level``: -1 for stdout, -2 for stderr."""
        shown_on = sys.stderr if level == -2 else sys.stdout
        try:
            print(msg, file=shown_on, end="")
        except UnicodeEncodeError:  # Not every terminal knows all that a worker may print.
            encoding = shown_on.encoding
            print(msg.encode(encoding, "backslashreplace").decode(encoding), file=shown_on, end="")

    def set_logstream_level(self, level: int) -> None:
        """Asks for records of ``level`` and above, and for what workers print."""
        logger.setLevel(level)
        self._want(protocol.LogSettingsRequest(enabled=True, loglevel=level))

    def disable_logs(self) -> None:
        """Asks for nothing any more."""
        self._want(protocol.LogSettingsRequest(enabled=False))

    def close(self) -> None:
        """Ends the stream. Idempotent; waits a while for the stream's thread to end."""
        with self._lock:
            self._closing.set()
            self._requests.put(None)
            call = self._call
        if call is not None:
            call.cancel()
        if threading.current_thread() is not self.log_thread:
            self.log_thread.join(_PATIENCE_S)
            self._call = None

    def _want(self, request: Any) -> None:
        with self._lock:
            self._wanted = request
            self._tell()

    def _tell(self, outputs: Iterable[Any] = ()) -> None:
        """Sends what is wanted, and what was shown. To be called with the lock held."""
        wanted = self._wanted
        self._requests.put(
            protocol.LogSettingsRequest(
                enabled=wanted.enabled,
                loglevel=wanted.loglevel,
                shown=self._shown,
                outputs=outputs,
            )
        )
        self._untold_chars = 0

    def _run(self) -> None:
        while not self._closing.is_set():
            try:
                self._wait_connected(_PAUSE_S)
                self._one_stream()
            except ConnectionError:
                return
            except grpc.RpcError as e:
                if self._closing.is_set():
                    return
                if not recoverable(e):
                    logger.warning("The log stream ended: %s: %s", e.code().name, e.details())
                    return
                logger.debug("The log stream broke (%s); opening it again.", e.details())
            self._closing.wait(_PAUSE_S)

    def _one_stream(self) -> None:
        call = protocol.Stub(self._channel, protocol.LOG_STREAMER).Logstream(
            iter(self._fresh_requests().get, None), metadata=self._metadata()
        )
        with self._lock:
            self._call = call
            if self._closing.is_set():
                call.cancel()
        for record in call:
            if record.outputs:
                self._outputs = list(record.outputs)
            elif record.level < 0:
                self.stdstream(level=record.level, msg=record.msg)
            else:
                self.log(level=record.level, msg=record.msg)
            if record.seq:
                self._note_shown(record)

    def _note_shown(self, record: Any) -> None:
        with self._lock:
            self._shown = record.seq
            self._untold_chars += len(record.msg)
            if self._untold_chars >= _TELL_EVERY_CHARS:
                self._tell()

    def _fresh_requests(self) -> queue.SimpleQueue:
        """A queue that begins with what is wanted; the reader of the old one ends."""
        with self._lock:
            self._requests.put(None)
            self._requests = queue.SimpleQueue()
            if self._wanted is not None:
                self._tell(self._outputs)
            return self._requests
