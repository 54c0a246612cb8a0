"""Carries out what the sessions decide: one :class:`Host` a session, one place for each effect."""

from __future__ import annotations

import asyncio
import logging
from typing import Any, Callable, Coroutine, Dict, Iterable, Optional, Set

from ray.util.client.server.proxy import rpc
from ray.util.client.server.proxy.output import Output, Outputs
from ray.util.client.server.proxy.packages import Packages
from ray.util.client.server.proxy.starter import LiveServer, Starter, StartFailed
from ray.util.client.session import wire
from ray.util.client.session.proxied import (
    UP,
    BreakData,
    BreakLogs,
    CancelGrace,
    Effect,
    ProxiedSession,
    Refused,
    SavedInit,
    Spawn,
    StartGrace,
    Terminate,
)
from ray.util.client.session.proxied_table import Caller, SessionTable

logger = logging.getLogger(__name__)

# A client's log stream may overtake its data stream, which is what makes the session.
APPEAR_S = 10.0


class Attachment:
    """One stream of a client, as its session sees it.

    Attributes:
        broken: done when the stream is to end; its result says why, None: without an error.
        cleanup: why the session ends with this stream; None: the client may come back.
        finished: set when the stream's handler is through with the server.
    """

    def __init__(self, older: Optional[Attachment] = None) -> None:
        self.broken: asyncio.Future[Optional[Refused]] = asyncio.Future()
        self.cleanup: Optional[str] = None
        self.finished = asyncio.Event()
        self._older = older

    async def turn(self) -> None:
        """Waits until the stream that this one replaces has let go of the server."""
        older, self._older = self._older, None
        if older is not None:
            await older.finished.wait()

    def break_off(self, why: Optional[Refused]) -> None:
        """Asks the handler to end the stream. The first reason counts."""
        if not self.broken.done():
            self.broken.set_result(why)


