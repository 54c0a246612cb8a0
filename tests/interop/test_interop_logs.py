"""What workers print reaches clients of both kinds on heads of both kinds."""

from __future__ import annotations

from typing import Dict

import pytest

from tests.conftest import GetCluster, MakeSession
from tests.support.cluster import Cluster
from tests.support.heard import assert_each_once, await_line, numbers
from tests.support.link import Link
from tests.support.ports import LOOPBACK
from tests.support.waiting import eventually

# Stock's proxier forks under gRPC, and up to one in three of its servers dies before it runs.
TRIES = 10

SPEAK = """
    import sys, time

    @ray.remote(max_retries=0)
    def count(first, end, seconds=0.0):
        for n in range(first, end):
            sys.stdout.write(f"line {n};\\n")
            time.sleep(seconds)
"""


@pytest.fixture(params=["stock", "fork"])
def client_python(request: pytest.FixtureRequest) -> str:
    return request.getfixturevalue(f"{request.param}_python")


@pytest.fixture(params=["plain", "tls", "token"])
def security(request: pytest.FixtureRequest) -> Dict[str, str]:
    """Environment variables of the head and of its clients."""
    if request.param == "plain":
        return {}
    return request.getfixturevalue(f"{request.param}_environment")


def test_lines_come_before_and_after_a_death(
    clusters: GetCluster,
    fork_python: str,
    client_python: str,
    make_session: MakeSession,
    security: Dict[str, str],
) -> None:
    head = clusters(fork_python, security)
    session = make_session(client_python, security, cluster=head, address=head.address)
    session.client.run(SPEAK)
    session.client.run("ray.get(count.remote(0, 100))")
    await_line(session.client, 99)
    session.lose_server()
    session.client.run(SPEAK)
    session.client.run("ray.get(count.remote(100, 200))")
    assert_each_once(session.client, 200)


def test_a_stock_client_gets_nothing_twice_over_cuts(
    cluster: Cluster, link: Link, make_session: MakeSession, stock_python: str
) -> None:
    session = make_session(stock_python, address=f"ray://{LOOPBACK}:{link.port}")
    session.client.run(SPEAK)
    session.client.run("counting = count.remote(0, 3000, 0.001)")
    for n in (100, 1000):
        # That very line may have been on its way in a cut.
        eventually(lambda n=n: max(numbers(session.client), default=0) >= n, f"line {n} or later")
        link.cut()
    session.client.run("ray.get(counting)")
    session.client.run("ray.get(count.remote(3000, 3001))")
    await_line(session.client, 3000)
    came = numbers(session.client)
    assert came == sorted(set(came))


def test_our_client_gets_lines_from_a_stock_head(
    make_session: MakeSession, clusters: GetCluster, stock_python: str
) -> None:
    head = clusters(stock_python)
    session = make_session(cluster=head, address=head.address, tries=TRIES)
    session.client.run(SPEAK)
    session.client.run("ray.get(count.remote(0, 100))")
    assert_each_once(session.client, 100)
