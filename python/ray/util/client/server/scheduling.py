"""Running what clients ask for: functions, actor classes, methods, and look-ups by name."""

from __future__ import annotations

import inspect
import pickle
import threading
from contextlib import contextmanager
from typing import Any, Callable, Dict, Iterator, List, Optional, Sequence

import ray
from ray._private.client_mode_hook import disable_client_hook
from ray.util.client import protocol
from ray.util.client.server import actors
from ray.util.client.server.contained import contained
from ray.util.client.server.groups import Groups
from ray.util.client.server.held import Held
from ray.util.client.server.ray_calls import RayCalls
from ray.util.client.server.server_stubs import current_server

_TASK = protocol.ClientTask


def options_of(message: Any) -> Dict[str, Any]:
    """Unpickles a TaskOptions message; {} if it is empty."""
    if not message.pickled_options:
        return {}
    options = pickle.loads(message.pickled_options)
    if not isinstance(options, dict):
        raise TypeError(f"Task options must be a dict, not {type(options).__name__}.")
    return options


class Scheduler:
    """Submits clients' tasks to Ray and keeps what comes of them.

    Methods may be called from any thread, but those of one client must be called in the order of
    its requests.

    Args:
        held: where references and handles are kept.
        servicer: what unpickled tasks look things up in (see ``server_stubs``).
        ray_calls: what does the work.
    """

    def __init__(self, held: Held, servicer: Any, ray_calls: RayCalls) -> None:
        self._held = held
        self._ray = ray_calls
        self._servicer = servicer
        self._stub_lookup_lock = threading.RLock()
        self._groups = Groups(ray_calls.group_is_removed)
        self._run_by_type: Dict[int, Callable[..., List[bytes]]] = {
            _TASK.FUNCTION: self._run_function,
            _TASK.ACTOR: self._create_actor,
            _TASK.METHOD: self._call_method,
            _TASK.NAMED_ACTOR: self._find_actor,
        }

    @contained
    def submit(self, task: Any, args: Sequence[Any], kwargs: Dict[str, Any]) -> List[bytes]:
        """Submits a ClientTask with its unpickled arguments.

        Returns:
            The ids under which the client gets at the results, or the id of the actor.

        Raises:
            Exception: whatever Ray refuses the task with; OwnerDiedError or ActorDiedError if the
                function, class or actor was lost with the session's earlier server.
        """
        run = self._run_by_type.get(task.type)
        if run is None:
            raise NotImplementedError(f"Unimplemented Schedule task type: {task.type}")
        with disable_client_hook():
            return run(task, args, kwargs)

    def function(
        self, id: bytes, client_id: str, options: Optional[Dict[str, Any]]
    ) -> ray.remote_function.RemoteFunction:
        """The remote function that the client put under ``id``, made with its own ``options``."""
        return self._registered(self._held.function_refs, id, client_id, options, _a_function)

    def actor_class(
        self, id: bytes, client_id: str, options: Optional[Dict[str, Any]]
    ) -> ray.actor.ActorClass:
        """The actor class that the client put under ``id``, made with its own ``options``."""
        known = self._held.registered_actor_classes
        return self._registered(known, id, client_id, options, _a_class)

    def _registered(
        self,
        known: Dict[bytes, Any],
        id: bytes,
        client_id: str,
        options: Optional[Dict[str, Any]],
        checked: Callable[[Any], Any],
    ) -> Any:
        found = known.get(id)
        if found is not None:
            return found
        made = self._ray.remote(self._held.object_ref(client_id, id), checked, options)
        # Two threads may have made it; one is kept, since Ray exports each anew.
        return known.setdefault(id, made)

    def _run_function(self, task: Any, args: Sequence[Any], kwargs: Dict[str, Any]) -> List[bytes]:
        baseline, options = options_of(task.baseline_options), options_of(task.options)
        self._check_group({**baseline, **options}, actor=False)
        function = self.function(task.payload_id, task.client_id, baseline)
        if options:
            function = function.options(**options)
        with self._submitting():
            output = function.remote(*args, **kwargs)
        return self._keep(output, task)

    def _create_actor(self, task: Any, args: Sequence[Any], kwargs: Dict[str, Any]) -> List[bytes]:
        baseline, options = options_of(task.baseline_options), options_of(task.options)
        self._check_group({**baseline, **options}, actor=True)
        made = self.actor_class(task.payload_id, task.client_id, baseline)
        if options:
            made = made.options(**options)
        with self._submitting():
            if task.again:
                actor = actors.make_again(made, args, kwargs, self._ray)
            else:
                actor = made.remote(*args, **kwargs)
        actor_id = self._held.keep_actor(task.client_id, actor, _token(task))
        if task.actor_id:
            self._held.first_ids[actor_id] = task.actor_id
        return [actor_id]

    def _check_group(self, options: Dict[str, Any], actor: bool) -> None:
        # A group that the program itself has removed is its own affair, as with a native driver.
        if options and self._held.follows_a_death:
            self._groups.check(options, actor)

    def handle_to_keep(self, task: Any) -> bytes:
        """The serialised handle of the actor that a task has made, if nothing else finds it again;
        else empty."""
        if task.type != _TASK.ACTOR or not _token(task):
            return b""
        options = {**options_of(task.baseline_options), **options_of(task.options)}
        if options.get("lifetime") != "detached" or options.get("name"):
            return b""
        return pickle.dumps(self._held.actor_refs[_token(task)])

    def id_to_tell(self, task: Any) -> bytes:
        """The id of the actor that a task has made or found, if its ticket tells another one."""
        if task.type not in (_TASK.ACTOR, _TASK.NAMED_ACTOR) or not _token(task):
            return b""
        actor = self._held.actor_refs[_token(task)]
        actor_id = actor._actor_id.binary()
        return actor_id if actor_id != self._held.first_id(actor) else b""

    def _call_method(self, task: Any, args: Sequence[Any], kwargs: Dict[str, Any]) -> List[bytes]:
        method = getattr(self._held.actor_refs[task.payload_id], task.name)
        options = options_of(task.options)
        if options:
            method = method.options(**options)
        return self._keep(method.remote(*args, **kwargs), task)

    def _find_actor(self, task: Any, args: Sequence[Any], kwargs: Dict[str, Any]) -> List[bytes]:
        # On the wire "" stands for the job's own namespace.
        namespace = task.namespace or None
        if task.may_be_made:
            actor = actors.find_started(
                lambda: self._looked_up(task),
                task.name,
                namespace,
                task.actor_id_now,
                self._ray,
            )
        else:
            actor = self._looked_up(task)
        actor_id = self._held.keep_actor(task.client_id, actor, _token(task))
        self._held.named_actors.add(actor_id)
        # The id that the next server will know it by, too.
        return [self._held.first_id(actor)]

    def _looked_up(self, task: Any) -> Any:
        if task.handle:
            return self._ray.handle(task.handle)
        actor = self._ray.get_actor(task.name, task.namespace or None)
        if not task.actor_id:
            return actor
        actor_id = actor._actor_id.binary()
        # An earlier server may have made it once more, and nobody knows under which id.
        if task.actor_id_now in (b"", actor_id):
            self._held.first_ids[actor_id] = task.actor_id
        if task.actor_id != self._held.first_id(actor):
            raise ValueError(f"Another actor has the name {task.name!r} by now.")
        return actor

    @contextmanager
    def _submitting(self) -> Iterator[None]:
        # What the stubs look at while Ray pickles them is one variable of the process.
        with self._stub_lookup_lock, current_server(self._servicer):
            yield

    def _keep(self, output: Any, task: Any) -> List[bytes]:
        if output is None:
            return []
        client_id = task.client_id
        refs = output if isinstance(output, list) else [output]
        if task.return_tokens:
            return [
                self._held.keep_object(client_id, ref, token) if token else ref.binary()
                for token, ref in zip(task.return_tokens, refs)
            ]
        kept = {ref.binary(): ref for ref in refs}
        self._held.object_refs[client_id].update(kept)
        return list(kept)


def _token(task: Any) -> bytes:
    return task.return_tokens[0] if task.return_tokens else b""


def _a_function(found: Any) -> Any:
    if not inspect.isfunction(found):
        raise TypeError("Attempting to register function that isn't a function.")
    return found


def _a_class(found: Any) -> Any:
    if not inspect.isclass(found):
        raise TypeError("Attempting to schedule actor that isn't a class.")
    return found
