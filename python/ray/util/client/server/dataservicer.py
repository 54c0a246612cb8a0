"""The RayletDataStreamer service: admits clients, and keeps their sessions between streams."""

from __future__ import annotations

import logging
import sys
import threading
import time
from typing import Any, Callable, Dict, Iterator, Optional

import grpc

import ray
from ray.util.client import protocol
from ray.util.client.cache import CacheError
from ray.util.client.limits import CLIENT_SERVER_MAX_THREADS
from ray.util.client.server.contained import exception_of
from ray.util.client.server.datapath import DataStream, Superseded
from ray.util.client.server.reaper import Reaper, StopFlag
from ray.util.client.server.sessions import Refused, ServerFull, Session, SessionGone, Sessions
from ray.util.client.session import wire
from ray.util.client.session.errors import ProtocolError
from ray.util.debug import log_once

logger = logging.getLogger(__name__)

# How long the stream of a client that takes its leave waits for its session's end, in seconds.
_LEAVE_S = 10.0

SESSION_GONE = "Attempted to reconnect to a session that has already been cleaned up."


def _get_reconnecting_from_context(context: Any) -> bool:
    """Whether the client believes that it has a session; no, if it does not say."""
    said = dict(context.invocation_metadata()).get("reconnecting")
    if said not in ("True", "False"):
        logger.error(
            'Client connecting with invalid value for "reconnecting": %s. '
            "Client and server may be of different versions.",
            said,
        )
    return said == "True"


