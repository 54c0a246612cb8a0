"""Objects of 150 MB, whose transfer is cut in the middle by a death or by the network."""

from __future__ import annotations

from typing import Iterator

import pytest

from tests.conftest import MakeClient
from tests.support.cluster import Cluster, ClusterOptions
from tests.support.link import Link
from tests.support.ports import LOOPBACK
from tests.support.session import Session, connect

pytestmark = pytest.mark.slow

SIZE = 150 * 10**6
MIDDLE = SIZE // 2


@pytest.fixture(scope="module")
def roomy(no_leaks: None, fork_python: str) -> Iterator[Cluster]:
    """A head whose object store holds several large objects."""
    with Cluster(ClusterOptions(fork_python, object_store_bytes=800 * 2**20)) as running:
        yield running
    assert not running.leftovers()


@pytest.fixture
def link(roomy: Cluster) -> Iterator[Link]:
    with Link(roomy.client_port) as running:
        yield running


@pytest.fixture
def session(link: Link, roomy: Cluster, make_client: MakeClient) -> Session:
    """A session behind the link, with a function ``make`` that returns large chance bytes."""
    session = connect(make_client(), roomy, f"ray://{LOOPBACK}:{link.port}")
    session.client.run(
        """
        import hashlib, random

        def digest(data):
            return hashlib.sha256(data).hexdigest()

        def make_data(seed):
            return random.Random(seed).randbytes(size)

        make = ray.remote(num_cpus=0)(make_data)
        take = ray.remote(num_cpus=0)(digest)
        """,
        size=SIZE,
    )
    return session


def _cut(session: Session, link: Link, by: str) -> None:
    """Breaks a transfer off that the link holds in its middle, and lets it go on."""
    link.wait_held()
    if by == "death":
        session.lose_server()
    else:
        link.cut()
    link.go_on()


@pytest.mark.parametrize("by", ["death", "network"])
def test_a_put_cut_in_the_middle(session: Session, link: Link, by: str) -> None:
    session.client.run("data = make_data(1)")
    link.hold_after(MIDDLE)
    step = session.client.start("ref = ray.put(data)")
    _cut(session, link, by)
    step.value()
    assert session.client.run("ray.get(take.remote(ref)) == digest(data)") is True
    assert session.client.run("digest(ray.get(ref)) == digest(data)") is True


@pytest.mark.parametrize("by", ["death", "network"])
def test_a_get_cut_in_the_middle(session: Session, link: Link, by: str) -> None:
    session.client.run("ref = make.remote(2); ray.wait([ref])")
    link.hold_after(MIDDLE)
    step = session.client.start("got = ray.get(ref); digest(got) == digest(make_data(2))")
    _cut(session, link, by)
    assert step.value() is True


def test_an_argument_cut_in_the_middle(session: Session, link: Link) -> None:
    session.client.run("data = make_data(3)")
    link.hold_after(MIDDLE)
    step = session.client.start("ray.get(take.options(max_retries=1).remote(data)) == digest(data)")
    _cut(session, link, "death")
    assert step.value() is True
