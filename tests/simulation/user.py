"""A client's program: threads that put, submit, get and wait, by the product's own messages."""

from __future__ import annotations

import asyncio
import itertools
import pickle
from collections.abc import Callable, Coroutine, Iterable, Sequence
from typing import Any

import ray.cloudpickle as cloudpickle
from ray.exceptions import GetTimeoutError, RayError
from ray.util.client import protocol
from ray.util.client.chunking import carry
from ray.util.client.losses import lost_error
from ray.util.client.named import SeenValue
from ray.util.client.replies import PartsReply, error_from
from ray.util.client.rpc_errors import recoverable
from ray.util.client.session import wire as wire_names
from ray.util.client.session.client import Kind as RequestKind
from ray.util.client.session.client import Receipt
from ray.util.client.session.errors import SessionLost
from ray.util.client.session.journal import Ask as AskServer
from ray.util.client.session.journal import Kind, Lost, Seen, Submission
from ray.util.client.speech import NO_ARGUMENTS
from tests.simulation import plan
from tests.simulation.cluster import Work
from tests.simulation.history import Failed, History, Ok, Operation, Thing
from tests.simulation.network import Metadata, Route, Status, Wire
from tests.simulation.server import Arguments, Nest, Parcel
from tests.simulation.shell import RpcFailure, Shell

# As in the product (seconds).
ANSWER_SLACK_S = 0.5
NOW_S = 0.02
FIRST_PAUSE_S = 0.02
LONGEST_PAUSE_S = 0.5

_TASK = protocol.ClientTask


class OutOfPatience(ConnectionError):
    """A call beside the data stream was not answered within the grace period."""


class _Answer:
    """Waits for one answer."""

    def __init__(self, user: User) -> None:
        self.future: asyncio.Future = user.shell.process.future()

    def done(self, response: Any) -> bool:
        if not self.future.done():
            self.future.set_result(response)
        return True

    def failed(self, error: Exception) -> None:
        if not self.future.done():
            self.future.set_exception(error)
            self.future.exception()

    def restart(self) -> None:
        pass


class _Beginning(_Answer):
    """Waits for the answer to the init."""

    def __init__(self, user: User) -> None:
        super().__init__(user)
        self._negotiated = user.shell.negotiated

    def done(self, response: Any) -> bool:
        self._negotiated(response.init)
        return super().done(response)


class _Ticket(_Answer):
    """Waits for a ticket, as whoever asks for the cluster's ids does.

    ``names``: of what the ticket is for.
    """

    def __init__(self, user: User, names: tuple[bytes, ...]) -> None:
        super().__init__(user)
        self.names = names

    async def told(self) -> None:
        """Waits until it has come, or will not."""
        await asyncio.wait({self.future})


class _Hold:
    """References within a value that is kept, or read; when it goes, the names are let go of."""

    def __init__(self, user: User, names: Iterable[bytes]) -> None:
        self._user, self._names = user, tuple(names)
        for name in self._names:
            user.receive(name)

    def __del__(self) -> None:
        # As the product's destructors: only into a queue.
        user = self._user
        for name in self._names:
            user.shell.world.after(0, user.release_later, name)


