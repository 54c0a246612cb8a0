"""Between the journal, which decides, and the wire: what is submitted, and submitted again.

Called by the data stream's threads with the session's lock held, but for what says otherwise.
"""

from __future__ import annotations

import enum
import logging
import os
import pickle
from collections.abc import Iterable
from typing import Any, NamedTuple

from ray.util.client import budgets, protocol
from ray.util.client.losses import lost_error
from ray.util.client.replies import RestoreReply, error_from
from ray.util.client.session.client import Kind as RequestKind
from ray.util.client.session.client import Request
from ray.util.client.session.journal import (
    Action,
    Entry,
    Journal,
    Kind,
    Lost,
    Outcome,
    PutValue,
    Reason,
    Recorded,
    Resend,
    Seen,
)

logger = logging.getLogger(__name__)


class Recovery(enum.Enum):
    """What happens to what the session's server had when it dies, by RAY_CLIENT_RECOVERY."""

    REPLAY = "replay"  # all is restored that may be
    RECONNECT = "reconnect"  # the session goes on with an empty server
    OFF = "off"  # the session ends

    @classmethod
    def from_environment(cls) -> Recovery:
        """Reads the setting; REPLAY if there is none.

        Raises:
            ValueError: it is none of the above.
        """
        text = os.environ.get("RAY_CLIENT_RECOVERY", cls.REPLAY.value)
        try:
            return cls(text)
        except ValueError:
            known = ", ".join(one.value for one in cls)
            raise ValueError(f"RAY_CLIENT_RECOVERY is one of {known}; not {text!r}") from None


class Limits(NamedTuple):
    """Bounds of a session's journal. See docs/recovery.md."""

    max_bytes: int
    max_entries: int
    max_value_bytes: int

    @classmethod
    def from_environment(cls) -> Limits:
        """Reads RAY_CLIENT_JOURNAL_BYTES, RAY_CLIENT_JOURNAL_ENTRIES and RAY_CLIENT_VALUE_BYTES.

        Raises:
            ValueError: one of them is no whole number, or below 0.
        """
        return cls(
            _whole_number(JOURNAL_BYTES, 512 * 2**20),
            _whole_number("RAY_CLIENT_JOURNAL_ENTRIES", 1_000_000),
            _whole_number("RAY_CLIENT_VALUE_BYTES", 64 * 2**20),
        )


JOURNAL_BYTES = "RAY_CLIENT_JOURNAL_BYTES"


def _whole_number(variable: str, default: int) -> int:
    text = os.environ.get(variable)
    if text is None:
        return default
    try:
        number = int(text)
    except ValueError:
        number = -1
    if number < 0:
        raise ValueError(f"{variable} is a whole number, 0 or more, not {text!r}")
    return number


class Submission(NamedTuple):
    """What the journal is to know of a request.

    Attributes:
        kind: see the journal's ``Kind``.
        names: tokens of what it makes.
        needs: names of what it refers to.
        retries: how often it may be run again after a death; -1 is without limit.
    """

    kind: Kind
    names: tuple[bytes, ...]
    needs: tuple[bytes, ...] = ()
    retries: int = 0


class _Sent(NamedTuple):
    """What an entry keeps as its message: the request, and who waits for its ticket."""

    message: Any
    reply: Any


