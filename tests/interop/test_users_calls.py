"""What calls give and raise, as users know it from stock's client."""

from __future__ import annotations

import pytest

from tests.support.client import Client

# Runs a piece of code and gives its value, or the names of what it raises; and an actor whose
# calls end when a test says so.
OUTCOME = """
    import asyncio
    import ray
    ray.init(address)

    def outcome(call):
        try:
            return call()
        except Exception as e:
            return [base.__name__ for base in type(e).__mro__]

    @ray.remote(num_cpus=0)
    class Gate:
        def __init__(self):
            self.event = asyncio.Event()

        async def passing(self):
            await self.event.wait()
            return "passed"

        async def opening(self):
            self.event.set()
"""


@pytest.fixture
def connected(program: Client) -> Client:
    program.run(OUTCOME)
    return program


@pytest.mark.parametrize("bad", ["'text'", "['text']", "ray.put(1)"])
def test_waiting_for_what_is_no_list_of_references(connected: Client, bad: str) -> None:
    assert "TypeError" in connected.fails(f"ray.wait({bad})").bases


def test_waiting_at_once_and_for_some(connected: Client) -> None:
    got = connected.run(
        """
        gate = Gate.remote()
        closed, ready = gate.passing.remote(), ray.put(1)
        got = [len(ray.wait([closed], timeout=0)[0])]
        got.append(ray.wait([closed, ready], timeout=30) == ([ready], [closed]))
        got.append(outcome(lambda: ray.get(closed, timeout=0.01))[0])
        ray.get(gate.opening.remote())
        got.append(ray.wait([closed, ready], num_returns=2) == ([closed, ready], []))
        [*got, ray.wait([]) == ([], []), ray.wait([], num_returns=5) == ([], [])]
        """
    )
    assert got == [0, True, "GetTimeoutError", True, True, True]


def test_one_object_got_twice_gives_two_values(connected: Client) -> None:
    got = connected.run(
        """
        ref = ray.put([1])
        pairs = [ray.get([ref, ref]) for _ in range(2)]
        for first, second in pairs:
            second.append(2)
        pairs
        """
    )
    assert got == [[[1], [1, 2]]] * 2


def test_what_does_not_pickle_costs_no_more_than_its_call(connected: Client) -> None:
    got = connected.run(
        """
        import threading

        class Unloadable:
            def __getstate__(self):
                return ""

            def __setstate__(self, state):
                raise ZeroDivisionError

        calls = (lambda: ray.put(Unloadable()), lambda: ray.put(threading.Lock()))
        [*(outcome(call)[0] for call in calls), ray.get(ray.put(100))]
        """
    )
    assert got == ["ZeroDivisionError", "TypeError", 100]


def test_errors_of_tasks_keep_their_kind(connected: Client) -> None:
    got = connected.run(
        """
        @ray.remote
        def read():
            open("/there/is/no/such/file")

        @ray.remote
        def after(x):
            return x

        @ray.remote(num_cpus=0)
        class Unmade:
            def __init__(self):
                raise ValueError("not made")

            def method(self):
                pass

        direct = outcome(lambda: ray.get(read.remote()))
        behind = outcome(lambda: ray.get(after.remote(read.remote())))
        unmade = outcome(lambda: ray.get(Unmade.remote().method.remote()))
        ["FileNotFoundError" in direct, "RayTaskError" in direct, direct == behind, unmade[0]]
        """
    )
    assert got == [True, True, True, "ActorDiedError"]


def test_functions_and_actors_as_arguments(connected: Client) -> None:
    got = connected.run(
        """
        @ray.remote
        def factorial(x):
            return 1 if x <= 0 else x * ray.get(factorial.remote(x - 1))

        @ray.remote(num_cpus=0)
        class Runner:
            def run(self, function, x):
                return ray.get(function.remote(x))

            def run_on(self, other, function, x):
                return ray.get(other.run.remote(function, x))

        @ray.remote
        def run(held, x):
            return ray.get(held["function"].remote(x))

        @ray.remote
        def run_on(held, x):
            return ray.get(held["actor"].run.remote(held["function"], x))

        @ray.remote
        def make_and_run(cls, function, x):
            return ray.get(cls.remote().run.remote(function, x))

        first, second = Runner.remote(), Runner.remote()
        held = {"function": factorial, "actor": second}
        ray.get([
            factorial.remote(5),
            first.run.remote(factorial, 5),
            first.run_on.remote(second, factorial, 5),
            run.remote(held, 5),
            run_on.remote(held, 5),
            make_and_run.remote(Runner, factorial, 5),
        ])
        """
    )
    assert got == [120] * 6


