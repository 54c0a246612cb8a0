"""A client program with mixed work on several threads. Run by the Python of the client under test.

    python workload.py ADDRESS FOLDER NAME SEED THREADS

It writes what it does to ``FOLDER/NAME.history``, a JSON object a line: ``{"begin": op, …}`` when
an operation begins, ``{"end": op, "outcome": …}`` when it has ended, ``{"told": [state,
incarnation]}`` when the session has changed, and ``{"held": …}``, what the process holds, when it
is up and at its end.
Every run of a task or call appends a line to ``FOLDER/runs``, which the cluster's processes write.
It ends when its standard input does.

It imports nothing of the tests, so that it runs in any installation of Ray.
"""

import asyncio
import contextlib
import faulthandler
import gc
import hashlib
import itertools
import json
import os
import random
import signal
import sys
import threading
import time
import traceback
import uuid

import ray
from ray.exceptions import ActorDiedError, ActorUnavailableError, GetTimeoutError, OwnerDiedError
from ray.experimental import internal_kv
from ray.util.client import session as client_session

ADDRESS, FOLDER, NAME, SEED, THREADS = sys.argv[1:6]
RUNS = os.path.join(FOLDER, "runs")
LOSSES = (OwnerDiedError, ActorDiedError, ActorUnavailableError)
MEBI = 2**20


def note(path, op):
    """Counts a run. Runs in the cluster's processes."""
    with open(path, "a") as file:
        file.write(op + "\n")


class History:
    """What happened, on disk before it is acted upon. Thread-safe."""

    def __init__(self, path):
        self._file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)

    def write(self, **event):
        line = json.dumps({"at": round(time.time(), 3), **event}) + "\n"
        os.write(self._file, line.encode())


class Wrong(Exception):
    """A promise was broken."""


def check(condition, what):
    if not condition:
        raise Wrong(what)


# -- what runs on the cluster. By value: workers can't import this file.


@ray.remote(num_cpus=0, max_retries=-1)
def add(path, op, x, y=1):
    note(path, op)
    return x + y


@ray.remote(num_cpus=0, max_retries=0)
def once(path, op, x):
    note(path, op)
    return x + 1


@ray.remote(num_cpus=0, max_retries=2)
def budgeted(path, op, x):
    note(path, op)
    return x + 1


@ray.remote(num_cpus=0, max_retries=0)
def dice(path, op):
    note(path, op)
    return uuid.uuid4().hex


@ray.remote(num_cpus=0, max_retries=-1)
def digest(blob):
    return hashlib.sha1(blob).hexdigest()


@ray.remote(num_cpus=0, max_retries=-1)
def unpack(refs):
    return sum(ray.get(refs))


@ray.remote(num_cpus=0, max_retries=-1)
def wrap(n):
    return [ray.put(n), add.remote(RUNS_OF_NOBODY, "", n)]


@ray.remote(num_cpus=0, max_retries=-1)
def fail(text):
    raise KeyError(text)


@ray.remote(num_cpus=0, max_retries=-1)
def endless():
    while True:
        time.sleep(0.05)


@ray.remote(num_cpus=0, max_restarts=-1, max_task_retries=-1)
class Adder:
    def __init__(self, base):
        self.base = base

    def add(self, x):
        return self.base + x


@ray.remote(num_cpus=0)
class Mortal:
    def add(self, path, op, x):
        note(path, op)
        return x + 1


@ray.remote(num_cpus=0)
class Keeper:
    def __init__(self):
        self.kept = []

    def keep(self, path, op):
        note(path, op)
        self.kept.append(op)
        return len(self.kept)

    def all(self):
        return self.kept


RUNS_OF_NOBODY = "/dev/null"


