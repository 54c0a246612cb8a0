"""What a session held when its server died comes back, under Ray's own retry contract."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.conftest import MakeSession
from tests.support.held import Held

READS = [
    "ray.get(ref)",
    "ray.get([ref, ref])[1]",
    "ray.get(ray.wait([ref])[0][0])",
    "ref.future().result()",
    "ray.get(identity.remote(ref))",
    "ray.get(ray.get(identity.remote([ref]))[0])",
    "ray.get(identity.options(num_cpus=0).remote(x=ref))",
    "import asyncio\nasync def ask(): return await ref\nasyncio.run(ask())",
]


@pytest.fixture
def reading(held: Held) -> Held:
    held.client.run("identity = ray.remote(num_cpus=0)(lambda x: x)")
    return held


@pytest.mark.parametrize("read", READS)
def test_a_put_object(reading: Held, read: str) -> None:
    reading.client.run("ref = ray.put({'a': 1})")
    reading.die()
    assert reading.client.run(read) == {"a": 1}


@pytest.mark.parametrize("read", READS)
def test_a_pending_task_is_submitted_again(reading: Held, read: str) -> None:
    reading.client.run("ref = gated.remote('pending', 5)")
    reading.started("pending")
    reading.die()
    reading.started("pending", 2)
    reading.open_gate()
    assert reading.client.run(read) == 5
    assert reading.runs("pending") == 2


@pytest.mark.parametrize("read", READS)
def test_a_seen_value_stays_and_nothing_is_run(reading: Held, read: str) -> None:
    reading.client.run("ref = add_one.options(max_retries=0).remote(1)")
    assert reading.client.run("ray.get(ref)") == 2
    reading.die()
    assert reading.client.run(read) == 2
    assert reading.runs() == 1


def test_a_get_under_way_goes_on(held: Held) -> None:
    held.client.run("ref = gated.remote('pending', 5)")
    step = held.client.start("ray.get(ref)")
    held.started("pending")
    held.die()
    held.open_gate()
    assert step.value() == 5


def test_a_finished_task_whose_value_was_not_seen_runs_when_it_is_needed(held: Held) -> None:
    held.client.run("ref = add_one.remote(1); ray.wait([ref])")
    held.die()
    held.client.run("ray.get(ray.put(1))")
    assert held.runs() == 1
    assert held.client.run("ray.get(ref)") == 2
    assert held.runs() == 2


@pytest.mark.parametrize("begin", ["ray.wait([ref])", "pass"], ids=["finished", "pending"])
def test_what_may_not_be_retried_raises_and_is_not_run_again(held: Held, begin: str) -> None:
    held.client.run(f"ref = add_one.options(max_retries=0).remote(1); {begin}")
    held.started("run")
    held.die()
    failure = held.client.fails("ray.get(ref)")
    assert "OwnerDiedError" in failure.bases and "max_retries" in failure.text
    assert held.client.run("[len(refs) for refs in ray.wait([ref])]") == [1, 0]
    assert "OwnerDiedError" in str(held.client.fails("ray.get(add_one.remote(ref, 'never'))"))
    assert (held.runs(), held.runs("never")) == (1, 0)


def test_retries_are_counted_over_deaths(held: Held) -> None:
    held.client.run("ref = gated.options(max_retries=2).remote('budget', 1)")
    for run in (1, 2, 3):
        held.started("budget", run)
        held.die()
    assert "OwnerDiedError" in held.client.fails("ray.get(ref)").bases
    assert held.runs("budget") == 3


def test_a_task_that_no_server_was_given_is_simply_sent(held: Held) -> None:
    held.client.run("ray.get(add_one.remote(1, 'first use'))")
    with held.session.gap():
        held.client.run("ref = add_one.options(max_retries=0).remote(1)")
    assert held.client.run("ray.get(ref)") == 2
    assert held.runs() == 1


def test_released_refs_are_never_run_again(held: Held) -> None:
    held.client.run("ref = gated.remote('released', 1)")
    held.started("released")
    with held.session.gap():
        held.client.run("del ref; import gc; gc.collect()")
    held.session.await_server()
    held.client.run("ray.get(add_one.remote(1))")
    assert held.runs("released") == 1


def test_a_chain_of_finished_tasks_is_run_in_order(held: Held) -> None:
    held.client.run("a = add_one.remote(1, 'a'); b = add_one.remote(a, 'b'); ray.wait([b])")
    held.client.run("c = add_one.remote(b, 'c'); ray.wait([c]); del a, b")
    held.die()
    assert held.client.run("ray.get(c)") == 4
    assert [held.runs(name) for name in "abc"] == [2, 2, 2]


def test_several_returns(held: Held) -> None:
    held.client.run("pair = ray.remote(num_returns=2, num_cpus=0)(lambda: (1, 'two'))")
    held.client.run("one, two = pair.remote(); assert ray.get(one) == 1")
    held.die()
    assert held.client.run("ray.get([one, two])") == [1, "two"]


def test_an_application_error_stays_the_same(held: Held) -> None:
    held.client.run("ref = ray.remote(num_cpus=0, max_retries=0)(lambda: 1 / 0).remote()")
    assert "ZeroDivisionError" in held.client.fails("ray.get(ref)").bases
    held.die()
    assert "ZeroDivisionError" in held.client.fails("ray.get(ref)").bases


def test_ids_stay_the_first_incarnation_s(held: Held) -> None:
    held.client.run("ref = add_one.remote(1); actor = Counter.options(max_restarts=1).remote()")
    before = held.client.run("(ref.hex(), actor._actor_id.hex(), ray.get(ref))")
    held.die()
    assert held.client.run("(ref.hex(), actor._actor_id.hex(), ray.get(ref))") == before


def test_refs_in_results_are_the_refs_that_the_program_has(reading: Held) -> None:
    reading.client.run("ref = ray.put(1); nested = identity.remote([ref])")
    equal = "(lambda got: (got == ref, hash(got) == hash(ref), ray.get(got)))(ray.get(nested)[0])"
    assert reading.client.run(equal) == [True, True, 1]
    reading.die()
    assert reading.client.run(equal) == [True, True, 1]


def test_an_actor_with_restarts_is_created_again(held: Held) -> None:
    held.client.run("actor = Counter.options(max_restarts=1, name='mine').remote(5)")
    assert held.client.run("ray.get([actor.add.remote(), actor.add.remote()])") == [6, 7]
    held.die()
    assert held.client.run("ray.get(actor.add.remote())") == 6
    assert held.client.run("ray.get(ray.get_actor('mine').add.remote())") == 7
    assert held.runs("constructor") == 2
    held.die()
    assert "ActorDiedError" in held.client.fails("ray.get(actor.add.remote())").bases
    assert held.runs("constructor") == 2


def test_an_actor_without_restarts_is_dead(held: Held) -> None:
    held.client.run("actor = Counter.remote(); ray.get(actor.add.remote())")
    held.die()
    assert "ActorDiedError" in held.client.fails("ray.get(actor.add.remote())").bases
    assert held.runs("constructor") == 1


def test_a_detached_actor_is_the_same(held: Held) -> None:
    held.client.run("actor = Counter.options(name='kept', lifetime='detached').remote()")
    held.client.run("found = ray.get_actor('kept'); assert ray.get(actor.add.remote()) == 1")
    held.die()
    assert held.client.run("ray.get([actor.add.remote(), found.add.remote()])") == [2, 3]
    assert held.runs("constructor") == 1
    held.client.run("ray.kill(actor)")


@pytest.mark.parametrize("retries, runs", [(0, 1), (-1, 2)])
def test_a_call_under_way(held: Held, retries: int, runs: int) -> None:
    options = f"max_restarts=-1, max_task_retries={retries}"
    held.client.run(f"actor = Counter.options({options}).remote()")
    held.client.run("ref = actor.gated.remote('under way')")
    held.started("under way")
    held.die()
    held.open_gate()
    if retries:
        assert held.client.run("ray.get(ref)") == 0
    else:
        assert "ActorUnavailableError" in held.client.fails("ray.get(ref)").bases
    assert held.client.run("ray.get(actor.add.remote())") == 1
    assert held.runs("under way") == runs


def test_a_call_of_a_dead_actor(held: Held) -> None:
    held.client.run("actor = Counter.options(max_task_retries=-1).remote()")
    held.client.run("ref = actor.gated.remote('under way')")
    held.started("under way")
    held.die()
    assert "ActorDiedError" in held.client.fails("ray.get(ref)").bases
    assert held.runs("under way") == 1


def test_handles_in_arguments_and_results(reading: Held) -> None:
    reading.client.run("actor = Counter.options(max_restarts=-1).remote()")
    reading.client.run("poke = ray.remote(num_cpus=0)(lambda a: ray.get(a.add.remote()))")
    reading.client.run("back = ray.get(identity.remote(actor)); ray.get(back.add.remote())")
    reading.die()
    assert reading.client.run("ray.get(poke.remote(actor))") == 1
    assert reading.client.run("ray.get(back.add.remote())") == 2


def test_killed_and_cancelled_is_not_brought_back(held: Held) -> None:
    held.client.run("actor = Counter.options(max_restarts=-1).remote(); ref = gated.remote('x', 1)")
    held.client.run("ray.get(actor.add.remote()); ray.kill(actor)")
    held.started("x")
    held.client.run("ray.cancel(ref, force=True)")
    held.die()
    assert "ActorDiedError" in held.client.fails("ray.get(actor.add.remote())").bases
    failure = held.client.fails("ray.get(ref)")
    assert failure.type == "TaskCancelledError" and "was cancelled" in failure.text
    assert (held.runs("x"), held.runs("constructor")) == (1, 1)


FAILS_ONCE = """
    class Odd(Exception):
        def __init__(self, a, b):  # It does not unpickle.
            super().__init__(a)

    @ray.remote(num_cpus=0, max_retries=-1)
    def fails_once(name, error):
        note(runs, name)
        if open(runs).read().split().count(name) == 1:
            raise error()
        return "ran again"

    def outcome(ask):
        try:
            return ask()
        except Exception as e:
            return type(e).__name__