class User:
    """Runs a program and enters into the history what it sees.

    Args:
        number: of the client.
        shell: its session.
        program: what to do.
        history: where to enter it.
        call: makes a unary call: ``call(name, request, metadata)`` gives a future of (answer,
            status).
    """

    def __init__(
        self,
        number: int,
        shell: Shell,
        program: plan.Program,
        history: History,
        call: Callable[[str, bytes, Metadata], asyncio.Future],
    ) -> None:
        self.number = number
        self.shell = shell
        self.history = history
        self.tickets: list[_Ticket] = []
        # Unary calls, by key: the incarnations that were meant.
        self.meant: dict[bytes, set[int | None]] = {}
        self.over = False
        self._program = program
        self._call = call
        self._names = itertools.count(1)
        self._orders = itertools.count(1)
        self._payloads: dict[str, asyncio.Future] = {}
        self._held: dict[bytes, int] = {}
        self._handing = 0
        self._handed: dict[bytes, int] = {}
        shell.on_handed = self._on_handed
        self._open: list[asyncio.Future] = []

    def start(self) -> None:
        self.shell.start()
        self.shell.process.task(self._main())

    # -- the program

    async def _main(self) -> None:
        begun = await self._step(0, "init", self._begin())
        if isinstance(begun.outcome, Failed):
            await self.shell.close()
            self.over = True
            return
        threads = [
            asyncio.ensure_future(_Thread(self, number, steps).run())
            for number, steps in enumerate(self._program.threads)
        ]
        if threads:
            await asyncio.wait(threads)
        for thread in threads:
            thread.result()
        await self._epilogue()
        self.over = True

    async def _begin(self) -> None:
        answer = _Beginning(self)
        self.shell.begin(answer)
        response = await answer.future
        if not response.init.ok:
            raise ConnectionError(response.init.msg)

    async def _epilogue(self) -> None:
        """Lets go of everything, so that nothing may be left."""
        if self._open:
            await asyncio.wait(self._open)
        for name in list(self._held):
            while name in self._held:
                self.release(name)

    async def shut_down(self) -> None:
        await self._step(0, "shutdown", self.shell.close())

    async def _step(self, thread: int, step: Any, work: Coroutine[Any, Any, Any]) -> Operation:
        operation = self.history.begin(self.number, thread, step, self.shell.world.now)
        await self.record(operation, work)
        return operation

    async def record(self, operation: Operation, work: Coroutine[Any, Any, Any]) -> None:
        """Runs a call and enters how it ends."""
        operation.outcome = None
        try:
            operation.outcome = Ok(await work)
        except (Exception, asyncio.CancelledError) as e:
            operation.outcome = Failed(e)
        operation.ended_at = self.shell.world.now
        if self.shell.world.traced:
            self.shell.world.note(f"{operation}")

    # -- making

    def mint(self, size: int) -> bytes:
        number = next(self._names)
        prefix = wire_names.TOKEN_PREFIX + b"simul" + self.number.to_bytes(2, "big")
        return prefix + number.to_bytes(size - len(prefix), "big")

    def hold(self, names: tuple[bytes, ...]) -> None:
        for name in names:
            self._held[name] = self._held.get(name, 0) + 1

    async def payload(self, kind: str) -> bytes:
        """The name of the function, or class, that is put before its first use."""
        known = self._payloads.get(kind)
        if known is None:
            known = self._payloads[kind] = asyncio.ensure_future(
                self.put(kind, Kind.PAYLOAD, b"mine-" + kind.encode())
            )
        try:
            return await asyncio.shield(known)
        except Exception:
            self._payloads.pop(kind, None)
            raise

    async def put(
        self,
        value: Any,
        kind: Kind = Kind.PUT,
        client_ref_id: bytes = b"",
        step: Any = None,
        needs: tuple[bytes, ...] = (),
    ) -> bytes:
        token = self.mint(28)
        message = protocol.DataRequest()
        message.put.register_as = token
        if client_ref_id:
            message.put.client_ref_id = client_ref_id
        payload = carry(message.put, pickle.dumps(value))
        if step is not None:
            self._made(step, (token,), needs)
        answer = _Answer(self)
        self.shell.submit(message, answer, Submission(kind, (token,), needs), payload)
        self.hold((token,))
        try:
            response = await answer.future
            if not response.put.valid:
                raise error_from(response.put.error)
        except Exception:
            self.release(token)
            raise
        return token

    def schedule(
        self,
        step: Any,
        type: int,
        kind: Kind,
        names: tuple[bytes, ...],
        needs: tuple[bytes, ...],
        args: list[tuple[str, Any]],
        work: Work,
        retries: int,
        options: dict[str, Any],
    ) -> None:
        task = protocol.ClientTask(
            type=type,
            name="work",
            payload_id=needs[0],
            client_id=self.shell.client_id,
            return_tokens=names,
        )
        if options:
            task.options.pickled_options = pickle.dumps(options)
        payload = carry(task, pickle.dumps(Arguments(self.shell.client_id, args, work)))
        ticket = _Ticket(self, names)
        submission = Submission(kind, names, needs, retries)
        self.shell.submit(protocol.DataRequest(task=task), ticket, submission, payload)
        self._made(step, names, needs)
        self.hold(names)
        self.tickets.append(ticket)

    def find(self, name: bytes, of: str) -> None:
        self.history.found[name] = of
        task = protocol.ClientTask(
            type=_TASK.NAMED_ACTOR,
            name=of,
            client_id=self.shell.client_id,
            return_tokens=[name],
            data=NO_ARGUMENTS,
            total_chunks=1,
        )
        ticket = _Ticket(self, (name,))
        self.shell.submit(
            protocol.DataRequest(task=task), ticket, Submission(Kind.NAMED, (name,)), None
        )
        self.hold((name,))
        self.tickets.append(ticket)

    def _made(self, step: Any, names: tuple[bytes, ...], needs: tuple[bytes, ...]) -> None:
        world = self.shell.world
        thing = Thing(self.number, step, names, needs, world.now, next(self._orders))
        self.history.made(step.work.number, thing)

    def receive(self, name: bytes) -> None:
        """One reference more of a name that came in a value."""
        if name not in self._held:
            self.shell.adopt(name)
        self.hold((name,))

    def _on_handed(self, names: Sequence[bytes], handing: int) -> _Hold:
        hold = _Hold(self, names)
        if handing != self._handing:
            self._handing = handing
            self._handed.clear()
        for name in names:
            self._handed[name] = self._handed.get(name, 0) + 1
        return hold

    def release_later(self, name: bytes) -> None:
        """As :meth:`release`, out of a destructor's queue."""
        if self.shell.process.alive and name in self._held:
            self.release(name)

    def release(self, name: bytes) -> None:
        """One reference less."""
        self._held[name] -= 1
        if self._held[name]:
            return
        del self._held[name]
        self.history.dropped[name] = self.shell.world.now
        times = self._handed.pop(name, 0)
        receipts = (Receipt(name, self._handing, times),) if times else ()
        if not self.shell.session.ended:
            self.shell.send(RequestKind.RELEASE, None, None, concerns=(name,), receipts=receipts)

    # -- reading

    async def get(self, names: list[bytes], timeout: float | None) -> list[Any]:
        """The values; of those that refer to something, what is not a reference."""
        return [self._let_go(value) for value in await self._get(names, timeout)]

    async def open(self, name: bytes) -> Any:
        """The value of one object, with its references, which are held from now on."""
        return (await self._get([name], None))[0]

    async def _get(self, names: list[bytes], timeout: float | None) -> list[Any]:
        found: dict[bytes, Any] = {}
        wanted: list[bytes] = []
        self.shell.check_journal()
        outcomes = self.shell.outcomes(names)
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
        for inner in _names_in(value):
            self.receive(inner)
        return value

    def _keep(self, name: bytes, part: Any) -> Any:
        (outcome,) = self.shell.outcomes([name])
        if isinstance(outcome, Seen):
            return self._read(outcome.value)
        data = bytes(part)
        self._finished(name)
        value = self._received(pickle.loads(data))
        inner = _names_in(value)
        if inner:
            for place, each in enumerate(inner):
                if not each.startswith(wire_names.TOKEN_PREFIX):
                    where = (name, place, self.shell.world.now)
                    self.history.inner.setdefault(each, where)
            self.shell.note(lambda journal: journal.contains(name, inner))
        if len(data) > self.shell.bounds.value_bytes:
            self.shell.note(lambda journal: journal.finished(name))
        else:
            holds = (_Hold(self, inner),) if inner else ()
            self._note_seen(name, SeenValue(data, False, holds))
        return value

    def _finished(self, name: bytes) -> None:
        self.history.finished.setdefault(name, self.shell.world.now)

    def _note_seen(self, name: bytes, seen: SeenValue) -> None:
        size, restorable = len(seen.data), not seen.holds
        failed = seen.is_error
        self.shell.note(lambda journal: journal.seen(name, seen, size, restorable, failed))

    def _ask_for(self, names: list[bytes], now: bool) -> tuple[Any, Any, asyncio.Future]:
        outcome: asyncio.Future = self.shell.process.future()
        message = protocol.DataRequest(
            get=protocol.GetRequest(ids=names, asynchronous=True, parts=True, nowait=now)
        )
        reply = PartsReply(message, lambda parts: outcome.done() or outcome.set_result(parts))
        request = self.shell.send(RequestKind.GET, message, reply, needs=tuple(names))
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
                self.shell.withdraw(request)
            reply.let_go()

    def _parts(self, names: list[bytes], outcome: asyncio.Future) -> list[Any]:
        parts = outcome.result()
        if isinstance(parts, Exception):
            if len(names) == 1:
                self._note_error(names[0], parts)
            raise parts
        return [self._keep(name, part) for name, part in zip(names, parts)]

    def _note_error(self, name: bytes, error: Exception) -> None:
        if isinstance(error, RayError) and getattr(error, "cause", None) is not None:
            self._finished(name)
            self._note_seen(name, SeenValue(cloudpickle.dumps(error), True))

    async def later(
        self, name: bytes, reads: bool, operation: Operation
    ) -> Callable[[], Coroutine[Any, Any, Any]]:
        """Asks for a value at once; what it returns waits for it. The name is held until then.

        ``reads``: also gets what the value refers to, whose names are added to the operation's.
        """
        self.shell.check_journal()
        (known,) = self.shell.outcomes([name])
        reply = outcome = None
        if known is AskServer.SERVER:
            _, reply, outcome = self._ask_for([name], False)
        self.hold((name,))

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
                self.release(name)

        return wait

    async def _look_into(self, value: Any, reads: bool, operation: Operation) -> Any:
        inner = _names_in(value)
        try:
            if reads and inner:
                operation.names += inner
                await self.get(list(inner), None)
        finally:
            text = self._let_go(value)
        return text

    def _let_go(self, value: Any) -> Any:
        """Of a value, what is not a reference."""
        for inner in _names_in(value):
            self.release(inner)
        return _text(value)

    def leave_open(self, operation: Operation, work: Coroutine[Any, Any, Any]) -> None:
        """Nobody waits for this before the program's end."""
        self._open.append(asyncio.ensure_future(self.record(operation, work)))

    async def wait(self, names: list[bytes], count: int, timeout: float | None) -> set[bytes]:
        self.shell.check_journal()
        ready = {
            name
            for name, outcome in zip(names, self.shell.outcomes(names))
            if outcome is not AskServer.SERVER
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
                client_id=self.shell.client_id,
            )
        )
        answer = _Answer(self)
        request = self.shell.send(RequestKind.WAIT, message, answer, needs=tuple(names))
        patience = None if timeout is None else timeout + ANSWER_SLACK_S
        await asyncio.wait({answer.future}, timeout=patience)
        if not answer.future.done():
            self.shell.withdraw(request)
            return []
        waited = answer.future.result().wait
        if not waited.valid:
            raise error_from(waited.error)
        ready = list(waited.ready_object_ids)
        for name in ready:
            self._finished(name)
        self.shell.note(lambda journal: [journal.finished(name) for name in ready])
        return ready

    # -- ending, asking

    async def terminate(self, name: bytes, actor: bool) -> None:
        self.history.ended[name] = self.shell.world.now
        request = protocol.TerminateRequest(client_id=self.shell.client_id)
        if actor:
            request.actor.id = name
            request.actor.no_restart = True
        else:
            request.task_object.id = name
        answer = _Answer(self)
        message = protocol.DataRequest(terminate=request)
        needs = (name,) if actor else ()
        self.shell.send(RequestKind.TERMINATE, message, answer, concerns=(name,), needs=needs)
        await answer.future

    async def ask(self) -> None:
        message = protocol.DataRequest(connection_info=protocol.ConnectionInfoRequest())
        answer = _Answer(self)
        self.shell.send(RequestKind.QUERY, message, answer)
        await answer.future

    async def ask_beside(self, thread: int) -> None:
        """A unary call over gaps, as the product makes it."""
        shell = self.shell
        world = shell.world
        pause, give_up_at = FIRST_PAUSE_S, None
        number = str(next(self._names))
        key = number.encode()
        request = protocol.KVPutRequest(key=key, value=b"v").SerializeToString()
        numbered = (("thread_id", str(thread)), ("req_id", number))
        while True:
            shell.check_alive()
            meant = shell.incarnation
            self.meant.setdefault(key, set()).add(meant)
            told: Metadata = ((wire_names.INCARNATION_KEY, str(meant)),) if meant else ()
            answer, status = await self._call("KVPut", request, shell.metadata + told + numbered)
            if status.code.value[0] == 0:
                return
            error = RpcFailure(status)
            shell.check_alive()
            if not recoverable(error):
                raise ConnectionError(f"{status.code.name}: {status.details}")
            give_up_at = give_up_at or world.now + shell.grace_period
            if world.now >= give_up_at:
                raise OutOfPatience(f"{status.code.name}: {status.details}")
            await asyncio.sleep(pause)
            pause = min(2 * pause, LONGEST_PAUSE_S)
            await shell.connected(shell.grace_period)