class Worker:
    """One thread's work.

    Args:
        name: of the thread.
        shared: what the threads of the program share.
    """

    def __init__(self, name, shared):
        self.name = name
        self.shared = shared
        self.chance = random.Random(f"{SEED} {name}")
        self.seen = {}
        self.numbers = itertools.count(1)

    def run(self):
        kinds, weights = zip(*KINDS.items())
        while not self.shared.stopping.is_set():
            (kind,) = self.chance.choices(kinds, weights)
            self.operate(kind)

    def operate(self, kind):
        op = f"{self.name}.{next(self.numbers)}"
        history = self.shared.history
        history.write(begin=op, kind=kind.__name__)
        try:
            outcome, text = kind(self, op) or "ok", ""
        except Wrong as e:
            outcome, text = "wrong", str(e)
        except LOSSES as e:
            # They may be of subclasses, which are nobody's business.
            outcome = next(loss.__name__ for loss in LOSSES if isinstance(e, loss))
            text = str(e)
        except BaseException:
            outcome, text = "error", traceback.format_exc()
        history.write(end=op, outcome=outcome, text=text)

    # Each returns None where all is well.

    def small_objects(self, op):
        value = {"op": op, "n": self.chance.random()}
        refs = [ray.put(value), ray.put(op)]
        check(ray.get(refs) == [value, op], "put objects came back changed")

    def large_object(self, op):
        data = self.chance.randbytes(self.chance.randrange(1, 9) * MEBI)
        name = hashlib.sha1(data).hexdigest()
        ref = ray.put(data)
        check(ray.get(digest.remote(ref)) == name, "a large object reached a task changed")
        check(ray.get(ref) == data, "a large object came back changed")

    def task(self, op):
        n = self.chance.randrange(1000)
        check(ray.get(add.remote(RUNS, op, n)) == n + 1, "a task's value is wrong")

    def task_not_to_be_retried(self, op):
        check(ray.get(once.remote(RUNS, op, 1)) == 2, "a task's value is wrong")

    def task_with_a_budget(self, op):
        check(ray.get(budgeted.remote(RUNS, op, 1)) == 2, "a task's value is wrong")

    def chain(self, op):
        ref = ray.put(0)
        for _ in range(5):
            ref = add.remote(RUNS, op, ref)
        check(ray.get(ref) == 5, "a chain's value is wrong")

    def fan(self, op):
        refs = [add.remote(RUNS, op, n) for n in range(10)]
        left, got = refs, []
        while left:
            ready, left = ray.wait(left, num_returns=min(3, len(left)))
            got += ray.get(ready)
        check(sorted(got) == list(range(1, 11)), "waited-for values are wrong")

    def futures(self, op):
        got = [add.remote(RUNS, op, n).future().result() for n in range(3)]
        check(got == [1, 2, 3], "futures' values are wrong")

    def awaits(self, op):
        async def ask():
            return await asyncio.gather(*[add.remote(RUNS, op, n) for n in range(3)])

        check(asyncio.run(ask()) == [1, 2, 3], "awaited values are wrong")

    def nested(self, op):
        one, two = ray.put(1), add.remote(RUNS, op, 1)
        check(ray.get(unpack.remote([one, two])) == 3, "nested arguments are wrong")
        check(sum(ray.get(ray.get(wrap.remote(7)))) == 15, "nested results are wrong")

    def seen_value(self, op):
        """A value that was seen stays, though another run would give another one."""
        if len(self.seen) < 20:
            ref = dice.remote(RUNS, op)
            self.seen[ref] = ray.get(ref)
        ref = self.chance.choice(list(self.seen))
        try:
            check(ray.get(ref) == self.seen[ref], "a seen value has changed")
        except OwnerDiedError as e:
            raise Wrong(f"a seen value is lost: {e}") from e
        if self.chance.random() < 0.2:
            del self.seen[ref]

    def error(self, op):
        try:
            ray.get(fail.remote(op))
        except KeyError as e:
            check(op in str(e), "another error came")
        else:
            raise Wrong("an error was lost")

    def timeout(self, op):
        ref = endless.remote()
        try:
            ray.get(ref, timeout=0.3)
        except GetTimeoutError:
            # By force it would take its worker along, and what that still owns of other results.
            ray.cancel(ref)
        else:
            raise Wrong("an endless task has ended")

    def actor(self, op):
        base = self.chance.randrange(100)
        adder = Adder.remote(ray.put(base))
        got = ray.get([adder.add.remote(n) for n in range(5)])
        check(got == [base + n for n in range(5)], "an actor's answers are wrong")

    def mortal_actor(self, op):
        actor = Mortal.remote()
        check(ray.get(actor.add.remote(RUNS, op, 1)) == 2, "an actor's answer is wrong")

    def detached_actor(self, op):
        self.shared.keep(op)

    def store(self, op):
        internal_kv._internal_kv_put(op.encode(), op.encode(), namespace=b"chaos")
        value = internal_kv._internal_kv_get(op.encode(), namespace=b"chaos")
        check(value == op.encode(), "the key-value store's value is wrong")

    def context(self, op):
        here = ray.get_runtime_context().namespace
        check(here == self.shared.namespace, "the namespace has changed")


