"""How patient a session is with servers that keep dying."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ray.util.client.session.grace import (
    FIRST_DELAY_S,
    HOPELESS_AFTER,
    LONGEST_DELAY_S,
    SETTLED_S,
    STILLBORN_S,
    Deaths,
)


def test_the_first_server_after_a_death_is_started_at_once():
    assert Deaths(30).another(now=100, up_since=50) == 0


def test_the_next_ones_wait_longer_and_longer():
    deaths = Deaths(30)
    delays = [deaths.another(now=n, up_since=n - 0.5) for n in range(9)]
    assert delays == pytest.approx([0, 0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 5, 5])


def test_a_server_that_has_settled_wipes_the_slate():
    deaths = Deaths(30)
    for n in range(5):
        deaths.another(now=n, up_since=None)
    assert deaths.another(now=5 + SETTLED_S, up_since=5) == 0


def test_gives_up_on_a_loop_after_the_grace_period():
    deaths = Deaths(30)
    fates = [deaths.another(now=4 * n, up_since=None) for n in range(HOPELESS_AFTER)]
    assert fates[-1] is None
    assert None not in fates[:-1]


def test_servers_that_have_served_a_little_are_no_loop():
    deaths = Deaths(30)
    for n in range(100):
        assert deaths.another(now=10 * n + 10, up_since=10 * n) is not None


@given(st.lists(st.tuples(st.floats(0, 20), st.booleans()), min_size=1, max_size=60))
def test_never_gives_up_within_the_grace_period(steps):
    deaths, now, grace = Deaths(60.0), 0.0, 60.0
    first = None
    for pause, was_up in steps:
        up_since, now = now, now + pause
        first = now if first is None else first
        delay = deaths.another(now, up_since if was_up else None)
        if delay is None:
            assert now - first >= grace
            return
        assert 0 <= delay <= LONGEST_DELAY_S


def fate(deaths, grace):
    """What the last of ``deaths``, as (when, seconds served; None: never up), leads to: told from
    all of them together, without keeping count."""

    def run_since(settled):
        last = max((n for n, (_, served) in enumerate(deaths) if served >= settled), default=0)
        return deaths[last:]

    quick, stillborn = run_since(SETTLED_S), run_since(STILLBORN_S)
    if len(stillborn) >= HOPELESS_AFTER and stillborn[-1][0] - stillborn[0][0] >= grace:
        return None
    again = len(quick) - 1
    return min(LONGEST_DELAY_S, FIRST_DELAY_S * 2 ** (again - 1)) if again else 0.0


NEAR = [STILLBORN_S, SETTLED_S]
SERVED = st.one_of(st.none(), st.floats(0, 60), st.sampled_from([*NEAR, *(n - 0.01 for n in NEAR)]))


@given(st.lists(st.tuples(st.floats(0, 10), SERVED), min_size=1, max_size=60), st.floats(0, 120))
def test_any_history_of_deaths(steps, grace):
    deaths, now, seen = Deaths(grace), 1000.0, []
    for pause, served in steps:
        now += pause + (served or 0)
        up_since = None if served is None else now - served
        seen.append((now, -1.0 if up_since is None else now - up_since))
        got = deaths.another(now, up_since)
        assert got == fate(seen, grace)
        if got is None:
            return
