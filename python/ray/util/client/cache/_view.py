"""What a cache holds, to look at."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Protocol

from ray.util.client.cache._ids import is_tracked


class _Viewable(Protocol):
    @property
    def entry_count(self) -> int: ...

    def has_entry(self, req_id: int) -> bool: ...

    def entry_ids(self) -> list[int]: ...

    def entry_value(self, req_id: int) -> Any: ...


class CacheView(Mapping[int, Any]):
    """A live, read-only mapping of request id to response, oldest id first.

    A pending or evicted entry's value is None, a failed one's the exception. Iterating goes
    over a snapshot of the ids. As thread-safe as the cache.
    """

    __slots__ = ("_cache",)

    def __init__(self, cache: _Viewable) -> None:
        self._cache = cache

    def __len__(self) -> int:
        return self._cache.entry_count

    def __iter__(self) -> Iterator[int]:
        return iter(self._cache.entry_ids())

    def __contains__(self, req_id: object) -> bool:
        return isinstance(req_id, int) and is_tracked(req_id) and self._cache.has_entry(req_id)

    def __getitem__(self, req_id: int) -> Any:
        return self._cache.entry_value(req_id)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({dict(self)!r})"