class Host:
    """The owner of one session: of its server, its streams and its timer. Loop-bound.

    Attributes:
        session: decides; whatever it answers goes to :meth:`carry_out`.
        server: the server while it is up.
        output: what the session's workers print.
        first_answer: what the first data stream gets in answer to its init.
    """

    def __init__(
        self,
        session: ProxiedSession,
        starter: Starter,
        packages: Packages,
        output: Output,
        ended: Callable[[], None],
    ) -> None:
        self.session = session
        self.server: Optional[LiveServer] = None
        self.output = output
        self.first_answer: Optional[bytes] = None
        self._starter = starter
        self._packages = packages
        self._ended = ended
        self._users: rpc.Metadata = ()
        self._data: Optional[Attachment] = None
        self._logs: Set[Attachment] = set()
        self._grace: Optional[asyncio.TimerHandle] = None
        self._start: Optional[asyncio.Task] = None
        self._keeping: Optional[asyncio.Task] = None
        self._tasks: Set[asyncio.Task] = set()
        self._changed = asyncio.Event()

    # -- streams

    def attach(self) -> Attachment:
        """Makes a data stream the session's one; an older one is asked to end.

        Raises:
            Refused: the session has ended.
        """
        self._require_live()
        older = self._data
        self.carry_out(self.session.attach())
        self._data = Attachment(older)
        return self._data

    def detach(self, mine: Attachment) -> None:
        """The data stream of that attachment has ended."""
        cleanup = mine.cleanup
        mine.finished.set()
        if self._data is mine:
            self._data = None
        elif cleanup is None:
            return
        # A goodbye counts also if the server died of it, and the stream is not the session's
        # any more: nobody will come back for the next one.
        if self.session.ended:
            return
        gone = self.session.client_gone() if cleanup is None else self.session.cleanup(cleanup)
        self.carry_out(gone)

    def add_logs(self) -> Attachment:
        """Takes a log stream on, in place of an older one; :meth:`drop_logs` is to follow."""
        text = "A newer log stream of the same client has taken over."
        for older in self._logs:
            older.break_off(Refused("UNAVAILABLE", text, wire.REASON_SUPERSEDED))
        mine = Attachment()
        self._logs.add(mine)
        return mine

    def drop_logs(self, mine: Attachment) -> None:
        self._logs.discard(mine)

    def begin(self, init: SavedInit, users: rpc.Metadata) -> None:
        """The init message has come. ``users``: metadata that the session's servers are to see."""
        self._users = users
        self.carry_out(self.session.begin(init))
        # At once: setting the runtime environment up may take longer than the client's own pin.
        self._keeping = self._task(self._keep_packages())
        self.output.begin(self.session.first)

    async def serving(self, but: Optional[LiveServer] = None) -> LiveServer:
        """Waits until the session has a server, another one than ``but``.

        Raises:
            Refused: the session has ended.
        """
        while True:
            self._require_live()
            if self.session.state in UP and self.server not in (None, but):
                return self.server
            await self._changed.wait()

    def shutdown(self) -> None:
        """The proxier ends."""
        if not self.session.ended:
            self.carry_out(self.session.shutdown())

    async def settled(self) -> None:
        """Waits until nothing is under way for this session any more."""
        while self._tasks:
            await asyncio.wait(self._tasks)

    def _require_live(self) -> None:
        if self.session.ended:
            raise self.session.refusal()

    # -- effects

    def carry_out(self, effects: Iterable[Effect]) -> None:
        """Does what the session has decided, and wakes whoever waits for a change."""
        for effect in effects:
            _DO[type(effect)](self, effect)
        self._changed.set()
        self._changed = asyncio.Event()
        if self.session.ended:
            self.output.close()
            self._ended()

    def _spawn(self, effect: Spawn) -> None:
        self._start = self._task(self._bring_up(effect))

    def _terminate(self, effect: Terminate) -> None:
        if self._start is not None:
            self._start.cancel()
        if self._keeping is not None:
            self._keeping.cancel()
        server, self.server = self.server, None
        if server is not None:
            self._task(self._starter.dispose(server, effect.gently))
        logger.info("Session of client %s is over: %s", self.session.client_id, self.session.ending)

    def _start_grace(self, effect: StartGrace) -> None:
        self._cancel_grace()
        loop = asyncio.get_running_loop()
        self._grace = loop.call_later(effect.seconds, self._grace_over)

    def _cancel_grace(self, _: Optional[CancelGrace] = None) -> None:
        if self._grace is not None:
            self._grace.cancel()
            self._grace = None

    def _grace_over(self) -> None:
        self._grace = None
        self.carry_out(self.session.grace_over())

    def _break_data(self, effect: BreakData) -> None:
        data, self._data = self._data, None
        if data is not None:
            data.break_off(effect.why)

    def _break_logs(self, effect: BreakLogs) -> None:
        for logs in self._logs:
            logs.break_off(effect.why)

    # -- the server

    async def _bring_up(self, spawn: Spawn) -> None:
        await asyncio.sleep(spawn.delay)
        loop = asyncio.get_running_loop()
        try:
            server = await self._starter.start(self.session, self._users)
        except StartFailed as e:
            self._not_up(e)
            return
        except Exception as e:  # A fault of this program must not leave the client waiting.
            self._not_up(StartFailed(f"the proxy server has a fault: {e!r}"))
            raise
        self._start = None
        if self.session.ended:
            # The cancellation came when the start was as good as done, and asyncio dropped it.
            await self._starter.dispose(server, gently=False)
            return
        self.server = server
        if server.facts.job:
            self.output.add_jobs({server.facts.job: server.facts.style})
        if server.incarnation == self.session.first:
            self.first_answer = server.answer
        self._task(self._watch(server))
        self.carry_out(self.session.server_up(loop.time(), server.facts))

    def _not_up(self, failed: StartFailed) -> None:
        self._start = None
        if self.session.ended:
            return
        self.first_answer = failed.answer
        now = asyncio.get_running_loop().time()
        self.carry_out(self.session.start_failed(now, failed.text))

    async def _keep_packages(self) -> None:
        await self._packages.keep(await self._starter.packages(self.session))

    async def _watch(self, server: LiveServer) -> None:
        await server.process.wait()
        if self.server is not server:
            return
        self.server = None
        if self._data is not None and self._data.cleanup is not None:
            # It was taking its client's leave, and nobody will come back for another one.
            self.carry_out(self.session.cleanup(self._data.cleanup))
        else:
            self._mourn(server.process.obituary())
        await self._starter.dispose(server, gently=False)

    def _mourn(self, obituary: str) -> None:
        logger.error("Server of client %s died: %s", self.session.client_id, obituary)
        now = asyncio.get_running_loop().time()
        self.carry_out(self.session.server_exited(now, obituary))

    def _task(self, work: Coroutine[Any, Any, None]) -> asyncio.Task:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._over)
        return task

    def _over(self, task: asyncio.Task) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and task.exception() is not None:
            logger.error(
                "Fault in the session of client %s",
                self.session.client_id,
                exc_info=task.exception(),
            )


