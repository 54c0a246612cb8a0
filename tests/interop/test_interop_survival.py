"""A stock client, and ours, on our head: the session survives. With TLS and a token and without."""

from __future__ import annotations

from typing import Callable, Dict

import pytest

from tests.conftest import GetCluster, MakeClient, MakeSession
from tests.support.link import Link
from tests.support.ports import LOOPBACK
from tests.support.session import Session

SETUP = """
    @ray.remote
    def add_one(x):
        return x + 1

    @ray.remote(num_cpus=0)
    class Counter:
        def __init__(self):
            self.count = 0

        def add(self):
            self.count += 1
            return self.count

    ref, counter = ray.put(20), Counter.remote()
"""

Connect = Callable[..., Session]


@pytest.fixture(params=["stock", "fork"])
def client_python(request: pytest.FixtureRequest) -> str:
    return request.getfixturevalue(f"{request.param}_python")


@pytest.fixture(params=["plain", "tls", "token"])
def security(request: pytest.FixtureRequest) -> Dict[str, str]:
    """Environment variables of the head and of its clients."""
    if request.param == "plain":
        return {}
    return request.getfixturevalue(f"{request.param}_environment")


@pytest.fixture
def connect_to_fork(
    clusters: GetCluster, fork_python: str, client_python: str, make_session: MakeSession
) -> Connect:
    def connect(security: Dict[str, str], **options: object) -> Session:
        head = clusters(fork_python, security)
        return make_session(client_python, security, cluster=head, address=head.address, **options)

    return connect


def test_a_session_survives(
    connect_to_fork: Connect, security: Dict[str, str], client_python: str, fork_python: str
) -> None:
    session = connect_to_fork(security)
    session.client.run(SETUP)
    assert session.client.run("ray.get([add_one.remote(ref), counter.add.remote()])") == [21, 1]
    namespace = session.client.run("ray.get_runtime_context().namespace")
    session.lose_server()
    assert session.client.run("ray.get(add_one.remote(2))") == 3
    assert session.client.run("ray.get(Counter.remote().add.remote())") == 1
    assert session.client.run("ray.get(ray.put('new'))") == "new"
    assert session.client.run("ray.get_runtime_context().namespace") == namespace
    # Only our own client keeps what it needs to restore things.
    if client_python == fork_python:
        assert session.client.run("ray.get(ref)") == 20
    else:
        failure = session.client.fails("ray.get(ref)")
        assert "OwnerDiedError" in failure.bases
        assert "died" in failure.text
    assert "ActorDiedError" in session.client.fails("ray.get(counter.add.remote())").bases


def test_a_detached_actor_is_found_again(connect_to_fork: Connect) -> None:
    session = connect_to_fork({}, namespace="interop")
    session.client.run(SETUP)
    session.client.run("kept = Counter.options(name='kept', lifetime='detached').remote()")
    assert session.client.run("ray.get(kept.add.remote())") == 1
    session.lose_server()
    assert session.client.run("ray.get(ray.get_actor('kept').add.remote())") == 2
    session.client.run("ray.kill(ray.get_actor('kept'))")


def test_a_working_dir_is_still_there(connect_to_fork: Connect, tmp_path) -> None:
    (tmp_path / "brought_along.py").write_text("ANSWER = 42\n")
    session = connect_to_fork({}, runtime_env={"working_dir": str(tmp_path)})
    session.lose_server()
    session.client.run(
        """
        @ray.remote
        def look():
            import brought_along
            return brought_along.ANSWER
        """
    )
    assert session.client.run("ray.get(look.remote())") == 42


def test_several_clients_of_one_process(connect_to_fork: Connect) -> None:
    session = connect_to_fork({}, allow_multiple=True)
    client, address = session.client, session.cluster.address
    code = "second = ray.init(address, allow_multiple=True); None"
    client.run(code, address=address)
    server = session.cluster.next_server(session.server)
    code = "with second:\n    got = ray.get(ray.put('of the second'))\ngot"
    assert client.run(code) == "of the second"
    session.lose_server()
    assert client.run(code) == "of the second"
    assert server in session.cluster.servers()
    client.run("context.disconnect(); second.disconnect()")


def test_a_lost_link_is_made_good(make_client: MakeClient, client_python: str, link: Link) -> None:
    client = make_client(client_python)
    client.connect(f"ray://{LOOPBACK}:{link.port}")
    client.run("ref = ray.put('kept')")
    link.cut()
    assert client.run("ray.get(ref)") == "kept"
    client.run("ray.shutdown()")
