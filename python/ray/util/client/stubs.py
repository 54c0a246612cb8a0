"""What ``@ray.remote`` and actor creation give to a user of Ray Client."""

from __future__ import annotations

import inspect
import pickle
import threading
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from typing import Any, NamedTuple

from ray._common.signature import extract_signature, get_signature
from ray._private.inspect_util import (
    is_class_method,
    is_cython,
    is_function_or_method,
    is_static_method,
)
from ray._private.utils import check_oversized_function
from ray.util.client import budgets, protocol, ray
from ray.util.client.options import validate_options
from ray.util.client.refs import ClientActorRef, ClientObjectRef
from ray.util.client.session.journal import Kind

_RemoteExecType = protocol.ClientTask


class ClientSideRefID:
    """The name that a client gives to a function or class before the cluster has an id for it."""

    def __init__(self, id: bytes) -> None:
        if not id:
            raise ValueError("A client-side id can't be empty.")
        self.id = id

    @staticmethod
    def generate_id() -> ClientSideRefID:
        # The first byte tells such a name from the ids of the cluster.
        return ClientSideRefID(b"\xcc" + uuid.uuid4().bytes)


class InProgressSentinel:
    """Seen instead of a reference by the thread that is pickling the very thing it refers to."""

    def __repr__(self) -> str:
        return "InProgressSentinel"


_IN_PROGRESS = InProgressSentinel()

# Guards the moment in which a stub gets its reference. Nobody waits with it. Entered again by a
# destructor that the garbage collector runs right then.
_first_lock = threading.RLock()


class ClientStub:
    """Base of everything that a client holds in place of something remote."""


class _Registered(ClientStub):
    """A function or class whose pickled form is put on the cluster before its first use.

    It is put once a session; a stub that outlives its session is put again in the next. Two threads
    that use a new stub at once may both put it. The first one's is kept, since a task may be about
    to name it, and the other is let go of. No lock is held while pickling: functions that refer to
    each other would block each other's threads.
    """

    _what = "remote function"

    def __init__(self, target: Any, options: dict[str, Any] | None) -> None:
        self._name = target.__name__
        self._client_side_ref = ClientSideRefID.generate_id()
        self._options = validate_options(options)
        self._held: ClientObjectRef | None = None
        self._pickling: set[int] = set()

    @property
    def _ref(self) -> None | ClientObjectRef | InProgressSentinel:
        if threading.get_ident() in self._pickling:
            return _IN_PROGRESS
        held = self._held
        if held is not None and held._worker is not ray.get_context().client_worker:
            return None
        return held

    def _ensure_ref(self) -> None:
        if self._ref is not None:
            return
        thread = threading.get_ident()
        self._pickling.add(thread)
        try:
            pickled = ray.worker._pickle(self._target())
        finally:
            self._pickling.discard(thread)
        check_oversized_function(pickled.data, self._name, self._what, None)
        made = ray.worker._put_pickled(pickled, client_ref_id=self._client_side_ref.id)
        with _first_lock:
            if self._ref is None:
                self._held = made

    def _target(self) -> Any:
        raise NotImplementedError

    def _task(self, kind: int) -> Any:
        self._ensure_ref()
        task = protocol.ClientTask(type=kind, name=self._name, payload_id=self._ref.id)
        set_task_options(task, self._options, "baseline_options")
        return task


class ClientRemoteFunc(_Registered):
    """A function that runs on the cluster.

    Args:
        f: the function.
        options: options of ``ray.remote``.
    """

    def __init__(self, f: Callable, options: dict[str, Any] | None = None) -> None:
        super().__init__(f, options)
        self._func = f
        self._signature = get_signature(f)

    def _target(self) -> Callable:
        return self._func

    def __call__(self, *args: Any, **kwargs: Any) -> None:
        raise TypeError(
            f"Remote function cannot be called directly. Use {self._name}.remote method instead"
        )

    def remote(self, *args: Any, **kwargs: Any) -> Any:
        self._signature.bind(*args, **kwargs)
        return return_refs(ray.call_remote(self, *args, **kwargs))

    def options(self, **kwargs: Any) -> OptionWrapper:
        return OptionWrapper(self, kwargs)

    def _remote(self, args: Any = None, kwargs: Any = None, **option_args: Any) -> Any:
        return self.options(**option_args).remote(*(args or ()), **(kwargs or {}))

    def __repr__(self) -> str:
        return f"ClientRemoteFunc({self._name}, {self._held})"

    def _prepare_client_task(self) -> Any:
        return self._task(_RemoteExecType.FUNCTION)

    def _num_returns(self) -> Any:
        return (self._options or {}).get("num_returns")

    def _retries(self, options: dict[str, Any] | None = None) -> int:
        return budgets.of_task(options, self._options)

    @staticmethod
    def _journal_kind(options: dict[str, Any] | None = None) -> Kind:
        return Kind.TASK


