"""Deliberate faults of the product, each of which the simulation must find."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any, NamedTuple
from unittest import mock

from ray.util.client.cache._python import OrderedResponseCache
from ray.util.client.server import datapath, gathering
from ray.util.client.server.handouts import Handouts
from ray.util.client.server.proxy import starter
from ray.util.client.server.proxy.host import Host
from ray.util.client.session import conversation
from ray.util.client.session.conversation import Conversation
from ray.util.client.session.journal import Entry, Journal, Kind
from ray.util.client.session.proxied_table import SessionTable


class Mutation(NamedTuple):
    """A fault.

    Attributes:
        patches: what it puts in place of what: (object, attribute, replacement).
        promise: one that it must be seen to break.
    """

    patches: tuple[tuple[Any, str, Any], ...]
    promise: str

    @contextlib.contextmanager
    def in_place(self) -> Iterator[None]:
        """Inside, the product has the fault."""
        with contextlib.ExitStack() as stack:
            for target, name, replacement in self.patches:
                if isinstance(target, dict):
                    stack.enter_context(mock.patch.dict(target, {name: replacement}))
                else:
                    stack.enter_context(mock.patch.object(target, name, replacement))
            yield


_find = SessionTable.find
_cleanup = OrderedResponseCache.cleanup
_record = Journal.record
_told = Conversation.told
_init = datapath._WORK["init"]


def _find_any(self: Any, caller: Any, any_incarnation: bool = False) -> Any:
    return _find(self, caller, any_incarnation=True)


def _keep_one(self: Any, last_received: int) -> None:
    _cleanup(self, max(1, last_received - 1))


def _spend_nothing(self: Any) -> bool:
    return self.retries != 0


def _have_nothing_to_spend(self: Any) -> bool:
    return False


def _forget_value(self: Any, name: bytes, *_: Any) -> None:
    self.finished(name)


def _put_nothing(self: Any, entry: Any) -> list[Any]:
    return []


def _allow(self: Any, name: bytes) -> None:
    pass


def _record_anything(self: Any, entry: Any) -> Any:
    bound, self._max_bytes = self._max_bytes, 10**9
    try:
        return _record(self, entry)
    finally:
        self._max_bytes = bound


def _runs_backwards(_: str) -> Any:
    def key(request: Any) -> int:
        runs = request.entry is not None and request.entry.kind in (Kind.TASK, Kind.CALL)
        return 10**6 - request.place if runs else request.place

    return key


def _tell_nobody(self: Any) -> list[Any]:
    _told(self)
    return []


def _drop_at_once(self: Any, name: bytes) -> bool:
    return True


def _carry_out_silently(self: Any, effects: Any) -> None:
    from ray.util.client.server.proxy.host import _DO

    for effect in effects:
        _DO[type(effect)](self, effect)
    if self.session.ended:
        self.output.close()
        self._ended()


MUTATIONS = {
    "no fencing": Mutation(((SessionTable, "find", _find_any),), "stale incarnations are refused"),
    # Under an id that is made up, as a server's cache takes it.
    "a cached init": Mutation(
        (
            (datapath._WORK, "init", _init._replace(once=True)),
            (starter, "INIT_REQ_ID", 10**6),
        ),
        "nothing leaks",
    ),
    "an acknowledged entry kept": Mutation(
        ((OrderedResponseCache, "cleanup", _keep_one),), "nothing leaks"
    ),
    "a budget not counted": Mutation(((Entry, "_spend", _spend_nothing),), "runs are counted"),
    "a budget that nobody has": Mutation(
        ((Entry, "_spend", _have_nothing_to_spend),), "losses have a cause"
    ),
    "order lost": Mutation(((conversation, "attrgetter", _runs_backwards),), "order is kept"),
    "values not kept": Mutation(((Journal, "seen", _forget_value),), "a seen value stays"),
    "errors not kept": Mutation(
        ((gathering.Failure, "is_final", False),), "a seen error stays"
    ),
    "values not put": Mutation(((Journal, "_puts", _put_nothing),), "values are right"),
    "a cancellation forgotten": Mutation(
        ((Journal, "forbid", _allow),), "what is over is not run again"
    ),
    "a journal without bounds": Mutation(((Journal, "record", _record_anything),), "bounds hold"),
    "a release that does not wait for answers": Mutation(
        ((Handouts, "let_go", _drop_at_once),), "losses have a cause"
    ),
    "a wake-up lost in the client": Mutation(
        ((Conversation, "told", _tell_nobody),), "every call ends"
    ),
    "a wake-up lost in the proxier": Mutation(
        ((Host, "carry_out", _carry_out_silently),), "every call ends"
    ),
}
