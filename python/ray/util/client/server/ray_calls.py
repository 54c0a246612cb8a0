"""What a server has Ray do with objects, tasks and actors: the wall between it and Ray."""

from __future__ import annotations

import pickle
import time
from typing import Any, Callable, Dict, List, NamedTuple, Optional, Sequence, Tuple

import ray
from ray._private import state
from ray._private.client_mode_hook import disable_client_hook
from ray.core.generated.common_pb2 import ActorDiedErrorContext
from ray.util.client.server import gathering, groups, picks, waiting
from ray.util.client.server.contained import contained
from ray.util.client.server.pickling import pickle_for_client
from ray.util.client.server.server_pickler import loads_from_client


class ActorRecord(NamedTuple):
    """What the cluster remembers of an actor.

    Attributes:
        at: when it changed last; only good for comparing.
        unready: it waits for its arguments, and would end with its owner.
        unstarted: it has died with its owner, and its constructor was never run.
    """

    at: float
    unready: bool
    unstarted: bool


def _death_of(info: Dict[str, Any]) -> Any:
    return info["DeathCause"].actor_died_error_context


def _record(info: Dict[str, Any]) -> ActorRecord:
    death = _death_of(info)
    with_owner = death.never_started and death.reason == ActorDiedErrorContext.OWNER_DIED
    dead = info["State"] == "DEAD"
    return ActorRecord(
        info["Timestamp"], info["State"] == "DEPENDENCIES_UNREADY", dead and with_owner
    )


class RayCalls:
    """The Ray of this process. Thread-safe. Methods raise what Ray raises."""

    @contained
    def load(self, data: bytes, servicer: Any) -> Any:
        """Unpickles what a client has sent; the servicer knows what it refers to."""
        return loads_from_client(data, servicer)

    @contained
    def pickled(
        self,
        value: Any,
        client_id: str,
        servicer: Any,
        source: Optional[bytes] = None,
        names: Optional[Dict[bytes, None]] = None,
    ) -> bytes:
        """See :func:`pickling.pickle_for_client`."""
        with disable_client_hook():
            return pickle_for_client(value, client_id, servicer, source, names)

    @contained
    def put(self, value: Any) -> Any:
        """Stores a value; returns its reference."""
        with disable_client_hook():
            return ray.put(value)

    @contained
    def remote(self, ref: Any, check: Callable[[Any], Any], options: Optional[Dict]) -> Any:
        """The function or class that was put, made remote. ``check`` raises if it is neither."""
        with disable_client_hook():
            plain = check(ray.get(ref))
            return ray.remote(**options)(plain) if options else ray.remote(plain)

    def pick(self, source: Any, index: int) -> Any:
        """See :func:`picks.pick`."""
        return picks.pick(source, index)

    def get_actor(self, name: str, namespace: Optional[str]) -> Any:
        """The handle of a named actor. Raises ValueError if there is none."""
        return ray.get_actor(name, namespace)

    def actors_named(self, name: str, namespace: Optional[str]) -> List[ActorRecord]:
        """What the cluster knows of the dead actors that had a name."""
        with disable_client_hook():
            space = namespace or ray.get_runtime_context().namespace
            dead = state.actors(actor_state_name="DEAD").values()
        named = (info for info in dead if info["Name"] == name)
        return [_record(info) for info in named if _death_of(info).ray_namespace == space]

    def actor_record(self, actor_id: bytes) -> Optional[ActorRecord]:
        """What the cluster knows of an actor; None if it knows nothing (any more)."""
        with disable_client_hook():
            info = state.actors(actor_id.hex())
        return _record(info) if info else None

    def handle(self, data: bytes) -> Any:
        """The handle of an actor that was pickled for a client."""
        return pickle.loads(data)

    def group_is_removed(self, group: Any) -> bool:
        """See :func:`groups.is_removed`."""
        return groups.is_removed(group)

    def kill(self, actor: Any, no_restart: bool) -> None:
        """Kills an actor."""
        with disable_client_hook():
            ray.kill(actor, no_restart=no_restart)

    def cancel(self, ref: Any, force: bool, recursive: bool) -> None:
        """Cancels a task."""
        with disable_client_hook():
            ray.cancel(ref, force=force, recursive=recursive)

    def wait(
        self,
        refs: Sequence[Any],
        num_returns: int,
        timeout: Optional[float],
        wanted: Callable[[], bool],
    ) -> Tuple[List[Any], List[Any]]:
        """See :func:`waiting.wait`."""
        with disable_client_hook():
            return waiting.wait(refs, num_returns, timeout, wanted)

    def check_ready(self, refs: Sequence[Any]) -> None:
        """See :func:`gathering.check_ready`."""
        gathering.check_ready(refs)

    def pause(self, seconds: float) -> None:
        """Lets so much time pass."""
        time.sleep(seconds)