# How often each kind of operation comes, out of the sum of these.
KINDS = {
    Worker.small_objects: 10,
    Worker.large_object: 3,
    Worker.task: 15,
    Worker.task_not_to_be_retried: 12,
    Worker.task_with_a_budget: 6,
    Worker.chain: 6,
    Worker.fan: 6,
    Worker.futures: 5,
    Worker.awaits: 5,
    Worker.nested: 6,
    Worker.seen_value: 8,
    Worker.error: 4,
    Worker.timeout: 3,
    Worker.actor: 5,
    Worker.mortal_actor: 3,
    Worker.detached_actor: 8,
    Worker.store: 4,
    Worker.context: 4,
}


class Shared:
    """What the threads share: the history, and an actor that outlives all servers."""

    def __init__(self):
        self.history = History(os.path.join(FOLDER, f"{NAME}.history"))
        self.stopping = threading.Event()
        self.namespace = ""
        self._keeper = None
        self._kept = []
        self._lock = threading.Lock()

    def begin(self):
        self.namespace = ray.get_runtime_context().namespace
        self._keeper = Keeper.options(name=uuid.uuid4().hex, lifetime="detached").remote()
        ray.get(self._keeper.all.remote())

    def keep(self, op):
        ray.get(self._keeper.keep.remote(RUNS, op))
        with self._lock:
            self._kept.append(op)

    def finish(self):
        """What the actor was seen to take is there, once each; then it is ended."""
        self.history.write(begin=f"{NAME}.finish", kind="finish")
        outcome = "ok"
        # A call that is under way at a death may not be repeated, so this one may fail.
        while True:
            try:
                kept = ray.get(self._keeper.all.remote())
                break
            except ActorUnavailableError:
                continue
        if set(self._kept) - set(kept) or len(kept) != len(set(kept)):
            outcome = "wrong"
        self.history.write(end=f"{NAME}.finish", outcome=outcome, text="the detached actor's state")
        ray.kill(self._keeper)
        self._keeper = None


def held():
    gc.collect()
    return {
        "threads": len(os.listdir("/proc/self/task")),
        "fds": len(os.listdir("/proc/self/fd")),
    }


def main():
    faulthandler.register(signal.SIGUSR1, all_threads=True)
    shared = Shared()
    context = ray.init(ADDRESS)
    shared.history.write(client_id=ray.util.client.ray.get_context().client_worker._client_id)
    shared.begin()
    client_session.add_listener(
        lambda info: shared.history.write(told=[info.state.value, info.incarnation])
    )
    workers = [Worker(f"{NAME}t{number}", shared) for number in range(int(THREADS))]
    threads = [threading.Thread(target=worker.run, name=worker.name) for worker in workers]
    # One of each first: what is made once is there, then.
    for kind in KINDS:
        workers[0].operate(kind)
    shared.history.write(held=held())
    for thread in threads:
        thread.start()
    with contextlib.suppress(OSError):
        sys.stdin.read()
    shared.stopping.set()
    for thread in threads:
        thread.join()
    shared.finish()
    for worker in workers:
        worker.seen.clear()
    shared.history.write(held=held())
    context.disconnect()
    shared.history.write(done=True)


if __name__ == "__main__":
    main()