def test_references_and_handles_travel(connected: Client) -> None:
    got = connected.run(
        """
        import copy, pickle
        from ray import cloudpickle

        @ray.remote(num_cpus=0)
        class Holder:
            def get(self):
                return "held"

        @ray.remote
        def nest():
            return {"ref": ray.put("nested"), "actor": Holder.remote()}

        @ray.remote
        def open_up(held):
            return [ray.get(held["ref"]), ray.get(held["actor"].get.remote())]

        ref, actor, there = ray.put("put"), Holder.remote(), ray.get(nest.remote())
        twice = cloudpickle.loads(cloudpickle.dumps(actor)), pickle.loads(pickle.dumps(actor))
        [
            *ray.get([copy.deepcopy([ref])[0], pickle.loads(pickle.dumps(ref))]),
            *ray.get([one.get.remote() for one in twice]),
            ray.get(there["ref"]),
            ray.get(there["actor"].get.remote()),
            *ray.get(open_up.remote(there)),
            *ray.get(open_up.remote({"ref": ref, "actor": actor})),
        ]
        """
    )
    assert got == ["put"] * 2 + ["held"] * 2 + ["nested", "held"] * 2 + ["put", "held"]


def test_numbers_of_returns(connected: Client) -> None:
    got = connected.run(
        """
        @ray.remote(num_returns=2)
        def two():
            return 1, 2

        @ray.remote(num_returns=3)
        def too_few():
            return 1, 2

        @ray.remote(num_returns="dynamic")
        def any_number():
            yield from range(3)

        @ray.remote(num_cpus=0)
        class Actor:
            @ray.method(num_returns=2)
            def two(self):
                return 1, 2

            def one(self):
                return 1, 2

        actor = Actor.remote()
        [
            ray.get(two.remote()),
            "ValueError" in outcome(lambda: ray.get(too_few.remote())),
            [ray.get(ref) for ref in ray.get(any_number.remote())],
            ray.get(actor.two.remote()),
            list(ray.get(actor.one.remote())),
            ray.get(actor.one.options(num_returns=2).remote()),
        ]
        """
    )
    assert got == [[1, 2], True, [0, 1, 2], [1, 2], [1, 2], [1, 2]]


def test_streaming_is_refused(connected: Client) -> None:
    connected.run(
        """
        @ray.remote(num_cpus=0)
        class Actor:
            def stream(self):
                yield "hi"

        actor = Actor.remote()
        """
    )
    failure = connected.fails("actor.stream.options(num_returns='streaming').remote()")
    assert "RuntimeError" in failure.bases
    assert failure.text == (
        'Streaming actor methods (num_returns="streaming") are not currently supported when '
        "using Ray Client."
    )


def test_what_actors_and_functions_do_not_have(connected: Client) -> None:
    got = connected.run(
        """
        class Base:
            def inherited(self):
                return "inherited"

        @ray.remote(num_cpus=0)
        class Actor(Base):
            def method(self, x):
                return x

        @ray.remote
        def function():
            pass

        actor = Actor.remote()
        calls = [
            lambda: ray.get(actor.inherited.remote()),
            lambda: actor.nothing,
            lambda: Actor.nothing,
            lambda: actor.method.remote(1, 2),
            lambda: actor.method.remote(y=1),
            lambda: actor.method(1),
            lambda: Actor(),
            lambda: function(),
            lambda: function.remote(1),
            lambda: ray.get_actor("nobody"),
            lambda: ray.get_actor(""),
            lambda: ray.kill("actor"),
            lambda: ray.cancel("task"),
            lambda: ray.get("reference"),
            lambda: ray.put(ray.put(1)),
        ]
        got = [outcome(call) for call in calls]
        [one if isinstance(one, str) else one[0] for one in got]
        """
    )
    missing, type_error = ["AttributeError"] * 2, ["TypeError"]
    assert got[:8] == ["inherited", *missing, *type_error * 5]
    assert got[8:] == [*type_error, "ValueError", "ValueError", "ValueError", *type_error * 3]


