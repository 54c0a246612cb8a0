"""What a client says to its session's servers, and in which order: its session and its journal.

Callers' requests come in; what is to be sent goes out, with what it needs before it. Answers,
breaks and new servers come in; who is to be told that theirs is lost goes out. No I/O, threads or
clock: the shell (``dataclient``) serialises the calls and acts on what they return afterwards.
Messages, waiters and values are opaque; a :class:`Speech` makes those that the core itself asks
for.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from operator import attrgetter
from types import MappingProxyType
from typing import Any, NamedTuple, Protocol

from ray.util.client.session.client import (
    STREAMED,
    UNMINTED,
    UNTRACKED,
    ClientSession,
    Kind,
    Reopened,
    Request,
    State,
)
from ray.util.client.session.errors import SessionLost
from ray.util.client.session.journal import (
    Action,
    Entry,
    Journal,
    LookUp,
    Lost,
    PutValue,
    Reason,
    Recorded,
    Seen,
)
from ray.util.client.session.journal import Kind as Entered


class Speech(Protocol):
    """Makes messages and errors for the core, which can't read them. Called in its calls."""

    def size(self, request: Request) -> int:
        """How many bytes the journal is to count for a request."""

    def again(self, entry: Entry, unwanted: Collection[bytes]) -> Any:
        """An entry's message as it is sent to another server than its first.

        ``unwanted``: names of what it makes that stand for something else by then.
        """

    def put(self, name: bytes, value: Any) -> Any:
        """The message that puts a value that was seen under a name."""

    def look_up(self, entry: Entry) -> Any:
        """The message that finds an entry's actor by its name in the cluster."""

    def waiter(self, first: Any) -> Any:
        """Who waits for the answer to what is submitted again; ``first``: who waited before."""

    def failure(self, value: Any) -> Exception | None:
        """What getting a value that was seen raises, if it does."""

    def lost(self, name: bytes, reason: Reason) -> Exception:
        """The error for something that is lost."""

    def unknown(self, request: Request) -> Exception:
        """The error for a request that a dead server may have carried out."""

    def spent(self, request: Request) -> None:
        """A request has used up a retry, and its message is to say so."""


class Filed(NamedTuple):
    """What an entry keeps as its message.

    Attributes:
        message, payload: of the request.
        waiter: who waits for its answer, or did.
    """

    message: Any
    payload: Any
    waiter: Any


class Adoption(NamedTuple):
    """An answer has brought a name that the user did not hold (any more), and holds now."""

    name: bytes


Note = Callable[[Journal], Any]

# Looking a member up in its enumeration costs as much as a call, and these are asked of all.
_GET, _RELEASE, _WITHDRAW = Kind.GET, Kind.RELEASE, Kind.WITHDRAW
_KEPT = Recorded.KEPT

_NOBODY: Mapping[Entry, Any] = MappingProxyType({})