_DO: Dict[type, Callable[[Host, Any], None]] = {
    Spawn: Host._spawn,
    Terminate: Host._terminate,
    StartGrace: Host._start_grace,
    CancelGrace: Host._cancel_grace,
    BreakData: Host._break_data,
    BreakLogs: Host._break_logs,
}


class Hosts:
    """All sessions of a proxier. Loop-bound.

    Args:
        starter: starts the sessions' servers.
        packages: keeps what they run from being deleted.
        outputs: gets what the sessions' workers print.
    """

    def __init__(self, starter: Starter, packages: Packages, outputs: Outputs) -> None:
        self._starter = starter
        self._packages = packages
        self._outputs = outputs
        self._table = SessionTable()
        self._hosts: Dict[ProxiedSession, Host] = {}
        self._leaving: Set[Host] = set()
        self._appeared = asyncio.Event()
        self._closing = False

    def __len__(self) -> int:
        """How many clients there are."""
        return len(self._table)

    def open(self, caller: Caller) -> Host:
        """Begins a session, or finds the one that the caller wants to carry on.

        Raises:
            Refused: see :class:`SessionTable`.
        """
        if self._closing:
            raise Refused("UNAVAILABLE", "The Ray Client proxy server is shutting down.")
        if caller.reconnecting:
            return self._hosts[self._table.reconnect(caller)]
        session = self._table.open(caller)
        output = self._outputs.open()
        host = Host(session, self._starter, self._packages, output, lambda: self._bury(session))
        self._hosts[session] = host
        self._appeared.set()
        self._appeared = asyncio.Event()
        return host

    def find(self, caller: Caller, any_incarnation: bool = False) -> Optional[Host]:
        """The caller's session; None if it is not known.

        Raises:
            Refused: see :meth:`SessionTable.find`.
        """
        session = self._table.find(caller, any_incarnation)
        return None if session is None else self._hosts[session]

    async def appears(self, caller: Caller) -> Optional[Host]:
        """As :meth:`find`, but waits a little for a session that is not there yet."""
        deadline = asyncio.get_running_loop().time() + APPEAR_S
        while True:
            host = self.find(caller, any_incarnation=True)
            left = deadline - asyncio.get_running_loop().time()
            if host is not None or left <= 0:
                return host
            waiting = asyncio.ensure_future(self._appeared.wait())
            await asyncio.wait({waiting}, timeout=left)
            waiting.cancel()

    async def shutdown(self) -> None:
        """Ends all sessions and reaps their servers."""
        self._closing = True
        hosts = [*self._hosts.values(), *self._leaving]
        for host in hosts:
            host.shutdown()
        await asyncio.gather(*(host.settled() for host in hosts))

    def _bury(self, session: ProxiedSession) -> None:
        self._table.bury(session)
        host = self._hosts.pop(session, None)
        if host is None:
            return
        self._leaving.add(host)
        task = asyncio.ensure_future(host.settled())
        task.add_done_callback(lambda _: self._leaving.discard(host))
