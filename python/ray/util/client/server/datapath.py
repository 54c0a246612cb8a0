"""One data stream: takes its requests in order, and has each done once.

Results of asynchronous gets are serialised and cut on the stream's own thread, one at a time and
one chunk between two requests, so that a large result neither stalls requests nor lies in memory
many times over.
"""

from __future__ import annotations

import logging
from collections import deque
from typing import Any, Callable, Deque, Dict, Iterator, NamedTuple, Optional, Sequence, Tuple

from ray.util.client import protocol
from ray.util.client.server.contained import exception_of
from ray.util.client.server.gathering import Failure, Values
from ray.util.client.server.handouts import Handouts
from ray.util.client.server.inbox import Answer, Closed, Inbox, Ready
from ray.util.client.server.outbox import Outbox
from ray.util.client.server.payloads import failed_get, parts_responses, value_responses
from ray.util.client.server.sessions import Session
from ray.util.client.session import wire
from ray.util.client.session.chunks import ChunkAssembly
from ray.util.client.session.errors import ProtocolError

logger = logging.getLogger(__name__)

_NO_ROOM = "The session's server has not enough memory left for a {} of this size."


class Superseded(Exception):
    """A newer data stream of the same client has taken over."""


class _Work(NamedTuple):
    """How a kind of request is done.

    Attributes:
        run: makes the response, a message of the request's own kind; None where none is due (yet).
        response: the field of DataResponse that takes it.
        once: whether doing it twice would matter.
        needs_ray: whether the client's job must have begun.
    """

    run: Callable[[DataStream, Any], Any]
    response: str
    once: bool = True
    needs_ray: bool = True


