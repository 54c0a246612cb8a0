"""Names that a client mints."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

from ray.util.client.names import Minter
from ray.util.client.session.wire import TOKEN_PREFIX


def test_tokens_are_as_long_as_ids_and_marked():
    minter = Minter()
    assert (len(minter.object()), len(minter.actor())) == (28, 16)
    assert minter.object().startswith(TOKEN_PREFIX)


def test_tokens_are_unique_over_threads_and_sessions():
    minters = [Minter(), Minter()]
    with ThreadPoolExecutor(4) as pool:
        made = list(pool.map(lambda n: minters[n % 2].object(), range(2000)))
    assert len(set(made)) == 2000
