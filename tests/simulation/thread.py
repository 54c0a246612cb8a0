"""One thread of a client's program: its steps, one after the other."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any

from ray.util.client import protocol
from ray.util.client.session.errors import SessionLost
from ray.util.client.session.journal import Kind
from tests.simulation import plan
from tests.simulation.history import Operation
from tests.simulation.reader import names_in, text_of
from tests.simulation.server import Nest

if TYPE_CHECKING:
    from tests.simulation.user import User

_TASK = protocol.ClientTask


class Thread:
    """One thread of a program."""

    def __init__(self, user: User, number: int, steps: tuple[plan.Step, ...]) -> None:
        self._user = user
        self._number = number
        self._steps = steps
        # What variables stand for: names of values, or of an actor.
        self._values: dict[int, tuple[bytes, ...]] = {}
        self._actors: dict[int, bytes] = {}
        self._call_retries: dict[bytes, int] = {}

    async def run(self) -> None:
        user = self._user
        for step in self._steps:
            if user.shell.session.ended:
                return
            operation = user.history.begin(user.number, self._number, step, user.shell.world.now)
            work = _DO[type(step)](self, step, operation)
            if isinstance(step, plan.Later):
                await work
                continue
            await user.record(operation, work)
        # All that is still held must have a ticket, and be there, or say why it is not.
        mine = {name for names in self._values.values() for name in names}
        mine.update(self._actors.values())
        for ticket in user.tickets:
            if not ticket.future.done() and mine.issuperset(ticket.names):
                await user.step(self._number, "ticket", ticket.told())
        for names in list(self._values.values()):
            for name in names:
                if name in user.references and not user.shell.session.ended:
                    look = user.reader.get([name], None)
                    operation = await user.step(self._number, "last look", look)
                    operation.names = (name,)

    def _found(self, values: tuple[plan.Value, ...]) -> list[bytes]:
        """Names of the values that are still there, each once."""
        found = {}
        for var, index in values:
            names = self._values.get(var, ())
            if index < len(names):
                found[names[index]] = None
        return list(found)

    def _args(self, values: tuple[plan.Value, ...]) -> tuple[tuple[bytes, ...], list[Any]]:
        names = tuple(self._found(values))
        return names, [("ref", name) for name in names]

    async def _put(self, step: plan.Put, operation: Operation) -> None:
        work = step.work
        value: Any = f"put {work.number}".ljust(work.size, ".")
        needs = tuple(self._found(step.args))
        if needs:
            value = Nest(self._user.shell.client_id, value, needs)
        operation.names = needs
        name = await self._user.put(value, step=step, needs=needs)
        operation.names = (name,)
        self._values[step.var] = (name,)

    async def _run(self, step: plan.Run, operation: Operation) -> None:
        user = self._user
        payload = await user.payload("function")
        needs, args = self._args(step.args)
        names = tuple(user.mint(28) for _ in range(step.work.returns))
        operation.names = names
        options = {"max_retries": step.retries, "num_returns": step.work.returns}
        user.schedule(
            step, _TASK.FUNCTION, Kind.TASK, names, (payload, *needs), args, step.work,
            step.retries, options,
        )  # fmt: skip
        self._values[step.var] = names

    async def _make(self, step: plan.Make, operation: Operation) -> None:
        user = self._user
        payload = await user.payload("class")
        needs, args = self._args(step.args)
        name = user.mint(16)
        operation.names = (name,)
        options: dict[str, Any] = {"max_restarts": step.restarts}
        if step.name:
            options["name"] = step.name
        if step.detached:
            options["lifetime"] = "detached"
        kind = Kind.DETACHED if step.detached else Kind.ACTOR
        user.schedule(
            step, _TASK.ACTOR, kind, (name,), (payload, *needs), args, step.work, step.restarts,
            options,
        )  # fmt: skip
        self._actors[step.var] = name
        self._call_retries[name] = step.call_retries

    async def _call(self, step: plan.Call, operation: Operation) -> None:
        user = self._user
        actor = self._actors.get(step.actor)
        if actor is None:
            return
        needs, args = self._args(step.args)
        names = (user.mint(28),)
        operation.names = names
        retries = self._call_retries.get(actor, 0)
        user.schedule(
            step, _TASK.METHOD, Kind.CALL, names, (actor, *needs), args, step.work, retries, {}
        )
        self._values[step.var] = names

    async def _find(self, step: plan.Find, operation: Operation) -> None:
        name = self._user.mint(16)
        operation.names = (name,)
        self._user.find(name, step.name)
        self._actors[step.var] = name

    async def _get(self, step: plan.Get, operation: Operation) -> list[Any]:
        names = self._found(step.values)
        operation.names = tuple(names)
        return await self._user.reader.get(names, step.timeout) if names else []

    async def _open(self, step: plan.Open, operation: Operation) -> Any:
        names = self._found((step.value,))
        operation.names = tuple(names)
        if not names:
            return None
        value = await self._user.reader.open(names[0])
        self._values[step.var] = names_in(value)
        return text_of(value)

    async def _later(self, step: plan.Later, operation: Operation) -> None:
        names = self._found((step.value,))
        operation.names = tuple(names)
        if names:
            try:
                waiting = await self._user.reader.later(names[0], step.reads, operation)
            except SessionLost as e:
                await self._user.record(operation, _raise(e))
                return
            self._user.leave_open(operation, waiting())
        else:
            await self._user.record(operation, _nothing())

    async def _wait(self, step: plan.Wait, operation: Operation) -> set[bytes]:
        names = self._found(step.values)
        operation.names = tuple(names)
        if not names:
            return set()
        return await self._user.reader.wait(names, min(step.count, len(names)), step.timeout)

    async def _drop(self, step: plan.Drop, operation: Operation) -> None:
        names = self._values.pop(step.var, ())
        actor = self._actors.pop(step.var, None)
        for name in (*names, *([actor] if actor else [])):
            self._user.references.release(name)

    async def _kill(self, step: plan.Kill, operation: Operation) -> None:
        actor = self._actors.get(step.var)
        if actor is not None:
            operation.names = (actor,)
            await self._user.terminate(actor, True)

    async def _cancel(self, step: plan.Cancel, operation: Operation) -> None:
        for name in self._found((step.value,)):
            operation.names = (name,)
            await self._user.terminate(name, False)

    async def _ask(self, step: plan.Ask, operation: Operation) -> None:
        await (self._user.ask_beside(self._number) if step.beside else self._user.ask())

    async def _pause(self, step: plan.Pause, operation: Operation) -> None:
        await asyncio.sleep(step.seconds)


async def _nothing() -> None:
    pass


async def _raise(error: Exception) -> None:
    raise error


_DO: dict[type, Callable[[Thread, Any, Operation], Coroutine[Any, Any, Any]]] = {
    plan.Put: Thread._put,
    plan.Run: Thread._run,
    plan.Make: Thread._make,
    plan.Call: Thread._call,
    plan.Find: Thread._find,
    plan.Get: Thread._get,
    plan.Open: Thread._open,
    plan.Later: Thread._later,
    plan.Wait: Thread._wait,
    plan.Drop: Thread._drop,
    plan.Kill: Thread._kill,
    plan.Cancel: Thread._cancel,
    plan.Ask: Thread._ask,
    plan.Pause: Thread._pause,
}