class Lineage:
    """The session's journal, in terms of the stream's requests.

    Args:
        limits: of the journal.
        replays: whether anything is to be restored after a death.
    """

    def __init__(self, limits: Limits, replays: bool) -> None:
        self.limits = limits
        self.journal = Journal(*limits, replays=replays)

    # -- requests on their way out

    def restores_for(self, request: Request) -> list[Request]:
        """What must be sent before a request that was just taken; files the request if not."""
        needs = request.needs
        restores = self._requests(self.journal.require(needs)) if needs else []
        if not restores:
            self._file(request)
        return restores

    def _file(self, request: Request) -> None:
        if request.kind is RequestKind.RELEASE:
            self.drop(request.message.release.ids)
            request.message.release.ids.extend(self.journal.take_unneeded())
            return
        submission = request.submission
        if submission is None or request.entry is not None or not submission.names:
            return
        message = request.message
        entry = Entry(
            submission.kind,
            submission.names,
            _Sent(message, request.waiter),
            message.ByteSize(),
            submission.needs,
            submission.retries,
        )
        request.entry = entry
        recorded = self.journal.record(entry)
        if recorded is not Recorded.KEPT:
            self._warn(recorded)

    def _warn(self, recorded: Recorded) -> None:
        if recorded is Recorded.NEARLY_FULL:
            logger.warning(
                "The session's journal is nearly full (%d MiB in %d entries). What no longer fits "
                "into it works, but is lost if the session's server dies. %s sets its size in "
                "bytes; dropping references makes room.",
                self.journal.bytes >> 20,
                self.journal.entries,
                JOURNAL_BYTES,
            )

    def drop(self, names: Iterable[bytes]) -> None:
        """The user holds no reference of these names any more."""
        for name in names:
            self.journal.drop(name)

    def failure_among(self, names: Iterable[bytes]) -> Exception | None:
        """What a get of these raises, where that is known: that one is lost, or a task's error."""
        for name in names:
            outcome = self.journal.outcome(name)
            if isinstance(outcome, Lost):
                return lost_error(name, outcome.reason)
            if isinstance(outcome, Seen) and outcome.value.is_error:
                return error_from(outcome.value.data)
        return None

    def knows(self, request: Request) -> bool:
        """Whether the journal makes this request again by itself where that is due."""
        return request.entry is not None and self.journal.knows(request.entry)

    def outcomes(self, names: Iterable[bytes]) -> list[Outcome]:
        """What is known of each without asking the server."""
        return [self.journal.outcome(name) for name in names]

    # -- a death

    def replay(self, incarnation: int, journaled: Iterable[Request]) -> list[Request]:
        """What is to be sent first to a new incarnation.

        Args:
            incarnation: its number.
            journaled: requests that were not answered; those not sent were given to no server.
        """
        unanswered, unhanded = set(), set()
        for request in journaled:
            if request.entry is not None:
                unanswered.add(request.entry)
                if not request.sent:
                    unhanded.add(request.entry)
        return self._requests(self.journal.new_incarnation(incarnation, unanswered, unhanded))

    def summary(self) -> str:
        """What the last recovery came to so far."""
        journal = self.journal
        reasons = ", ".join(
            f"{count} {_WORDS[reason]}" for reason, count in sorted(journal.lost.items(), key=str)
        )
        return (
            f"Restored: {journal.restored}, submitted again: {journal.resubmitted}, "
            f"lost: {sum(journal.lost.values())}{f' ({reasons})' if reasons else ''}; of what had "
            "finished, the rest is restored when it is needed."
        )

    def take_failures(self) -> list[tuple[Any, Exception]]:
        """Replies whose tickets will never come, with why. To be told without the lock."""
        return [
            (sent.reply, lost_error(entry.names[0], entry.lost.reason))
            for entry, sent in self.journal.take_lost()
            if sent is not None and sent.reply is not None
        ]

    def _requests(self, actions: list[Action]) -> list[Request]:
        # An error that a task raised can't be put. What needs its object fails, as it did before.
        return [
            self._request(action)
            for action in actions
            if not (isinstance(action, PutValue) and action.value.is_error)
        ]

    def _request(self, action: Action) -> Request:
        if isinstance(action, PutValue):
            put = protocol.PutRequest(data=action.value.data, register_as=action.name)
            message, waiter, entry = protocol.DataRequest(put=put), RestoreReply(None), None
        else:
            entry = action.entry
            sent = entry.message
            message = _again(sent.message, entry) if isinstance(action, Resend) else _look_up(entry)
            waiter = sent.reply
        return Request(0, RequestKind.JOURNALED, message, RestoreReply(waiter), entry=entry)


def _again(message: Any, entry: Entry) -> Any:
    """The message as it is to be sent again."""
    if message.WhichOneof("type") != "task":
        return message  # As it is; it may be large.
    # A copy: the broken stream may still be reading the one that was sent.
    copy = type(message)()
    copy.CopyFrom(message)
    copy.task.again = True
    if entry.kind in (Kind.TASK, Kind.ACTOR):
        budgets.spend(copy.task, entry.retries)
    return copy


def _look_up(entry: Entry) -> Any:
    task = entry.message.message.task
    if task.type == protocol.ClientTask.NAMED_ACTOR:
        return _again(entry.message.message, entry)
    options: dict[str, Any] = {}
    for layer in (task.baseline_options, task.options):
        if layer.pickled_options:
            options.update(pickle.loads(layer.pickled_options))
    found = protocol.ClientTask(
        type=protocol.ClientTask.NAMED_ACTOR,
        name=options.get("name") or "",
        namespace=options.get("namespace") or "",
        client_id=task.client_id,
        return_tokens=entry.names,
        data=NO_ARGUMENTS,
    )
    return protocol.DataRequest(task=found)


_WORDS = {
    Reason.NO_RETRY: "may not be run again",
    Reason.ACTOR_DIED: "of actors that may not be restarted",
    Reason.ACTOR_UNAVAILABLE: "actor calls that may not be repeated",
    Reason.NOT_KEPT: "not kept in the journal",
    Reason.ADOPTED: "came inside other objects",
    Reason.SWITCHED_OFF: "since replay is switched off",
}
NO_ARGUMENTS = pickle.dumps(([], {}))