class ClientActorClass(_Registered):
    """A class whose instances are actors.

    Args:
        actor_cls: the class.
        options: options of ``ray.remote``.
    """

    _what = "actor"

    def __init__(self, actor_cls: type, options: dict[str, Any] | None = None) -> None:
        super().__init__(actor_cls, options)
        self.actor_cls = actor_cls
        self._init_signature = inspect.Signature(
            extract_signature(actor_cls.__init__, ignore_first=True)
        )

    def _target(self) -> type:
        return self.actor_cls

    def __call__(self, *args: Any, **kwargs: Any) -> None:
        raise TypeError(
            f"Remote actor cannot be instantiated directly. Use {self._name}.remote() instead"
        )

    def remote(self, *args: Any, **kwargs: Any) -> ClientActorHandle:
        self._init_signature.bind(*args, **kwargs)
        futures = ray.call_remote(self, *args, **kwargs)
        return _created_actor(futures, self, self._call_retries())

    def options(self, **kwargs: Any) -> ActorOptionWrapper:
        return ActorOptionWrapper(self, kwargs)

    def _remote(self, args: Any = None, kwargs: Any = None, **option_args: Any) -> Any:
        return self.options(**option_args).remote(*(args or ()), **(kwargs or {}))

    def __repr__(self) -> str:
        return f"ClientActorClass({self._name}, {self._held})"

    def __getattr__(self, key: str) -> Any:
        if key.startswith("__") or "actor_cls" not in self.__dict__:
            raise AttributeError(key)
        if hasattr(self.actor_cls, key):
            raise NotImplementedError(
                f"{self._name}.{key}: static methods and attributes of a remote class can't be "
                "reached through Ray Client."
            )
        raise AttributeError(f"{self._name} is not known to have an attribute {key!r}")

    def _prepare_client_task(self) -> Any:
        return self._task(_RemoteExecType.ACTOR)

    @staticmethod
    def _num_returns() -> int:
        return 1

    def _retries(self, options: dict[str, Any] | None = None) -> int:
        return budgets.of_actor(options, self._options)

    def _journal_kind(self, options: dict[str, Any] | None = None) -> Kind:
        return Kind.DETACHED if budgets.is_detached(options, self._options) else Kind.ACTOR

    def _call_retries(self, options: dict[str, Any] | None = None) -> int:
        return budgets.of_calls(options, self._options)


class _Method(NamedTuple):
    num_returns: Any
    signature: inspect.Signature


def _methods_of(actor_cls: type) -> dict[str, _Method]:
    methods = {}
    for name, function in inspect.getmembers(actor_cls, is_function_or_method):
        bound = is_class_method(function) or is_static_method(actor_cls, name)
        methods[name] = _Method(
            getattr(function, "__ray_num_returns__", None),
            inspect.Signature(extract_signature(function, ignore_first=not bound)),
        )
    return methods


class ClientActorHandle(ClientStub):
    """A handle of an actor. It may be passed to tasks and to other actors.

    Args:
        actor_ref: the reference of the actor.
        actor_class: the class that the actor was made from, where this client knows it; else the
            methods are asked of the cluster when they are first needed.
    """

    def __init__(
        self, actor_ref: ClientActorRef, actor_class: ClientActorClass | None = None
    ) -> None:
        self.actor_ref = actor_ref
        # How often a call may be repeated after a death; known of actors that were made here.
        self._call_retries = 0
        self._methods = None if actor_class is None else _methods_of(actor_class.actor_cls)

    @property
    def _actor_id(self) -> ClientActorRef:
        return self.actor_ref

    def _known_methods(self) -> dict[str, _Method]:
        if self._methods is None:
            self._methods = self._ask_for_methods()
        return self._methods

    def _ask_for_methods(self) -> dict[str, _Method]:
        @ray.remote(num_cpus=0)
        def get_class_info(handle: Any) -> Any:
            return handle._ray_method_num_returns, handle._ray_method_signatures

        returns, parameters = ray.get(get_class_info.remote(self))
        return {
            name: _Method(returns.get(name), inspect.Signature(parameters=declared))
            for name, declared in parameters.items()
        }

    def __dir__(self) -> Iterator[str]:
        if self._methods is None and not ray.is_connected():
            return iter(super().__dir__())
        return iter(self._known_methods())

    def __getattr__(self, key: str) -> ClientRemoteMethod:
        # While unpickling or copying, __getattr__ runs before the fields are there.
        if key == "_methods" or "actor_ref" not in self.__dict__:
            raise AttributeError(key)
        method = self._known_methods().get(key)
        if method is None:
            raise AttributeError(f"The actor has no method {key!r}")
        return ClientRemoteMethod(self, key, method.num_returns, method.signature)

    def __hash__(self) -> int:
        return hash(self.actor_ref)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, ClientActorHandle) and self.actor_ref == other.actor_ref

    def __repr__(self) -> str:
        return f"ClientActorHandle({self.actor_ref.hex()})"


