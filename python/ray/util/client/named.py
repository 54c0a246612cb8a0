"""Objects by the names that this client gives them: everything goes over the data stream.

Used with a server that has tokens. A request may name what a request before it makes, so nothing
waits for a ticket; and what an interruption or a death of the server does to a request is decided
in one place, by the session and its journal.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from ray.exceptions import GetTimeoutError
from ray.util.client import protocol
from ray.util.client.callbacks import Callbacks
from ray.util.client.chunking import carry
from ray.util.client.dataclient import DataClient
from ray.util.client.losses import lost_error
from ray.util.client.names import Minter
from ray.util.client.pickling import Named, Pickled, unpickle_from_server
from ray.util.client.replies import PartsReply, PutReply, TicketReply, WaitReply
from ray.util.client.sent import SentError, error_from, opened
from ray.util.client.session.client import Kind as RequestKind
from ray.util.client.session.conversation import Filed
from ray.util.client.session.journal import Ask, Journal, Kind, Lost, Seen, Submission
from ray.util.client.slot import Slot
from ray.util.client.speech import NO_ARGUMENTS
from ray.util.client.unary import Deadline

# What an answer may need beyond the time that the server was given, in seconds.
_ANSWER_SLACK_S = 0.5
# A shorter timeout than a round trip asks whether the objects are ready now.
_NOW_S = 0.02


class Ticket(Slot):
    """The cluster's id of something that has a name already. ``token``: the name."""

    def __init__(self, token: bytes) -> None:
        super().__init__()
        self.token = token


class SeenValue(NamedTuple):
    """What the journal keeps of a get.

    Attributes:
        data: the pickled value, or the pickled error.
        is_error: which of them it is.
        holds: the references and handles in the value, which live as long as it is kept.
    """

    data: bytes
    is_error: bool
    holds: tuple[Any, ...] = ()


