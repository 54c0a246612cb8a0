"""Programs that users of Ray Client have: those of Ray's documentation, and what its tests show."""

from __future__ import annotations

from typing import Iterator

import pytest

from tests.conftest import MakeClient
from tests.support.client import Client
from tests.support.cluster import Cluster

TWO_CLIENTS = """
import ray
first = ray.init(address, allow_multiple=True)
second = ray.init(address, allow_multiple=True)
"""


@pytest.fixture
def two_clients(program: Client) -> Iterator[Client]:
    """A program with two connections, ``first`` and ``second``."""
    program.run(TWO_CLIENTS)
    yield program
    program.run("first.disconnect(); second.disconnect()")


def test_work_that_is_shared_out_between_tasks(program: Client) -> None:
    got = program.run(
        """
        import ray
        ray.init(address)

        @ray.remote
        def square(number):
            return number * number

        @ray.remote
        def total(*parts):
            return sum(parts)

        ray.get(total.remote(*[square.remote(n) for n in range(10)]))
        """
    )
    assert got == 285


def test_the_address_comes_from_the_environment(make_client: MakeClient, cluster: Cluster) -> None:
    client = make_client(environment={"RAY_ADDRESS": cluster.address})
    got = client.run(
        "import ray; ray.init(); (ray.util.client.ray.is_connected(), ray.get(ray.put(1)))"
    )
    assert list(got) == [True, 1]


def test_a_connection_is_a_context_that_ends_it(program: Client) -> None:
    program.run(
        """
        import ray
        with ray.init(address, namespace="here"):
            inside = (ray.is_initialized(), ray.get_runtime_context().namespace)
        """
    )
    assert list(program.run("inside")) == [True, "here"]
    assert program.run("ray.is_initialized()") is False
    assert "RaySystemError" in program.fails("ray.put(1)").bases


def test_what_was_declared_before_works_with_each_connection(program: Client) -> None:
    program.run(
        """
        import ray

        @ray.remote
        def inner(value):
            return value * 10

        @ray.remote
        def outer():
            return sum(ray.get([inner.remote(1), inner.remote(2)]))

        @ray.remote
        class Doubling:
            def __init__(self, value):
                self.value = value

            def double(self):
                self.value *= 2

            def get(self):
                return self.value
        """
    )
    for _ in range(2):
        got = program.run(
            """
            ray.init(address)
            actor = Doubling.remote(3)
            ray.wait([actor.double.remote(), actor.double.remote()], num_returns=2)
            got = [ray.get(outer.remote()), ray.get(actor.get.remote())]
            ray.shutdown()
            got
            """
        )
        assert got == [30, 12]


def test_disconnecting_twice_is_harmless(program: Client) -> None:
    code = """
    from ray.util.client import ray as api
    api.disconnect()
    api.disconnect()
    api.connect(target)
    api.disconnect()
    api.disconnect()
    api.is_connected()
    """
    assert program.run(code) is False


def test_a_programs_own_metadata_stands_behind_the_clients_id(program: Client) -> None:
    got = program.run(
        """
        from ray.util.client import ray as api
        api.connect(target, metadata=[("key", "value")])
        got = [key for key, _ in api.get_context().client_worker.metadata[:2]]
        got.append(api.get(api.put(1)))
        api.disconnect()
        got
        """
    )
    assert got == ["client_id", "key", 1]


def test_objects_belong_to_the_connection_that_made_them(two_clients: Client) -> None:
    two_clients.run("with first: a = ray.put(10)\nwith second: b = ray.put(20)")
    for bad in ("ray.put(30)", "ray.get(a)", "with second: ray.get(a)", "with first: ray.get(b)"):
        two_clients.fails(bad)
    assert two_clients.run("with first: got = ray.get(a)\ngot") == 10
    assert two_clients.run("with second: got = ray.get(b)\ngot") == 20


def test_functions_and_actors_work_with_each_connection(two_clients: Client) -> None:
    two_clients.run(
        """
        @ray.remote
        def hello():
            return "world"

        @ray.remote(num_cpus=0)
        class Holder:
            def __init__(self, value):
                self.value = value

            def double(self):
                return self.value * 2
        """
    )
    two_clients.fails("ray.get(hello.remote())")
    two_clients.fails("ray.get(Holder.remote(1).double.remote())")
    make = """
    with {0}:
        actor_{0} = Holder.remote({1})
        double_{0} = actor_{0}.double.remote()
        task_{0} = hello.remote()
        got = ray.get([double_{0}, task_{0}])
    got
    """
    assert two_clients.run(make.format("first", 10)) == [20, "world"]
    assert two_clients.run(make.format("second", 20)) == [40, "world"]
    for own, other in (("first", "second"), ("second", "first")):
        two_clients.fails(f"with {own}: ray.get(actor_{other}.double.remote())")
        two_clients.fails(f"with {own}: ray.get(double_{other})")
        two_clients.fails(f"with {own}: ray.get(task_{other})")