"""


@pytest.mark.parametrize(
    "seen",
    [
        "ray.get(ref)",
        "ray.get([other, ref])",
        "ref.future().result()",
        "asyncio.run(asyncio.wait_for(ref, 60))",
    ],
)
@pytest.mark.parametrize("error", ["ValueError('no')", "Odd(1, 2)"])
def test_an_error_that_was_seen_stays(reading: Held, error: str, seen: str) -> None:
    reading.client.run(FAILS_ONCE)
    reading.client.run(f"ref = fails_once.remote('failing', lambda: {error}); other = ray.put(1)")
    told = reading.client.run(f"import asyncio; outcome(lambda: {seen})")
    reading.die()
    assert reading.client.run("outcome(lambda: ray.get(ref))") == told != "ran again"
    assert reading.client.run("outcome(lambda: ray.get(identity.remote(ref)))") != "ran again"
    assert reading.runs("failing") == 1


GROUPS = """
    from ray.util.placement_group import placement_group
    from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

    def group(**options):
        made = placement_group([{"CPU": 0.1}], **options)
        ray.get(made.ready())
        return PlacementGroupSchedulingStrategy(made)

    def in_it(group):
        task = identity.options(num_cpus=0.1, scheduling_strategy=group)
        actor = Counter.options(max_restarts=-1, max_task_retries=-1, scheduling_strategy=group)
        return task, actor.remote()
