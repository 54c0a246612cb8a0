"""How patient a session is with servers that keep dying."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ray.util.client.session.grace import HOPELESS_AFTER, LONGEST_DELAY_S, SETTLED_S, Deaths


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
