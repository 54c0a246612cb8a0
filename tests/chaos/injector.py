"""Carries faults out."""

from __future__ import annotations

import threading
import time
from collections import Counter
from dataclasses import dataclass
from typing import Callable, Dict, Iterator, List, Optional, Sequence

from tests.chaos.plan import Fault, Kind
from tests.chaos.program import Program
from tests.support.link import Link
from tests.support.processes import kill, paused
from tests.support.proxier import Proxier, Server
from tests.support.waiting import eventually

# How long a session may take to have a server again, which is to be killed.
_PATIENCE_S = 120.0


@dataclass(frozen=True)
class Death:
    """A kill of a session's server.

    Attributes:
        session: which one's, from 0.
        number: which of the session's servers, from 1.
        at: when it was killed, as of ``time.time()``.
    """

    session: int
    number: int
    at: float


class Injector:
    """A thread that carries faults out, one after another.

    Args:
        faults: what to do.
        proxier: whose servers are killed, and which is.
        programs, links: by a fault's session.
        say: told what is done.

    Attributes:
        done: how many faults of each kind.
        deaths: the servers of sessions that were killed, with their proxier or alone.
        failure: why it has ended before its time, if it has.
    """

    def __init__(
        self,
        faults: Iterator[Fault],
        proxier: Proxier,
        programs: Sequence[Program],
        links: Sequence[Link],
        say: Callable[[str], None],
    ) -> None:
        self.done: Counter[Kind] = Counter()
        self.deaths: List[Death] = []
        self.failure: Optional[BaseException] = None
        self._faults = faults
        self._proxier = proxier
        self._programs = programs
        self._links = links
        self._say = say
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="injector")

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Returns when the last fault is over, and the sessions may recover."""
        self._stopping.set()
        self._thread.join()

    def _run(self) -> None:
        try:
            for fault in self._faults:
                if self._stopping.wait(fault.pause_s):
                    return
                self._say(f"{fault.kind.value}, session {fault.session}, {fault.lasts_s:.1f} s")
                _ACTIONS[fault.kind](self, fault)
                self.done[fault.kind] += 1
        except BaseException as e:
            self.failure = e

    def _server(self, fault: Fault) -> Server:
        client_id = self._programs[fault.session].client_id
        assert client_id is not None
        found = eventually(
            lambda: self._proxier.server_of(client_id),
            f"a server of session {fault.session}",
            _PATIENCE_S,
        )
        assert found is not None
        return found

    def _kill(self, fault: Fault) -> None:
        server = self._server(fault)
        self.deaths.append(Death(fault.session, server.number, time.time()))
        kill(server.process)

    def _kill_twice(self, fault: Fault) -> None:
        self._kill(fault)
        self._kill(fault)

    def _stop(self, fault: Fault) -> None:
        with paused(self._server(fault).process):
            time.sleep(fault.lasts_s)

    def _cut(self, fault: Fault) -> None:
        self._links[fault.session].cut()

    def _delay(self, fault: Fault) -> None:
        link = self._links[fault.session]
        link.delay_s = 0.02
        time.sleep(fault.lasts_s)
        link.delay_s = 0.0

    def _refuse(self, fault: Fault) -> None:
        link = self._links[fault.session]
        link.refuse()
        time.sleep(fault.lasts_s)
        link.accept()

    def _black_hole(self, fault: Fault) -> None:
        link = self._links[fault.session]
        link.black_hole()
        time.sleep(fault.lasts_s)
        link.heal()

    def _restart(self, fault: Fault) -> None:
        ids = [program.client_id for program in self._programs]
        servers = [client_id and self._proxier.server_of(client_id) for client_id in ids]
        self.deaths += [
            Death(session, server.number, time.time())
            for session, server in enumerate(servers)
            if server
        ]
        self._proxier.kill()
        time.sleep(fault.lasts_s)
        self._proxier.start()


_ACTIONS: Dict[Kind, Callable[[Injector, Fault], None]] = {
    Kind.KILL: Injector._kill,
    Kind.KILL_TWICE: Injector._kill_twice,
    Kind.STOP: Injector._stop,
    Kind.CUT: Injector._cut,
    Kind.DELAY: Injector._delay,
    Kind.REFUSE: Injector._refuse,
    Kind.BLACK_HOLE: Injector._black_hole,
    Kind.PROXIER: Injector._restart,
}