class Conversation:
    """A client's side of a session, put together. Not thread-safe.

    Args:
        grace_period: seconds for which a broken connection is worth waiting for; 0 is never.
        speech: makes messages and errors.
        outlives_server: whether the session is to go on with another server at all.

    Attributes:
        session: its states, ids and unanswered requests.
        journal: what is restored after a death; None while nothing is named.
        unspilled: entries whose messages are to be moved out of memory.
        nearly_full: set when the journal's bound comes near, for whoever tells people.
    """

    def __init__(self, grace_period: float, speech: Speech, outlives_server: bool = True) -> None:
        self.session = ClientSession(grace_period)
        self.journal: Journal | None = None
        self.unspilled: list[Entry] = []
        self.nearly_full = False
        self._speech = speech
        self._outlives_server = outlives_server
        self._told: list[tuple[Any, Exception]] = []
        # What was sent last, if the line waits for its answer.
        self._asking: Request | None = None
        # Names whose release stands in line and was never sent, with it.
        self._letting_go: dict[bytes, Request] = {}
        # What a recovery restores at once and has had no answer yet, of how many.
        self._restoring: set[Request] = set()
        self._restoring_of = 0
        self._broken_since: float | None = None

    # -- what callers want

    def admit(self, arrival: Request | Adoption | Note) -> None:
        """A caller's request stands in line from now on; what the journal is told it knows.

        Raises:
            Exception: the session has ended; the error is the cause of that.
        """
        if isinstance(arrival, Request):
            self.session.queue(arrival)
            if arrival.kind is _RELEASE and self.journal is not None:
                self._letting_go.update(dict.fromkeys(arrival.concerns, arrival))
        elif self.journal is None:
            return
        elif isinstance(arrival, Adoption):
            self._adopt(arrival.name, self.journal)
        else:
            arrival(self.journal)

    def _adopt(self, name: bytes, journal: Journal) -> None:
        release = self._letting_go.pop(name, None)
        if release is not None:
            # It was decided on before, and the journal would take it for newer than this.
            release.concerns = tuple(each for each in release.concerns if each != name)
        journal.adopt(name)

    def take(self) -> Request | None:
        """The next request to send, after what it needs; None if there is none.

        To be followed by :meth:`told`.
        """
        # Once the session has ended, what stands in line is only still to be said.
        while self._asking is None or self.session.ended:
            request = self.session.take()
            if request is None:
                return None
            if self._is_moot(request):
                continue
            if self.journal is None or self._is_complete(request, self.journal):
                if request.asks:
                    self._asking = request
                return request
        return None

    def told(self) -> list[tuple[Any, Exception]]:
        """Waiters to be told of these errors, each once, when nobody holds the core's lock."""
        told, self._told = self._told, []
        return told

    def _is_moot(self, request: Request) -> bool:
        if request.kind in STREAMED and request.waiter is None:
            self.session.strike(request)  # Its caller has gone.
            request.req_id = UNMINTED
            return True
        if request.kind is _WITHDRAW:
            self.session.strike(request.target)
            return request.target.req_id <= UNTRACKED
        return False

    def _is_complete(self, request: Request, journal: Journal) -> bool:
        """Whether a request may be sent now. Files it if so; else it waits in line, or is over."""
        actions = journal.require(request.needs)
        if journal.newly_lost:
            self._tell_lost(journal)
        if actions:
            self.session.untake(request)
            self.session.queue_first(self._requests(actions, journal))
            return False
        if request.kind is _GET:
            error = self._failure_among(request.needs, journal)
            if error is not None:
                self.session.strike(request)
                self._told.append((request.waiter, error))
                return False
        self._file(request, journal)
        if request.kind is _RELEASE and not request.concerns and not request.receipts:
            self.session.strike(request)
            return False
        return True

    def _failure_among(self, names: Iterable[bytes], journal: Journal) -> Exception | None:
        for name in names:
            outcome = journal.outcome(name)
            if isinstance(outcome, Lost):
                return self._speech.lost(name, outcome.reason)
            if isinstance(outcome, Seen):
                error = self._speech.failure(outcome.value)
                if error is not None:
                    return error
        return None

    def _file(self, request: Request, journal: Journal) -> None:
        if request.kind is _RELEASE:
            self._file_release(request, journal)
            return
        if request.concerns:
            self._note_end(request, journal)
            return
        submission = request.submission
        if submission is None or request.entry is not None:
            return
        if not submission.names:
            request.place = request.place or journal.next_place()
            return
        request.entry = entry = Entry(
            submission.kind,
            submission.names,
            Filed(request.message, request.payload, request.waiter),
            self._speech.size(request),
            submission.needs,
            submission.retries,
        )
        recorded = journal.record(entry)
        request.place = entry.place
        if recorded is _KEPT:
            return
        if recorded is Recorded.SPILLED:
            self.unspilled.append(entry)
        elif recorded is Recorded.NEARLY_FULL:
            self.nearly_full = True

    def _file_release(self, request: Request, journal: Journal) -> None:
        for name in request.concerns:
            # One that is sent once more may be older than what stands in line.
            if self._letting_go.get(name) is request:
                del self._letting_go[name]
        free = [name for name in _let_go(request, journal) if journal.drop(name)]
        request.concerns = (*free, *journal.take_unneeded())
        request.filed = True

    def lose(self, request: Request) -> None:
        """What a request that was taken is to say can't be had any more: it is lost.

        To be followed by :meth:`told`.
        """
        entry: Entry = request.entry
        self.session.strike(request)
        if request is self._asking:
            self._asking = None
        self._restoring.discard(request)
        if self.journal is not None and self.journal.knows(entry):
            self.journal.give_up(entry)
            self._tell_lost(self.journal)
        if request.waiter is not None:
            error = self._speech.lost(entry.names[0], Reason.NOT_KEPT)
            self._told.append((request.waiter, error))

    @staticmethod
    def _note_end(request: Request, journal: Journal) -> None:
        """What the user has ended is not to be run again."""
        for name in request.concerns:
            journal.forbid(name)

    def _tell_lost(self, journal: Journal, waiters: Mapping[Entry, Any] = _NOBODY) -> None:
        """``waiters``: for what the journal could not keep, since entries keep their own."""
        for entry, filed in journal.take_lost():
            waiter = filed.waiter if isinstance(filed, Filed) else waiters.get(entry)
            if waiter is not None:
                assert entry.lost is not None
                error = self._speech.lost(entry.names[0], entry.lost.reason)
                self._told.append((waiter, error))

    # -- the connection

    def opened(self, incarnation: int | None, handed: int | None) -> Reopened:
        """A data stream is attached. What is to be restored stands first in line.

        To be followed by :meth:`told`. Arguments as in :meth:`ClientSession.opened`.

        Raises:
            SessionLost: another server has answered, and the session is not to outlive its own.
                Nothing has changed.
        """
        self._asking = None
        before = self.session.incarnation
        another = before is not None and incarnation is not None and incarnation != before
        if another and not self._outlives_server:
            raise SessionLost(
                "The session's server died, and RAY_CLIENT_RECOVERY is set to 'off'."
            )
        reopened = self.session.opened(incarnation, handed)
        try:
            if another and incarnation is not None and self.journal is not None:
                self._replay(self.journal, incarnation, reopened)
        except BaseException:
            self.session.take_back(reopened)
            raise
        for request in reopened.restarted:
            if request.waiter is not None:
                request.waiter.restart()
        for request in reopened.retried:
            self._speech.spent(request)
        for request in reopened.lost:
            if request.waiter is not None:
                self._told.append((request.waiter, self._speech.unknown(request)))
        return reopened

    def _replay(self, journal: Journal, incarnation: int, reopened: Reopened) -> None:
        self._note_ends(journal)
        entries = {request.entry: request for request in reopened.journaled if request.entry}
        unhanded = {entry for entry, request in entries.items() if not request.sent}
        actions = journal.new_incarnation(incarnation, entries.keys(), unhanded)
        restores = self._requests(actions, journal)
        for restore in restores:
            if restore.entry in unhanded:
                # As new as it was: no server has been given it yet, if none had before.
                restore.submission = entries[restore.entry].submission
        # Nobody holds what these make, but they were asked for and not yet handed to any server.
        bare = [
            request
            for request in reopened.journaled
            if request.submission is not None
            and not request.sent
            and not (request.entry and journal.knows(request.entry))
        ]
        # In this order, too, whatever is needed comes before what needs it.
        self.session.queue_first(sorted([*restores, *bare], key=attrgetter("place")))
        self._restoring = set(restores)
        self._restoring_of = len(restores)
        self._tell_lost(journal, {entry: request.waiter for entry, request in entries.items()})

    def _note_ends(self, journal: Journal) -> None:
        """What the user has released or ended must not be run again, even if no server has heard.

        What somebody who stands in line before that still needs is released in its turn.
        """
        needed: set[bytes] = set()
        for request in self.session.in_line:
            if request.kind is Kind.TERMINATE:
                self._note_end(request, journal)
            elif request.kind is _RELEASE:
                for name in _let_go(request, journal):
                    if name not in needed:
                        journal.drop(name)
            elif request.waiter is not None or request.kind not in STREAMED:
                needed.update(request.needs)

    def _requests(self, actions: list[Action], journal: Journal) -> list[Request]:
        made = []
        for action in actions:
            if isinstance(action, PutValue):
                message = self._speech.put(action.name, action.value)
                place = journal.place_of(action.name)
                made.append(self._restoration(message, None, place))
            elif isinstance(action, LookUp):
                message = self._speech.look_up(action.entry)
                look_up = self._restoration(message, action.entry, action.entry.place)
                look_up.payload = None  # The actor's arguments are not needed to find it.
                # If it has never started it is made, and what needs it must not come before.
                look_up.asks = action.entry.kind is Entered.DETACHED and not action.entry.started
                made.append(look_up)
            else:
                message = self._speech.again(action.entry, action.unwanted)
                made.append(self._restoration(message, action.entry, action.entry.place))
        return made

    def _restoration(self, message: Any, entry: Entry | None, place: int) -> Request:
        filed = Filed(None, None, None)
        if entry is not None and isinstance(entry.message, Filed):
            filed = entry.message
        waiter = self._speech.waiter(filed.waiter)
        request = Request(UNTRACKED, Kind.JOURNALED, message, waiter, entry=entry)
        request.payload, request.place = filed.payload, place
        return request

    @property
    def restoring(self) -> tuple[int, int]:
        """How much of what the last recovery restores at once is done, and of how much."""
        return self._restoring_of - len(self._restoring), self._restoring_of

    def never_started(self, request: Request) -> bool:
        """The answer to a look-up, which is settled, says that its actor never started.

        Returns:
            Whether it is made now; then nobody is to be told of this answer.

        To be followed by :meth:`told`.
        """
        if self.journal is None:
            return False
        actions = self.journal.unstarted(request.entry)
        self.session.queue_first(self._requests(actions, self.journal))
        self._tell_lost(self.journal)
        return bool(actions)

    def settle(self, req_id: int) -> bool:
        """A request has its whole answer. Returns whether there may be something to send now."""
        request = self.session.waiting(req_id)
        if request is not None:
            self._restoring.discard(request)
        up_to = self.session.answered(req_id)
        if self.session.ended:
            return False
        if up_to is not None:
            self.session.add(Kind.ACKNOWLEDGE, up_to)
        if request is None or request is not self._asking:
            return up_to is not None
        self._asking = None
        # Unless the answer says otherwise, the actor lives by itself, or is dead for good.
        request.entry.started = True
        return True

    def stream_broke(self, now: float) -> bool:
        """The data stream has ended. Returns whether that begins an interruption."""
        first = self.session.state is not State.SUSPENDED
        self.session.stream_broke(now)
        if self._broken_since is None:
            self._broken_since = now
        return first

    def recovered(self, now: float) -> float | None:
        """How many seconds the recovery took that has just come to its end; None if none has.

        It ends when the peer has answered and all that is restored at once has its answer.
        """
        since = self._broken_since
        over = self.session.state is State.CONNECTED and not self.session.interrupted
        if since is None or self._restoring or not over:
            return None
        self._broken_since = None
        return now - since


def _let_go(release: Request, journal: Journal) -> Iterable[bytes]:
    """What the user does not hold that a release concerns. One that is sent once more may be older
    than what the user holds again."""
    if not release.filed:
        return release.concerns
    return [name for name in release.concerns if not journal.holds(name)]
