"""What the log says of a recovery."""

from __future__ import annotations

import logging
from typing import NamedTuple

from ray.util.client.recovery import JOURNAL_BYTES, SPILL_FOLDER
from ray.util.client.session.client import Reopened
from ray.util.client.session.journal import Journal, Reason

logger = logging.getLogger(__name__)

NOT_KEPT = (
    "What is not kept in the session's journal works, but is lost if the session's server dies. "
    f"{JOURNAL_BYTES} sets how much is kept in memory, {SPILL_FOLDER} names a folder for more; "
    "dropping references makes room."
)


def warn_of_bound(journal: Journal) -> None:
    """Tells that the journal's bound comes near."""
    logger.warning(
        "The session's journal is nearly full (%d MiB in %d entries). %s",
        journal.bytes >> 20,
        journal.entries,
        NOT_KEPT,
    )


class Report(NamedTuple):
    """An interruption that is over.

    Attributes:
        before, now: the incarnations that answered before and after it.
        reopened: what became of the requests that were under way.
    """

    before: int
    now: int
    reopened: Reopened

    def log(self, took: float, journal: Journal | None) -> None:
        """Logs the recovery's one line. ``took``: seconds."""
        if self.before == self.now:
            logger.info("Reconnected to the session's server after %.2f s.", took)
            return
        logger.warning(
            "The session's server died; after %.2f s the session goes on with incarnation %d. %s",
            took,
            self.now,
            self._without_journal() if journal is None else _summary(journal),
        )

    def _without_journal(self) -> str:
        return (
            "Objects and actors that the dead server owned are lost. Calls under way: "
            f"{len(self.reopened.retried)} are made again, the outcome of "
            f"{len(self.reopened.lost)} is not known."
        )


def _summary(journal: Journal) -> str:
    reasons = ", ".join(
        f"{count} {_WORDS[reason]}" for reason, count in sorted(journal.lost.items(), key=str)
    )
    return (
        f"Restored: {journal.restored}, submitted again: {journal.resubmitted}, "
        f"lost: {sum(journal.lost.values())}{f' ({reasons})' if reasons else ''}; of what had "
        "finished, the rest is restored when it is needed."
    )


_WORDS = {
    Reason.NO_RETRY: "may not be run again",
    Reason.ACTOR_DIED: "of actors that may not be restarted",
    Reason.ACTOR_UNAVAILABLE: "actor calls that may not be repeated",
    Reason.NOT_KEPT: "not kept in the journal",
    Reason.ADOPTED: "came inside other objects",
    Reason.SWITCHED_OFF: "since replay is switched off",
    Reason.CANCELLED: "cancelled",
}