class NamedObjects:
    """Puts, submits, gets and waits by name. Thread-safe.

    Args:
        data: the session's data stream; its session has begun.
        client_id: the session's.
        callbacks: makes the program's.
    """

    def __init__(self, data: DataClient, client_id: str, callbacks: Callbacks) -> None:
        self._data = data
        self._client_id = client_id
        self._callbacks = callbacks
        self._minter = Minter()

    # -- making

    def put(self, pickled: Pickled, client_ref_id: bytes | None) -> Ticket:
        """Puts a pickled object, function or class; waits until the server has it, where it may.

        Raises:
            Exception: the server could not read it.
        """
        ticket = Ticket(self._minter.object())
        token = ticket.token
        message = protocol.DataRequest()
        message.put.register_as = token
        if client_ref_id is not None:
            message.put.client_ref_id = client_ref_id
        payload = carry(message.put, pickled.data)
        kind = Kind.PUT if client_ref_id is None else Kind.PAYLOAD
        submission = Submission(kind, (token,), pickled.needs)
        self._data.submit(message, PutReply(ticket), submission, payload)
        if self._data.must_not_wait:
            return ticket
        try:
            ticket.result()
        except BaseException:
            self._let_go(token)
            raise
        return ticket

    def _let_go(self, token: bytes) -> None:
        """Nobody will ever hold what has that name."""
        self._data.release([token])

    def schedule(
        self, task: Any, count: int, submission: Submission, payload: Any
    ) -> list[Ticket]:
        """Submits a task, an actor, a call or a look-up; returns at once.

        Args:
            task: the ClientTask.
            count: of what it makes.
            submission: what the journal is to know of it; its names are minted here.
            payload: the task's data where the message lacks it; else None.
        """
        runs = submission.kind in (Kind.TASK, Kind.CALL)
        one = self._minter.object if runs else self._minter.actor
        tickets = [Ticket(one()) for _ in range(count)]
        tokens = tuple(ticket.token for ticket in tickets)
        task.return_tokens.extend(tokens)
        self._data.submit(
            protocol.DataRequest(task=task),
            TicketReply(tickets),
            submission._replace(names=tokens),
            payload,
        )
        return tickets

    # -- reading

    def get(self, names: Sequence[bytes], timeout: float | None) -> list[Any]:
        """The values, in the order of the names.

        Args:
            names: any; one may occur twice.
            timeout: seconds; None waits as long as it takes.

        Raises:
            GetTimeoutError: they are not all ready in time.
            Exception: what a task raised, or that an object is lost.
        """
        # Whoever gets an object twice gets two values.
        times = Counter(names)
        found: dict[bytes, list[Any]] = {}
        wanted: list[bytes] = []
        for name, outcome in zip(times, self._data.outcomes(list(times))):
            if isinstance(outcome, Lost):
                raise lost_error(name, outcome.reason)
            if isinstance(outcome, Seen):
                found[name] = [_value_of(outcome.value) for _ in range(times[name])]
            else:
                wanted.append(name)
        if wanted:
            found.update(zip(wanted, self._fetch(wanted, timeout, times)))
        return [found[name].pop() for name in names]

    def _keep(self, name: bytes, part: Any) -> Any:
        (outcome,) = self._data.outcomes([name])
        if isinstance(outcome, Seen):
            # Another thread has seen it, and the task may have been run again since.
            return _value_of(outcome.value)
        value, named = unpickle_from_server(part)
        if named:
            self._note_inside(name, named)
        if len(part) > self._data.value_limit:
            self._data.note(lambda journal: journal.finished(name))
        else:
            self._note_seen(name, SeenValue(bytes(part), False, tuple(named.values())))
        return value

    def _note_seen(self, name: bytes, seen: SeenValue) -> None:
        size, restorable = len(seen.data), not seen.holds
        self._data.note(lambda journal: journal.seen(name, seen, size, restorable, seen.is_error))

    def _note_inside(self, name: bytes, named: Named) -> None:
        if not self._data.has_parts:
            return
        names = tuple(named)
        handles = [(name, self._found(name, data)) for name, data in named.handles.items()]

        def note(journal: Journal) -> None:
            for handle, message in handles:
                journal.adopt_handle(handle, Filed(message, None, None), message.ByteSize())
            journal.contains(name, names)

        self._data.note(note)

    def _found(self, name: bytes, handle: bytes) -> Any:
        """The message by which an actor is found again that the client did not make."""
        task = protocol.ClientTask(
            type=protocol.ClientTask.NAMED_ACTOR,
            client_id=self._client_id,
            return_tokens=[name],
            handle=handle,
            data=NO_ARGUMENTS,
            total_chunks=1,
        )
        return protocol.DataRequest(task=task)

    def _fetch(
        self, names: list[bytes], timeout: float | None, times: Mapping[bytes, int]
    ) -> list[list[Any]]:
        self._data.check_may_wait()
        outcome = Slot()
        now = timeout is not None and timeout < _NOW_S
        message = protocol.DataRequest(
            get=protocol.GetRequest(ids=names, asynchronous=True, parts=True, nowait=now)
        )
        reply = PartsReply(message, outcome.set_result)
        request = self._data.ask(RequestKind.GET, message, reply, tuple(names))
        arrived = False
        try:
            arrived = outcome.wait(_ANSWER_SLACK_S if now else timeout)
            if not arrived and reply.pieces:
                arrived = outcome.wait()  # A transfer that has begun may go on.
            if not arrived:
                raise GetTimeoutError("The objects did not arrive in time.")
            return self._read(names, outcome.result(), times)
        finally:
            if not arrived:
                self._data.withdraw(request)
            reply.let_go()

    def _read(
        self, names: list[bytes], parts: list[Any] | Exception, times: Mapping[bytes, int]
    ) -> list[list[Any]]:
        """The values, each read as often as it is wanted."""
        if isinstance(parts, Exception):
            if isinstance(parts, SentError) and parts.of:
                self._note_seen(parts.of, SeenValue(parts.pickled, True))
            raise opened(parts)
        return [
            [self._keep(name, part) for _ in range(times[name])]
            for name, part in zip(names, parts)
        ]

    def call_back(self, name: bytes, callback: Callable[[Any], None]) -> None:
        """Calls back with an object's value, or an exception, when it is ready."""
        (outcome,) = self._data.outcomes([name])
        if isinstance(outcome, Lost):
            error = lost_error(name, outcome.reason)
            self._callbacks.call(callback, error)
            return
        if isinstance(outcome, Seen):
            seen = outcome.value
            self._callbacks.tell(callback, lambda: _value_of(seen))
            return
        message = protocol.DataRequest(
            get=protocol.GetRequest(ids=[name], asynchronous=True, parts=True)
        )

        def read(parts: list[Any] | Exception) -> Any:
            try:
                return self._read([name], parts, {name: 1})[0][0]
            finally:
                reply.let_go()

        reply = PartsReply(
            message, lambda parts: self._callbacks.tell(callback, lambda: read(parts))
        )
        self._data.ask(RequestKind.GET, message, reply, (name,))

    def wait(self, names: list[bytes], num_returns: int, timeout: float | None) -> set[bytes]:
        """Names, at least ``num_returns`` of the distinct ones given, that are ready in time."""
        ready = {
            name
            for name, outcome in zip(names, self._data.outcomes(names))
            if outcome is not Ask.SERVER
        }
        open_names = [name for name in names if name not in ready]
        missing = num_returns - len(ready)
        if missing > 0:
            ready.update(self._wait(open_names, missing, timeout))
        return ready

    def _wait(self, names: list[bytes], num_returns: int, timeout: float | None) -> list[bytes]:
        self._data.check_may_wait()
        deadline = Deadline(timeout)
        message = protocol.DataRequest(
            wait=protocol.WaitRequest(
                object_ids=names,
                num_returns=num_returns,
                timeout=-1 if timeout is None else timeout,
                client_id=self._client_id,
            )
        )
        reply = WaitReply()
        request = self._data.ask(RequestKind.WAIT, message, reply, tuple(names))
        answer = None
        try:
            left = deadline.remaining()
            answer = reply.wait(None if left is None else left + _ANSWER_SLACK_S).wait
        except TimeoutError:
            return []
        finally:
            if answer is None:
                self._data.withdraw(request)
        if not answer.valid:
            raise error_from(answer.error)
        ready = list(answer.ready_object_ids)
        self._data.note(lambda journal: [journal.finished(name) for name in ready])
        return ready


def _value_of(seen: SeenValue) -> Any:
    if seen.is_error:
        raise error_from(seen.data)
    return unpickle_from_server(seen.data)[0]
