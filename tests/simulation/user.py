"""A client's program: threads that put, submit, get and wait, by the product's own messages."""

from __future__ import annotations

import asyncio
import itertools
import pickle
from collections.abc import Callable, Coroutine
from typing import Any

from ray.util.client import protocol
from ray.util.client.chunking import carry
from ray.util.client.rpc_errors import recoverable
from ray.util.client.sent import error_from
from ray.util.client.session import wire as wire_names
from ray.util.client.session.client import Kind as RequestKind
from ray.util.client.session.journal import Kind, Submission
from ray.util.client.speech import NO_ARGUMENTS
from tests.simulation import plan
from tests.simulation.answers import Answer, Beginning, Ticket
from tests.simulation.cluster import Work
from tests.simulation.history import Failed, History, Ok, Operation, Thing
from tests.simulation.network import Metadata
from tests.simulation.reader import Reader
from tests.simulation.references import References
from tests.simulation.server import Arguments
from tests.simulation.shell import RpcFailure, Shell
from tests.simulation.thread import Thread

# As in the product (seconds).
FIRST_PAUSE_S = 0.02
LONGEST_PAUSE_S = 0.5

_TASK = protocol.ClientTask


class OutOfPatience(ConnectionError):
    """A call beside the data stream was not answered within the grace period."""


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
        self.references = References(shell, history)
        self.reader = Reader(shell, self.references, history)
        self.tickets: list[Ticket] = []
        # Unary calls, by key: the incarnations that were meant.
        self.meant: dict[bytes, set[int | None]] = {}
        self.over = False
        self._program = program
        self._call = call
        self._names = itertools.count(1)
        self._orders = itertools.count(1)
        self._payloads: dict[str, asyncio.Future] = {}
        self._open: list[asyncio.Future] = []

    def start(self) -> None:
        self.shell.start()
        self.shell.process.task(self._main())

    # -- the program

    async def _main(self) -> None:
        begun = await self.step(0, "init", self._begin())
        if isinstance(begun.outcome, Failed):
            await self.shell.close()
            self.over = True
            return
        threads = [
            asyncio.ensure_future(Thread(self, number, steps).run())
            for number, steps in enumerate(self._program.threads)
        ]
        if threads:
            await asyncio.wait(threads)
        for thread in threads:
            thread.result()
        await self._epilogue()
        self.over = True

    async def _begin(self) -> None:
        answer = Beginning(self.shell)
        self.shell.begin(answer)
        response = await answer.future
        if not response.init.ok:
            raise ConnectionError(response.init.msg)

    async def _epilogue(self) -> None:
        """Lets go of everything, so that nothing may be left."""
        if self._open:
            await asyncio.wait(self._open)
        self.references.release_all()

    async def shut_down(self) -> None:
        await self.step(0, "shutdown", self.shell.close())

    async def step(self, thread: int, step: Any, work: Coroutine[Any, Any, Any]) -> Operation:
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
        answer = Answer(self.shell)
        self.shell.submit(message, answer, Submission(kind, (token,), needs), payload)
        self.references.hold((token,))
        try:
            response = await answer.future
            if not response.put.valid:
                raise error_from(response.put.error)
        except Exception:
            self.references.release(token)
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
        ticket = Ticket(self.shell, names)
        submission = Submission(kind, names, needs, retries)
        self.shell.submit(protocol.DataRequest(task=task), ticket, submission, payload)
        self._made(step, names, needs)
        self.references.hold(names)
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
        ticket = Ticket(self.shell, (name,))
        self.shell.submit(
            protocol.DataRequest(task=task), ticket, Submission(Kind.NAMED, (name,)), None
        )
        self.references.hold((name,))
        self.tickets.append(ticket)

    def _made(self, step: Any, names: tuple[bytes, ...], needs: tuple[bytes, ...]) -> None:
        world = self.shell.world
        thing = Thing(self.number, step, names, needs, world.now, next(self._orders))
        self.history.made(step.work.number, thing)

    def leave_open(self, operation: Operation, work: Coroutine[Any, Any, Any]) -> None:
        """Nobody waits for this before the program's end."""
        self._open.append(asyncio.ensure_future(self.record(operation, work)))

    # -- ending, asking

    async def terminate(self, name: bytes, actor: bool) -> None:
        self.history.ended[name] = self.shell.world.now
        request = protocol.TerminateRequest(client_id=self.shell.client_id)
        if actor:
            request.actor.id = name
            request.actor.no_restart = True
        else:
            request.task_object.id = name
        answer = Answer(self.shell)
        message = protocol.DataRequest(terminate=request)
        needs = (name,) if actor else ()
        self.shell.send(RequestKind.TERMINATE, message, answer, concerns=(name,), needs=needs)
        await answer.future

    async def ask(self) -> None:
        message = protocol.DataRequest(connection_info=protocol.ConnectionInfoRequest())
        answer = Answer(self.shell)
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