"""


def test_what_is_in_a_placement_group_that_died_says_so(reading: Held) -> None:
    reading.client.run(GROUPS)
    reading.client.run("task, actor = in_it(group()); ray.get(actor.add.remote())")
    reading.die()
    assert reading.client.fails("ray.get(task.remote(1))").type == "TaskPlacementGroupRemoved"
    failure = reading.client.fails("ray.get(actor.add.remote())")
    assert failure.type == "ActorPlacementGroupRemoved"


def test_what_is_in_a_detached_placement_group_goes_on(reading: Held) -> None:
    reading.client.run(GROUPS)
    reading.client.run("strategy = group(lifetime='detached'); task, actor = in_it(strategy)")
    assert reading.client.run("ray.get([task.remote(1), actor.add.remote()])") == [1, 1]
    reading.die()
    assert reading.client.run("ray.get([task.remote(1), actor.add.remote()])") == [1, 1]
    reading.client.run("ray.util.remove_placement_group(strategy.placement_group)")


def test_order_is_kept(held: Held) -> None:
    held.client.run("actor = Counter.options(max_restarts=-1, max_task_retries=-1).remote()")
    held.client.run("ray.get(actor.add.remote()); held = [actor.gated.remote('first')]")
    held.started("first")
    held.client.run("held += [actor.add.remote() for _ in range(50)]")
    held.die()
    held.client.run("held += [actor.add.remote() for _ in range(50)]")
    held.open_gate()
    assert held.client.run("ray.get(held)") == list(range(101))


def test_what_the_journal_has_no_room_for_says_so(
    make_session: MakeSession, tmp_path: Path
) -> None:
    environment = {"RAY_CLIENT_JOURNAL_BYTES": "1000000"}
    held = Held(make_session(environment=environment), tmp_path)
    held.client.run("small, large = ray.put(1), ray.put(bytes(2_000_000))")
    assert held.client.run("len(ray.get(large))") == 2_000_000
    held.die()
    assert held.client.run("ray.get(small)") == 1
    failure = held.client.fails("ray.get(large)")
    assert "OwnerDiedError" in failure.bases and "RAY_CLIENT_JOURNAL_BYTES" in failure.text


def test_five_deaths_in_a_row(held: Held) -> None:
    held.client.run("put, seen = ray.put('put'), add_one.remote(1); ray.get(seen)")
    held.client.run("unseen = add_one.options(max_retries=-1).remote(2); ray.wait([unseen])")
    held.client.run("actor = Counter.options(max_restarts=-1).remote()")
    for _ in range(5):
        held.die()
        everything = "ray.get([put, seen, unseen, actor.add.remote()])"
        assert held.client.run(everything) == ["put", 2, 3, 1]


def test_two_thousand_tasks_in_flight(held: Held) -> None:
    held.client.run("refs = [add_one.remote(i) for i in range(2000)]")
    held.session.lose_server()
    assert held.client.run("sum(ray.get(refs))") == sum(range(1, 2001))
    assert 2000 <= held.runs() <= 4000


def test_threads_under_kills(held: Held) -> None:
    code = "[ray.get(add_one.remote(i)) for i in range(60)]"
    steps = [held.client.start(code, thread=True) for _ in range(8)]
    for times in (50, 100, 150):
        held.started("run", times)
        held.die()
    assert [step.value() for step in steps] == [list(range(1, 61))] * 8


def test_large_objects_cut_in_the_middle(held: Held) -> None:
    held.client.run("import os; data = os.urandom(30 * 2**20)")
    step = held.client.start("ref = ray.put(data)")
    held.session.lose_server()
    step.value()
    step = held.client.start("ray.get(ref) == data")
    held.session.await_server()
    held.session.lose_server()
    assert step.value() is True


NESTED = """
    @ray.remote(num_cpus=0)
    def makes(name, count=3):
        note(runs, name)
        return {"refs": [ray.put(number) for number in range(count)], "chance": os.urandom(8).hex()}
