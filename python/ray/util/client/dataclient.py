"""The data stream of a session: the threaded shell round ``session.client``.

One thread opens the stream, reads it, and opens it again after an interruption until the grace
period is over. Callers add requests and wait for their replies. Whoever touches the session's core
holds ``_lock``; nobody waits or calls back while holding it.

Ctrl-C may interrupt a caller between any two steps, so handing a request over is a single step: it
is appended to the arrivals, and the stream's own thread takes it from there.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import grpc

from ray.util.client import protocol, ray, reports
from ray.util.client.chunking import MAX_BATCH, unload
from ray.util.client.continuity import Continuity
from ray.util.client.delivery import arrived, let_go_of_doubtful, settled
from ray.util.client.feed import Feed
from ray.util.client.progress import Progress
from ray.util.client.recovery import Limits, Recovery
from ray.util.client.replies import (
    BlockingReply,
    InitReply,
    ObjectReply,
    TicketReply,
    fail_all,
)
from ray.util.client.rpc_errors import short
from ray.util.client.sent import error_from
from ray.util.client.session import wire
from ray.util.client.session.client import (
    UNTRACKED,
    ClientSession,
    Kind,
    Receipt,
    Request,
    State,
)
from ray.util.client.session.conversation import Adoption, Conversation, Note
from ray.util.client.session.errors import SessionLost
from ray.util.client.session.info import SessionInfo, SessionState
from ray.util.client.session.journal import Ask, Entry, Journal, Outcome, Submission
from ray.util.client.speech import WireSpeech
from ray.util.client.spill import SpillStore
from ray.util.client.states import Listeners

logger = logging.getLogger(__name__)

# Pauses between attempts to open the stream again, in seconds.
_FIRST_PAUSE_S = 0.02
_LONGEST_PAUSE_S = 1.0

# How long a shutdown takes to tell the server, in seconds without progress: what stands in line is
# still to be sent. Before the server has answered the init there is nothing to lose.
_CLOSE_TIMEOUT_S = 5.0
_CLOSE_BEFORE_INIT_TIMEOUT_S = 1.0


def _at_once(callback: Callable[[Any], None], read: Callable[[], Any]) -> None:
    callback(read())


def _log_failure(error: Any) -> None:
    logger.warning("Something could not be restored: %s", error)


class DataClient:
    """Sends requests over the session's data stream and delivers the answers. Thread-safe.

    Args:
        channel: the gRPC channel to the cluster; it reconnects by itself.
        metadata: what identifies this client in every call.
        grace_period: seconds for which an interrupted stream is opened again; 0 is never.
        context: the client context that the session belongs to. References that come with answers
            are made in it.
        on_lost: called once, on the data thread, if the session is lost, before anybody hears.
        on_handed: called on the data thread with the names that an answer refers to and the number
            of these hand-outs; what it returns holds them.
        recovery: what is to be restored after a death of the server.
        limits: of what is kept for that; by default what the environment says.
        busy: whether the calling thread holds a lock that the data thread needs.
        later: ``later(callback, read)`` calls back with what ``read()`` returns or raises, where
            that may run code of the program's.
        off_main: makes a call, the main thread's on another thread: Ctrl-C does not end it halfway.
    """

    def __init__(
        self,
        channel: grpc.Channel,
        metadata: list[Any],
        grace_period: float,
        context: Any,
        on_lost: Callable[[], None],
        on_handed: Callable[[Sequence[bytes], int], Any],
        recovery: Recovery = Recovery.REPLAY,
        limits: Limits | None = None,
        busy: Callable[[], bool] = lambda: False,
        later: Callable[[Callable[[Any], None], Callable[[], Any]], None] = _at_once,
        off_main: Callable[[Callable[[], Any]], Any] = lambda call: call(),
    ) -> None:
        self._channel = channel
        self._metadata = metadata
        self._context = context
        self._on_lost = on_lost
        self._on_handed = on_handed
        speech = WireSpeech(lambda pickled: later(_log_failure, lambda: error_from(pickled)))
        self._core = Conversation(grace_period, speech, recovery is not Recovery.OFF)
        # Owned by its thread, so that a destructor which interrupts that one can tell.
        self._lock = threading.RLock()
        self._busy = busy
        self._off_main = off_main
        self._continuity = Continuity(self._core, grace_period, recovery)
        self._recovery = recovery
        self._limits = limits or Limits.from_environment()
        folder = self._limits.spill_folder
        self._spilling = None if folder is None else SpillStore(folder)
        # What callers have handed over and the session's core does not know yet.
        self._arrivals: deque[Request | Adoption | Note] = deque()
        # Locked while there is nothing to send. A bare lock, since callers touch it.
        self._gate = threading.Lock()
        self._state_changed = threading.Condition(self._lock)
        self._closing = threading.Event()
        self._interrupt: Callable[[], Any] | None = None
        self._pause = _FIRST_PAUSE_S
        self._last_recovery_s: float | None = None
        self._progress = Progress(lambda: self._core.restoring)
        self.listeners = Listeners(context)
        self._close_by = 0.0
        self._report: reports.Report | None = None
        self.request_queue = _Untracked(self)
        self._thread = threading.Thread(
            target=self._run, name="ray_client_streaming_rpc", daemon=True
        )
        self.own_threads = {self._thread}

    def start(self) -> None:
        """Opens the stream."""
        self._thread.start()

    # -- what the session is like

    @property
    def _session(self) -> ClientSession:
        return self._core.session

    @property
    def state(self) -> State:
        return self._session.state

    @property
    def incarnation(self) -> int | None:
        """The number of the server that answers now; None with a stock cluster."""
        return self._session.incarnation

    @property
    def recovers(self) -> bool:
        """Whether the cluster can carry this session over the death of its server."""
        return self._continuity.recovers

    @property
    def has_tokens(self) -> bool:
        """Whether objects are called by names that this client mints."""
        return self._continuity.has_tokens

    @property
    def has_parts(self) -> bool:
        """Whether what came inside an object can be had again from it."""
        return wire.CAP_PARTS in self._session.capabilities

    def info(self) -> SessionInfo:
        """The session as it is now."""
        with self._lock:
            return self._info()

    def _info(self) -> SessionInfo:
        session, journal = self._session, self._core.journal or Journal(0, 0, 0)
        return SessionInfo(
            state=SessionState[session.state.name],
            incarnation=session.incarnation,
            recoveries=session.recoveries,
            restored=journal.restored,
            resubmitted=journal.resubmitted,
            lost={reason.name.lower(): count for reason, count in journal.lost.items()},
            last_recovery_s=self._last_recovery_s,
            journal_bytes=journal.bytes,
            journal_entries=journal.entries,
            journal_spilled_bytes=journal.spilled_bytes,
        )

    def check_alive(self) -> None:
        """Raises the session's ending error if it has ended. Takes no lock: a destructor may ask,
        which the garbage collector runs on any thread."""
        if self._session.ended:
            raise self._session.ending()

    def check_may_wait(self) -> None:
        """Raises a RuntimeError where waiting for an answer would never end.

        The garbage collector runs destructors of the program's on any thread at any point: on those
        that bring the answers, and in the midst of what is done with a lock that they need. So do
        signals run their handlers on the main thread.
        """
        if self.must_not_wait:
            raise RuntimeError(
                "A destructor, or a signal's handler, that interrupts the Ray Client session's own "
                "work can't wait for the session. Don't get or wait for objects there; submitting, "
                "ray.put(), ray.kill() and ray.cancel() are all right."
            )

    @property
    def must_not_wait(self) -> bool:
        """Whether a wait on this thread, at this point, would never end."""
        own = threading.current_thread() in self.own_threads
        return own or self._lock._is_owned() or self._busy()  # type: ignore[attr-defined]

    def wait_connected(self, timeout: float) -> None:
        """Waits until the stream is open, the session has ended, or ``timeout`` seconds are over.

        Raises:
            SessionLost: it has ended.
            RuntimeError: see :meth:`check_may_wait`.
        """
        self.check_may_wait()
        with self._lock:
            self._state_changed.wait_for(
                lambda: self._session.state is State.CONNECTED or self._session.ended, timeout
            )
            if self._session.ended:
                raise self._session.ending()

    # -- requests

    def Init(self, request: Any) -> Any:
        """Begins the session on the server. Returns the InitResponse."""
        self._continuity.init = request
        reply = InitReply(self._negotiated)
        self._send(Kind.INIT, protocol.DataRequest(init=request), reply)
        return reply.wait().init

    def ConnectionInfo(self) -> Any:
        request = protocol.DataRequest(connection_info=protocol.ConnectionInfoRequest())
        return self._ask(Kind.QUERY, request).connection_info

    def ListNamedActors(self, request: Any) -> Any:
        return self._ask(
            Kind.QUERY, protocol.DataRequest(list_named_actors=request)
        ).list_named_actors

    def PutObject(self, request: Any) -> Any:
        payload = unload(request)
        return self._ask(Kind.PUT, protocol.DataRequest(put=request), payload).put

    def Terminate(self, request: Any) -> Any:
        """Cancels or kills what a TerminateRequest names; that does not come back after a death.

        An actor that may restart does. The server is told of it first: one that does not know a
        living actor yet could not end it. Where waiting would never end (see
        :meth:`check_may_wait`) nobody hears how it went.
        """
        if request.HasField("actor"):
            needs: tuple[bytes, ...] = (request.actor.id,)
            ended = needs if request.actor.no_restart else ()
        else:
            needs, ended = (), (request.task_object.id,)
        reply = None if self.must_not_wait else BlockingReply()
        message = protocol.DataRequest(terminate=request)
        self._hand_over(
            Request(UNTRACKED, Kind.TERMINATE, message, reply, needs=needs, concerns=ended)
        )
        if reply is None:  # A destructor's wish.
            return protocol.TerminateResponse(ok=True)
        return reply.wait().terminate

    def release(self, names: Iterable[bytes], receipts: Iterable[Receipt] = ()) -> None:
        """Tells that nobody here holds these objects and actors any more. Never waits or raises.

        ``receipts``: of what was handed out until then.
        """
        if not self._session.ended:
            request = Request(UNTRACKED, Kind.RELEASE, None, concerns=tuple(names))
            request.receipts = tuple(receipts)
            self._arrivals.append(request)
            self._wake()

    def Schedule(
        self, task: Any, futures: Sequence[Any], retries: int = 0, payload: Any = None
    ) -> None:
        """Submits a task.

        Args:
            task: the message.
            futures: get the ids of its returns, or an exception.
            retries: how often it may be submitted again when a server dies without confirming it;
                -1 is without limit.
            payload: the task's data where the message lacks it.
        """
        named = task.type == protocol.ClientTask.NAMED_ACTOR
        kind = Kind.QUERY if named else Kind.TASK
        if payload is None:
            payload = unload(task)
        message = protocol.DataRequest(task=task)
        self._send(kind, message, TicketReply(futures), retries, payload)

    # By name, with a server that has tokens.

    def submit(
        self, message: Any, reply: Any, submission: Submission, payload: Any = None
    ) -> None:
        """Sends what makes objects or actors, and files it in the journal.

        Args:
            message: a DataRequest.
            reply: gets the answer; None if nobody waits.
            submission: what the journal is to know of it.
            payload: bytes of the message that are kept and sent beside it.
        """
        request = Request(UNTRACKED, Kind.JOURNALED, message, reply, payload=payload)
        request.needs, request.submission = submission.needs, submission
        self._hand_over(request)

    def ask(self, kind: Kind, message: Any, reply: Any, needs: tuple[bytes, ...]) -> Request:
        """Asks for objects by their names. Returns what :meth:`withdraw` takes back."""
        request = Request(UNTRACKED, kind, message, reply, needs=needs)
        self._hand_over(request)
        return request

    def withdraw(self, request: Request) -> None:
        """Nobody waits for this any more; the server is told where it has been told of it."""
        request.waiter = None
        self._arrivals.append(Request(UNTRACKED, Kind.WITHDRAW, None, target=request))
        self._wake()

    def outcomes(self, names: Sequence[bytes]) -> list[Outcome]:
        """What is known of objects without asking the server."""
        journal = self._core.journal
        assert journal is not None, "objects have names only where there is a journal"
        self.check_may_wait()
        if not self._arrivals or self._session.ended:
            with self._lock:
                return [journal.outcome(name) for name in names]
        with self._lock:
            if not any(journal.has_heard_of(name) for name in names):
                # They are about to be made: what stands before them can't be about them.
                return [Ask.SERVER] * len(names)
        return self._off_main(lambda: self._newest_outcomes(names, journal))

    def _newest_outcomes(self, names: Sequence[bytes], journal: Journal) -> list[Outcome]:
        with self._lock:
            if not self._session.ended:
                self._let_in()
            return [journal.outcome(name) for name in names]

    def adopt(self, name: bytes) -> None:
        """An answer has brought a name that nobody here held. Never waits."""
        if not self._session.ended:
            self._arrivals.append(Adoption(name))

    def note(self, what: Note) -> None:
        """Tells the journal something, in its turn among the requests. Never waits."""
        if not self._session.ended:
            self._arrivals.append(what)

    @property
    def value_limit(self) -> int:
        """How many bytes a value may have that the journal is to keep."""
        return self._limits.max_value_bytes

    def RegisterGetCallback(self, request: Any, callback: Callable[[Any], None]) -> None:
        """Asks for one object when it is ready; ``callback`` gets its bytes or an exception, as
        that of an :class:`ObjectReply` does."""
        if len(request.ids) != 1:
            raise ValueError(f"One object at a time can be waited for, not {len(request.ids)}.")
        message = protocol.DataRequest(get=request)
        self._send(Kind.GET, message, ObjectReply(message, callback))

    def _blocking_send(self, request: Any) -> Any:
        return self._ask(Kind.QUERY, request)

    def _ask(self, kind: Kind, message: Any, payload: Any = None) -> Any:
        self.check_may_wait()
        reply = BlockingReply()
        self._send(kind, message, reply, payload=payload)
        return reply.wait()

    def _send(
        self, kind: Kind, message: Any, reply: Any, retries: int = 0, payload: Any = None
    ) -> None:
        request = Request(UNTRACKED, kind, message, reply, retries=retries, payload=payload)
        self._hand_over(request)

    def _hand_over(self, request: Request) -> None:
        self.check_alive()
        self._arrivals.append(request)
        self._wake()
        if self._session.ended:
            self._turn_away()

    def _wake(self) -> None:
        try:
            self._gate.release()
        except RuntimeError:  # It is open already.
            pass

    def _let_in(self) -> None:
        """Makes requests of the session out of the arrivals. Called with the lock held."""
        while self._arrivals:
            self._core.admit(self._arrivals.popleft())

    def _turn_away(self) -> None:
        """Tells those who came when the session was just ending that it has ended."""
        while self._arrivals:
            try:
                arrival = self._arrivals.popleft()
            except IndexError:  # Another thread has told the last one.
                return
            if isinstance(arrival, Request) and arrival.waiter is not None:
                arrival.waiter.failed(self._session.ending())

    # -- the stream

    def next_requests(self, feed: Feed) -> list[Request]:
        """Waits for requests that may be sent now; none when the feed is over."""
        while True:
            taken: list[Request] = []
            with self._lock:
                over = feed.closed
                if feed.opened and not over:
                    if not self._session.ended:
                        self._let_in()
                    self._take_some(taken)
                    over = not taken and self._closing.is_set()
                told, spilled = self._core.told(), self._core.unspilled
                self._core.unspilled = []
                nearly_full, self._core.nearly_full = self._core.nearly_full, False
            for reply, error in told:
                reply.failed(error)
            self._move_out(spilled)
            if nearly_full and self._core.journal is not None:
                reports.warn_of_bound(self._core.journal)
            if taken:
                return taken
            if over:
                break
            if not told:
                self._gate.acquire()
        self._wake()  # The next stream's feed may wait as well.
        return []

    def _take_some(self, taken: list[Request]) -> None:
        while len(taken) < MAX_BATCH:
            request = self._core.take()
            if request is None:
                return
            taken.append(request)
            if request.payload is not None:
                return  # Large ones are not taken out before their time.

    def _move_out(self, entries: list[Entry]) -> None:
        """Writes messages that the journal's memory has no room for to disk."""
        for entry in entries:
            filed, journal = entry.message, self._core.journal
            if filed is None or journal is None or self._spilling is None:
                continue  # It is needed no more.
            try:
                place = self._spilling.write(filed.message.SerializeToString(), filed.payload)
            except OSError as e:
                logger.warning("A message could not be kept on disk (%s). %s", e, reports.NOT_KEPT)
                with self._lock:
                    if journal.knows(entry):
                        journal.discard(entry)
                continue
            with self._lock:
                if entry.message is not None:
                    entry.message = filed._replace(message=place, payload=None)

    def lose(self, request: Request) -> None:
        """What a request is to say can't be had any more; whoever waits for it is told."""
        with self._lock:
            self._core.lose(request)
            told = self._core.told()
        for reply, error in told:
            reply.failed(error)

    def _run(self) -> None:
        ray.set_context(self._context)
        error: BaseException | None = None
        reconnecting = False
        try:
            while True:
                error = self._one_stream(reconnecting)
                goes_on = self._still_to_say if self._closing.is_set() else self._survives
                if not goes_on(error):
                    break
                self._closing.wait(self._pause)
                self._pause = min(2 * self._pause, _LONGEST_PAUSE_S)
                reconnecting = True
        except SessionLost as e:
            error = e
        except Exception as e:  # A fault of this program must not leave callers waiting.
            logger.exception("The data stream's thread failed.")
            error = e
        finally:
            self._end(error)

    def _still_to_say(self, error: BaseException | None) -> bool:
        """Whether a shutdown in an interruption has a last chance to tell the server."""
        with self._lock:
            says = self._continuity.has_more_to_say(error, len(self._arrivals))
        if not says or time.monotonic() > self._close_by:
            return False
        time.sleep(_FIRST_PAUSE_S)
        return True

    def _survives(self, error: BaseException | None) -> bool:
        """Notes that the stream broke. Returns whether it is worth opening again."""
        first = False
        if not self._continuity.outlives(error):
            return False
        with self._lock:
            if not self._closing.is_set():
                first = self._core.stream_broke(time.monotonic())
                self._state_changed.notify_all()
                if first:
                    self.listeners.tell(self._info())
            over = self._session.remaining(time.monotonic()) <= 0
        if first:
            self._pause = _FIRST_PAUSE_S
            self._progress.begin()
            logger.warning("The connection to the cluster broke (%s). Reconnecting.", short(error))
        return not over

    def _one_stream(self, reconnecting: bool) -> BaseException | None:
        """Opens a stream and serves it to its end. Returns the error that ended it, if any."""
        deadline = self._session.remaining(time.monotonic()) if reconnecting else None
        if reconnecting and not self._channel_ready(deadline):
            return None
        feed = Feed(self, self._continuity.first_message(reconnecting))
        metadata = self._metadata + self._continuity.metadata(reconnecting)
        call = protocol.Stub(self._channel, protocol.DATA_STREAMER).Datapath(
            iter(feed), metadata=metadata, wait_for_ready=True
        )
        self._interrupt = call.cancel
        try:
            self._opened(feed, None if feed.first is None else self._meet(call, deadline))
            for response in call:
                if response.HasField("batch"):
                    for each in response.batch.responses:
                        self._dispatch(each)
                else:
                    self._dispatch(response)
            return None
        except StopIteration:
            return None
        except grpc.RpcError as e:
            return e
        finally:
            self._close_feed(feed)
            call.cancel()

    def _channel_ready(self, timeout: float | None) -> bool:
        ready = grpc.channel_ready_future(self._channel)
        self._interrupt = ready.cancel
        try:
            ready.result(timeout)
            return True
        except (grpc.FutureTimeoutError, grpc.FutureCancelledError):
            return False
        finally:
            ready.cancel()

    def _meet(self, call: Any, timeout: float | None) -> Any:
        """Waits until the stream is attached to a live server, and learns which it is.

        The question goes with the stream itself, since a middleman may pass on nothing else.
        """
        alarm = threading.Timer(max(timeout or 0, 0), call.cancel)
        alarm.daemon = True
        alarm.start()
        try:
            return next(call)
        finally:
            alarm.cancel()

    def _opened(self, feed: Feed, told: Any) -> None:
        """The stream is open. ``told``: the answer to its first message, if it had one."""
        incarnation, handed = self._continuity.met(told)
        info = None if told is None else told.connection_info
        with self._lock:
            if self._session.ended:
                feed.opened = self._session.state is State.CLOSED
                self._wake()
                return
            self._let_in()
            before = self._session.incarnation
            reopened = self._core.opened(incarnation, handed)
            told = self._core.told()
            if incarnation is not None:
                self._session.heard()
            feed.opened = True
            feed.batches = wire.CAP_BATCHES in self._session.capabilities
            self._wake()
            self._state_changed.notify_all()
            self.listeners.tell(self._info())
            took = self._recovered(self._core.recovered(time.monotonic()))
        for reply, error in told:
            reply.failed(error)
        if info is not None:
            let_go_of_doubtful(info, self._on_handed)
        if incarnation is not None and before is not None:
            self._report = reports.Report(before, incarnation, reopened)
        self._log_recovery(took)

    def _recovered(self, took: float | None) -> float | None:
        """``took``: seconds of the recovery that is now over, if one is. The lock is held."""
        if took is not None:
            self._last_recovery_s = took
        return took

    def _log_recovery(self, took: float | None) -> None:
        if took is None:
            return
        self._progress.end()
        report, self._report = self._report, None
        if report is not None:
            report.log(took, self._core.journal)

    def _close_feed(self, feed: Feed) -> None:
        with self._lock:
            feed.closed = True
            self._wake()

    def _dispatch(self, response: Any) -> None:
        with self._lock:
            delivery = arrived(self._core, response, time.monotonic())
            if delivery.resumed:
                self._state_changed.notify_all()
            if delivery.sends:
                self._wake()
            took = self._recovered(delivery.took)
        if delivery.deliver(self._on_handed):
            with self._lock:
                sends, took = settled(self._core, response.req_id, time.monotonic())
                if sends:
                    self._wake()
                self._recovered(took)
        self._log_recovery(took)

    def _negotiated(self, accepted: Any) -> None:
        with self._lock:
            self._continuity.negotiated(accepted, self._new_journal)

    def _new_journal(self) -> Journal:
        limits = self._limits
        return Journal(
            limits.max_bytes,
            limits.max_entries,
            limits.max_value_bytes,
            replays=self._recovery is Recovery.REPLAY,
            spills=self._spilling is not None,
        )

    # -- the end

    def _end(self, error: BaseException | None) -> None:
        self._progress.end()
        if not self._closing.is_set():
            self._on_lost()
        with self._lock:
            waiting: list[Any] = []
            if not self._session.ended:
                waiting = self._session.give_up(self._continuity.cause(error))
                self.listeners.tell(self._info())
            self._state_changed.notify_all()
        self.listeners.close()
        self._turn_away()
        if waiting or self._session.cause is not None:
            logger.error("%s", self._session.cause)
        fail_all(waiting, lambda request: self._session.ending())

    def close(self) -> None:
        """Ends the session: the server is told, and everybody who waits gets an error.

        Idempotent. Ends within seconds, also when the cluster can't be reached.
        """
        with self._lock:
            waiting: list[Any] = []
            if not self._session.ended:
                self._let_in()
                cleanup = protocol.DataRequest(
                    connection_cleanup=protocol.ConnectionCleanupRequest()
                )
                self._session.add(Kind.CLEANUP, cleanup)
            if self._session.state is not State.CLOSED:
                waiting = self._session.shut_down()
                self.listeners.tell(self._info())
            self._close_by = time.monotonic() + _CLOSE_TIMEOUT_S
            self._closing.set()
            self._wake()
            self._state_changed.notify_all()
        self._turn_away()
        fail_all(waiting, lambda request: self._session.ending())
        if threading.current_thread() is self._thread or not self._thread.is_alive():
            return
        self._wait_for_farewell()
        interrupt = self._interrupt
        if self._thread.is_alive() and interrupt is not None:
            interrupt()
            self._thread.join(_CLOSE_TIMEOUT_S)
        self._interrupt = None

    def _wait_for_farewell(self) -> None:
        if not self._continuity.begun:
            self._thread.join(_CLOSE_BEFORE_INIT_TIMEOUT_S)
            return
        unsent = self._session.unsent + 1
        while self._thread.is_alive() and self._session.unsent < unsent:
            unsent = self._session.unsent
            self._thread.join(_CLOSE_TIMEOUT_S)


class _Untracked:
    """Puts messages on the stream whose answers nobody waits for."""

    def __init__(self, client: DataClient) -> None:
        self._client = client

    def put(self, message: Any) -> None:
        self._client._send(Kind.ACKNOWLEDGE, message, None)