def test_cancelling_one_of_a_chain(connected: Client) -> None:
    got = connected.run(
        """
        @ray.remote(num_cpus=0)
        def pass_on(held):
            return ray.get(held[0])

        gate = Gate.remote()
        first = pass_on.remote([gate.passing.remote()])
        second = pass_on.remote([first])
        third = pass_on.remote([second])
        got = [len(ray.wait([third], timeout=0.1)[0])]
        ray.cancel(second)
        kinds = [outcome(lambda: ray.get(ref)) for ref in (second, third)]
        got += [{"TaskCancelledError", "RayTaskError"} & set(kind) != set() for kind in kinds]
        ray.get(gate.opening.remote())
        [*got, ray.get(first)]
        """
    )
    assert got == [0, True, True, "passed"]


def test_values_of_no_size_and_of_many_pieces(connected: Client) -> None:
    got = connected.run(
        """
        import numpy
        nothing = [0, b"", "", [], {}, set(), None]
        large = numpy.arange(9 * 1024 * 1024, dtype="float64")  # 72 MiB, in pieces of 64 MiB

        @ray.remote
        def last(*positional, **named):
            return int((positional or [named["large"]])[-1][-1])

        @ray.remote(num_cpus=0)
        class Keeper:
            def __init__(self, large):
                self.large = large

            def same(self, large):
                return bool((self.large == large).all())

        keeper = Keeper.remote(large)
        [
            [ray.get(ray.put(value)) for value in nothing] == nothing,
            ray.get(ray.put(numpy.array(()))).size,
            ray.get(last.remote(1, large)),
            ray.get(last.remote(large=large)),
            ray.get(keeper.same.remote(large)),
        ]
        """
    )
    assert got == [True, 0, 9 * 1024 * 1024 - 1, 9 * 1024 * 1024 - 1, True]


def test_one_request_asks_for_a_whole_list(connected: Client) -> None:
    got = connected.run(
        """
        data = ray.util.client.ray.get_context().client_worker.data_client
        asked, ask = [], data.ask

        def count(*request):
            asked.append(request)
            return ask(*request)

        refs = [ray.put(number) for number in range(100)]
        data.ask = count
        got = ray.get(refs)
        data.ask = ask
        [got == list(range(100)), len(asked)]
        """
    )
    assert got == [True, 1]


def test_the_clusters_store_of_keys(connected: Client) -> None:
    got = connected.run(
        """
        api = ray.util.client.ray
        [
            api._internal_kv_initialized(),
            api._internal_kv_put("users_calls", "one"),
            api._internal_kv_put("users_calls", "two"),
            api._internal_kv_get("users_calls").decode(),
            api._internal_kv_put("users_calls", "three", overwrite=True),
            api._internal_kv_get("users_calls").decode(),
            api._internal_kv_exists("users_calls"),
            [key.decode() for key in api._internal_kv_list("users_c")],
            api._internal_kv_del("users_calls"),
            api._internal_kv_get("users_calls"),
        ]
        """
    )
    assert got == [True, False, True, "two", True, "three", True, ["users_calls"], 1, None]


def test_what_a_program_learns_of_its_job(connected: Client) -> None:
    got = connected.run(
        """
        @ray.remote
        def session_name():
            return ray.get_runtime_context().get_session_name()

        context = ray.get_runtime_context()
        [
            bool(context.gcs_address),
            ray.get(session_name.remote()) == context.get_session_name(),
            len(context.get_worker_id()),
            len(context.get_job_id()),
            context.get_actor_id(),
            ray.get_gpu_ids(),
            outcome(lambda: context.task_id)[0],
        ]
        """
    )
    assert got == [True, True, 56, 8, None, [], "AssertionError"]


def test_connecting_again(connected: Client) -> None:
    assert "RuntimeError" in connected.fails("ray.init(address)").bases
    got = connected.run(
        """
        again = ray.init(address, ignore_reinit_error=True)
        ref = ray.put(1)
        kept = ray.get(ref)
        ray.shutdown()
        ray.init(address)
        del ref
        held = ray.util.client.ray.get_context().client_worker.reference_count
        [kept, type(again).__name__, all(count > 0 for count in held.values())]
        """
    )
    assert got == [1, "ClientContext", True]


def test_threads_do_not_wait_for_each_other(connected: Client) -> None:
    got = connected.run(
        """
        import threading

        gate = Gate.remote()
        blocked = threading.Thread(target=lambda: ray.get(gate.passing.remote()))
        blocked.start()
        got = [ray.get(ray.put("meanwhile")), blocked.is_alive()]
        ray.get(gate.opening.remote())
        blocked.join()
        got
        """
    )
    assert got == ["meanwhile", True]
