"""References inside values that are got by several threads at a time, and let go of at once.

A release may cross an answer that refers to what is released. Whoever gets that answer can read
what it refers to all the same.
"""

from __future__ import annotations

import pytest

from tests.conftest import MakeSession
from tests.support.held import Held

READERS = """
    import threading

    @ray.remote(num_cpus=0)
    def nest(value):
        return [ray.put(value)]

    def read(outer, found):
        try:
            (inner,) = ray.get(outer, timeout=100)
            found.append(ray.get(inner, timeout=100))
        except Exception as e:
            found.append(repr(e))

    def read_twice_at_a_time(outer, times):
        found = []
        for _ in range(times):
            both = [threading.Thread(target=read, args=(outer, found)) for _ in range(2)]
            for thread in both:
                thread.start()
            ray.get(outer)
            for thread in both:
                thread.join()
        return found

    def drop_while_got(value):
        inner = ray.put(value)
        outer = ray.put([inner])
        coming = outer.future()
        del inner
        (again,) = coming.result(timeout=100)
        return ray.get(again, timeout=100)
"""


@pytest.mark.parametrize("outer", ["nest.remote('inner')", "ray.put([ray.put('inner')])"])
def test_values_that_are_not_kept_are_read_at_the_same_time(
    make_session: MakeSession, outer: str
) -> None:
    client = make_session(environment={"RAY_CLIENT_VALUE_BYTES": "0"}).client
    client.run(READERS)
    client.run(f"outer = {outer}; ray.get(outer)")
    assert client.run("read_twice_at_a_time(outer, 200)") == ["inner"] * 400


def test_what_is_dropped_while_it_comes_inside_a_value_is_there(held: Held) -> None:
    held.client.run(READERS)
    assert held.client.run("[drop_while_got(i) for i in range(200)]") == list(range(200))
    held.die()
    assert held.client.run("[drop_while_got(i) for i in range(20)]") == list(range(20))