class DataStream:
    """The server's side of one Datapath call.

    Args:
        servicer: the ``RayletServicer`` that does the work.
        context: of the call.
        connection_info: makes the ConnectionInfoResponse.
    """

    def __init__(self, servicer: Any, context: Any, connection_info: Callable[[], Any]) -> None:
        self.inbox = Inbox()
        self._servicer = servicer
        self._context = context
        self._connection_info = connection_info
        self._session: Session
        self._handouts: Handouts
        self._outbox: Outbox
        self._assemblies = {"put": ChunkAssembly("put"), "task": ChunkAssembly("task")}
        self._sending: Deque[Tuple[int, Iterator[Any]]] = deque()
        # Gets and waits by name that are under way and not withdrawn, with what they name.
        self._asked: Dict[int, Sequence[bytes]] = {}
        self._cleaned_up = False

    def read(self, requests: Iterator[Any]) -> None:
        """Feeds the inbox until the client, or the handler, is done. Runs on its own thread."""
        try:
            for request in requests:
                if not self.inbox.put_request(request, request.ByteSize()):
                    return
        except Exception as e:  # gRPC tells the end of a broken call by bare Exceptions.
            logger.debug("The request stream broke: %r", e)
        finally:
            self.inbox.end()

    def responses(self, session: Session) -> Iterator[Any]:
        """Does the requests of the session and yields the DataResponses until the stream's end.

        Raises:
            Superseded: a newer stream took over.
            ProtocolError: the client sent what the protocol does not allow.
            CacheError: it repeated a request whose outcome is no longer known.
        """
        self.begin(session, session.streams[self])
        while not self.done:
            event = self.inbox.take(wait=self.idle)
            if isinstance(event, Closed):
                yield from self._outbox.flush()
                if event.superseded:
                    raise Superseded()
                return
            handled = self.handle(event)
            # A large request must not live on while the next one is waited for.
            del event
            yield from handled

    # What follows never waits, so that it may be driven by something else than a thread.

    def begin(self, session: Session, handouts: Handouts) -> None:
        """From now on the stream serves this session. ``handouts``: of its own answers."""
        self._session, self._handouts = session, handouts
        self._outbox = Outbox(lambda: wire.CAP_BATCHES in session.capabilities)

    @property
    def idle(self) -> bool:
        """Whether :meth:`handle` has nothing more to send without a further event."""
        return not self._sending and self._outbox.empty

    @property
    def done(self) -> bool:
        """Whether the client has taken its leave."""
        return self._cleaned_up

    def handle(self, event: Any) -> Iterator[Any]:
        """Does what an event asks for and yields the messages that are to be sent now.

        Args:
            event: a request, or a result, out of the inbox; None where there is none. What is
                ready together is gathered until then.

        Raises:
            ProtocolError, CacheError: as :meth:`responses`.
        """
        if event is None and not self._sending:
            yield from self._outbox.flush()
            return
        for response in self._handled(event):
            yield from self._outbox.add(response)
        if self._cleaned_up:
            yield from self._outbox.flush()

    def _handled(self, event: Any) -> Iterator[Any]:
        """Does what an event asks for, and then a piece of what is being sent."""
        if isinstance(event, Ready):
            self._send_value(event)
        elif isinstance(event, Answer):
            if self._asked.pop(event.response.req_id, None) is not None:
                yield event.response
        elif event is not None:
            for request in _requests_in(event):
                response = self._answer(request)
                if response is not None:
                    yield response
        if self._sending and not self._cleaned_up:
            yield from self._next_chunk()

    def _answer(self, request: Any) -> Optional[Any]:
        kind = request.WhichOneof("type")
        work = _WORK.get(kind)
        if work is None:
            raise ProtocolError(f"A request of unknown type ({kind}) was received.")
        if work.needs_ray:
            self._check_begun(kind)
        once = work.once and self._session.caches
        if kind in self._assemblies:
            request = self._assembled(kind, request, once)
            if request is None:
                return None
        return self._done_once(work, request) if once else self._done(work, request)

    def _check_begun(self, kind: str) -> None:
        if not self._session.initialised and not self._servicer.has_begun():
            raise ProtocolError(f"A {kind} request was received before any init request.")

    def _assembled(self, kind: str, request: Any, once: bool) -> Optional[_Whole]:
        part = getattr(request, kind)
        if once and self._session.cache.has_entry(request.req_id):
            # The client repeats chunks of what arrived whole before it reconnected. The last one
            # asks for the response.
            return _Whole(request, b"") if part.chunk_id + 1 >= part.total_chunks else None
        assembly = self._assemblies[kind]
        try:
            data = assembly.add(request.req_id, part.chunk_id, part.total_chunks, part.data)
        except MemoryError:  # One request's misfortune is not to be the session's.
            assembly.abandon(request.req_id)
            return _Whole(request, b"", MemoryError(_NO_ROOM.format(kind)))
        return None if data is None else _Whole(request, data)

    def _done_once(self, work: _Work, request: Any) -> Any:
        cache, req_id = self._session.cache, request.req_id
        known = cache.check_cache(req_id)
        if known is None:
            try:
                known = self._done(work, request)
            except BaseException as e:  # Kept, so that nobody who repeats it waits for ever.
                known = exception_of(e)
            cache.update_cache(req_id, known)
        if isinstance(known, Exception):
            raise known
        self._handouts.answered(req_id)
        return known

    def _done(self, work: _Work, request: Any) -> Optional[Any]:
        answer = work.run(self, request)
        if answer is None:
            return None
        return protocol.DataResponse(req_id=request.req_id, **{work.response: answer})

    def _send_value(self, ready: Ready) -> None:
        value, first_chunk = ready.value, ready.first_chunk
        responses: Iterator[Any]
        names: Optional[Sequence[bytes]] = ()
        if isinstance(value, (Values, Failure)):
            names = self._asked.pop(ready.req_id, None)
            if names is None:
                return
        if isinstance(value, Failure):
            of = names[value.index] if names and value.is_final else b""
            responses = iter((failed_get(value.error, of),))
        elif isinstance(value, Values):
            counts = wire.CAP_HANDOUTS in self._session.capabilities
            hand = self._handouts.hand if counts else None
            responses = parts_responses(names, value.values, self._pickled, hand, first_chunk)
        else:
            responses = value_responses(value, self._pickled, first_chunk)
        self._sending.append((ready.req_id, responses))

    def _pickled(
        self,
        value: Any,
        source: Optional[bytes] = None,
        names: Optional[Dict[bytes, None]] = None,
    ) -> bytes:
        return self._servicer.pickled(value, self._session.client_id, source, names)

    def _next_chunk(self) -> Iterator[Any]:
        req_id, responses = self._sending[0]
        chunk = next(responses, None)
        if chunk is None:
            self._sending.popleft()
            return
        yield protocol.DataResponse(req_id=req_id, get=chunk)

    # One method for each kind of request. What they return goes into the response.

    def _init(self, request: Any) -> Any:
        session = self._session
        if session.initialised:
            return self._servicer.acceptance(session.incarnation)
        answer = self._servicer.Init(request.init, incarnation=session.incarnation)
        session.grace_s = float(max(request.init.reconnect_grace_period, 0))
        session.initialised = answer.ok
        # Without a job there is nothing to come back to.
        session.asked_to_end = not answer.ok
        session.capabilities = frozenset(getattr(request.init, "capabilities", ()))
        return _ours(protocol.InitResponse, answer)

    def _get(self, request: Any) -> Optional[Any]:
        wish, client_id = request.get, self._session.client_id
        if not wish.asynchronous:
            answers = self._servicer.get(wish, client_id, self._context)
            self._sending.append((request.req_id, answers))
            return None
        if wish.parts:
            return self._get_parts(request)
        if len(wish.ids) != 1:
            return failed_get(
                ValueError(f"Async get() must have exactly 1 Object ID. Actual: {wish}")
            )
        req_id, first_chunk, inbox = request.req_id, wish.start_chunk_id, self.inbox
        try:
            self._servicer.when_ready(
                wish, client_id, lambda value: inbox.put_result(Ready(req_id, value, first_chunk))
            )
        except Exception as e:  # Ray has no object of that id, or none any more.
            return failed_get(e)
        return None

    def _get_parts(self, request: Any) -> Optional[Any]:
        req_id, first_chunk, inbox = request.req_id, request.get.start_chunk_id, self.inbox
        self._asked[req_id] = request.get.ids
        try:
            self._servicer.when_all_ready(
                request.get,
                self._session.client_id,
                lambda outcome: inbox.put_result(Ready(req_id, outcome, first_chunk)),
            )
        except Exception as e:  # Lost, unknown, failed or not ready: the client's to hear.
            self._asked.pop(req_id, None)
            return failed_get(e)
        return None

    def _wait(self, request: Any) -> Optional[Any]:
        req_id, wish, inbox, asked = request.req_id, request.wait, self.inbox, self._asked
        answer = self._servicer.wait_now(wish)
        if answer is not None:
            return answer
        asked[req_id] = ()
        self._servicer.wait_aside(
            wish,
            lambda: req_id in asked and not inbox.closed,
            lambda waited: inbox.put_result(
                Answer(protocol.DataResponse(req_id=req_id, wait=waited))
            ),
        )
        return None

    def _withdraw(self, request: Any) -> None:
        self._asked.pop(request.withdraw.req_id, None)

    def _put(self, whole: _Whole) -> Any:
        if whole.error is not None:
            return self._servicer.put_failed(
                whole.request.put, self._session.client_id, whole.error
            )
        return self._servicer.put(whole.request.put, whole.data, self._session.client_id)

    def _task(self, whole: _Whole) -> Any:
        if whole.error is not None:
            return self._servicer.schedule_failed(whole.request.task, whole.error)
        return self._servicer.schedule(whole.request.task, whole.data)

    def _pick(self, request: Any) -> Any:
        return self._servicer.pick(request.pick, self._session.client_id)

    def _release(self, request: Any) -> Any:
        client_id, release = self._session.client_id, request.release
        for receipt in release.receipts:
            self._handouts.received(receipt.handing, receipt.name, receipt.times)
        return protocol.ReleaseResponse(
            ok=[
                # What an answer on its way refers to stays: the client releases it again.
                not self._handouts.let_go(id) or self._servicer.release(client_id, id)
                for id in release.ids
            ]
        )

    def _terminate(self, request: Any) -> Any:
        try:
            self._servicer.terminate(request.terminate)
        except Exception as e:  # The response has no room for more than that it failed.
            logger.warning("A request to cancel or kill failed: %s", e)
            return protocol.TerminateResponse(ok=False)
        return protocol.TerminateResponse(ok=True)

    def _list_named_actors(self, request: Any) -> Any:
        return self._servicer.ListNamedActors(request.list_named_actors)

    def _prep_runtime_env(self, request: Any) -> Any:
        return self._servicer.PrepRuntimeEnv(request.prep_runtime_env)

    def _info(self, request: Any) -> Any:
        info = _ours(protocol.ConnectionInfoResponse, self._connection_info())
        info.incarnation = self._session.incarnation
        doubtful = self._handouts.take_doubtful()
        if doubtful:
            info.doubtful.extend(doubtful)
            info.handing = self._handouts.number
        return info

    def _acknowledge(self, request: Any) -> None:
        self._session.cache.cleanup(request.acknowledge.req_id)
        self._handouts.acknowledged(request.acknowledge.req_id)

    def _cleanup(self, request: Any) -> Any:
        self._session.asked_to_end = True
        self._cleaned_up = True
        return protocol.ConnectionCleanupResponse()


