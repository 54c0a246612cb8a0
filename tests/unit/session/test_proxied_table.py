"""Whom a proxier lets near which session."""

from __future__ import annotations

from dataclasses import replace

import pytest

from ray.util.client.session import wire
from ray.util.client.session.proxied import Refused, SavedInit, ServerFacts
from ray.util.client.session.proxied_table import Caller, SessionTable

STOCK = Caller("stock")
FORK = Caller("fork", secret="5ec7e7")


def begun(table, caller):
    session = table.open(caller)
    session.attach()
    session.begin(SavedInit(b"init", 1, 30))
    session.server_up(0.0, ServerFacts())
    return session


def refused(call, *args, **kwargs):
    with pytest.raises(Refused) as caught:
        call(*args, **kwargs)
    return caught.value


def end(table, session):
    session.cleanup("its client has disconnected")
    table.bury(session)


@pytest.mark.parametrize("caller", [STOCK, FORK])
def test_a_session_is_found_again_by_its_client(caller):
    table = SessionTable()
    session = begun(table, caller)
    assert table.find(caller) is session
    assert table.reconnect(caller) is session


def test_nobody_is_found_in_an_empty_table():
    assert SessionTable().find(STOCK) is None


def test_the_count_is_that_of_the_sessions():
    table = SessionTable()
    first, _ = begun(table, STOCK), begun(table, FORK)
    assert len(table) == len(list(table)) == 2
    end(table, first)
    assert len(table) == 1


@pytest.mark.parametrize("method", ["open", "find", "reconnect"])
def test_no_client_id(method):
    why = refused(getattr(SessionTable(), method), Caller(""))
    assert why.code == "FAILED_PRECONDITION"


def test_a_second_session_of_one_client_id():
    table = SessionTable()
    begun(table, STOCK)
    why = refused(table.open, STOCK)
    assert (why.code, why.reason) == ("FAILED_PRECONDITION", None)


def test_a_client_that_begins_twice_is_told_that_it_has_begun():
    table = SessionTable()
    begun(table, FORK)
    why = refused(table.open, FORK)
    assert (why.code, why.reason) == ("FAILED_PRECONDITION", wire.REASON_SESSION_KNOWN)
    assert refused(table.open, replace(FORK, secret="wrong")).reason is None


@pytest.mark.parametrize("secret", [None, "", "wrong", "5ec7e7é"])
@pytest.mark.parametrize("method", ["find", "reconnect"])
def test_another_secret(method, secret):
    table = SessionTable()
    begun(table, FORK)
    why = refused(getattr(table, method), replace(FORK, secret=secret))
    assert (why.code, why.reason) == ("PERMISSION_DENIED", wire.REASON_SECRET)
    assert FORK.secret not in why.text


def test_a_stock_client_needs_no_secret():
    table = SessionTable()
    session = begun(table, STOCK)
    assert table.find(replace(STOCK, secret="any")) is session


@pytest.mark.parametrize("told", [1, 3])
def test_another_incarnation_is_refused_and_told_the_present_one(told):
    table = SessionTable()
    begun(table, FORK).server_exited(1.0, "killed")
    why = refused(table.find, replace(FORK, incarnation=told))
    assert (why.code, why.reason) == ("FAILED_PRECONDITION", wire.REASON_STALE_INCARNATION)
    assert why.incarnation == 2


def test_the_present_incarnation_is_let_through():
    table = SessionTable()
    session = begun(table, FORK)
    assert table.find(replace(FORK, incarnation=1)) is session


def test_a_reconnect_may_believe_in_the_last_incarnation():
    table = SessionTable()
    session = begun(table, FORK)
    session.server_exited(1.0, "killed")
    assert table.reconnect(replace(FORK, incarnation=1)) is session


def test_an_unknown_session_can_not_be_reconnected():
    why = refused(SessionTable().reconnect, STOCK)
    assert (why.code, why.reason) == ("NOT_FOUND", wire.REASON_SESSION_UNKNOWN)
    assert "Attempted to reconnect a session that has already been cleaned up" in why.text


@pytest.mark.parametrize("method", ["find", "reconnect"])
def test_an_ended_session_says_why_it_ended(method):
    table = SessionTable()
    end(table, begun(table, FORK))
    why = refused(getattr(table, method), FORK)
    assert (why.code, why.reason) == ("NOT_FOUND", wire.REASON_SESSION_GONE)
    assert "its client has disconnected" in why.text


def test_strangers_are_not_told_why_a_session_ended():
    table = SessionTable()
    end(table, begun(table, FORK))
    assert refused(table.find, replace(FORK, secret="wrong")).reason == wire.REASON_SECRET


def test_a_client_whose_session_has_ended_may_begin_another():
    table = SessionTable()
    first = begun(table, FORK)
    end(table, first)
    second = begun(table, FORK)
    assert table.find(FORK) is second
    table.bury(first)
    assert table.find(FORK) is second


def test_a_session_that_has_not_begun_leaves_no_tombstone():
    table = SessionTable()
    session = table.open(FORK)
    session.attach()
    end(table, session)
    assert table.find(FORK) is None
    assert refused(table.reconnect, FORK).reason == wire.REASON_SESSION_UNKNOWN


def test_tombstones_are_bounded():
    table = SessionTable(tombstones=2)
    for n in range(3):
        end(table, begun(table, Caller(str(n))))
    assert table.find(Caller("0")) is None
    for n in (1, 2):
        assert refused(table.find, Caller(str(n))).code == "NOT_FOUND"
