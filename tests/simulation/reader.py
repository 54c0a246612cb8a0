"""How a client gets values, and waits for them."""

from __future__ import annotations

import asyncio
import pickle
from collections.abc import Callable, Coroutine
from typing import Any

from ray.exceptions import GetTimeoutError
from ray.util.client import protocol
from ray.util.client.losses import lost_error
from ray.util.client.named import SeenValue
from ray.util.client.replies import PartsReply
from ray.util.client.sent import SentError, error_from, opened
from ray.util.client.session import wire as wire_names
from ray.util.client.session.client import Kind
from ray.util.client.session.journal import Ask, Lost, Seen
from tests.simulation.answers import Answer
from tests.simulation.history import History, Operation
from tests.simulation.references import Hold, References
from tests.simulation.server import Parcel
from tests.simulation.shell import Shell

# As in the product (seconds).
ANSWER_SLACK_S = 0.5
NOW_S = 0.02


class Reader:
    """Gets values over a client's session and tells its journal of them.

    Args:
        shell: the session.
        references: what the client holds; values add to it.
        history: learns what has finished, and which names came in which value.
    """

    def __init__(self, shell: Shell, references: References, history: History) -> None:
        self._shell = shell
        self._references = references
        self._history = history

    async def get(self, names: list[bytes], timeout: float | None) -> list[Any]:
        """The values; of those that refer to something, what is not a reference."""
        return [self._let_go(value) for value in await self._get(names, timeout)]

    async def open(self, name: bytes) -> Any:
        """The value of one object, with its references, which are held from now on."""
        return (await self._get([name], None))[0]

    async def _get(self, names: list[bytes], timeout: float | None) -> list[Any]:
        found: dict[bytes, Any] = {}
        wanted: list[bytes] = []
        self._shell.check_journal()
        outcomes = self._shell.outcomes(names)
        for name, outcome in zip(names, outcomes):
            if isinstance(outcome, Lost):
                raise lost_error(name, outcome.reason)
            if isinstance(outcome, Seen):
                found[name] = self._read(outcome.value)
            else:
                wanted.append(name)
        if wanted:
            found.update(zip(wanted, await self._fetch(wanted, timeout)))
        return [found[name] for name in names]

    def _read(self, seen: SeenValue) -> Any:
        if seen.is_error:
            raise error_from(seen.data)
        return self._received(pickle.loads(seen.data))

    def _received(self, value: Any) -> Any:
        for inner in names_in(value):
            self._references.receive(inner)
        return value

    def _keep(self, name: bytes, part: Any) -> Any:
        (outcome,) = self._shell.outcomes([name])
        if isinstance(outcome, Seen):
            return self._read(outcome.value)
        data = bytes(part)
        self._finished(name)
        value = self._received(pickle.loads(data))
        inner = names_in(value)
        if inner:
            for place, each in enumerate(inner):
                if not each.startswith(wire_names.TOKEN_PREFIX):
                    where = (name, place, self._shell.world.now)
                    self._history.inner.setdefault(each, where)
            self._shell.note(lambda journal: journal.contains(name, inner))
        if len(data) > self._shell.bounds.value_bytes:
            self._shell.note(lambda journal: journal.finished(name))
        else:
            holds = (Hold(self._references, inner),) if inner else ()
            self._note_seen(name, SeenValue(data, False, holds))
        return value

    def _finished(self, name: bytes) -> None:
        self._history.finished.setdefault(name, self._shell.world.now)

    def _note_seen(self, name: bytes, seen: SeenValue) -> None:
        size, restorable = len(seen.data), not seen.holds
        failed = seen.is_error
        self._shell.note(lambda journal: journal.seen(name, seen, size, restorable, failed))

    def _ask_for(self, names: list[bytes], now: bool) -> tuple[Any, Any, asyncio.Future]:
        outcome: asyncio.Future = self._shell.process.future()
        message = protocol.DataRequest(
            get=protocol.GetRequest(ids=names, asynchronous=True, parts=True, nowait=now)
        )
        reply = PartsReply(message, lambda parts: outcome.done() or outcome.set_result(parts))
        request = self._shell.send(Kind.GET, message, reply, needs=tuple(names))
        return request, reply, outcome

    async def _fetch(self, names: list[bytes], timeout: float | None) -> list[Any]:
        now = timeout is not None and timeout < NOW_S
        request, reply, outcome = self._ask_for(names, now)
        try:
            await asyncio.wait({outcome}, timeout=ANSWER_SLACK_S if now else timeout)
            if not outcome.done() and reply.pieces:
                await asyncio.wait({outcome})
            if not outcome.done():
                raise GetTimeoutError("The objects did not arrive in time.")
            return self._parts(names, outcome)
        finally:
            if not outcome.done():
                self._shell.withdraw(request)
            reply.let_go()

    def _parts(self, names: list[bytes], outcome: asyncio.Future) -> list[Any]:
        parts = outcome.result()
        if isinstance(parts, Exception):
            if isinstance(parts, SentError) and parts.of:
                self._finished(parts.of)
                self._note_seen(parts.of, SeenValue(parts.pickled, True))
            raise opened(parts)
        return [self._keep(name, part) for name, part in zip(names, parts)]

    async def later(
        self, name: bytes, reads: bool, operation: Operation
    ) -> Callable[[], Coroutine[Any, Any, Any]]:
        """Asks for a value at once; what it returns waits for it. The name is held until then.

        ``reads``: also gets what the value refers to, whose names are added to the operation's.
        """
        self._shell.check_journal()
        (known,) = self._shell.outcomes([name])
        reply = outcome = None
        if known is Ask.SERVER:
            _, reply, outcome = self._ask_for([name], False)
        self._references.hold((name,))

        async def wait() -> Any:
            try:
                if isinstance(known, Lost):
                    raise lost_error(name, known.reason)
                if isinstance(known, Seen):
                    return await self._look_into(self._read(known.value), reads, operation)
                assert reply is not None and outcome is not None
                await asyncio.wait({outcome})
                value = self._parts([name], outcome)[0]
                reply.let_go()
                return await self._look_into(value, reads, operation)
            finally:
                if reply is not None:
                    reply.let_go()
                self._references.release(name)

        return wait

    async def _look_into(self, value: Any, reads: bool, operation: Operation) -> Any:
        inner = names_in(value)
        try:
            if reads and inner:
                operation.names += inner
                await self.get(list(inner), None)
        finally:
            text = self._let_go(value)
        return text

    def _let_go(self, value: Any) -> Any:
        """Of a value, what is not a reference."""
        for inner in names_in(value):
            self._references.release(inner)
        return text_of(value)

    async def wait(self, names: list[bytes], count: int, timeout: float | None) -> set[bytes]:
        self._shell.check_journal()
        ready = {
            name
            for name, outcome in zip(names, self._shell.outcomes(names))
            if outcome is not Ask.SERVER
        }
        missing = count - len(ready)
        if missing > 0:
            open_names = [name for name in names if name not in ready]
            ready.update(await self._wait(open_names, missing, timeout))
        return ready

    async def _wait(self, names: list[bytes], count: int, timeout: float | None) -> list[bytes]:
        message = protocol.DataRequest(
            wait=protocol.WaitRequest(
                object_ids=names,
                num_returns=count,
                timeout=-1 if timeout is None else timeout,
                client_id=self._shell.client_id,
            )
        )
        answer = Answer(self._shell)
        request = self._shell.send(Kind.WAIT, message, answer, needs=tuple(names))
        patience = None if timeout is None else timeout + ANSWER_SLACK_S
        await asyncio.wait({answer.future}, timeout=patience)
        if not answer.future.done():
            self._shell.withdraw(request)
            return []
        waited = answer.future.result().wait
        if not waited.valid:
            raise error_from(waited.error)
        ready = list(waited.ready_object_ids)
        for name in ready:
            self._finished(name)
        self._shell.note(lambda journal: [journal.finished(name) for name in ready])
        return ready


def names_in(value: Any) -> tuple[bytes, ...]:
    """The references within a value."""
    return value.names if isinstance(value, Parcel) else ()


def text_of(value: Any) -> Any:
    """Of a value, what is not a reference."""
    return value.text if isinstance(value, Parcel) else value
