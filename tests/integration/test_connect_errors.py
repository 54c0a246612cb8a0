"""A connection that can't be made says why, and leaves the process able to try again."""

from __future__ import annotations

from typing import Dict, Iterator

import pytest

from tests.conftest import GetCluster, MakeClient
from tests.support.client import Client, Failure
from tests.support.cluster import Cluster
from tests.support.ports import LOOPBACK, free_ports

# Stock's own variables for how long a connection is tried.
IMPATIENT = {
    "RAY_CLIENT_INITIAL_CONNECTION_TIMEOUT_S": "1",
    "RAY_CLIENT_MAX_CONNECTION_TIMEOUT_S": "1",
}


@pytest.fixture
def client(make_client: MakeClient, cluster: Cluster) -> Iterator[Client]:
    """A program that is not connected. After the test it must be able to connect."""
    program = make_client(environment=IMPATIENT)
    program.run("import ray")
    yield program
    assert program.run("ray.is_initialized()") is False
    program.connect(cluster.address)
    assert program.run("ray.get(ray.put(1))") == 1


def _refusal(client: Client, address: str, **options: object) -> Failure:
    code = "ray.init(address, **options)"
    failure = client.fails(code, address=address, options=options)
    assert "ConnectionError" in failure.bases, failure
    return failure


def test_nothing_listens(client: Client) -> None:
    (port,) = free_ports(1)
    failure = _refusal(client, f"ray://{LOOPBACK}:{port}")
    assert failure.type == "NothingListening"
    assert str(port) in failure.text


def test_a_host_that_does_not_resolve(client: Client) -> None:
    failure = _refusal(client, "ray://no-such-host.invalid:10001")
    assert "no-such-host.invalid" in failure.text


def test_the_gcs_port_is_not_the_client_port(client: Client, cluster: Cluster) -> None:
    failure = _refusal(client, f"ray://{cluster.gcs_address}")
    assert failure.type == "WrongPort"
    assert "10001" in failure.text, "the text should name the usual port"


def test_a_tls_client_at_a_plain_server(
    make_client: MakeClient, cluster: Cluster, tls_environment: Dict[str, str]
) -> None:
    program = make_client(environment={**IMPATIENT, **tls_environment})
    program.run("import ray")
    failure = _refusal(program, cluster.address)
    assert failure.type == "TlsMismatch"
    assert "TLS" in failure.text


def test_a_plain_client_at_a_tls_server(
    client: Client, clusters: GetCluster, fork_python: str, tls_environment: Dict[str, str]
) -> None:
    failure = _refusal(client, clusters(fork_python, tls_environment).address)
    assert failure.type == "TlsMismatch"
    assert "RAY_USE_TLS" in failure.text


@pytest.mark.parametrize("environment", [{}, {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": "wrong"}])
def test_a_refused_token(
    make_client: MakeClient,
    clusters: GetCluster,
    fork_python: str,
    token_environment: Dict[str, str],
    environment: Dict[str, str],
) -> None:
    guarded = clusters(fork_python, token_environment)
    program = make_client(environment={**IMPATIENT, **environment})
    program.run("import ray")
    failure = _refusal(program, guarded.address)
    assert failure.type == "TokenRefused"
    assert "token" in failure.text.lower()
    assert token_environment["RAY_AUTH_TOKEN"] not in failure.text


def test_init_arguments_that_the_server_refuses(client: Client, cluster: Cluster) -> None:
    failure = _refusal(client, cluster.address, num_cpus=1)
    assert "ConnectionAbortedError" in failure.bases
    assert "Initialization failure from server" in failure.text
    assert "num_cpus" in failure.text
    cluster.wait_no_servers()


def test_a_runtime_env_that_cannot_be_made(client: Client, cluster: Cluster) -> None:
    environment = {"working_dir": "https://no-such-host.invalid/package.zip"}
    failure = _refusal(client, cluster.address, runtime_env=environment)
    assert "ConnectionAbortedError" in failure.bases
    assert "runtime_env" in failure.text
    cluster.wait_no_servers()


def test_a_server_that_dies_at_its_start(client: Client, cluster: Cluster) -> None:
    environment = {"py_executable": "/no/such/python"}
    failure = _refusal(client, cluster.address, runtime_env=environment)
    assert "ConnectionAbortedError" in failure.bases
    assert "ray_client_server_" in failure.text, "the text should name the log file"
    assert "/no/such/python" in failure.text, "the text should hold the end of the log"
    cluster.wait_no_servers()


def test_init_twice_in_one_process(client: Client, cluster: Cluster) -> None:
    client.connect(cluster.address)
    failure = client.fails("ray.init(address)", address=cluster.address)
    client.run("ray.shutdown()")
    assert "already connected" in failure.text


def test_shutdown_and_init_again_and_again(client: Client, cluster: Cluster) -> None:
    for number in range(3):
        client.connect(cluster.address)
        assert client.run("ray.get(ray.put(number))", number=number) == number
        client.run("ray.shutdown()")
        assert client.run("ray.is_initialized()") is False
