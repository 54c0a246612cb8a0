"""The engine of the state machines."""

import enum

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ray.util.client.session.errors import IllegalTransition
from ray.util.client.session.machine import Machine


class Light(enum.Enum):
    RED = 1
    GREEN = 2


class Push(enum.Enum):
    GO = 1
    STOP = 2


TABLE = {(Light.RED, Push.GO): Light.GREEN, (Light.GREEN, Push.STOP): Light.RED}


def test_follows_the_table():
    machine = Machine("light", TABLE, Light.RED)
    assert machine.feed(Push.GO) is Light.GREEN
    assert machine.feed(Push.STOP) is Light.RED


def test_what_the_table_lacks_is_an_error_and_changes_nothing():
    machine = Machine("light", TABLE, Light.RED)
    assert not machine.can(Push.STOP)
    with pytest.raises(IllegalTransition, match="light: STOP is not possible in state RED"):
        machine.feed(Push.STOP)
    assert machine.state is Light.RED


TABLES = st.dictionaries(
    st.tuples(st.sampled_from(Light), st.sampled_from(Push)), st.sampled_from(Light)
)


@given(TABLES, st.lists(st.sampled_from(Push)))
def test_any_table_and_any_inputs(table, fed):
    machine, state = Machine("any", table, Light.RED), Light.RED
    for one in fed:
        assert machine.can(one) == ((state, one) in table)
        if machine.can(one):
            state = table[state, one]
            assert machine.feed(one) is state
        else:
            with pytest.raises(IllegalTransition):
                machine.feed(one)
        assert machine.state is state
