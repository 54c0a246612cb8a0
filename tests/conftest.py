"""Fixtures for tests on a real cluster. Clusters are started when first asked for and shared."""

from __future__ import annotations

import itertools
import os
import signal
import sys
from contextlib import ExitStack
from typing import Any, Callable, Dict, Iterator, List, Optional

import pytest
from hypothesis import HealthCheck, settings

from tests.support.certificates import make_tls_environment
from tests.support.client import Client
from tests.support.cluster import Cluster, ClusterOptions
from tests.support.leaks import LeakCheck
from tests.support.link import Link
from tests.support.session import Session, connect

# Unit tests run drivers in this process. Ray's exporter of metrics outlives the driver, and crashes
# the interpreter at its exit when it then logs that it can't export. Clusters are not told this.
os.environ["RAY_enable_open_telemetry"] = "0"

# A shell's background job ignores Ctrl-C, and so would the programs that tests send it to.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# How fast the machine is must not decide what a test says.
settings.register_profile(
    "any machine", deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("any machine")

FORK_PYTHON = sys.executable
STOCK_PYTHON = os.environ.get("STOCK_PYTHON", "./.venv-stock/bin/python")

MakeClient = Callable[..., Client]
MakeSession = Callable[..., Session]
GetCluster = Callable[..., Cluster]


@pytest.fixture(scope="session")
def fork_python() -> str:
    """The interpreter with the fork's Ray: the one that runs these tests."""
    return FORK_PYTHON


@pytest.fixture(scope="session")
def stock_python() -> str:
    """The interpreter of a venv with stock Ray, from the environment's STOCK_PYTHON."""
    path = os.path.abspath(STOCK_PYTHON)
    if not os.path.exists(path):
        pytest.fail(f"no stock Ray at {path}: run `make stock-venv`, or set STOCK_PYTHON")
    return path


@pytest.fixture(scope="session")
def tls_environment(tmp_path_factory: pytest.TempPathFactory) -> Dict[str, str]:
    """Environment variables that make a head or a client speak TLS."""
    return make_tls_environment(tmp_path_factory.mktemp("tls"))


@pytest.fixture(scope="session")
def token_environment() -> Dict[str, str]:
    """Environment variables that make a head ask for a token, and a client show it."""
    return {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": "a-token-for-tests-" + "0" * 16}


@pytest.fixture(scope="session")
def clusters() -> Iterator[GetCluster]:
    """Returns the running head for ``(python, environment)``; starts it at the first call."""
    running: Dict[Any, Cluster] = {}
    with ExitStack() as stack:

        def get(python: str, environment: Optional[Dict[str, str]] = None) -> Cluster:
            key = (python, tuple(sorted((environment or {}).items())))
            if key not in running:
                options = ClusterOptions(python, environment or {})
                running[key] = stack.enter_context(Cluster(options))
            return running[key]

        get.running = running.values  # type: ignore[attr-defined]
        yield get
    left = [line for cluster in running.values() for line in cluster.leftovers()]
    assert not left, f"processes outlived their head: {left}"


@pytest.fixture(scope="session")
def cluster(clusters: GetCluster, fork_python: str) -> Cluster:
    """The shared head with the fork's Ray, without TLS and token."""
    return clusters(fork_python)


@pytest.fixture
def own_cluster(fork_python: str) -> Iterator[Cluster]:
    """A head for one test alone, which may break it."""
    with Cluster(ClusterOptions(fork_python)) as running:
        yield running
    assert not running.leftovers()


@pytest.fixture
def make_client(fork_python: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[MakeClient]:
    """Starts client programs, ``make_client(python=…, environment=…)``, and ends them."""
    clients: List[Client] = []
    numbers = itertools.count()

    def make(python: str = fork_python, environment: Optional[Dict[str, str]] = None) -> Client:
        folder = tmp_path_factory.mktemp(f"client{next(numbers)}-")
        client = Client(python, folder, environment)
        clients.append(client)
        return client

    yield make
    # All are told before the first is waited for, so that they end side by side.
    for client in clients:
        client.dismiss()
    for client in clients:
        client.close()


@pytest.fixture
def make_session(make_client: MakeClient, cluster: Cluster) -> MakeSession:
    """Connects client programs: ``make_session(python=…, environment=…, cluster=…, address=…,
    **options of ray.init)``."""

    def make(
        python: Optional[str] = None,
        environment: Optional[Dict[str, str]] = None,
        cluster: Cluster = cluster,
        address: Optional[str] = None,
        **options: Any,
    ) -> Session:
        client = make_client(python or FORK_PYTHON, environment)
        return connect(client, cluster, address or cluster.address, **options)

    return make


@pytest.fixture
def session(make_session: MakeSession) -> Session:
    """A session of a client with the fork's Ray on the shared head."""
    return make_session()


@pytest.fixture
def link(cluster: Cluster) -> Iterator[Link]:
    """A breakable link to the shared head's client port."""
    with Link(cluster.client_port) as running:
        yield running


@pytest.fixture(scope="module")
def no_leaks(clusters: GetCluster) -> Iterator[None]:
    """Fails a module after which a server, a thread, a socket or a child of ours is left."""
    check = LeakCheck()
    yield
    check.run(clusters.running())  # type: ignore[attr-defined]
