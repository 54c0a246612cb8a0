"""Objects that are had again out of the values of others, under the names that they had before."""

from __future__ import annotations

from typing import Any, Dict, Mapping, Tuple

import ray
from ray._private.client_mode_hook import disable_client_hook


class Picks:
    """Which place in whose value has which name. Thread-safe: each step is atomic."""

    def __init__(self) -> None:
        self._names: Dict[bytes, Dict[int, bytes]] = {}
        self._places: Dict[bytes, Tuple[bytes, int]] = {}

    def add(self, source: bytes, index: int, name: bytes) -> None:
        """What has place ``index`` in the value of ``source`` is called ``name``."""
        self._names.setdefault(source, {})[index] = name
        self._places[name] = (source, index)

    def names_in(self, source: bytes) -> Mapping[int, bytes]:
        """Names by their places in the value of ``source``."""
        return self._names.get(source, {})

    def drop(self, name: bytes) -> None:
        """Nobody calls anything by that name any more."""
        source, index = self._places.pop(name, (b"", 0))
        places = self._names.get(source)
        if places is not None:
            places.pop(index, None)
            if not places:
                self._names.pop(source, None)


def pick(source: Any, index: int) -> Any:
    """A reference of a copy of what has place ``index`` in the value of ``source``.

    Does not wait: a task gets the value, and then what is in it.

    Args:
        source: the reference of the value.
        index: as counted by the pickler that sends values to clients.
    """
    with disable_client_hook():
        return ray.remote(num_cpus=0)(_part_of()).remote(source, index)


def _part_of() -> Any:
    # A function within one is pickled with its code: workers may lack this module.
    def part_of(value: Any, index: int) -> Any:
        import io

        import ray
        from ray.cloudpickle import CloudPickler

        found: Dict[bytes, Any] = {}

        class Lister(CloudPickler):
            def persistent_id(self, obj: Any) -> Any:
                if isinstance(obj, ray.ObjectRef):
                    return found.setdefault(obj.binary(), obj)
                if isinstance(obj, ray.actor.ActorHandle):
                    return found.setdefault(obj._actor_id.binary(), obj)
                return None

        Lister(io.BytesIO()).dump(value)
        if index >= len(found):
            raise ValueError(
                "The value of a task that was run again refers to fewer objects than it did when "
                "it was run first, so one of them can't be had again."
            )
        return ray.get(list(found.values())[index])

    return part_of
