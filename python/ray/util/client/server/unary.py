"""What the unary calls of a server have in common: errors for the caller, and running once."""

from __future__ import annotations

import functools
import logging
import threading
from collections import OrderedDict
from typing import Any, Callable, Dict, Optional

import grpc

from ray.util.client.cache import CacheError, ResponseCache
from ray.util.client.server.payloads import error_details

logger = logging.getLogger(__name__)

Handler = Callable[[Any, Any, Any], Any]

# How many clients that are gone are known as such, so that their late calls are refused.
_ENDED_KEPT = 1000


def client_id_of(context: Any) -> str:
    """The caller's client id; "" if the call carries none (or is a direct one, without context)."""
    if context is None:
        return ""
    return dict(context.invocation_metadata()).get("client_id") or ""


def raises_to_caller(empty: Callable[[], Any]) -> Callable[[Handler], Handler]:
    """Makes a handler's exception one that the client's call raises.

    It goes pickled in the details of an ABORTED call, a code that gRPC itself never makes up. The
    refusal of a request that is out of order goes as text, with FAILED_PRECONDITION.
    A direct call (context None) raises.

    Args:
        empty: makes the message that gRPC wants returned along with the error.
    """

    def decorate(handler: Handler) -> Handler:
        @functools.wraps(handler)
        def wrapper(self: Any, request: Any, context: Any = None) -> Any:
            try:
                return handler(self, request, context)
            except CacheError as e:
                if context is None:
                    raise
                context.set_code(grpc.StatusCode.FAILED_PRECONDITION)
                context.set_details(str(e))
                return empty()
            except Exception as e:  # Whatever Ray raises is the caller's to see.
                if context is None:
                    raise
                logger.debug("%s failed", handler.__name__, exc_info=True)
                context.set_code(grpc.StatusCode.ABORTED)
                context.set_details(error_details(e))
                return empty()

        return wrapper

    return decorate


def runs_once(handler: Handler) -> Handler:
    """Answers a request that a client sends again with the outcome of the first time.

    The servicer keeps the outcomes in ``response_caches``, a :class:`ResponseCaches`. Calls without
    the ids that tell a repetition just run.
    """

    @functools.wraps(handler)
    def wrapper(self: Any, request: Any, context: Any = None) -> Any:
        ids = _ids_of(context)
        if ids is None:
            return handler(self, request, context)
        client_id, thread_id, req_id = ids
        cache = self.response_caches.of(client_id)
        known = cache.check_cache(thread_id, req_id)
        if known is None:
            known = _outcome(handler, self, request, context)
            cache.update_cache(thread_id, req_id, known)
        if isinstance(known, Exception):
            raise known
        return known

    return wrapper


def _outcome(handler: Handler, servicer: Any, request: Any, context: Any) -> Any:
    try:
        return handler(servicer, request, context)
    except Exception as e:  # Kept, so that a repetition fails the same way.
        return e


def _ids_of(context: Any) -> Optional[tuple]:
    if context is None:
        return None
    metadata = dict(context.invocation_metadata())
    req_id = metadata.get("req_id", "")
    if "client_id" not in metadata or "thread_id" not in metadata or not req_id.isdecimal():
        return None
    return metadata["client_id"], metadata["thread_id"], int(req_id)


class ResponseCaches:
    """The caches of what clients' unary calls were answered. Thread-safe.

    That of a client whose session is over stays for a while, closed: a call that was under way then
    and is sent again may have been done, so it is refused.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._caches: Dict[str, ResponseCache] = {}
        self._ended: OrderedDict[str, None] = OrderedDict()

    def begin(self, client_id: str) -> None:
        """A session of the client begins; what an earlier one was answered is no longer known."""
        with self._lock:
            if client_id in self._ended:
                del self._ended[client_id], self._caches[client_id]

    def of(self, client_id: str) -> ResponseCache:
        """The cache of a client, made when it is first asked for; closed if it is gone."""
        with self._lock:
            return self._of(client_id)

    def end(self, client_id: str) -> None:
        """The client's session is over: its cache is emptied, and its calls are refused."""
        with self._lock:
            cache = self._of(client_id)
            self._ended[client_id] = None
            if len(self._ended) > _ENDED_KEPT:
                oldest, _ = self._ended.popitem(last=False)
                del self._caches[oldest]
        cache.close()

    def _of(self, client_id: str) -> ResponseCache:
        cache = self._caches.get(client_id)
        if cache is None:
            cache = self._caches[client_id] = ResponseCache()
        return cache
