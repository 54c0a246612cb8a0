"""Ray begins with the first client and ends with the last; what a proxier asks for is honoured."""

from __future__ import annotations

import pickle
from typing import Any, Iterator

import pytest

import ray
from ray.job_config import JobConfig
from ray.util.client import protocol
from ray.util.client.server.server import serve
from tests.support.cluster import Cluster
from tests.support.ports import free_ports
from tests.unit.server.dataservicer_support import TOO_LONG
from tests.unit.server.server_support import Server


@pytest.fixture
def server(cluster: Cluster) -> Iterator[Server]:
    server = Server(cluster.gcs_address)
    yield server
    server.close()


def test_ray_ends_with_the_last_client_and_begins_again(server: Server) -> None:
    first, second = server.client(), server.client()
    first.leave()
    assert second.get(second.put_value(1)) == [1]
    assert not server.idle.is_set()
    second.leave()
    assert server.idle.wait(TOO_LONG)
    assert not ray.is_initialized()
    third = server.client()
    assert third.get(third.put_value(2)) == [2]
    third.leave()


def test_a_proxiers_namespace_goes_before_the_job_configs(server: Server) -> None:
    request = protocol.InitRequest(
        job_config=pickle.dumps(JobConfig(ray_namespace="mine")), namespace="before"
    )
    answer = server.handle.task_servicer.Init(request)
    assert (answer.ok, answer.namespace) == (True, "before")
    assert ray.get_runtime_context().namespace == "before"
    ray.shutdown()


@pytest.mark.parametrize(
    "request_",
    [protocol.InitRequest(job_config=b"junk"), protocol.InitRequest(ray_init_kwargs="{")],
)
def test_an_init_that_can_not_be_read_is_refused(server: Server, request_: Any) -> None:
    answer = server.handle.task_servicer.Init(request_)
    assert not answer.ok
    assert "Call to `ray.init()` on the server failed with" in answer.msg


def test_a_port_in_use_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ray.util.client.server.server._PORT_RELEASE_S", 0.0)
    port = free_ports(1)[0]
    handle = serve("127.0.0.1", port)
    with pytest.raises(RuntimeError, match=str(port)):
        serve("127.0.0.1", port)
    handle.stop(0)