class _Whole:
    """A put or task request and its data out of all chunks; or why that can't be had."""

    __slots__ = ("data", "error", "req_id", "request")

    def __init__(self, request: Any, data: bytes, error: Optional[Exception] = None) -> None:
        self.request, self.data, self.req_id = request, data, request.req_id
        self.error = error


# What a proxier must see, and so may not come with others.
_ALONE = frozenset({"init", "connection_info", "connection_cleanup", "batch"})


def _requests_in(event: Any) -> Sequence[Any]:
    if event.WhichOneof("type") != "batch":
        return (event,)
    requests = event.batch.requests
    for request in requests:
        kind = request.WhichOneof("type")
        if kind in _ALONE:
            raise ProtocolError(f"A request of type {kind} was received within a batch.")
    return requests


def _ours(kind: Any, message: Any) -> Any:
    """The message as one of our class: who replaces a method may answer with stock's."""
    return message if isinstance(message, kind) else kind.FromString(protocol.serialize(message))


_WORK: Dict[Optional[str], _Work] = {
    "init": _Work(DataStream._init, "init", once=False, needs_ray=False),
    "get": _Work(DataStream._get, "get", once=False),
    "put": _Work(DataStream._put, "put"),
    "wait": _Work(DataStream._wait, "wait", once=False),
    "withdraw": _Work(DataStream._withdraw, "", once=False),
    "task": _Work(DataStream._task, "task_ticket"),
    "pick": _Work(DataStream._pick, "task_ticket"),
    "release": _Work(DataStream._release, "release", needs_ray=False),
    "terminate": _Work(DataStream._terminate, "terminate"),
    "list_named_actors": _Work(DataStream._list_named_actors, "list_named_actors"),
    "prep_runtime_env": _Work(DataStream._prep_runtime_env, "prep_runtime_env", needs_ray=False),
    "connection_info": _Work(DataStream._info, "connection_info", needs_ray=False),
    "acknowledge": _Work(DataStream._acknowledge, "acknowledge", once=False, needs_ray=False),
    "connection_cleanup": _Work(
        DataStream._cleanup, "connection_cleanup", once=False, needs_ray=False
    ),
}