def test_after_one_of_several_connections_each_has_to_say_so(program: Client) -> None:
    program.run("import ray; one = ray.init(address, allow_multiple=True)")
    assert "allow_multiple=True" in program.fails("ray.init(address)").text
    program.run("two = ray.init(address, allow_multiple=True)")
    program.run("one.disconnect(); two.disconnect()")


def test_the_client_builder(program: Client) -> None:
    got = program.run(
        """
        import ray, warnings
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            context = ray.client(target).namespace("built").connect()
        inside = [ray.get_runtime_context().namespace, ray.util.client.ray.is_connected()]
        context.disconnect()
        context.disconnect()
        [*inside, ray.is_initialized(), " ".join(str(one.message) for one in caught)]
        """
    )
    assert got[:3] == ["built", True, False]
    assert 'ray.init("ray://' in got[3] and 'namespace="built")' in got[3]


def test_names_of_detached_actors_collide_within_a_namespace_alone(program: Client) -> None:
    begin = """
    import ray
    ray.init(address, namespace=namespace)

    @ray.remote(num_cpus=0)
    class Named:
        def ping(self):
            return "pong"

    actor = Named.options(name="a name", lifetime="detached").remote()
    ray.get(actor.ping.remote())
    """
    leave = "ray.kill(actor); ray.shutdown()"
    for namespace in (None, None, "collide"):
        assert program.run(begin, namespace=namespace) == "pong"
        program.run("ray.shutdown()" if namespace else leave)
    assert "ValueError" in program.fails(begin, namespace="collide").bases
    program.run("actor = ray.get_actor('a name')\n" + leave)


def test_large_arguments_are_warned_of(program: Client) -> None:
    program.run(
        """
        import ray, warnings
        ray.init(address)

        @ray.remote(num_cpus=0)
        def first(argument):
            return argument[0]

        def warned(times, size):
            with warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("always")
                ray.get([first.remote(bytes(size)) for _ in range(times)])
            return [str(one.message) for one in caught if one.category is UserWarning]
        """
    )
    assert program.run("warned(12, 10)") == []
    [text] = program.run("warned(12, 1_000_000)")
    assert "More than 10MB of messages have been created to schedule tasks" in text


def test_what_the_cluster_tells_of_itself(program: Client) -> None:
    got = program.run(
        """
        import ray
        from ray.runtime_context import RuntimeContext
        ray.init(address)
        [node] = ray.nodes()
        mark = "node:" + node["NodeManagerAddress"]
        context = ray.get_runtime_context()
        context.get()
        [
            mark in ray.cluster_resources(),
            mark in ray.available_resources(),
            ray.cluster_resources()["CPU"],
            isinstance(context, RuntimeContext),
            len(context.get_node_id()),
            type(context.namespace).__name__,
            ray.is_initialized(),
        ]
        """
    )
    assert got == [True, True, 4.0, True, 56, "str", True]


def test_a_server_of_ones_own_refuses_another_python_and_counts_its_clients(
    make_client: MakeClient, cluster: Cluster
) -> None:
    program = make_client()
    got = program.run(
        """
        import ray, socket
        from unittest.mock import patch
        from ray.util.client import _ClientContext
        from ray.util.client import protocol
        from ray.util.client.server.server import serve, shutdown_with_server

        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        place = f"127.0.0.1:{port}"

        def connect_driver(job_config=None, **options):
            return ray.init(address=gcs, job_config=job_config, **options)

        handle = serve("127.0.0.1", port, connect_driver)
        module = "ray.util.client.server.{}.CLIENT_SERVER_MAX_THREADS"
        got = []
        with patch(module.format("dataservicer"), 6), patch(module.format("logservicer"), 6):
            contexts = [_ClientContext() for _ in range(4)]
            for context in contexts[:3]:
                got.append(context.connect(place)["num_clients"])
            try:
                contexts[3].connect(place)
            except ConnectionError as e:
                got.append("refused")
            for context in contexts:
                context.disconnect()
        answer = protocol.ConnectionInfoResponse(num_clients=7, python_version="2.7.12")
        with patch.object(handle.data_servicer, "_build_connection_response", lambda: answer):
            other = _ClientContext()
            try:
                other.connect(place)
            except RuntimeError as e:
                got.append("2.7.12" in str(e))
            careless = _ClientContext()
            got.append(careless.connect(place, ignore_version=True)["num_clients"])
            careless.disconnect()
        shutdown_with_server(handle.grpc_server)
        got
        """,
        gcs=cluster.gcs_address,
    )
    assert got == [1, 2, 3, "refused", True, 7]
