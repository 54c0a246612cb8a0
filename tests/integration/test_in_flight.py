"""Calls of every sort that are under way when the server dies, or are made while there is none."""

from __future__ import annotations

import pytest

from tests.support.client import Step
from tests.support.held import Held
from tests.support.waiting import eventually


def test_every_way_to_wait_goes_on(held: Held) -> None:
    held.client.run(
        """
        import asyncio

        ref, other = gated.remote("pending", 5), gated.remote("other", 6)

        async def ask():
            return await asyncio.gather(ref, other, asyncio.wrap_future(ref.future()))
        """
    )
    waiting = {
        "ray.get(ref)": 5,
        "ray.get([other, ref], timeout=100)": [6, 5],
        "[len(refs) for refs in ray.wait([ref, other], num_returns=2)]": [2, 0],
        "ref.future().result()": 5,
        "asyncio.run(ask())": [5, 6, 5],
    }
    steps = {code: held.client.start(code, thread=True) for code in waiting}
    held.started("pending")
    held.started("other")
    held.die()
    held.open_gate()
    assert {code: step.value() for code, step in steps.items()} == waiting
    assert (held.runs("pending"), held.runs("other")) == (2, 2)


def test_a_callback_of_an_object_is_called_once(held: Held) -> None:
    held.client.run("ref, called = gated.remote('pending', 5), []")
    held.client.run("ref.future().add_done_callback(lambda done: called.append(done.result()))")
    held.started("pending")
    held.die()
    held.open_gate()
    eventually(lambda: held.client.run("called"), "the callback")
    held.die()
    assert held.client.run("(ray.get(ref), called)") == [5, [5]]


def test_options_hold_for_what_is_submitted_again(held: Held) -> None:
    held.client.run(
        """
        @ray.remote
        def describe():
            import os, time
            note(runs, "described")
            while not os.path.exists(gate):
                time.sleep(0.01)
            context = ray.get_runtime_context()
            return context.get_task_name(), context.get_assigned_resources()

        node = {"node:__internal_head__": 0.01}
        named = describe.options(name="mine", num_cpus=2, resources=node).remote()
        one, two = describe.options(num_returns=2, num_cpus=1, max_retries=1).remote()
        """
    )
    held.started("described", 2)
    held.die()
    held.started("described", 4)
    held.open_gate()
    name, resources = held.client.run("ray.get(named)")
    assert name == "mine" and resources["CPU"] == 2 and resources["node:__internal_head__"] == 0.01
    assert held.client.run("ray.get(two)") == {"CPU": 1.0}
    assert held.client.run("ray.get(one)").endswith("describe")


def test_options_of_calls_hold_for_what_is_submitted_again(held: Held) -> None:
    held.client.run("actor = Counter.options(max_restarts=-1, max_task_retries=-1).remote()")
    held.client.run(
        """
        pair = actor.gated.options(num_returns=1, name="a call").remote("pair")
        refused = actor.gated.options(max_task_retries=0).remote("refused")
        """
    )
    held.started("pair")
    held.die()
    held.open_gate()
    assert held.client.run("ray.get(pair)") == 0
    assert "ActorUnavailableError" in held.client.fails("ray.get(refused)").bases
    assert (held.runs("pair"), held.runs("refused")) == (2, 0)


def test_handles_passed_to_pending_tasks_mean_the_new_actor(held: Held) -> None:
    held.client.run(
        """
        @ray.remote(num_cpus=0)
        def poke(name, handles):
            import os, time
            note(runs, name)
            while not os.path.exists(gate):
                time.sleep(0.01)
            return ray.get([handle.add.remote() for handle in handles["actors"]])

        @ray.remote(num_cpus=0)
        class Holder:
            def __init__(self, other):
                self.other = other
            def ask(self):
                return ray.get(self.other.add.remote())

        actor = Counter.options(max_restarts=-1).remote(10)
        holder = Holder.options(max_restarts=-1).remote(actor)
        ref = poke.remote("poke", {"actors": [actor, actor]})
        assert ray.get(holder.ask.remote()) == 11
        """
    )
    held.started("poke")
    held.die()
    held.started("poke", 2)
    held.open_gate()
    assert held.client.run("ray.get(ref)") == [11, 12]
    assert held.client.run("ray.get(holder.ask.remote())") == 13


