"""What a program can see of its session, and hear of its changes."""

from __future__ import annotations

from tests.conftest import MakeSession
from tests.support.client import Client
from tests.support.session import Session
from tests.support.waiting import eventually

LISTEN = """
    from ray.util.client import session
    heard = []
    def listener(info): heard.append((info.state.name, info.incarnation))
    session.add_listener(listener)
    session.add_listener(listener)
"""


def _heard(client: Client, count: int) -> list:
    eventually(lambda: client.run("len(heard)") >= count, f"{count} changes")
    return client.run("heard")


def test_listeners_hear_of_a_death_and_of_the_recovery(session: Session) -> None:
    session.client.run(LISTEN)
    session.client.run("ref = ray.remote(num_cpus=0)(lambda: 1).remote(); ray.wait([ref])")
    session.lose_server()
    assert session.client.run("ray.get(ref)") == 1
    assert _heard(session.client, 2) == [["SUSPENDED", 1], ["CONNECTED", 2]]
    info = session.client.run("session.info()._asdict()")
    assert (info["incarnation"], info["recoveries"], info["resubmitted"]) == (2, 1, 1)
    assert info["last_recovery_s"] > 0 and info["journal_entries"] == 2 and info["lost"] == {}


def test_what_was_lost_is_counted_by_reason(session: Session) -> None:
    session.client.run("from ray.util.client import session")
    session.client.run("ref = ray.remote(max_retries=0)(lambda: 1).remote(); ray.wait([ref])")
    session.lose_server()
    session.client.fails("ray.get(ref)")
    assert session.client.run("session.info().lost") == {"no_retry": 1}


def test_a_removed_listener_hears_nothing_and_a_bad_one_harms_nobody(session: Session) -> None:
    session.client.run(LISTEN)
    session.client.run("others = []; session.add_listener(lambda info: 1 / 0)")
    session.client.run("session.add_listener(others.append); session.remove_listener(listener)")
    session.lose_server()
    assert session.client.run("ray.get(ray.put(1))") == 1
    eventually(lambda: session.client.run("len(others)") == 2, "two changes")
    assert session.client.run("heard") == []


def test_a_listener_may_use_the_session(session: Session) -> None:
    session.client.run(LISTEN)
    session.client.run("session.add_listener(lambda info: heard.append(ray.get(ray.put('got'))))")
    session.lose_server()
    assert session.client.run("ray.get(ray.put(1))") == 1
    eventually(lambda: session.client.run("heard").count("got") == 2, "two answers")


def test_the_end_is_heard(make_session: MakeSession) -> None:
    session = make_session()
    session.client.run(LISTEN)
    session.client.run("ray.shutdown()")
    assert _heard(session.client, 1) == [["CLOSED", 1]]
    assert "ConnectionError" in session.client.fails("session.info()").bases
    assert "TypeError" in session.client.fails("session.add_listener(1)").bases
