"""Without replay, refs and handles from before the death raise Ray's own exceptions, at once."""

from __future__ import annotations

import pytest

from tests.conftest import MakeClient, MakeSession
from tests.support.client import Failure, StepFailed
from tests.support.cluster import Cluster
from tests.support.session import Session

SETUP = """
    @ray.remote(num_cpus=0)
    class Actor:
        def ping(self):
            return "pong"

    @ray.remote
    def identity(x):
        return x

    @ray.remote(num_cpus=0)
    def never():
        import threading
        threading.Event().wait()

    put, result, pending, actor = ray.put(1), identity.remote(2), never.remote(), Actor.remote()
    ray.get([put, actor.ping.remote()]), ray.wait([result])
"""


@pytest.fixture
def session(make_session: MakeSession) -> Session:
    """A session that goes on with an empty server."""
    return make_session(environment={"RAY_CLIENT_RECOVERY": "reconnect"})


@pytest.fixture
def bereft(session: Session) -> Session:
    """A session with refs ``put``, ``result``, ``pending`` and an ``actor``, whose server died."""
    session.client.run(SETUP)
    session.lose_server()
    session.await_server()
    return session


def _says_why(failure: Failure) -> bool:
    return "server" in failure.text and "died" in failure.text


@pytest.mark.parametrize(
    "code",
    [
        "ray.get(put)",
        "ray.get(result)",
        "ray.get(pending)",
        "ray.get([ray.put(1), put])",
        "ray.get(put, timeout=60)",
        "ray.get(identity.remote(put))",
        "put.future().result()",
        "import asyncio\nasync def ask(): return await put\nasyncio.run(ask())",
    ],
)
def test_an_old_ref_raises_owner_died(bereft: Session, code: str) -> None:
    failure = bereft.client.fails(code)
    assert "OwnerDiedError" in failure.bases + [failure.cause.split("(")[0]]
    assert _says_why(failure), failure


def test_a_get_under_way_raises_owner_died(session: Session) -> None:
    session.client.run(SETUP)
    step = session.client.start("mark('begun'); ray.get(pending)")
    session.client.wait_mark("begun")
    session.lose_server()
    failure = step.failure()
    assert "OwnerDiedError" in failure.bases
    assert _says_why(failure), failure


def test_an_old_ref_counts_as_ready_in_wait(bereft: Session) -> None:
    assert bereft.client.run("[len(refs) for refs in ray.wait([pending])]") == [1, 0]


def test_an_old_actor_raises_actor_died(bereft: Session) -> None:
    failure = bereft.client.fails("ray.get(actor.ping.remote())")
    assert "ActorDiedError" in failure.bases
    assert _says_why(failure), failure


def test_killing_an_old_actor_is_no_error_as_with_any_dead_actor(bereft: Session) -> None:
    bereft.client.run("ray.kill(actor)")
    assert "ActorDiedError" in bereft.client.fails("ray.get(actor.ping.remote())").bases


def test_the_session_is_none_the_worse_for_it(bereft: Session) -> None:
    bereft.client.fails("ray.get(put)")
    bereft.client.fails("ray.get(actor.ping.remote())")
    bereft.client.run("del put, result, pending")
    assert bereft.client.run("ray.get(identity.remote(3))") == 3
    assert bereft.client.run("ray.get(Actor.remote().ping.remote())") == "pong"
    assert bereft.cluster.servers() == [bereft.server]


def test_recovery_may_be_switched_off(make_session: MakeSession) -> None:
    session = make_session(environment={"RAY_CLIENT_RECOVERY": "off"})
    assert session.client.run("ray.get(ray.put(1))") == 1
    session.lose_server()
    failure = session.client.fails("while True: ray.get(ray.put(1))")
    assert "ConnectionError" in failure.bases and "RAY_CLIENT_RECOVERY" in failure.text
    assert session.client.run("ray.is_initialized()") is False


def test_an_unknown_setting_is_refused(make_client: MakeClient, cluster: Cluster) -> None:
    client = make_client(environment={"RAY_CLIENT_RECOVERY": "sometimes"})
    with pytest.raises(StepFailed, match="replay, reconnect, off; not 'sometimes'"):
        client.connect(cluster.address)