def test_a_detached_actor_s_handle_that_came_in_a_result(held: Held) -> None:
    held.client.run("kept = Counter.options(name='kept', lifetime='detached').remote()")
    held.client.run("find = ray.remote(num_cpus=0)(lambda: [ray.get_actor('kept')])")
    held.client.run("(found,) = ray.get(find.remote()); assert ray.get(found.add.remote()) == 1")
    held.die()
    held.client.run("del kept")
    assert held.client.run("ray.get(found.add.remote())") == 2
    held.client.run("ray.kill(found)")


# A killed actor may answer for a moment more.
DIES = "for _ in range(1000): ray.get({}.add.remote())"


@pytest.mark.parametrize("handle, other", [("made", "found"), ("found", "made")])
def test_a_detached_actor_that_was_not_used_since_a_death_can_be_killed(
    held: Held, handle: str, other: str
) -> None:
    held.client.run("made = Counter.options(name='kept', lifetime='detached').remote()")
    held.client.run("found = ray.get_actor('kept'); ray.get(found.add.remote())")
    held.die()
    held.client.run(f"ray.kill({handle})")
    for one in (handle, other):
        assert "ActorDiedError" in held.client.fails(DIES.format(one)).bases
    held.die()
    for one in (handle, other):
        assert "ActorDiedError" in held.client.fails(f"ray.get({one}.add.remote())").bases
    assert "ValueError" in held.client.fails("ray.get_actor('kept')").bases


def test_found_actors_that_were_created_again_are_the_new_ones(held: Held) -> None:
    held.client.run("made = Counter.options(name='mine', max_restarts=-1).remote()")
    held.client.run("one, two = ray.get_actor('mine'), ray.get_actor('mine')")
    assert held.client.run("ray.get([each.add.remote() for each in (made, one, two)])") == [1, 2, 3]
    for _ in range(2):
        held.die()
        calls = "[each.add.remote() for each in (two, one, made)]"
        assert held.client.run(f"ray.get({calls})") == [1, 2, 3]


def test_an_actor_that_was_found_between_two_deaths_is_the_same(held: Held) -> None:
    held.client.run("made = Counter.options(name='mine', max_restarts=-1).remote()")
    assert held.client.run("ray.get(made.add.remote())") == 1
    held.die()
    held.client.run("found = ray.get_actor('mine')")
    assert held.client.run("ray.get([made.add.remote(), found.add.remote()])") == [1, 2]
    assert held.client.run("found._actor_id.hex() == made._actor_id.hex()") is True
    held.die()
    assert held.client.run("ray.get([made.add.remote(), found.add.remote()])") == [1, 2]


def test_a_detached_actor_without_a_name(held: Held) -> None:
    held.client.run("kept = Counter.options(lifetime='detached').remote()")
    assert held.client.run("ray.get(kept.add.remote())") == 1
    held.die()
    assert held.client.run("ray.get(kept.add.remote())") == 2
    held.client.run("ray.kill(kept)")


@pytest.mark.parametrize("options", ["name='kept', max_restarts=-1", "name='kept'", ""])
def test_a_detached_actor_that_waits_for_its_arguments_is_made_by_the_next_server(
    held: Held, options: str
) -> None:
    held.client.run("start = gated.options(max_retries=-1).remote('argument', 5)")
    held.client.run(f"kept = Counter.options(lifetime='detached', {options}).remote(start)")
    held.client.run("retried = kept.add.options(max_task_retries=-1).remote()")
    held.started("argument")
    held.die()
    held.started("argument", 2)
    held.die()
    held.open_gate()
    assert held.client.run("ray.get([retried, kept.add.remote()])") == [6, 7]
    held.die()
    assert held.client.run("ray.get(kept.add.remote())") == 8
    assert held.runs("constructor") == 1
    held.client.run("ray.kill(kept)")


