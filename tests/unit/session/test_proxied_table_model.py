"""Random histories of several clients and strangers at one table of sessions."""

from __future__ import annotations

from collections import OrderedDict
from typing import Dict, Optional

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from ray.util.client.session import wire
from ray.util.client.session.proxied import ProxiedSession, Refused, SavedInit, ServerFacts, State
from ray.util.client.session.proxied_table import Caller, SessionTable

TOMBSTONES = 2
CLIENTS = ["a", "b", "c", "d"]
SECRETS = st.sampled_from([None, "", "right", "wrong", "\u00e9"])
CALLERS = st.builds(
    Caller,
    client_id=st.sampled_from([*CLIENTS, ""]),
    secret=SECRETS,
    incarnation=st.one_of(st.none(), st.integers(0, 3)),
)


class Comparison(RuleBasedStateMachine):
    """The model holds, by client id, whose session lives and whose is remembered."""

    def __init__(self) -> None:
        super().__init__()
        self.table = SessionTable(TOMBSTONES)
        self.live: Dict[str, ProxiedSession] = {}
        self.secrets: Dict[str, Optional[str]] = {}
        self.buried: OrderedDict[str, str] = OrderedDict()
        self.now = 0.0

    def allowed(self, caller: Caller) -> bool:
        secret = self.secrets[caller.client_id]
        return secret is None or secret == (caller.secret or "")

    def refusal(self, caller: Caller) -> Optional[Refused]:
        """What a call that names an earlier session is answered with, if it can't be served."""
        if not caller.client_id:
            return Refused("FAILED_PRECONDITION", "")
        known = caller.client_id in self.live or caller.client_id in self.buried
        if known and not self.allowed(caller):
            return Refused("PERMISSION_DENIED", "", wire.REASON_SECRET)
        if caller.client_id in self.buried:
            why = self.buried[caller.client_id]
            return Refused("NOT_FOUND", why, wire.REASON_SESSION_GONE)
        return None

    def expect(self, expected: Optional[Refused], call, *args, **kwargs):
        try:
            found = call(*args, **kwargs)
        except Refused as why:
            assert expected is not None, f"refused: {why}"
            assert (why.code, why.reason) == (expected.code, expected.reason)
            assert expected.text in why.text
            assert not why.text.count("right"), "a refusal must not tell the secret"
            return None
        assert expected is None
        return found

    @rule(caller=CALLERS)
    def open(self, caller):
        expected = None
        if not caller.client_id:
            expected = Refused("FAILED_PRECONDITION", "")
        elif caller.client_id in self.live:
            # Only who shows the session's secret is told that it is theirs.
            own = self.secrets[caller.client_id] is not None and self.allowed(caller)
            reason = wire.REASON_SESSION_KNOWN if own else None
            expected = Refused("FAILED_PRECONDITION", "", reason)
        session = self.expect(expected, self.table.open, caller)
        if session is not None:
            self.live[caller.client_id] = session
            self.secrets[caller.client_id] = caller.secret
            self.buried.pop(caller.client_id, None)
            assert session.state is State.NEW

    @rule(caller=CALLERS)
    def reconnect(self, caller):
        expected = self.refusal(caller)
        if expected is None and caller.client_id not in self.live:
            expected = Refused("NOT_FOUND", "", wire.REASON_SESSION_UNKNOWN)
        session = self.expect(expected, self.table.reconnect, caller)
        assert session is (None if expected else self.live[caller.client_id])

    @rule(caller=CALLERS, any_incarnation=st.booleans())
    def find(self, caller, any_incarnation):
        expected, live = self.refusal(caller), self.live.get(caller.client_id)
        told = caller.incarnation
        stale = live is not None and told is not None and told != live.incarnation
        if expected is None and stale and not any_incarnation:
            expected = Refused("FAILED_PRECONDITION", "", wire.REASON_STALE_INCARNATION)
        session = self.expect(expected, self.table.find, caller, any_incarnation)
        assert session is (None if expected else live)

    @rule(client=st.sampled_from(CLIENTS), deaths=st.integers(0, 2))
    def serve(self, client, deaths):
        session = self.live.get(client)
        if session is None or session.state is not State.NEW:
            return
        session.attach()
        session.begin(SavedInit(b"init", 1, 30))
        for number in range(deaths + 1):
            self.now += 60
            session.server_up(self.now, ServerFacts())
            assert session.incarnation == number + 1
            if number < deaths:
                self.now += 60
                session.server_exited(self.now, "killed")

    @rule(client=st.sampled_from(CLIENTS), again=st.booleans())
    def end(self, client, again):
        session = self.live.pop(client, None)
        if session is None:
            return
        session.cleanup(f"{client} has left")
        for _ in range(1 + again):
            self.table.bury(session)
        if session.init is None:
            return  # It had not begun, so its client may begin it anew.
        self.buried[client] = f"{client} has left"
        while len(self.buried) > TOMBSTONES:
            self.buried.popitem(last=False)

    @invariant()
    def counts_those_that_live(self):
        assert len(self.table) == len(self.live)
        assert set(self.table) == set(self.live.values())


Comparison.TestCase.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)
test_any_history = Comparison.TestCase
