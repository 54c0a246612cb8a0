"""The RayletDriver service: what a client asks of its job outside the data stream."""

from __future__ import annotations

import functools
import logging
import threading
from typing import Any, Callable, Dict, Iterator, List, Optional, Set

import ray
from ray._private.client_mode_hook import disable_client_hook
from ray.util.client import protocol
from ray.util.client.server import gathering, jobs, waiting
from ray.util.client.server.actors import NeverStarted
from ray.util.client.server.cluster_servicer import ClusterServicer
from ray.util.client.server.held import Held, TokenReused
from ray.util.client.server.lifetime import RayLifetime
from ray.util.client.server.lost import vanished_actor
from ray.util.client.server.payloads import failed_get, pickled_error, value_responses
from ray.util.client.server.ray_calls import RayCalls
from ray.util.client.server.scheduling import Scheduler
from ray.util.client.server.unary import client_id_of, raises_to_caller, runs_once
from ray.util.client.session import wire

logger = logging.getLogger(__name__)


class RayletServicer(ClusterServicer):
    """Serves clients' unary calls and does the data stream's work. Thread-safe.

    Args:
        ray_connect_handler: called as ``handler(job_config, **ray_init_kwargs)`` to begin Ray.
        ray_calls: what does the work on objects, tasks and actors.

    Attributes:
        held: what is held for clients; its dicts are attributes of the servicer, too.
        lifetime: of Ray in this process.
    """

    def __init__(
        self, ray_connect_handler: Callable[..., Any], ray_calls: Optional[RayCalls] = None
    ) -> None:
        super().__init__()
        self.held = Held()
        self.object_refs = self.held.object_refs
        self.client_side_ref_map = self.held.client_side_ref_map
        self.function_refs = self.held.function_refs
        self.actor_refs = self.held.actor_refs
        self.actor_owners = self.held.actor_owners
        self.registered_actor_classes = self.held.registered_actor_classes
        self.named_actors = self.held.named_actors
        self.ray_connect_handler = ray_connect_handler
        self.lifetime = RayLifetime(self._connect)
        self._ray = ray_calls or RayCalls()
        self._scheduler = Scheduler(self.held, self, self._ray)

    def _connect(self, job_config: Any, **ray_init_kwargs: Any) -> None:
        # Looked up at each call: tests put another handler in place.
        self.ray_connect_handler(job_config, **ray_init_kwargs)

    # Sessions

    def Init(self, request: Any, context: Any = None, *, incarnation: int = 1) -> Any:
        """Begins the job. ``incarnation``: of this server in the client's session."""
        self.held.note_incarnation(incarnation)
        return jobs.begin_job(request, self.lifetime, incarnation)

    def acceptance(self, incarnation: int) -> Any:
        """The InitResponse for a client whose job runs already."""
        return jobs.acceptance(incarnation)

    def has_begun(self) -> bool:
        """Whether a job runs here."""
        with disable_client_hook():
            return ray.is_initialized()

    def PrepRuntimeEnv(self, request: Any, context: Any = None) -> Any:
        """Does nothing: the runtime env comes with Init. Old clients ask all the same."""
        return protocol.PrepRuntimeEnvResponse()

    def admit(self, client_id: str) -> None:
        """A session of a client begins."""
        self.response_caches.begin(client_id)

    def release(self, client_id: str, id: bytes) -> bool:
        """Drops one object or actor handle; False if the client has no such thing."""
        return self.held.release(client_id, id)

    def release_all(self, client_id: str) -> None:
        """Drops all that is held for a client that is gone; its late calls are refused."""
        self.response_caches.end(client_id)
        self.held.release_all(client_id)

    # Objects

    def PutObject(self, request: Any, context: Any = None) -> Any:
        """Puts an object that comes in one piece."""
        return self.put(request, request.data, client_id_of(context))

    def put(self, request: Any, data: bytes, client_id: str) -> Any:
        """Puts an object.

        Args:
            request: the PutRequest; its own ``data`` is not looked at.
            data: the whole pickled object.
            client_id: whose object it is.

        Returns:
            The PutResponse; with the error if the object can't be put.
        """
        # Stock's message class lacks register_as.
        name = getattr(request, "register_as", b"")
        try:
            return self.held.once(
                name, ("put", data), lambda: self._put(request, name, data, client_id)
            )
        except TokenReused as e:
            return protocol.PutResponse(valid=False, error=pickled_error(e))

    def _put(self, request: Any, name: bytes, data: bytes, client_id: str) -> Any:
        if name and request.failed:
            self.held.keep_failures(client_id, (name,), False, data)
            return protocol.PutResponse(id=name, valid=True)
        try:
            ref = self._ray.put(self._ray.load(data, self))
        except Exception as e:  # Unpickling runs the client's code, which may raise anything.
            logger.debug("put failed", exc_info=True)
            return self.put_failed(request, client_id, e)
        is_token = name.startswith(wire.TOKEN_PREFIX)
        id = name or ref.binary()
        self.object_refs[client_id][id] = ref
        if is_token:
            self.held.tokens[client_id][ref.binary()] = name
        logger.debug("put: %s", id.hex())
        if request.client_ref_id:
            self.client_side_ref_map[client_id][request.client_ref_id] = id
        return protocol.PutResponse(id=ref.binary() if is_token else id, valid=True)

    def put_failed(self, request: Any, client_id: str, error: Exception) -> Any:
        """The PutResponse for an object that can't be put; its name, if it has one, raises."""
        pickled, name = pickled_error(error), getattr(request, "register_as", b"")
        if name.startswith(wire.TOKEN_PREFIX):
            self.held.keep_failures(client_id, (name,), False, pickled)
        return protocol.PutResponse(valid=False, error=pickled)

    def GetObject(self, request: Any, context: Any = None) -> Iterator[Any]:
        """Waits for objects, at most ``request.timeout`` seconds, and streams their values."""
        client_id = client_id_of(context)
        if context is not None and not client_id:
            error = ValueError("client_id is not specified in request metadata")
            return iter((failed_get(error),))
        return self.get(request, client_id, context)

    def get(self, request: Any, client_id: str, context: Any = None) -> Iterator[Any]:
        """Yields the GetResponses that carry the list of the values asked for, or the error."""
        logger.debug("get: %s", [id.hex() for id in request.ids])
        try:
            refs = [self.held.object_ref(client_id, id) for id in request.ids]
            with disable_client_hook(), self.lifetime.blocking_call(context) as wanted:
                values = waiting.get(refs, request.timeout, wanted)
        except Exception as e:  # Tasks raise anything, and it is the client's to see.
            yield failed_get(e)
            return
        pickled = functools.partial(self.pickled, client_id=client_id)
        yield from value_responses(values, pickled, request.start_chunk_id)

    def pickled(
        self,
        value: Any,
        client_id: str,
        source: Optional[bytes] = None,
        names: Optional[Dict[bytes, None]] = None,
    ) -> bytes:
        """Pickles a value for a client; what it refers to is kept for it.

        Arguments and errors as those of :func:`pickling.pickle_for_client`.
        """
        return self._ray.pickled(value, client_id, self, source, names)

    def WaitObject(self, request: Any, context: Any = None) -> Any:
        """Waits until some objects are ready. What was lost is ready: getting it raises at once."""
        try:
            ready = self._wait(request, context)
        except Exception as e:  # The answer has no room for more than that it failed.
            logger.error("Waiting for objects failed: %s", e)
            return protocol.WaitResponse(valid=False)
        return protocol.WaitResponse(
            valid=True,
            ready_object_ids=[id for id in request.object_ids if id in ready],
            remaining_object_ids=[id for id in request.object_ids if id not in ready],
        )

    def _wait(self, request: Any, context: Any) -> Set[bytes]:
        with self.lifetime.blocking_call(context) as wanted:
            return self._wait_ready(request, wanted)

    def _wait_ready(self, request: Any, wanted: Callable[[], bool]) -> Set[bytes]:
        client_id, count = request.client_id, request.num_returns
        if not 0 < count <= len(request.object_ids):
            raise ValueError(f"num_returns is {count} for {len(request.object_ids)} objects")
        if len(set(request.object_ids)) < len(request.object_ids):
            raise ValueError("The objects to wait for must be different ones.")
        lost = [id for id in request.object_ids if self.held.is_lost(client_id, id)]
        if len(lost) >= count:
            return set(lost[:count])
        live = (id for id in request.object_ids if not self.held.is_lost(client_id, id))
        # Two ids may stand for one object; Ray wants it once.
        ids: Dict[Any, List[bytes]] = {}
        for id in live:
            ids.setdefault(self.held.object_ref(client_id, id), []).append(id)
        timeout = None if request.timeout == -1 else request.timeout
        wanted_refs = min(count - len(lost), len(ids))
        refs, _ = self._ray.wait(list(ids), wanted_refs, timeout, wanted)
        ready = lost + [id for ref in refs for id in ids[ref]]
        return set(ready[:count])

    def wait_now(self, request: Any) -> Optional[Any]:
        """The WaitResponse if that needs no waiting; else None. Never blocks."""
        once = protocol.WaitRequest()
        once.CopyFrom(request)
        once.timeout = 0
        answer = self.wait_by_name(once, lambda: True)
        enough = answer is None or not answer.valid
        enough = enough or len(answer.ready_object_ids) >= request.num_returns
        return answer if enough or request.timeout == 0 else None

    def wait_by_name(self, request: Any, wanted: Callable[[], bool]) -> Optional[Any]:
        """Waits until some objects are ready; None once ``wanted`` says that nobody waits."""
        try:
            with self.lifetime.blocking_call(None) as goes_on:
                ready = self._wait_ready(request, lambda: wanted() and goes_on())
        except waiting.CallerGone:
            return None
        except Exception as e:  # An unknown name, or Ray is being shut down: the client's to hear.
            return protocol.WaitResponse(valid=False, error=pickled_error(e))
        return protocol.WaitResponse(
            valid=True, ready_object_ids=[id for id in request.object_ids if id in ready]
        )

    def wait_aside(
        self, request: Any, wanted: Callable[[], bool], tell: Callable[[Any], None]
    ) -> None:
        """As :meth:`wait_by_name`, without blocking: ``tell`` gets the WaitResponse, if any."""

        def wait() -> None:
            waited = self.wait_by_name(request, wanted)
            if waited is not None:
                tell(waited)

        threading.Thread(target=wait, name="ray_client_wait", daemon=True).start()

    def when_all_ready(
        self, request: Any, client_id: str, tell: Callable[[Any], None]
    ) -> None:
        """Tells the values of the objects that a GetRequest names; see ``gathering.gather``.

        Raises:
            GetTimeoutError: the request is not to wait, and they are not ready.
            Exception: there is no such object, or it could not be made.
        """
        if logger.isEnabledFor(logging.DEBUG):
            logger.debug("get: %s", [id.hex() for id in request.ids])
        refs = [self.held.object_ref(client_id, id) for id in request.ids]
        if not refs:
            raise ValueError("A get request names no objects.")
        if request.nowait:
            self._ray.check_ready(refs)
        gathering.gather(refs, tell)

    def when_ready(self, request: Any, client_id: str, callback: Callable[[Any], None]) -> None:
        """Calls back with the value, or the exception, of the object that a GetRequest names.

        The callback runs on a thread of Ray's and must not block.

        Raises:
            OwnerDiedError, ValueError: there is no such object.
        """
        logger.debug("async get: %s", request.ids[0].hex())
        ref = self.held.object_ref(client_id, request.ids[0])
        gathering.when_ready(ref, callback)

    # Tasks

    @raises_to_caller(protocol.ClientTaskTicket)
    @runs_once
    def Schedule(self, request: Any, context: Any = None) -> Any:
        """Submits a task that comes in one piece."""
        return self.schedule(request, request.data)

    def schedule(self, task: Any, data: bytes) -> Any:
        """Submits a task.

        Args:
            task: the ClientTask; its own ``data`` is not looked at.
            data: the whole pickled (args, kwargs).

        Returns:
            The ClientTaskTicket; with the error if the task can't be submitted.
        """
        # An empty token: what it would name stands for something else already.
        token = next(filter(None, getattr(task, "return_tokens", ())), b"")
        meaning = ("task", task.type, task.name, task.payload_id, data)
        try:
            ticket = self.held.once(token, meaning, lambda: self._schedule(task, data))
        except TokenReused as e:
            return protocol.ClientTaskTicket(valid=False, error=pickled_error(e))
        if ticket.never_started:
            self.held.forget(token)
        return ticket

    def _schedule(self, task: Any, data: bytes) -> Any:
        try:
            args, kwargs = self._ray.load(data, self)
            ids = self._scheduler.submit(task, args, kwargs)
            handle = self._scheduler.handle_to_keep(task)
            actor_id = self._scheduler.id_to_tell(task)
        except NeverStarted:
            error = pickled_error(vanished_actor(task.name))
            return protocol.ClientTaskTicket(valid=False, error=error, never_started=True)
        except Exception as e:  # Arguments run the client's code, and Ray has errors of its own.
            logger.debug("Submitting %s failed", task.name, exc_info=True)
            return self.schedule_failed(task, e)
        return protocol.ClientTaskTicket(
            valid=True, return_ids=ids, handle=handle, actor_id=actor_id
        )

    def schedule_failed(self, task: Any, error: Exception) -> Any:
        """The ticket for a task that can't be submitted; the names of what it makes raise."""
        tokens = getattr(task, "return_tokens", ())
        actor = task.type in (protocol.ClientTask.ACTOR, protocol.ClientTask.NAMED_ACTOR)
        pickled = kept = pickled_error(error)
        if task.type == protocol.ClientTask.NAMED_ACTOR:
            # A client that calls it has found it before.
            kept = pickled_error(vanished_actor(task.name))
        self.held.keep_failures(task.client_id, tokens, actor, kept)
        return protocol.ClientTaskTicket(valid=False, error=pickled)

    def pick(self, request: Any, client_id: str) -> Any:
        """Makes an object that was in the value of another one available under its old name.

        Args:
            request: the PickRequest.
            client_id: whose objects they are.

        Returns:
            A ClientTaskTicket.
        """
        source, index, name = request.source, request.index, request.name
        try:
            return self.held.once(
                name, ("pick", source, index), lambda: self._pick(source, index, name, client_id)
            )
        except TokenReused as e:
            return protocol.ClientTaskTicket(valid=False, error=pickled_error(e))

    def _pick(self, source: bytes, index: int, name: bytes, client_id: str) -> Any:
        try:
            ref = self._ray.pick(self.held.object_ref(client_id, source), index)
        except Exception as e:  # The source is lost or has failed, or Ray refuses the task.
            error = pickled_error(e)
            self.held.keep_failures(client_id, (name,), False, error)
            return protocol.ClientTaskTicket(valid=False, error=error)
        self.held.picks.add(source, index, name)
        id = self.held.keep_object(client_id, ref, name)
        return protocol.ClientTaskTicket(valid=True, return_ids=[id])

    def lookup_or_register_func(
        self, id: bytes, client_id: str, options: Optional[Dict[str, Any]]
    ) -> ray.remote_function.RemoteFunction:
        """The remote function that the client put under ``id``."""
        return self._scheduler.function(id, client_id, options)

    def lookup_or_register_actor(
        self, id: bytes, client_id: str, options: Optional[Dict[str, Any]]
    ) -> ray.actor.ActorClass:
        """The actor class that the client put under ``id``."""
        return self._scheduler.actor_class(id, client_id, options)

    @raises_to_caller(protocol.TerminateResponse)
    @runs_once
    def Terminate(self, request: Any, context: Any = None) -> Any:
        """Cancels a task or kills an actor."""
        self.terminate(request)
        return protocol.TerminateResponse(ok=True)

    def terminate(self, request: Any) -> None:
        """Does what a TerminateRequest asks for.

        Raises:
            Exception: what Ray raises, or that there is no such object or actor.
        """
        kind = request.WhichOneof("terminate_type")
        if kind == "actor":
            self._ray.kill(self.actor_refs[request.actor.id], request.actor.no_restart)
        elif kind == "task_object":
            wish = request.task_object
            ref = self.held.object_ref(request.client_id, wish.id)
            self._ray.cancel(ref, wish.force, wish.recursive)
        else:
            raise ValueError(
                "Client requested termination without providing a valid terminate_type"
            )