def test_a_detached_actor_that_was_killed_before_it_began_stays_dead(held: Held) -> None:
    held.client.run("start = gated.options(max_retries=-1).remote('argument', 5)")
    held.client.run("kept = Counter.options(lifetime='detached', name='kept').remote(start)")
    held.started("argument")
    held.client.run("ray.kill(kept)")
    held.die()
    held.open_gate()
    assert "ActorDiedError" in held.client.fails("ray.get(kept.add.remote())").bases
    assert held.runs("constructor") == 0


def test_a_handle_means_its_own_actor_and_not_the_next_of_that_name(held: Held) -> None:
    held.client.run("old = Counter.options(name='kept', lifetime='detached').remote()")
    held.client.run("found = ray.get_actor('kept'); ray.get(found.add.remote()); ray.kill(old)")
    held.client.fails(DIES.format("found"))
    held.client.run("new = Counter.options(name='kept', lifetime='detached').remote(100)")
    assert held.client.run("ray.get(new.add.remote())") == 101
    held.die()
    for handle in ("old", "found"):
        assert "ActorDiedError" in held.client.fails(f"ray.get({handle}.add.remote())").bases
    assert held.client.run("ray.get(new.add.remote())") == 102
    held.client.run("ray.kill(new)")


GAP = """
    pending, chosen = gated.remote("pending", 1), gated.remote("chosen", 2)
    doomed = Counter.options(max_restarts=-1).remote()
    named = Counter.options(max_restarts=-1, name="named").remote(100)
    kept = Counter.options(lifetime="detached", name="kept").remote()
    ray.get([doomed.add.remote(), named.add.remote(), kept.add.remote()])
    before = (named._actor_id.hex(), kept._actor_id.hex())
"""


@pytest.fixture
def after_the_gap(held: Held) -> dict[str, Step]:
    """The steps that were begun while there was no server, by their code."""
    held.client.run(GAP)
    held.started("pending")
    held.started("chosen")
    codes = (
        "ray.cancel(pending, force=True)",
        "ray.kill(doomed)",
        "ray.get(ray.get_actor('named').add.remote())",
        "ray.get(ray.get_actor('kept').add.remote())",
        "ray.get_actor('nobody')",
        "[one['name'] for one in ray.util.list_named_actors(all_namespaces=True)]",
        "ray.get(Counter.options(name='named', get_if_exists=True).remote().add.remote())",
    )
    with held.session.gap():
        return {code: held.client.start(code, thread=True) for code in codes}


def test_what_is_done_in_the_gap_is_done(held: Held, after_the_gap: dict[str, Step]) -> None:
    for code in ("ray.cancel(pending, force=True)", "ray.kill(doomed)"):
        assert after_the_gap.pop(code).value() is None
    assert "ValueError" in after_the_gap.pop("ray.get_actor('nobody')").failure().bases
    values = [step.value() for step in after_the_gap.values()]
    assert sorted(values[i] for i in (0, 3)) == [101, 102]
    assert values[1] == 2
    assert "kept" in values[2]
    held.open_gate()
    assert held.client.run("ray.get(chosen)") == 2
    assert "RayError" in held.client.fails("ray.get(pending)").bases
    assert "ActorDiedError" in held.client.fails("ray.get(doomed.add.remote())").bases
    assert held.runs("pending") == 1
    assert held.client.run("(named._actor_id.hex(), kept._actor_id.hex()) == before") is True
    held.client.run("ray.kill(kept)")


def test_the_name_of_a_dead_actor_is_free_again(held: Held) -> None:
    held.client.run("dead = Counter.options(name='mine').remote(); ray.get(dead.add.remote())")
    held.client.run(
        """
        def make():
            while True:
                try:
                    return Counter.options(name="mine").remote(5)
                except ValueError:
                    continue
        """
    )
    held.session.lose_server()
    assert held.client.run("new = make(); ray.get(new.add.remote())") == 6
    assert "ActorDiedError" in held.client.fails("ray.get(dead.add.remote())").bases
    assert held.client.run("ray.get(ray.get_actor('mine').add.remote())") == 7