class ClientRemoteMethod(ClientStub):
    """A method of an actor, to be called with ``remote``.

    Args:
        actor_handle: whose method it is.
        method_name: its name.
        num_returns: how many references a call returns; None is one.
        signature: the parameters, checked before a call is sent.
    """

    def __init__(
        self,
        actor_handle: ClientActorHandle,
        method_name: str,
        num_returns: Any,
        signature: inspect.Signature,
    ) -> None:
        self._actor_handle = actor_handle
        self._method_name = method_name
        self._method_num_returns = num_returns
        self._signature = signature

    def __call__(self, *args: Any, **kwargs: Any) -> None:
        raise TypeError(
            "Actor methods cannot be called directly. "
            f"Instead of running 'object.{self._method_name}()', "
            f"try 'object.{self._method_name}.remote()'."
        )

    def remote(self, *args: Any, **kwargs: Any) -> Any:
        self._signature.bind(*args, **kwargs)
        return return_refs(ray.call_remote(self, *args, **kwargs))

    def options(self, **kwargs: Any) -> OptionWrapper:
        return OptionWrapper(self, kwargs)

    def _remote(self, args: Any = None, kwargs: Any = None, **option_args: Any) -> Any:
        return self.options(**option_args).remote(*(args or ()), **(kwargs or {}))

    def __repr__(self) -> str:
        return (
            f"ClientRemoteMethod({self._method_name}, {self._actor_handle}, "
            f"{self._method_num_returns})"
        )

    def _prepare_client_task(self) -> Any:
        return protocol.ClientTask(
            type=_RemoteExecType.METHOD,
            name=self._method_name,
            payload_id=self._actor_handle.actor_ref.id,
        )

    def _num_returns(self) -> Any:
        return self._method_num_returns

    def _retries(self, options: dict[str, Any] | None = None) -> int:
        return budgets.of_calls(options, {"max_task_retries": self._actor_handle._call_retries})

    @staticmethod
    def _journal_kind(options: dict[str, Any] | None = None) -> Kind:
        return Kind.CALL


class OptionWrapper:
    """A stub with options for its next calls."""

    def __init__(self, stub: Any, options: dict[str, Any] | None) -> None:
        self._remote_stub = stub
        self._options = validate_options(options)

    def remote(self, *args: Any, **kwargs: Any) -> Any:
        self._remote_stub._signature.bind(*args, **kwargs)
        return return_refs(ray.call_remote(self, *args, **kwargs))

    def __getattr__(self, key: str) -> Any:
        if key == "_remote_stub":
            raise AttributeError(key)
        return getattr(self._remote_stub, key)

    def _prepare_client_task(self) -> Any:
        task = self._remote_stub._prepare_client_task()
        set_task_options(task, self._options)
        return task

    def _num_returns(self) -> Any:
        chosen = (self._options or {}).get("num_returns")
        return self._remote_stub._num_returns() if chosen is None else chosen

    def _retries(self) -> int:
        return self._remote_stub._retries(self._options)

    def _journal_kind(self) -> Kind:
        return self._remote_stub._journal_kind(self._options)


class ActorOptionWrapper(OptionWrapper):
    """An actor class with options for the actors that it makes."""

    def remote(self, *args: Any, **kwargs: Any) -> ClientActorHandle:
        self._remote_stub._init_signature.bind(*args, **kwargs)
        stub = self._remote_stub
        futures = ray.call_remote(self, *args, **kwargs)
        return _created_actor(futures, stub, stub._call_retries(self._options))


def _created_actor(futures: list[Future], stub: Any, call_retries: int) -> ClientActorHandle:
    (future,) = futures
    actor_class = stub if isinstance(stub, ClientActorClass) else None
    handle = ClientActorHandle(ClientActorRef(future), actor_class=actor_class)
    handle._call_retries = call_retries
    return handle


def set_task_options(task: Any, options: dict[str, Any] | None, field: str = "options") -> None:
    """Writes ``options`` into the named field of a task message; None clears the field."""
    if options is None:
        task.ClearField(field)
    else:
        getattr(task, field).pickled_options = pickle.dumps(options)


def return_refs(futures: list[Future]) -> None | ClientObjectRef | list[ClientObjectRef]:
    """What a remote call returns for the futures of its ids: None, a reference, or a list."""
    refs = [ClientObjectRef(future) for future in futures]
    if not refs:
        return None
    return refs[0] if len(refs) == 1 else refs


def remote_decorator(options: dict[str, Any] | None) -> Callable[[Any], ClientStub]:
    """Makes the decorator that ``@ray.remote(...)`` stands for while a client is connected."""

    def decorate(target: Any) -> ClientStub:
        if inspect.isclass(target):
            return ClientActorClass(target, options=options)
        if inspect.isfunction(target) or is_cython(target):
            return ClientRemoteFunc(target, options=options)
        raise TypeError(
            "The @ray.remote decorator must be applied to either a function or to a class."
        )

    return decorate