class _Thread:
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
                await user._step(self._number, "ticket", ticket.told())
        for names in list(self._values.values()):
            for name in names:
                if name in user._held and not user.shell.session.ended:
                    operation = await user._step(self._number, "last look", user.get([name], None))
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
        return await self._user.get(names, step.timeout) if names else []

    async def _open(self, step: plan.Open, operation: Operation) -> Any:
        names = self._found((step.value,))
        operation.names = tuple(names)
        if not names:
            return None
        value = await self._user.open(names[0])
        self._values[step.var] = _names_in(value)
        return _text(value)

    async def _later(self, step: plan.Later, operation: Operation) -> None:
        names = self._found((step.value,))
        operation.names = tuple(names)
        if names:
            try:
                waiting = await self._user.later(names[0], step.reads, operation)
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
        return await self._user.wait(names, min(step.count, len(names)), step.timeout)

    async def _drop(self, step: plan.Drop, operation: Operation) -> None:
        names = self._values.pop(step.var, ())
        actor = self._actors.pop(step.var, None)
        for name in (*names, *([actor] if actor else [])):
            self._user.release(name)

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


_DO: dict[type, Callable[[_Thread, Any, Operation], Coroutine[Any, Any, Any]]] = {
    plan.Put: _Thread._put,
    plan.Run: _Thread._run,
    plan.Make: _Thread._make,
    plan.Call: _Thread._call,
    plan.Find: _Thread._find,
    plan.Get: _Thread._get,
    plan.Open: _Thread._open,
    plan.Later: _Thread._later,
    plan.Wait: _Thread._wait,
    plan.Drop: _Thread._drop,
    plan.Kill: _Thread._kill,
    plan.Cancel: _Thread._cancel,
    plan.Ask: _Thread._ask,
    plan.Pause: _Thread._pause,
}


def _names_in(value: Any) -> tuple[bytes, ...]:
    return value.names if isinstance(value, Parcel) else ()


def _text(value: Any) -> Any:
    return value.text if isinstance(value, Parcel) else value


class UnaryCaller:
    """A client's end of a unary call."""

    def __init__(self, shell: Shell, route: Route) -> None:
        self.future: asyncio.Future = shell.process.future()
        self._answer = b""
        self.wire = Wire(route, self)

    def took(self, data: bytes) -> None:
        self._answer = data

    def room(self) -> None:
        pass

    def ended(self, status: Status) -> None:
        if not self.future.done():
            self.future.set_result((self._answer, status))
