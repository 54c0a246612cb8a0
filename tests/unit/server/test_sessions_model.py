"""Random histories of streams at a server's table of sessions, compared with a simple model."""

from __future__ import annotations

import itertools
import math
from typing import Dict, Optional

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from ray.util.client.server.sessions import (
    TABLE,
    Input,
    ServerFull,
    Session,
    SessionGone,
    Sessions,
    State,
)
from ray.util.client.session.errors import IllegalTransition
from ray.util.client.session.machine import Machine

CLIENTS = st.sampled_from(["a", "b", "c"])
MAX_CLIENTS = 2

EXPECTED = {
    (State.ATTACHED, Input.STREAM_BEGAN): State.ATTACHED,
    (State.ATTACHED, Input.STREAM_LEFT): State.ATTACHED,
    (State.ATTACHED, Input.LAST_STREAM_LEFT): State.DETACHED,
    (State.DETACHED, Input.STREAM_BEGAN): State.ATTACHED,
    (State.DETACHED, Input.OVER): State.ENDED,
}


@pytest.mark.parametrize("state, fed", list(itertools.product(State, Input)))
def test_every_pair_of_state_and_input(state: State, fed: Input) -> None:
    machine = Machine("session", TABLE, state)
    if (state, fed) in EXPECTED:
        assert machine.feed(fed) is EXPECTED[state, fed]
    else:
        with pytest.raises(IllegalTransition):
            machine.feed(fed)


class Known:
    """A client's session in the model: its streams, oldest first, and since when it has none."""

    def __init__(self, session: Session) -> None:
        self.session = session
        self.streams: Dict[int, None] = {}
        self.current: Optional[int] = None
        self.left_at = math.inf

    def over_at(self) -> float:
        ended = self.session.asked_to_end
        return self.left_at + (0 if ended else self.session.grace_s)


class Comparison(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.sessions = Sessions(MAX_CLIENTS)
        self.known: Dict[str, Known] = {}
        self.numbers = itertools.count()
        self.now = 0.0

    @rule(client=CLIENTS, reconnecting=st.booleans())
    def attach(self, client: str, reconnecting: bool) -> None:
        stream, known = next(self.numbers), self.known.get(client)
        refusal: Optional[type] = None
        if known is None and reconnecting or known is not None and known.session.asked_to_end:
            refusal = SessionGone
        elif known is None and len(self.known) == MAX_CLIENTS:
            refusal = ServerFull
        if refusal is not None:
            with pytest.raises(refusal):
                self.sessions.attach(client, stream, reconnecting=reconnecting, incarnation=1)
            return
        got = self.sessions.attach(client, stream, reconnecting=reconnecting, incarnation=1)
        if known is None:
            known = self.known[client] = Known(got.session)
        assert got.session is known.session
        assert got.superseded == known.current
        known.streams[stream] = None
        known.current, known.left_at = stream, math.inf

    @rule(client=CLIENTS, oldest=st.booleans())
    def detach(self, client: str, oldest: bool) -> None:
        known = self.known.get(client)
        if known is None or not known.streams:
            return
        stream = list(known.streams)[0 if oldest else -1]
        self.sessions.detach(known.session, stream, self.now)
        del known.streams[stream]
        if known.current == stream:
            known.current = None
        if not known.streams:
            known.left_at = self.now

    @rule(client=CLIENTS, grace=st.sampled_from([0.0, 5.0, 30.0]))
    def initialise(self, client: str, grace: float) -> None:
        known = self.known.get(client)
        if known is not None and known.streams:
            known.session.initialised, known.session.grace_s = True, grace

    @rule(client=CLIENTS)
    def ask_to_end(self, client: str) -> None:
        known = self.known.get(client)
        if known is not None and known.streams:
            known.session.asked_to_end = True

    @rule(pause=st.sampled_from([0.0, 1.0, 5.0, 40.0, math.inf]))
    def take_over(self, pause: float) -> None:
        now = self.now + pause
        self.now = self.now if math.isinf(pause) else now
        taken = self.sessions.take_over(now)
        detached = {c: k for c, k in self.known.items() if not k.streams}
        gone = {client for client, known in detached.items() if known.over_at() <= now}
        assert {session.client_id for session in taken} == gone
        for client in gone:
            assert self.known.pop(client).session.machine.state is State.ENDED

    @precondition(lambda self: self.known)
    @rule()
    def nobody_who_has_a_stream_is_taken(self) -> None:
        attached = {c for c, known in self.known.items() if known.streams}
        self.take_over(math.inf)
        assert attached == set(self.known)

    @invariant()
    def agrees(self) -> None:
        assert len(self.sessions) == len(self.known) <= MAX_CLIENTS
        ends = [known.over_at() for known in self.known.values() if not known.streams]
        assert self.sessions.next_expiry() == min(ends, default=math.inf)
        for known in self.known.values():
            assert set(known.session.streams) == set(known.streams)
            handouts = [one.number for one in known.session.streams.values()]
            assert len(set(handouts)) == len(handouts)
            assert known.session.current == known.current
            state = State.ATTACHED if known.streams else State.DETACHED
            assert known.session.machine.state is state


Comparison.TestCase.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)
test_any_history = Comparison.TestCase