def test_an_actor_that_is_got_or_made_is_the_one_that_was_restored(held: Held) -> None:
    get_or_make = "Counter.options(name='one', get_if_exists=True, max_restarts=-1).remote()"
    held.client.run(f"first = {get_or_make}; second = {get_or_make}")
    assert held.client.run("ray.get([first.add.remote(), second.add.remote()])") == [1, 2]
    held.die()
    held.client.run(f"third = {get_or_make}")
    calls = "[one.add.remote() for one in (first, second, third)]"
    assert held.client.run(f"ray.get({calls})") == [1, 2, 3]
    assert held.runs("constructor") == 2


def test_a_seen_chance_value_stays_whatever_dies(held: Held) -> None:
    held.client.run(
        """
        import random

        @ray.remote(num_cpus=0)
        def roll():
            note(runs, "rolled")
            return random.SystemRandom().random()

        @ray.remote(num_cpus=0)
        class Echo:
            def echo(self, got):
                return got

        same = ray.remote(num_cpus=0)(lambda got, **more: got)
        echo = Echo.options(max_restarts=-1).remote()
        ref = roll.remote()
        value = ray.get(ref)
        later = same.remote(ref)
        ray.wait([later])
        """
    )
    for _ in range(4):
        held.die()
        read = "[ref, later, same.remote(ref), same.remote(got=ref), echo.echo.remote(ref)]"
        assert held.client.run(f"ray.get({read}) == [value] * 5") is True
        assert held.client.run("ray.get(ray.get(same.remote([ref]))) == [value]") is True
    assert held.runs("rolled") == 1


def test_a_chance_value_that_was_ready_but_not_seen_is_one_for_all(held: Held) -> None:
    held.client.run(
        """
        import random
        roll = ray.remote(num_cpus=0)(lambda: random.SystemRandom().random())
        same = ray.remote(num_cpus=0)(lambda got: got)
        ref = roll.remote()
        later = same.remote(ref)
        ray.wait([later])
        """
    )
    held.die()
    assert held.client.run("ray.get(later) == ray.get(ref) == ray.get(same.remote(ref))") is True
    held.die()
    assert held.client.run("ray.get(later) == ray.get(ref) == ray.get(same.remote(ref))") is True


THREADS = """
    def drive(number, calls, retries):
        options = dict(max_restarts=-1, max_task_retries=retries)
        actor = Counter.options(**options).remote()
        task = add_one.options(max_retries=retries)
        got = []
        for call in range(calls):
            mine = f"{number}-{retries}-{call}"
            for ref in (actor.add.remote("call " + mine), task.remote(call, "task " + mine)):
                try:
                    ray.get(ref)
                    got.append("value")
                except ray.exceptions.RayError as error:
                    got.append(type(error).__name__)
        return got
"""
ALLOWED = {"value", "OwnerDiedError", "SessionOwnerDiedError", "ActorUnavailableError"}


@pytest.mark.slow
def test_threads_with_actors_under_kills(held: Held) -> None:
    held.client.run(THREADS)
    steps = [
        (number, retries, held.client.start(f"drive({number}, 15, {retries})", thread=True))
        for number in range(4)
        for retries in (0, -1)
    ]
    for call in (3, 7, 11):
        held.started(f"call 0--1-{call}")
        held.die()
    for number, retries, step in steps:
        got = step.value()
        if retries:
            assert set(got) == {"value"}, got
        assert set(got) <= ALLOWED, got
        for call in range(15):
            for index, what in enumerate(("call", "task")):
                times = held.runs(f"{what} {number}-{retries}-{call}")
                if retries:
                    assert 1 <= times <= 4
                else:
                    assert times <= 1
                    assert times == 1 or got[2 * call + index] != "value"