class DataServicer:
    """Serves data streams.

    Args:
        basic_service: the ``RayletServicer`` that does the work.
        on_idle: called when the last client's session has ended and Ray was shut down.

    Attributes:
        stopped: to be set when the gRPC server is stopped: sessions then end with their streams.
    """

    def __init__(self, basic_service: Any, on_idle: Optional[Callable[[], None]] = None) -> None:
        self.basic_service = basic_service
        self._on_idle = on_idle
        self._sessions_changed = threading.Condition()
        self._sessions = Sessions(_max_clients())
        self.stopped = StopFlag(self._sessions_changed)
        self._reaper = Reaper(
            self._sessions, self._sessions_changed, self.stopped, self._end_session
        )

    @property
    def num_clients(self) -> int:
        """How many clients have a session, connected or not."""
        with self._sessions_changed:
            return len(self._sessions)

    def Datapath(self, request_iterator: Iterator[Any], context: Any) -> Iterator[Any]:
        """Serves one data stream until it ends or a newer one of the same client takes over.

        The stream of a client that takes its leave ends when its session has: the names and
        resources of what it had are free then.
        """
        stream = DataStream(self.basic_service, context, lambda: self._build_connection_response())
        session = self._attach(stream, context)
        if session is None:
            return
        try:
            # At once, so that whoever waits for the stream knows that it is served.
            context.send_initial_metadata(((wire.INCARNATION_KEY, str(session.incarnation)),))
            threading.Thread(
                target=stream.read,
                args=(request_iterator,),
                name="ray_client_stream_reader",
                daemon=True,
            ).start()
            yield from stream.responses(session)
        except Superseded:
            _fail(
                context,
                grpc.StatusCode.ABORTED,
                "A newer data stream of the same client has taken over.",
                wire.REASON_SUPERSEDED,
            )
        except ProtocolError as e:
            self._refuse(session, stream, context, grpc.StatusCode.INVALID_ARGUMENT, e)
        except CacheError as e:
            self._refuse(session, stream, context, grpc.StatusCode.FAILED_PRECONDITION, e)
        except grpc.RpcError as e:
            # The call broke before anything was sent. The client may come back.
            logger.debug("The data stream of %s broke: %s", session.client_id, e)
        except GeneratorExit:
            raise
        except BaseException as e:  # A fault here or in Ray. The client must hear of it, not hang.
            logger.exception("Error in data channel:")
            self._refuse(
                session, stream, context, grpc.StatusCode.FAILED_PRECONDITION, exception_of(e)
            )
        finally:
            stream.inbox.close()
            self._detach(session, stream)
        if stream.done:
            with self._sessions_changed:
                self._sessions_changed.wait_for(lambda: session.wound_up, _LEAVE_S)

    def _attach(self, stream: DataStream, context: Any) -> Optional[Session]:
        metadata = context.invocation_metadata()
        client_id = dict(metadata).get("client_id")
        if not client_id:
            logger.error("Client connecting with no client_id")
            _fail(
                context,
                grpc.StatusCode.FAILED_PRECONDITION,
                "The data stream carries no client_id in its metadata.",
            )
            return None
        reconnecting = _get_reconnecting_from_context(context)
        incarnation = wire.incarnation_of(metadata) or 1
        try:
            with self._sessions_changed:
                self._reaper.ensure_running()
                self._sessions.max_clients = _max_clients()
                session, superseded = self._sessions.attach(
                    client_id, stream, reconnecting=reconnecting, incarnation=incarnation
                )
                self._sessions_changed.notify_all()
        except Refused as refused:
            _turn_away(context, client_id, refused)
            return None
        if superseded is not None:
            superseded.inbox.close(superseded=True)
        if not reconnecting:
            self.basic_service.admit(client_id)
        self.basic_service.held.note_incarnation(incarnation)
        return session

    def _refuse(
        self,
        session: Session,
        stream: DataStream,
        context: Any,
        code: grpc.StatusCode,
        error: Exception,
    ) -> None:
        """Fails a stream by a code after which no client reconnects, so its session is over too."""
        logger.warning("The data stream of %s is refused: %s", session.client_id, error)
        with self._sessions_changed:
            if session.current is stream:
                session.asked_to_end = True
        _fail(context, code, str(error) or repr(error))

    def _detach(self, session: Session, stream: DataStream) -> None:
        with self._sessions_changed:
            self._sessions.detach(session, stream, time.monotonic())
            self._sessions_changed.notify_all()

    def _end_session(self, session: Session) -> None:
        logger.debug("The session of %s is over.", session.client_id)
        session.cache.close()
        try:
            self.basic_service.release_all(session.client_id)
            ended = self.basic_service.lifetime.end_if(lambda: self.num_clients == 0)
        finally:
            with self._sessions_changed:
                session.wound_up = True
                self._sessions_changed.notify_all()
        if ended and self._on_idle is not None:
            self._on_idle()

    def _build_connection_response(self) -> Any:
        version: Dict[str, str] = {
            "ray_version": ray.__version__,
            "ray_commit": ray.__commit__,
            "python_version": ".".join(map(str, sys.version_info[:3])),
        }
        return protocol.ConnectionInfoResponse(num_clients=self.num_clients, **version)


def _max_clients() -> int:
    # Each client holds two threads of the server's pool.
    return int(CLIENT_SERVER_MAX_THREADS / 2)


def _fail(context: Any, code: grpc.StatusCode, details: str, reason: Optional[str] = None) -> None:
    context.set_code(code)
    context.set_details(details)
    if reason is not None:
        context.set_trailing_metadata(((wire.REASON_KEY, reason),))


def _turn_away(context: Any, client_id: str, refused: Refused) -> None:
    if isinstance(refused, SessionGone):
        _fail(context, grpc.StatusCode.NOT_FOUND, SESSION_GONE, wire.REASON_SESSION_GONE)
        return
    assert isinstance(refused, ServerFull)
    logger.warning("No room for one more client: %s is rejected.", client_id)
    if log_once("client_threshold"):
        logger.warning(
            "RAY_CLIENT_SERVER_MAX_THREADS sets how many threads there are for clients, two for "
            "each (it is %d).",
            CLIENT_SERVER_MAX_THREADS,
        )
    _fail(
        context,
        grpc.StatusCode.RESOURCE_EXHAUSTED,
        f"The server has as many clients as it can take ({_max_clients()}).",
    )