"""


@pytest.fixture
def nesting(held: Held) -> Held:
    held.client.run("import os")
    held.client.run(NESTED)
    return held


def test_what_came_inside_a_result_is_had_again_through_it(nesting: Held) -> None:
    nesting.client.run("outer = makes.options(max_retries=-1).remote('outer')")
    nesting.client.run("inner = ray.get(outer)['refs']; before = [ref.hex() for ref in inner]")
    assert nesting.client.run("ray.get(inner[1])") == 1
    for _ in range(2):
        nesting.die()
        assert nesting.client.run("ray.get([inner[2], inner[0]])") == [2, 0]
        assert nesting.client.run("ray.get(add_one.remote(inner[2]))") == 3
        assert nesting.client.run("[ref.hex() for ref in inner] == before") is True
        assert nesting.client.run("ray.get(ray.wait([inner[0]])[0][0])") == 0
    # Its own value was seen and stays; what is in it is what the program has.
    assert nesting.client.run("got = ray.get(outer); got['refs'] == inner") is True


def test_a_seen_value_that_refers_to_others_stays(nesting: Held) -> None:
    nesting.client.run("outer = makes.options(max_retries=-1).remote('outer')")
    nesting.client.run("chance = ray.get(outer)['chance']")
    nesting.die()
    assert nesting.client.run("ray.get(outer)['chance'] == chance") is True
    assert nesting.runs("outer") == 1
    assert nesting.client.run("ray.get(ray.get(outer)['refs'])") == [0, 1, 2]
    assert nesting.runs("outer") == 2


def test_what_came_inside_a_result_goes_when_that_may_not_be_had_again(nesting: Held) -> None:
    nesting.client.run("outer = makes.options(max_retries=0).remote('outer')")
    nesting.client.run("inner = ray.get(outer)['refs']")
    nesting.die()
    failure = nesting.client.fails("ray.get(inner[0])")
    assert "OwnerDiedError" in failure.bases and "max_retries" in failure.text
    assert nesting.runs("outer") == 1


def test_a_part_that_a_second_run_lacks_says_so(nesting: Held) -> None:
    nesting.client.run(
        """
        @ray.remote(num_cpus=0, max_retries=-1)
        def shrinks(name):
            note(runs, name)
            with open(runs) as file:
                count = 3 - file.read().split().count(name)
            return [ray.put(number) for number in range(count)]

        inner = ray.get(shrinks.remote("shrinks"))
        """
    )
    nesting.die()
    assert nesting.client.run("ray.get(inner[0])") == 0
    failure = nesting.client.fails("ray.get(inner[1])")
    assert "fewer objects" in failure.text


def test_references_nested_twice(nesting: Held) -> None:
    nesting.client.run(
        """
        @ray.remote(num_cpus=0, max_retries=-1)
        def deep():
            return [ray.put([ray.put("deepest")])]

        middle, = ray.get(deep.remote())
        deepest, = ray.get(middle)
        """
    )
    nesting.client.run("del middle")
    nesting.die()
    assert nesting.client.run("ray.get(deepest)") == "deepest"


def test_the_handle_of_a_detached_actor_from_a_result_is_the_same_actor(held: Held) -> None:
    held.client.run("kept = Counter.options(name='inside', lifetime='detached').remote()")
    held.client.run("find = ray.remote(num_cpus=0)(lambda: ray.get_actor('inside'))")
    held.client.run("found = ray.get(find.options(max_retries=0).remote())")
    held.client.run("del kept; assert ray.get(found.add.remote()) == 1")
    held.die()
    assert held.client.run("ray.get(found.add.remote())") == 2
    assert held.runs("constructor") == 1
    held.client.run("ray.kill(found)")


def test_the_handle_of_an_actor_that_died_from_a_result_says_so(held: Held) -> None:
    held.client.run("actor = Counter.remote(); ray.get(actor.add.remote())")
    held.client.run("identity = ray.remote(num_cpus=0)(lambda x: x)")
    held.client.run("found = ray.get(identity.remote([actor]))[0]; del actor")
    held.die()
    assert "ActorDiedError" in held.client.fails("ray.get(found.add.remote())").bases


def test_what_was_seen_of_several_returns_stays_for_tasks(held: Held) -> None:
    held.client.run(
        """
        import os
        pair = ray.remote(num_returns=2, num_cpus=0)(lambda: (os.urandom(8), os.urandom(8)))
        same = ray.remote(num_cpus=0)(lambda x: x)
        one, two = pair.remote()
        seen = ray.get(one)
        """
    )
    held.die()
    assert held.client.run("ray.get(two) is not None and ray.get(same.remote(one)) == seen") is True


def test_a_task_that_needs_a_failed_one_fails_as_before(held: Held) -> None:
    held.client.run("bad = ray.remote(num_cpus=0, max_retries=0)(lambda: 1 / 0).remote()")
    assert "ZeroDivisionError" in held.client.fails("ray.get(bad)").bases
    held.die()
    assert "ZeroDivisionError" in held.client.fails("ray.get(add_one.remote(bad, 'never'))").bases
    assert held.client.run("[len(refs) for refs in ray.wait([bad])]") == [1, 0]
    assert held.runs("never") == 0


def test_what_goes_beyond_the_journal_s_memory_may_go_to_disk(
    make_session: MakeSession, tmp_path: Path
) -> None:
    spill = tmp_path / "spill"
    spill.mkdir()
    environment = {"RAY_CLIENT_JOURNAL_BYTES": "100000", "RAY_CLIENT_JOURNAL_SPILL": str(spill)}
    held = Held(make_session(environment=environment), tmp_path)
    held.client.run("import os; data = [os.urandom(200_000) for _ in range(5)]")
    held.client.run("puts = [ray.put(each) for each in data]")
    held.client.run("task = add_one.options(max_retries=-1).remote(1, 'x' * 1_000_000)")
    held.client.run("ray.wait([task])")
    spilled = held.client.run("ray.util.client.session.info().journal_spilled_bytes")
    assert spilled > 1_500_000 and list(spill.iterdir()) == []
    for _ in range(2):
        held.die()
        assert held.client.run("ray.get(puts) == data and ray.get(task)") == 2
    held.client.run("del puts, task; import gc; gc.collect()")
    held.client.run("ray.get(ray.put(1))")
