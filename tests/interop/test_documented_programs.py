"""Programs of Ray's documentation, and of its libraries that work with Ray Client."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.conftest import MakeClient
from tests.support.client import Client
from tests.support.cluster import Cluster


@pytest.fixture
def connected(program: Client) -> Client:
    program.run("import ray; ray.init(address)")
    return program


def test_the_first_program(connected: Client) -> None:
    got = connected.run(
        """
        @ray.remote
        def do_work(x):
            return x ** x

        ray.get(do_work.remote(2))
        """
    )
    assert got == 4


def test_a_default_connection_and_two_more(connected: Client) -> None:
    got = connected.run(
        """
        def outcome(ref):
            try:
                return ray.get(ref)
            except Exception:
                return "not of this cluster"

        first = ray.init(address, allow_multiple=True)
        second = ray.init(address, allow_multiple=True)
        own = ray.put("own")
        with first:
            a = ray.put("a")
        with second:
            b = ray.put("b")
        got = []
        with first:
            got += [outcome(a), outcome(b)]
        with second:
            got += [outcome(a), outcome(b)]
        got.append(ray.get(own))
        first.disconnect()
        second.disconnect()
        [*got, ray.get(own)]
        """
    )
    other = "not of this cluster"
    assert got == ["a", other, other, "b", "own", "own"]


def test_a_working_dir_and_its_relative_paths(program: Client, tmp_path: Path) -> None:
    (tmp_path / "data.txt").write_text("from here")
    (tmp_path / "beside.py").write_text("ANSWER = 42")
    got = program.run(
        """
        import os, ray
        ray.init(address, runtime_env={"working_dir": folder, "env_vars": {"NAMED": "so"}})

        @ray.remote
        def read():
            import beside
            return [open("data.txt").read(), beside.ANSWER, os.environ["NAMED"]]

        ray.get(read.remote())
        """,
        folder=str(tmp_path),
    )
    assert got == ["from here", 42, "so"]


def test_modules_of_ones_own(program: Client, tmp_path: Path) -> None:
    (tmp_path / "brought").mkdir()
    (tmp_path / "brought" / "__init__.py").write_text("ANSWER = 7")
    got = program.run(
        """
        import ray
        ray.init(address, runtime_env={"py_modules": [module]})

        @ray.remote
        def read():
            import brought
            return brought.ANSWER

        ray.get(read.remote())
        """,
        module=str(tmp_path / "brought"),
    )
    assert got == 7


def test_named_actors_in_two_namespaces(program: Client) -> None:
    got = program.run(
        """
        import ray

        @ray.remote(num_cpus=0)
        class Named:
            def namespace(self):
                return ray.get_runtime_context().namespace

        def make(*names):
            made = [Named.options(name=name, lifetime="detached").remote() for name in names]
            return ray.get([actor.namespace.remote() for actor in made])

        with ray.init(address, namespace="colors"):
            got = [make("orange", "purple")]
        with ray.init(address, namespace="fruits"):
            try:
                ray.get_actor("purple")
            except ValueError:
                got.append("no purple")
            make("orange", "watermelon")
        with ray.init(address, namespace="fruits"):
            got.append(sorted(ray.util.list_named_actors()))
            purple = ray.get_actor("purple", namespace="colors")
            got.append(ray.get(purple.namespace.remote()))
            for one in ray.util.list_named_actors(all_namespaces=True):
                ray.kill(ray.get_actor(**one))
        got
        """
    )
    assert got == [["colors", "colors"], "no purple", ["orange", "watermelon"], "colors"]


def test_the_logging_of_workers_is_set_up(program: Client) -> None:
    got = program.run(
        """
        import logging, ray
        ray.init(address, logging_config=ray.LoggingConfig(encoding="JSON", log_level="WARNING"))

        @ray.remote
        def formatters():
            root = logging.getLogger()
            return [root.level, *(type(handler.formatter).__name__ for handler in root.handlers)]

        ray.get(formatters.remote())
        """
    )
    assert got == [30, "JSONFormatter"]


@pytest.mark.parametrize(
    ("ending", "code"), [("pass", 0), ("import sys; sys.exit(5)", 5), ("raise ValueError", 1)]
)
def test_a_program_that_just_ends_says_nothing_of_it(
    make_client: MakeClient, cluster: Cluster, ending: str, code: int
) -> None:
    client = make_client()
    got = client.run(
        """
        import subprocess, sys, textwrap
        script = '''
        import ray
        ray.init({!r})

        @ray.remote(num_cpus=0)
        class Actor:
            pass

        held = [ray.put(1), Actor.remote()]
        {}
        '''.format(address, ending)
        done = subprocess.run(
            [sys.executable, "-c", textwrap.dedent(script)], capture_output=True, text=True
        )
        [done.returncode, done.stderr]
        """,
        address=cluster.address,
        ending=ending,
    )
    assert got[0] == code
    for noise in ("excepthook", "Exception ignored", "AttributeError", "ray_client"):
        assert noise not in got[1]


def test_a_pool_of_actors(connected: Client) -> None:
    got = connected.run(
        """
        from ray.util import ActorPool

        @ray.remote(num_cpus=0)
        class Doubling:
            def double(self, x):
                return 2 * x

        pool = ActorPool([Doubling.remote() for _ in range(2)])
        double = lambda actor, x: actor.double.remote(x)
        [list(pool.map(double, range(6))), sorted(pool.map_unordered(double, range(4)))]
        """
    )
    assert got == [[0, 2, 4, 6, 8, 10], [0, 2, 4, 6]]


def test_a_queue(connected: Client) -> None:
    got = connected.run(
        """
        from ray.util.queue import Empty, Full, Queue

        @ray.remote(num_cpus=0)
        def put_from_afar(queue):
            queue.put("from afar")

        queue = Queue(maxsize=2, actor_options={"num_cpus": 0})
        queue.put("from here")
        ray.get(put_from_afar.remote(queue))
        got = [queue.full()]
        try:
            queue.put_nowait("too much")
        except Full:
            got.append("full")
        got += [queue.get(), queue.get()]
        try:
            queue.get(timeout=0.01)
        except Empty:
            got.append("empty")
        queue.shutdown()
        got
        """
    )
    assert got == [True, "full", "from here", "from afar", "empty"]


def test_a_pool_of_processes(connected: Client) -> None:
    got = connected.run(
        """
        from ray.util.multiprocessing import Pool
        with Pool(2) as pool:
            got = [pool.map(lambda x: x * x, range(5)), pool.apply(lambda x: x + 1, (4,))]
        got
        """
    )
    assert got == [[0, 1, 4, 9, 16], 5]


def test_placement_groups(connected: Client) -> None:
    got = connected.run(
        """
        from ray.util.placement_group import placement_group, remove_placement_group
        from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

        @ray.remote(num_cpus=1)
        def inside():
            return ray.util.get_current_placement_group() is not None

        @ray.remote(num_cpus=1)
        class Inside:
            def inside(self):
                return ray.util.get_current_placement_group() is not None

        group = placement_group([{"CPU": 1}], name="a group")
        ray.get(group.ready())
        there = PlacementGroupSchedulingStrategy(group, placement_group_bundle_index=0)
        got = [group.wait(10), group.bundle_specs, ray.util.get_placement_group("a group") == group]
        got.append(ray.get(inside.options(scheduling_strategy=there).remote()))
        actor = Inside.options(scheduling_strategy=there).remote()
        got.append(ray.get(actor.inside.remote()))
        del actor
        remove_placement_group(group)
        got.append(ray.get(inside.remote()))
        got
        """
    )
    assert got == [True, [{"CPU": 1.0}], True, True, True, False]


def test_graphs_of_tasks(connected: Client) -> None:
    got = connected.run(
        """
        from ray.dag import InputNode

        @ray.remote
        def add_one(x):
            return x + 1

        with InputNode() as given:
            graph = add_one.bind(add_one.bind(given))
        ray.get(graph.execute(1))
        """
    )
    assert got == 3
