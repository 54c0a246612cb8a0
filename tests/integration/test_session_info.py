"""What a program can see of its session, and hear of its changes."""

from __future__ import annotations

from tests.conftest import MakeClient, MakeSession
from tests.support.client import Client
from tests.support.cluster import Cluster
from tests.support.link import Link
from tests.support.ports import LOOPBACK
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


def _info(client: Client) -> dict:
    return client.run("{**session.info()._asdict(), 'state': session.info().state.name}")


def test_states_and_counters_over_two_deaths(link: Link, make_session: MakeSession) -> None:
    session = make_session(address=f"ray://{LOOPBACK}:{link.port}")
    client = session.client
    client.run(
        """
        from ray.util.client import session

        @ray.remote(num_cpus=0, max_restarts=-1)
        class Actor:
            def ping(self):
                return "pong"

        never = ray.remote(num_cpus=0)(lambda: __import__("threading").Event().wait())
        put, actor = ray.put(1), Actor.remote()
        pending = [never.options(max_retries=-1).remote() for _ in range(3)]
        assert ray.get(actor.ping.remote()) == "pong"
        """
    )
    before = _info(client)
    assert (before["state"], before["incarnation"], before["recoveries"]) == ("CONNECTED", 1, 0)
    assert before["last_recovery_s"] is None and before["restored"] == before["resubmitted"] == 0
    for deaths in (1, 2):
        link.refuse()
        eventually(lambda: _info(client)["state"] == "SUSPENDED", "the client to notice")
        assert _info(client)["incarnation"] == deaths
        session.lose_server()
        link.accept()
        assert client.run("ray.get(actor.ping.remote())") == "pong"
        session.await_server()
        after = _info(client)
        assert (after["state"], after["incarnation"]) == ("CONNECTED", deaths + 1)
        assert (after["recoveries"], after["resubmitted"]) == (deaths, 3)
        # The class, the actor, and the function of the pending tasks.
        assert after["restored"] == 3
        assert after["lost"] == {} and after["last_recovery_s"] > 0
        assert client.run("ray.get(put)") == 1
        assert _info(client)["restored"] == 4
    entries = after["journal_entries"]
    client.run("del put; import gc; gc.collect(); ray.get(ray.put(2))")
    eventually(lambda: _info(client)["journal_entries"] < entries, "the put to be forgotten")


def test_what_is_heard_and_counted_without_replay(make_session: MakeSession) -> None:
    session = make_session(environment={"RAY_CLIENT_RECOVERY": "reconnect"})
    session.client.run(LISTEN)
    session.client.run("put, other = ray.put(1), ray.put(2)")
    session.lose_server()
    assert "OwnerDiedError" in session.client.fails("ray.get(put)").bases
    assert _heard(session.client, 2) == [["SUSPENDED", 1], ["CONNECTED", 2]]
    info = _info(session.client)
    assert info["lost"] == {"switched_off": 2} and info["restored"] == 0
    assert (info["state"], info["incarnation"], info["recoveries"]) == ("CONNECTED", 2, 1)


def test_what_is_heard_where_recovery_is_off(make_session: MakeSession) -> None:
    # The next server lives for the length of the grace period.
    environment = {"RAY_CLIENT_RECOVERY": "off", "RAY_CLIENT_RECONNECT_GRACE_PERIOD": "5"}
    session = make_session(environment=environment)
    session.client.run(LISTEN)
    session.lose_server()
    session.client.fails("while True: ray.get(ray.put(1))")
    assert _heard(session.client, 2) == [["SUSPENDED", 1], ["LOST", 1]]
    info = _info(session.client)
    assert (info["state"], info["incarnation"], info["recoveries"]) == ("LOST", 1, 0)


def test_each_session_of_a_process_has_its_own_listeners(
    make_client: MakeClient, cluster: Cluster
) -> None:
    client = make_client()
    client.run(
        """
        import ray
        from ray.util.client import session

        contexts = [ray.init(address, allow_multiple=True) for _ in range(2)]
        heard = [], []
        for context, into in zip(contexts, heard):
            with context:
                session.add_listener(lambda info, into=into: into.append(info.state.name))
        contexts[0].disconnect()
        """,
        address=cluster.address,
    )
    eventually(lambda: client.run("heard[0]") == ["CLOSED"], "the end of the first")
    assert client.run("heard[1]") == []
    client.run("contexts[1].disconnect()")
    eventually(lambda: client.run("heard[1]") == ["CLOSED"], "the end of the second")


def test_what_could_not_be_put_is_not_kept(session: Session) -> None:
    session.client.run(
        """
        from ray.util.client import session

        class Bad:
            def __reduce__(self):
                return int, ("no number",)
        """
    )
    before = _info(session.client)
    assert "ValueError" in session.client.fails("ray.put([Bad(), bytes(10**6)])").bases
    session.client.run("ray.get(ray.put(1))")
    assert _info(session.client)["journal_bytes"] < before["journal_bytes"] + 10**6
