"""Names that a client mints."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

from hypothesis import given
from hypothesis import strategies as st

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


@given(st.lists(st.tuples(st.integers(0, 2), st.booleans())))
def test_whoever_mints_whatever_no_token_is_a_part_of_another(steps):
    minters, made = [Minter(), Minter(), Minter()], []
    for which, actor in steps:
        minter = minters[which]
        made.append(minter.actor() if actor else minter.object())
        assert len(made[-1]) == (16 if actor else 28)
        assert made[-1].startswith(TOKEN_PREFIX)
    # Compared by what an actor's token has room for, so that the two kinds never meet either.
    assert len({token[:8] + token[-8:] for token in made}) == len(made)
