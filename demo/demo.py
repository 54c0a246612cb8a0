"""Shows a Ray Client session that outlives the process that serves it.

    make demo                                  # on a head of its own, which it starts and stops
    make demo ADDRESS=ray://host:10001         # on yours: you kill the server when told to

The program counts the words of this repository's own texts. Between two counts the session's
server, which is the driver of everything that the program does on the cluster, dies of SIGKILL.
It exits with 0 if the session went on and told truly what was lost, else with 1.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import textwrap
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import ray
from ray.exceptions import ActorDiedError, OwnerDiedError
from tests.support.cluster import Cluster, ClusterOptions

REPOSITORY = Path(__file__).parents[1]
TEXTS = [*sorted(REPOSITORY.glob("*.md")), *sorted(REPOSITORY.glob("docs/*.md"))]
TEXTS += [REPOSITORY / "LICENSE"]
# Nothing below takes that long. A session that does not come back must end the program.
PATIENCE_S = 90
# How long a user has for the kill.
YOUR_TURN_S = 600


class DemoFailed(Exception):
    """The session did not do what it should. The text says what is wrong."""


# --- the program: nothing in it knows that servers die ---------------------------------------


@ray.remote
def count_words(text: str) -> Counter:
    return Counter(text.lower().split())


@ray.remote
class Tally:
    """Adds counts up."""

    def __init__(self) -> None:
        self.words: Counter = Counter()

    def add(self, counted: Counter) -> None:
        self.words += counted

    def total(self) -> int:
        return self.words.total()


def get(refs: Any) -> Any:
    return ray.get(refs, timeout=PATIENCE_S)


def count_all() -> int:
    """Counts the words of all texts, a task for each, and returns how many there are."""
    counted = [count_words.remote(path.read_text()) for path in TEXTS]
    return sum(one.total() for one in get(counted))


# --- the server ------------------------------------------------------------------------------


@ray.remote(num_cpus=0)
def find_driver() -> tuple[int, str]:
    """Returns the process id and the host of the driver of this job: the session's server."""
    job = ray.get_runtime_context().get_job_id()
    jobs = ray._private.worker.global_worker.gcs_client.get_all_job_info()
    driver = next(info for key, info in jobs.items() if key.hex() == job)
    return driver.driver_pid, driver.driver_ip_address


def server() -> tuple[int, str]:
    """Returns the process id and the host of the session's server."""
    return get(find_driver.remote())


def kill_it() -> float:
    """Kills the session's server, and returns when that was (monotonic seconds)."""
    pid, _ = server()
    killed = time.monotonic()
    os.kill(pid, signal.SIGKILL)
    say(f"killed the session's server, process {pid}, with SIGKILL")
    return killed


def let_the_user_kill_it() -> float:
    """Waits until the session has another server; returns the last moment at which the old one
    was known to live (monotonic seconds)."""
    pid, host = server()
    say(f"your turn: kill this session's server. On the head ({host}):")
    print(f"\n    kill -9 {pid}\n")
    print("    (`pgrep -f mode=specific-server` lists the servers of all sessions there.)")
    end = time.monotonic() + YOUR_TURN_S
    while (now := time.monotonic()) < end:
        if server()[0] != pid:
            say(f"process {pid} is dead")
            return now
        time.sleep(0.1)
    raise DemoFailed(f"nobody killed process {pid} in {YOUR_TURN_S} s")


# --- the steps -------------------------------------------------------------------------------

_began = time.monotonic()


def say(text: str) -> None:
    print(f"[{time.monotonic() - _began:5.1f} s] {text}", flush=True)


def check_kept(what: str, value: object, before: object) -> None:
    if value != before:
        raise DemoFailed(f"{what}: {value}, but it was {before}")
    say(f"   {what}: {value}, as before")


def check_owned(
    what: str, reach: Callable[[], object], before: object, lost: type[Exception]
) -> None:
    """Checks something that the dead server owned: it is as it was, or says that it is lost."""
    try:
        value = reach()
    except lost as error:
        say(f"   {what} is lost and says so, {type(error).__name__}:")
        print(textwrap.indent(textwrap.fill(str(error).splitlines()[0], 80), " " * 16))
    else:
        check_kept(what, value, before)


@contextmanager
def detached_tally() -> Iterator[str]:
    """Makes a detached actor, which no server owns, and ends it at the end. Gives its name."""
    name = f"tally-{uuid.uuid4().hex[:8]}"
    Tally.options(name=name, lifetime="detached", num_cpus=0).remote()
    try:
        yield name
    finally:
        # Out of reach if the session is lost, which is then what the user should read of.
        with suppress(ConnectionError):
            ray.kill(ray.get_actor(name))


def run_program(wait_for_death: Callable[[], float]) -> None:
    """Everything between connect and disconnect."""
    words = count_all()
    say(f"counted {words} words in {len(TEXTS)} texts, a task for each")
    with detached_tally() as name:
        get(ray.get_actor(name).add.remote(Counter(words=words)))
        actor, stored = Tally.options(num_cpus=0).remote(), ray.put("an object")
        get(actor.total.remote())
        say(f"made an actor, a detached actor named {name}, and put an object")

        killed = wait_for_death()
        get(count_words.remote("is anybody there"))
        gap = time.monotonic() - killed
        say(f"the next call was answered: the gap was {gap:.2f} s")

        say("what is there:")
        check_kept("the count, by the function from before the death", count_all(), words)
        total = get(ray.get_actor(name).total.remote())
        check_kept("the detached actor's total, found by its name", total, words)
        say("what the dead server owned:")
        check_owned("the object", lambda: get(stored), "an object", OwnerDiedError)
        check_owned("the actor", lambda: get(actor.total.remote()), 0, ActorDiedError)


@contextmanager
def connected(address: str) -> Iterator[None]:
    say(f"connecting to {address}")
    ray.init(address)
    try:
        yield
    finally:
        ray.shutdown()


def demonstrate(address: str | None) -> None:
    if address:
        with connected(address):
            return run_program(let_the_user_kill_it)
    say("starting a local head")
    with Cluster(ClusterOptions(sys.executable, cpus=2)) as cluster, connected(cluster.address):
        run_program(kill_it)
        say("stopping the head")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--address", help="a cluster's ray://host:port; default: start a head")
    arguments = parser.parse_args()
    # Ends as by Ctrl-C, so that the head is stopped.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    try:
        demonstrate(arguments.address)
    except KeyboardInterrupt:
        say("interrupted")
        return 128 + signal.SIGINT
    except Exception as error:  # whatever it is, the session did not survive
        say(f"FAILED: {type(error).__name__}: {error}")
        return 1
    say("the session survived the death of its server")
    return 0


if __name__ == "__main__":
    sys.exit(main())
