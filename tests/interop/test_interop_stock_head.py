"""Our client where servers are stock's works as stock's does, and says that it can't recover."""

from __future__ import annotations

from typing import Dict

import pytest

from tests.conftest import GetCluster, MakeSession
from tests.support.cluster import Cluster
from tests.support.link import Link
from tests.support.ports import LOOPBACK
from tests.support.session import Session, connect

# Stock's proxier forks under gRPC, and up to one in three of its servers dies before it runs.
TRIES = 10

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

    counter = Counter.options(name="counter").remote()
"""


@pytest.fixture(scope="session")
def stock_head(clusters: GetCluster, stock_python: str) -> Cluster:
    return clusters(stock_python)


def _use(session: Session) -> None:
    session.client.run(SETUP)
    assert session.client.run("ray.get(add_one.remote(ray.put(1)))") == 2
    assert session.client.run("ray.get([counter.add.remote(), counter.add.remote()])") == [1, 2]
    assert session.client.run("ray.get(ray.get_actor('counter').add.remote())") == 3
    assert session.client.run("len(ray.get(ray.put(bytes(12 * 2**20))))") == 12 * 2**20
    assert session.client.run("len(ray.nodes())") == 1


def test_a_session_works_and_says_once_that_recovery_is_off(
    make_session: MakeSession, stock_head: Cluster
) -> None:
    session = make_session(cluster=stock_head, tries=TRIES, address=stock_head.address)
    _use(session)
    lines = [line for line in session.client.output().splitlines() if "recover" in line]
    assert len(lines) == 1, lines


def test_a_session_works_with_tls_and_a_token(
    make_session: MakeSession,
    clusters: GetCluster,
    stock_python: str,
    tls_environment: Dict[str, str],
    token_environment: Dict[str, str],
) -> None:
    security = {**tls_environment, **token_environment}
    head = clusters(stock_python, security)
    _use(make_session(environment=security, cluster=head, address=head.address, tries=TRIES))


def test_a_namespace_and_a_working_dir(
    make_session: MakeSession, stock_head: Cluster, tmp_path
) -> None:
    (tmp_path / "brought_along.py").write_text("ANSWER = 42\n")
    session = make_session(
        cluster=stock_head,
        tries=TRIES,
        address=stock_head.address,
        namespace="mine",
        runtime_env={"working_dir": str(tmp_path)},
    )
    assert session.client.run("ray.get_runtime_context().namespace") == "mine"
    session.client.run(
        """
        @ray.remote
        def look():
            import brought_along
            return brought_along.ANSWER
        """
    )
    assert session.client.run("ray.get(look.remote())") == 42


def test_refs_outlive_a_cut_connection(make_session: MakeSession, stock_head: Cluster) -> None:
    with Link(stock_head.client_port) as link:
        session = make_session(
            cluster=stock_head, tries=TRIES, address=f"ray://{LOOPBACK}:{link.port}"
        )
        session.client.run("ref = ray.put('kept')")
        link.cut()
        assert session.client.run("ray.get(ref)") == "kept"
        session.client.run("ray.shutdown()")


@pytest.mark.slow
def test_the_death_of_a_server_ends_the_session_as_in_stock(
    make_session: MakeSession, stock_head: Cluster
) -> None:
    short = {"RAY_CLIENT_RECONNECT_GRACE_PERIOD": "3"}
    session = make_session(
        cluster=stock_head, tries=TRIES, address=stock_head.address, environment=short
    )
    session.lose_server()
    assert "ConnectionError" in session.client.fails("ray.get(ray.put(1))").bases
    assert session.client.run("ray.is_initialized()") is False
    session.client.run("ray.shutdown()")
    connect(session.client, stock_head, stock_head.address, tries=TRIES)
    assert session.client.run("ray.get(ray.put(1))") == 1


def test_a_runtime_env_that_brings_stock_ray(
    make_session: MakeSession, cluster: Cluster, stock_python: str
) -> None:
    session = make_session(runtime_env={"py_executable": stock_python})
    assert stock_python in " ".join(session.server.cmdline()), "the server should run stock's Ray"
    _use(session)
    session.client.wait_output("recover")
    session.lose_server()
    session.client.run(SETUP.replace("add_one", "later").replace('"counter"', '"another"'))
    assert session.client.run("ray.get(later.remote(1))") == 2
