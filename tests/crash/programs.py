"""Programs whose results are the same however often the session's server dies under them.

Each is a function that runs in a client program's ``__main__``, by its source, with ``ray`` and
:data:`TOOLS` at hand, and returns what JSON can carry. What it makes may be made again without
limit, or it says itself what a death may do to it.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Dict

# Programs use the names that TOOLS defines.
# ruff: noqa: F821

# What programs use: ``note(name)`` counts a run outside Ray; ``folder`` is one for them alone.
TOOLS = """
import ray

def note(name):
    with open(folder + "/runs", "a") as file:
        file.write(name + "\\n")

remote = ray.remote(num_cpus=0, max_retries=-1)
immortal = ray.remote(num_cpus=0, max_restarts=-1, max_task_retries=-1)
"""


@dataclass(frozen=True)
class Program:
    """A program and what it returns.

    Attributes:
        name: of the function.
        source: of the function.
        result: what it returns, in JSON's terms.
        runs: by the name that is noted, how often it may run at most.
        options: of ``ray.init``.
    """

    name: str
    source: str
    result: Any
    runs: Dict[str, int] = field(default_factory=dict)
    options: Dict[str, Any] = field(default_factory=dict)

    @property
    def code(self) -> str:
        """What a client program that is connected is to run."""
        return f"{TOOLS}\n{self.source}\n{self.name}()"


PROGRAMS: Dict[str, Program] = {}


def program(
    result: Any, *, runs: Dict[str, int] | None = None, **options: Any
) -> Callable[[Callable[[], Any]], Callable[[], Any]]:
    """Adds a function to the programs. ``runs``, ``options``: see :class:`Program`."""

    def add(function: Callable[[], Any]) -> Callable[[], Any]:
        source = inspect.getsource(function)
        body = source[source.index("def ") :]
        name = function.__name__
        PROGRAMS[name] = Program(name, body, result, runs or {}, options)
        return function

    return add


# -- objects


@program([1, ["two", 3.0], {"four": None}, [1, 1], ["two", 3.0]])
def puts_and_gets():
    one, two, three = ray.put(1), ray.put(["two", 3.0]), ray.put({"four": None})
    return [ray.get(one), ray.get(two), ray.get(three), ray.get([one, one]), ray.get([one, two])[1]]


@program([True, 12 * 2**20, True])
def large_objects():
    import hashlib
    import random

    data = random.Random(1).randbytes(12 * 2**20)
    digest = remote(lambda blob: (hashlib.sha1(blob).hexdigest(), len(blob)))
    grow = remote(lambda blob: blob + blob[:1])
    ref = ray.put(data)
    name, size = ray.get(digest.remote(ref))
    argument = ray.get(digest.remote(data[: 6 * 2**20]))
    return [
        name == hashlib.sha1(data).hexdigest() and ray.get(grow.remote(ref)) == data + data[:1],
        size,
        argument[0] == hashlib.sha1(data[: 6 * 2**20]).hexdigest(),
    ]


@program([True, True, [1, 2]])
def references_stay_equal():
    identity = remote(lambda x: x)
    one = ray.put(1)
    (back,) = ray.get(identity.remote([one]))
    return [back == one, hash(back) == hash(one), [ray.get(back), ray.get(ray.put(2))]]


@program([6, 6, 21])
def nested_arguments():
    unpack = remote(lambda refs, more=None: sum(ray.get(refs + (more["a"] if more else []))))
    one, two = ray.put(1), remote(lambda: 2).remote()
    three = ray.put(3)
    outer = ray.put([one, two, three])
    return [
        ray.get(unpack.remote([one, two, three])),
        ray.get(unpack.remote([one, two], more={"a": [three]})),
        ray.get(remote(lambda ref: sum(ray.get(ray.get(ref[0]))) + 15).remote([outer])),
    ]


@program([7, [1, 2]])
def nested_results():
    make = remote(lambda: [ray.put(1), remote_two.remote()])
    remote_two = remote(lambda: 2)
    seven = ray.put(7)
    (own,) = ray.get(remote(lambda refs: refs).remote([seven]))
    inner = ray.get(make.remote())
    return [ray.get(own), [ray.get(inner[0]), ray.get(inner[1])]]


@program([10, 10, 45])
def released_references():
    refs = [ray.put(n) for n in range(10)]
    add = remote(lambda *parts: sum(parts))
    total = add.remote(*refs)
    del refs
    kept = [add.remote(n) for n in range(5)]
    first = ray.get(kept)
    del kept
    again = [add.remote(n) for n in range(5)]
    return [sum(first), sum(ray.get(again)), ray.get(total)]


# -- tasks


@program(11)
def a_chain_of_tasks():
    add = remote(lambda x, y=1: x + y)
    ref = ray.put(1)
    for _ in range(10):
        ref = add.remote(ref)
    return ray.get(ref)


@program(list(range(1, 31)))
def many_tasks():
    add = remote(lambda x: x + 1)
    return ray.get([add.remote(n) for n in range(30)])


@program([[1, "two", [3]], 4, [5, 6]])
def several_returns():
    three = ray.remote(num_cpus=0, max_retries=-1, num_returns=3)(lambda: (1, "two", [3]))
    one, two, rest = three.remote()
    add = remote(lambda a, b: a + b[0])
    pair = remote(lambda: (5, 6)).options(num_returns=2).remote()
    return [ray.get([one, two, rest]), ray.get(add.remote(one, rest)), ray.get(pair)]


@program([3, "child of parent", 12])
def functions_that_need_others():
    base = ray.put(10)
    child = remote(lambda x: f"child of {x}")
    parent = remote(lambda: ray.get(child.remote("parent")))
    closure = remote(lambda x: ray.get(base) + x)

    @remote
    def sum_to(n):
        return n + ray.get(sum_to.remote(n - 1)) if n else 0

    return [ray.get(sum_to.remote(2)), ray.get(parent.remote()), ray.get(closure.remote(2))]


@program(["yes", [2, "x"], 5])
def options_of_tasks():
    import os

    told = remote(lambda: os.environ.get("TOLD"))
    two = remote(lambda: (2, "x"))
    return [
        ray.get(told.options(runtime_env={"env_vars": {"TOLD": "yes"}}).remote()),
        ray.get(two.options(num_returns=2, name="a-name").remote()),
        ray.get(remote(lambda x: x).options(scheduling_strategy="SPREAD").remote(5)),
    ]


@program([["Odd", "7 is odd"], "ZeroDivisionError", "Odd", "Odd", "KeyError"])
def errors_keep_their_type():
    class Odd(ValueError):
        pass

    @remote
    def check(n):
        if n % 2:
            raise Odd(f"{n} is odd")
        return n

    @immortal
    class Failing:
        def fail(self):
            raise KeyError("no such thing")

    def failure(what):
        try:
            what()
        except Exception as e:
            cause = getattr(e, "cause", e)
            return [type(cause).__name__, str(cause)]

    odd, good = check.remote(7), check.remote(8)
    depends = remote(lambda a, b: a + b).remote(odd, good)
    return [
        failure(lambda: ray.get(odd)),
        failure(lambda: ray.get(remote(lambda: 1 / 0).remote()))[0],
        failure(lambda: odd.future().result())[0],
        failure(lambda: ray.get([good, depends]))[0],
        failure(lambda: ray.get(Failing.remote().fail.remote()))[0],
    ]


@program("as promised", runs={f"once {n}": 1 for n in range(8)})
def what_may_not_be_retried():
    @ray.remote(num_cpus=0, max_retries=0)
    def once(n):
        note(f"once {n}")
        return n

    refs = [once.remote(n) for n in range(8)]
    for n, ref in enumerate(refs):
        try:
            assert ray.get(ref) == n
        except ray.exceptions.OwnerDiedError as e:
            assert "max_retries" in str(e), e
    return "as promised"


@program("as promised", runs={f"budget {n}": 3 for n in range(4)})
def a_budget_of_retries():
    @ray.remote(num_cpus=0, max_retries=2)
    def budgeted(n):
        note(f"budget {n}")
        return n

    for n, ref in enumerate([budgeted.remote(n) for n in range(4)]):
        try:
            assert ray.get(ref) == n
        except ray.exceptions.OwnerDiedError as e:
            assert "max_retries" in str(e), e
    return "as promised"


@program([True, 5], runs={"cancelled": 1000})
def what_was_cancelled():
    @remote
    def endless():
        import time

        note("cancelled")
        while True:
            time.sleep(0.01)

    ref = endless.remote()
    ray.cancel(ref, force=True)
    try:
        ray.get(ref)
    except ray.exceptions.RayError:
        return [True, ray.get(remote(lambda: 5).remote())]


# -- ways to wait


@program([3, [1, 2, 3], 3])
def futures():
    import threading

    add = remote(lambda x: x + 1)
    done, came = threading.Event(), []

    def tell(future):
        came.append(future.result())
        done.set()

    first = add.remote(2)
    first.future().add_done_callback(tell)
    rest = [add.remote(n).future() for n in range(3)]
    got = [future.result() for future in rest]
    done.wait()
    return [first.future().result(), got, came[0]]


@program([1, [0, 1, 4, 9], "late"])
def awaits():
    import asyncio

    square = remote(lambda x: x * x)

    async def ask():
        one = await square.remote(1)
        many = await asyncio.gather(*[square.remote(n) for n in range(4)])
        return [one, many, await ray.put("late")]

    return asyncio.run(ask())


@program([[0, 1, 2, 3], [2, 2], [0, 1]])
def waits():
    import threading

    add = remote(lambda x: x)
    refs, seen = [add.remote(n) for n in range(4)], []
    while refs:
        ready, refs = ray.wait(refs)
        seen += ray.get(ready)
    two = ray.wait([add.remote(n) for n in range(4)], num_returns=2)
    never = remote(lambda: threading.Event().wait()).remote()
    late = ray.wait([never], timeout=0.1)
    ray.cancel(never, force=True)
    return [sorted(seen), [len(part) for part in two], [len(part) for part in late]]


@program([[0, 3, 6, 9]] * 4)
def threads():
    from concurrent.futures import ThreadPoolExecutor

    triple = remote(lambda x: 3 * x)
    with ThreadPoolExecutor(4) as pool:
        work = lambda _: [ray.get(triple.remote(n)) for n in range(4)]  # noqa: E731
        return list(pool.map(work, range(4)))


# -- actors


@program(["pong", [10, 11, 12], 42])
def actors():
    @immortal
    class Plain:
        def ping(self):
            return "pong"

    @immortal
    class Adder:
        def __init__(self, base, more=0):
            self.base = base + more

        def add(self, x):
            return self.base + x

    plain = Plain.remote()
    adder = Adder.remote(ray.put(8), more=remote(lambda: 2).remote())
    adds = [adder.add.remote(n) for n in range(3)]
    return [ray.get(plain.ping.remote()), ray.get(adds), ray.get(adder.add.remote(ray.put(32)))]


@program([[1, 2], "second"])
def options_of_actors():
    @ray.remote(num_cpus=0)
    class Pair:
        def two(self):
            return 1, 2

        def name(self):
            return ray.get_runtime_context().get_actor_name()

    chosen = {"max_restarts": -1, "max_task_retries": -1}
    first = Pair.options(**chosen, max_concurrency=2).remote()
    second = Pair.options(**chosen, name="second").remote()
    return [ray.get(first.two.options(num_returns=2).remote()), ray.get(second.name.remote())]


@program(["here", ["named"], "ValueError", "here"], namespace="programs")
def named_actors():
    @immortal
    class Named:
        def where(self):
            return "here"

    mine = Named.options(name="named").remote()
    first = ray.get(mine.where.remote())
    names = ray.util.list_named_actors()
    try:
        ray.get_actor("nobody")
    except ValueError as e:
        missing = type(e).__name__
    # A handle that was looked up does not tell how often its calls may be repeated.
    found = ray.get_actor("named").where.options(max_task_retries=-1)
    return [first, names, missing, ray.get(found.remote())]


@program([["a", "b", "c"], ["a", "b", "c"], True])
def detached_actors():
    import uuid

    class Keeper:
        def __init__(self):
            self.kept = set()

        def keep(self, *things):
            self.kept.update(things)
            return sorted(self.kept)

    @remote
    def make(name):
        options = {"name": name, "lifetime": "detached", "get_if_exists": True}
        made = ray.remote(num_cpus=0)(Keeper).options(**options).remote()
        return ray.get(made.keep.remote())

    name = uuid.uuid4().hex
    ray.get(make.remote(name))
    keeper = ray.get_actor(name)
    keep = keeper.keep.options(max_task_retries=-1)
    for thing in "ab":
        ray.get(keep.remote(thing))
    kept = ray.get(keep.remote("c"))
    again = ray.get(remote(lambda handle: ray.get(handle.keep.remote())).remote(keeper))
    ray.kill(keeper)
    try:
        ray.get(keep.remote())
    except ray.exceptions.ActorDiedError:
        return [kept, again, True]


@program("as promised", runs={"constructor": 1})
def a_detached_actor_that_this_session_makes():
    import uuid

    class Counter:
        def __init__(self):
            note("constructor")
            self.seen = []

        def see(self, n):
            self.seen += [n] * (n not in self.seen)
            return self.seen

    options = {"num_cpus": 0, "max_task_retries": -1, "lifetime": "detached"}
    counter = ray.remote(**options)(Counter).options(name=uuid.uuid4().hex).remote()
    for n in range(4):
        try:
            assert ray.get(counter.see.remote(n)) == list(range(n + 1))
        except ray.exceptions.ActorDiedError:
            assert not n  # Its server died before the cluster had made it.
            return "as promised"
    ray.kill(counter)
    return "as promised"


@program("as promised", runs={f"call {n}": 1 for n in range(8)})
def calls_that_may_not_be_repeated():
    import uuid

    @ray.remote(num_cpus=0)
    class Noting:
        def call(self, n):
            note(f"call {n}")
            return n

    actor = Noting.options(name=uuid.uuid4().hex, lifetime="detached").remote()
    for n in range(8):
        try:
            assert ray.get(actor.call.remote(n)) == n
        except ray.exceptions.ActorUnavailableError:
            continue
        except ray.exceptions.ActorDiedError:
            assert not n  # Its server died before the cluster had made it.
            break
    ray.kill(actor)
    return "as promised"


@program(["through a task", "through an actor", "out of a result"])
def handles_that_are_passed_around():
    @immortal
    class Echo:
        def say(self, words):
            return words

    @immortal
    class Asking:
        def __init__(self, other):
            self.other = other

        def ask(self, words):
            return ray.get(self.other.say.remote(words))

    echo = Echo.remote()
    asked = remote(lambda actor, words: ray.get(actor.say.remote(words)))
    asking = Asking.remote(echo)
    back = ray.get(remote(lambda actor: actor).remote(echo))
    # This handle does not tell how often its calls may be repeated.
    say = back.say.options(max_task_retries=-1)
    return [
        ray.get(asked.remote(echo, "through a task")),
        ray.get(asking.ask.remote("through an actor")),
        ray.get(say.remote("out of a result")),
    ]


@program(["alive", "ActorDiedError", "ActorDiedError"])
def what_was_killed():
    @immortal
    class Victim:
        def say(self):
            return "alive"

    victim = Victim.remote()
    said = ray.get(victim.say.remote())
    ray.kill(victim)

    def failure():
        try:
            ray.get(victim.say.remote())
        except ray.exceptions.RayActorError as e:
            return type(e).__name__

    return [said, failure(), failure()]


# -- the session


@program([True, "2", None, ["crash-a", "crash-b"], False])
def key_value_store():
    from ray.experimental import internal_kv as kv

    space = folder.encode()
    kv._internal_kv_put(b"crash-a", b"1", overwrite=True, namespace=space)
    kv._internal_kv_put(b"crash-a", b"2", overwrite=True, namespace=space)
    kv._internal_kv_put(b"crash-b", b"3", overwrite=True, namespace=space)
    there = kv._internal_kv_exists(b"crash-a", namespace=space)
    value = kv._internal_kv_get(b"crash-a", namespace=space).decode()
    none = kv._internal_kv_get(b"crash-c", namespace=space)
    keys = sorted(key.decode() for key in kv._internal_kv_list(b"crash-", namespace=space))
    kv._internal_kv_del(b"crash-", del_by_prefix=True, namespace=space)
    return [there, value, none, keys, kv._internal_kv_exists(b"crash-a", namespace=space)]


@program(["programs", True, 1, 2.0, True], namespace="programs")
def the_runtime_context():
    context = ray.get_runtime_context()
    inside = remote(lambda: ray.get_runtime_context().namespace)
    return [
        context.namespace,
        ray.get(inside.remote()) == context.namespace,
        len(ray.nodes()),
        ray.cluster_resources()["CPU"],
        ray.is_initialized(),
    ]


@program(["one", "two", "ValueError"], namespace="first")
def namespaces():
    @immortal
    class Named:
        def __init__(self, name):
            self.name = name

        def say(self):
            return self.name

    one = Named.options(name="same name").remote("one")
    two = Named.options(name="same name", namespace="second").remote("two")

    def said(own, **where):
        ray.get(own.say.remote())
        found = ray.get_actor("same name", **where)
        return ray.get(found.say.options(max_task_retries=-1).remote())

    try:
        ray.get_actor("same name", namespace="third")
    except ValueError as e:
        return [said(one), said(two, namespace="second"), type(e).__name__]


@program([42, "yes"], runtime_env={"working_dir": "{folder}", "env_vars": {"TOLD": "yes"}})
def the_working_dir():
    import os

    look = remote(lambda: __import__("brought_along").ANSWER)
    told = remote(lambda: os.environ.get("TOLD"))
    return [ray.get(look.remote()), ray.get(told.remote())]
