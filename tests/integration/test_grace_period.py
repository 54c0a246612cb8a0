"""The grace period: what comes back within it goes on; what does not is over, and says so."""

from __future__ import annotations

from tests.conftest import MakeSession
from tests.support.cluster import Cluster
from tests.support.link import Link
from tests.support.ports import LOOPBACK, is_open
from tests.support.processes import kill, wait_gone
from tests.support.session import Session
from tests.support.waiting import eventually

SHORT = {"RAY_CLIENT_RECONNECT_GRACE_PERIOD": "2"}
NONE = {"RAY_CLIENT_RECONNECT_GRACE_PERIOD": "0"}


def _behind(link: Link, make_session: MakeSession, **options: object) -> Session:
    return make_session(address=f"ray://{LOOPBACK}:{link.port}", **options)


def test_a_call_fails_when_the_grace_period_is_over(link: Link, make_session: MakeSession) -> None:
    session = _behind(link, make_session, environment=SHORT)
    link.refuse()
    failure = session.client.fails("ray.get(ray.put(1))")
    assert "ConnectionError" in failure.bases
    assert "grace period" in failure.text
    assert session.client.run("ray.is_initialized()") is False


def test_shutdown_then_init_works_after_the_grace_period(
    link: Link, make_session: MakeSession, cluster: Cluster
) -> None:
    session = _behind(link, make_session, environment=SHORT)
    link.refuse()
    session.client.fails("ray.get(ray.put(1))")
    assert "ray.init" in session.client.fails("ray.get(ray.put(1))").text
    session.client.run("ray.shutdown()")
    session.client.connect(cluster.address)
    assert session.client.run("ray.get(ray.put(1))") == 1


def test_an_idle_client_learns_that_the_session_is_over(
    link: Link, make_session: MakeSession
) -> None:
    session = _behind(link, make_session, environment=SHORT)
    link.refuse()
    eventually(
        lambda: session.client.run("ray.is_initialized()") is False, "the client to notice its end"
    )


def test_the_server_of_an_expired_session_ends_and_its_port_is_free(
    link: Link, make_session: MakeSession
) -> None:
    session = _behind(link, make_session, environment=SHORT)
    link.refuse()
    wait_gone(session.server)
    assert not is_open(session.port)


def test_coming_back_too_late_is_told_apart_from_an_unknown_session(
    link: Link, make_session: MakeSession
) -> None:
    session = _behind(link, make_session, environment={"RAY_CLIENT_RECONNECT_GRACE_PERIOD": "6"})
    session.client.run("import threading; waiter = threading.Event()")
    # The server side's clock starts when the link breaks; the client's is made to start later.
    link.black_hole()
    with_link_dead = session.client.start("ray.get(ray.put(1))")
    link.refuse()
    wait_gone(session.server)
    link.accept()
    link.heal()
    failure = with_link_dead.failure()
    assert "ConnectionError" in failure.bases
    assert session.client.run("ray.is_initialized()") is False


def test_the_server_of_a_killed_client_ends_after_the_grace_period(
    make_session: MakeSession,
) -> None:
    session = make_session(environment=SHORT)
    session.client.kill()
    wait_gone(session.server)
    assert not is_open(session.port)


def test_without_a_grace_period_a_lost_link_ends_the_session(
    link: Link, make_session: MakeSession
) -> None:
    session = _behind(link, make_session, environment=NONE)
    session.client.run("never = ray.remote(lambda: __import__('threading').Event().wait())")
    step = session.client.start("mark('begun'); ray.get(never.remote())")
    session.client.wait_mark("begun")
    link.cut()
    assert "ConnectionError" in step.failure().bases
    wait_gone(session.server)
    assert session.client.run("ray.is_initialized()") is False


def test_without_a_grace_period_a_dead_server_ends_the_session(make_session: MakeSession) -> None:
    session = make_session(environment=NONE)
    session.lose_server()
    failure = session.client.fails("ray.get(ray.put(1))")
    assert "ConnectionError" in failure.bases
    assert "SIGKILL" in failure.text
    assert session.client.run("ray.is_initialized()") is False


def test_a_server_that_dies_in_the_detached_state_is_there_for_the_return(
    link: Link, make_session: MakeSession
) -> None:
    session = _behind(link, make_session)
    session.client.run("add = ray.remote(lambda x: x + 1)")
    assert session.client.run("ray.get(add.remote(1))") == 2
    link.refuse()
    session.lose_server()
    link.accept()
    assert session.client.run("ray.get(add.remote(2))") == 3


def test_the_namespace_of_a_detached_death_is_kept(link: Link, make_session: MakeSession) -> None:
    session = _behind(link, make_session)
    before = session.client.run("ray.get_runtime_context().namespace")
    link.refuse()
    session.lose_server()
    link.accept()
    assert session.client.run("ray.get_runtime_context().namespace") == before


def test_a_session_whose_servers_keep_dying_is_given_up_and_says_so(
    make_session: MakeSession, cluster: Cluster
) -> None:
    session = make_session(environment=SHORT)
    step = session.client.start("while True: ray.get(ray.put(1))")

    def killed_until_given_up() -> bool:
        for server in cluster.servers():
            kill(server)
        return step.is_done

    eventually(killed_until_given_up, "the session to be given up")
    failure = step.failure()
    assert "ConnectionError" in failure.bases
    assert "the server of this session died" in failure.text.lower()
    assert "SIGKILL" in failure.text
    assert session.client.run("ray.is_initialized()") is False
    session.client.run("ray.shutdown()")
    session.client.connect(cluster.address)
    assert session.client.run("ray.get(ray.put(1))") == 1
