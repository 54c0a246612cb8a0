"""A cluster of two nodes: work that is elsewhere when the server dies, and the loss of the head.

The head keeps its state on Redis (GCS fault tolerance).
"""

from __future__ import annotations

from pathlib import Path
from typing import Iterator

import pytest

from tests.conftest import MakeClient
from tests.support.cluster import Cluster, ClusterOptions
from tests.support.held import Held
from tests.support.nodes import Node
from tests.support.redis import Redis
from tests.support.session import connect

pytestmark = pytest.mark.slow

# A head takes its time to start on a busy machine.
PATIENT = {"RAY_CLIENT_RECONNECT_GRACE_PERIOD": "120"}


@pytest.fixture(scope="module")
def durable(no_leaks: None, fork_python: str) -> Iterator[Cluster]:
    """A head with GCS fault tolerance."""
    with Redis() as redis:
        environment = {"RAY_REDIS_ADDRESS": redis.address}
        with Cluster(ClusterOptions(fork_python, environment)) as running:
            yield running
        assert not running.leftovers()


@pytest.fixture(scope="module")
def other_node(durable: Cluster) -> Iterator[Node]:
    """A node that outlives the head, with the resource ``other``."""
    with Node(durable, {"other": 8}) as running:
        yield running


@pytest.fixture
def held(durable: Cluster, other_node: Node, make_client: MakeClient, tmp_path: Path) -> Held:
    client = make_client(environment=PATIENT)
    return Held(connect(client, durable, durable.address), tmp_path)


def test_what_is_on_another_node_comes_back(held: Held) -> None:
    held.client.run(
        """
        import hashlib, os
        there = {"resources": {"other": 1}}

        @ray.remote(num_cpus=0, **there)
        def makes(name):
            note(runs, name)
            data = os.urandom(5 * 2**20)
            return ray.get_runtime_context().get_node_id(), data, hashlib.sha256(data).digest()

        @ray.remote(num_cpus=0)
        def checks(made):
            return hashlib.sha256(made[1]).digest() == made[2], made[0]

        (elsewhere,) = [node["NodeID"] for node in ray.nodes() if "other" in node["Resources"]]
        seen, unseen = makes.remote("seen"), makes.remote("unseen")
        value = ray.get(seen)
        assert ray.wait([unseen])[0] and value[0] == elsewhere
        pending = gated.options(**there).remote("pending", "done")
        actor = Counter.options(max_restarts=-1, **there).remote()
        assert ray.get(actor.add.remote()) == 1
        """
    )
    held.started("pending")
    held.die()
    held.open_gate()
    assert held.client.run("ray.get(pending)") == "done"
    assert held.client.run("ray.get(actor.add.remote())") == 1
    assert held.client.run("ray.get(seen) == value") is True
    assert held.client.run("ray.get(checks.remote(seen)) == (True, elsewhere)") is True
    assert held.client.run("ray.get(checks.remote(unseen)) == (True, elsewhere)") is True
    assert held.client.run("ray.get(unseen)[0] == elsewhere") is True
    assert [held.runs(name) for name in ("seen", "unseen", "pending")] == [1, 2, 2]


def test_a_session_outlives_the_head(held: Held, durable: Cluster) -> None:
    held.client.run(
        """
        put, seen, unseen = ray.put("put"), add_one.remote(1), add_one.remote(2)
        there = {"resources": {"other": 1}}
        pending = gated.options(**there, max_retries=-1).remote("pending", "done")
        once = gated.options(**there, max_retries=0).remote("once", "never seen")
        actor = Counter.options(max_restarts=1, name="restarted").remote(10)
        dead = Counter.remote()
        kept = Counter.options(lifetime="detached", name="kept", **there).remote()
        assert ray.get([seen, actor.add.remote(), kept.add.remote()]) == [2, 11, 1]
        ray.get(dead.add.remote()), ray.wait([unseen])
        namespace = ray.get_runtime_context().namespace
        """
    )
    held.started("pending")
    held.started("once")
    durable.kill()
    waiting = held.client.start("ray.get([put, seen, unseen, pending, actor.add.remote()])")
    durable.start_again()
    held.open_gate()
    assert waiting.value() == ["put", 2, 3, "done", 11]
    assert "OwnerDiedError" in held.client.fails("ray.get(once)").bases
    assert "ActorDiedError" in held.client.fails("ray.get(dead.add.remote())").bases
    assert held.client.run("ray.get(kept.add.remote())") == 2
    assert held.client.run("ray.get(ray.get_actor('kept').add.remote())") == 3
    assert held.client.run("ray.get(ray.get_actor('restarted').add.remote())") == 12
    assert held.client.run("ray.get(add_one.remote(9))") == 10
    assert held.client.run("ray.get_runtime_context().namespace == namespace") is True
    assert held.client.run("ray.util.client.session.info().incarnation") == 2
    assert (held.runs("pending"), held.runs("once"), held.runs("constructor")) == (2, 1, 4)
    held.client.run("ray.kill(kept)")
