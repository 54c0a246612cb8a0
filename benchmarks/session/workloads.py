"""What the measured client programs do. Runs in any installation of Ray, stock's too.

Its text is sent to the programs instead of being imported by them: functions and classes of a
program's main module travel to the workers by value, and workers need not find this file.
"""

import os
import sys
import threading
import time

import ray

CALLS = 100
SMALL = b"x" * 100
# A guard against hanging for ever, below the patience of the side that waits for this program.
PATIENCE_S = 100

_stop = threading.Event()
_contexts = []
_gated = []


@ray.remote
def echo(value):
    return value


@ray.remote
class Echo:
    def echo(self, value):
        return value


def connect_once(address):
    """Connects and disconnects. Returns the seconds of the connect, and the error's text if any."""
    error = None
    started = time.perf_counter()
    try:
        ray.init(address)
    except Exception as caught:  # every kind counts as a failure to connect
        error = f"{type(caught).__name__}: {caught}"
    seconds = time.perf_counter() - started
    ray.shutdown()
    return {"seconds": seconds, "error": error}


def make_traffic():
    """Runs tasks until `end_traffic` is called. Returns how many."""
    _stop.clear()
    done = 0
    while not _stop.is_set():
        done += len(ray.get([echo.remote(1) for _ in range(10)]))
    return done


def end_traffic():
    _stop.set()


@ray.remote(num_cpus=0)
def print_many(number, count):
    for n in range(count):
        sys.stdout.write(f"flood {number} line {n} {'x' * 60}\n")


def print_lines(number, count):
    """Lets a worker print so many lines."""
    ray.get(print_many.remote(number, count))


def time_trips(seconds):
    """Puts and gets for so many seconds. Returns how long each time took."""
    times = []
    end = time.perf_counter() + seconds
    while (began := time.perf_counter()) < end:
        ray.get(ray.put(SMALL))
        times.append(time.perf_counter() - began)
    return times


def warm_up():
    ray.get(echo.remote(1), timeout=PATIENCE_S)


def times_of_answers():
    """Makes two calls. Returns when the object came and when the task was done (monotonic s)."""
    ray.get(ray.put(1), timeout=PATIENCE_S)
    object_came = time.monotonic()
    warm_up()
    return object_came, time.monotonic()


@ray.remote
def gated(path, value):
    while not os.path.exists(path):
        time.sleep(0.01)
    return value


def submit_gated(path, count):
    """Submits tasks that end when there is a file at ``path``."""
    _gated[:] = [gated.remote(path, number) for number in range(count)]
    # The answers come in order: this one's says that the server has them all.
    ray.get(ray.put(1), timeout=PATIENCE_S)


def finish_gated():
    """Waits for them. Returns when they were done (monotonic s)."""
    assert ray.get(_gated, timeout=PATIENCE_S) == list(range(len(_gated)))
    return time.monotonic()


def open_session(address):
    """Connects one more session. Returns its number, by which `ask` knows it."""
    _contexts.append(ray.init(address, allow_multiple=True))
    return len(_contexts) - 1


def ask(number):
    """Runs a task in the session of that number."""

    # A function of its own, since one that is shared by sessions is registered with the last alone.
    @ray.remote(num_cpus=0)
    def double(value):
        return 2 * value

    with _contexts[number]:
        return ray.get(double.remote(number), timeout=PATIENCE_S)


def close_sessions():
    while _contexts:
        _contexts.pop().disconnect()


def make_actions():
    """Returns what `rate` measures: name -> (action, calls that one action makes)."""
    ref = ray.put(SMALL)
    actor = Echo.remote()
    ray.get(actor.echo.remote(1), timeout=PATIENCE_S)
    return {
        "get of a small object": (lambda: ray.get(ref), 1),
        "put of a small object": (lambda: ray.put(SMALL), 1),
        "task round trip": (lambda: ray.get(echo.remote(1)), 1),
        "100 tasks, then get": (lambda: ray.get([echo.remote(1) for _ in range(CALLS)]), CALLS),
        "actor call": (lambda: ray.get(actor.echo.remote(1)), 1),
        "100 actor calls, then get": (
            lambda: ray.get([actor.echo.remote(1) for _ in range(CALLS)]),
            CALLS,
        ),
    }


def rate(action, calls, seconds):
    """Repeats an action for some seconds. Returns calls per second."""
    action()
    done = 0
    started = now = time.perf_counter()
    while now - started < seconds:
        action()
        done += calls
        now = time.perf_counter()
    return done / (now - started)
