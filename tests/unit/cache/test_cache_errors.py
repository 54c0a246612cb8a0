"""Errors carry their facts, survive pickling, and say what to do."""

import pickle

import pytest

from ray.util.client import cache

ERRORS = [
    cache.InvalidRequestIdError(-7),
    cache.UnknownRequestError(7),
    cache.AlreadyAnsweredError(7),
    cache.AcknowledgedError(7, 9),
    cache.SupersededError(7, 9),
    cache.EvictedError(7),
    cache.CacheFullError(7, 9),
    cache.WaitTimeoutError(7, 1.5),
    cache.CacheClosedError(7, ConnectionError("over")),
    cache.CacheClosedError(7),
]


def test_all_kinds_are_here():
    kinds = {type(error) for error in ERRORS} | {cache.CacheBusyError}
    assert kinds == set(cache.CacheError.__subclasses__())


def test_a_busy_cache_says_who_is_to_blame():
    copy = pickle.loads(pickle.dumps(cache.CacheBusyError()))
    assert type(copy) is cache.CacheBusyError and "destructor" in str(copy)


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
def test_errors_pickle(error):
    copy = pickle.loads(pickle.dumps(error))
    assert type(copy) is type(error)
    assert str(copy) == str(error)
    assert copy.req_id == error.req_id


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
def test_texts_name_the_request_and_end_a_sentence(error):
    assert str(error.req_id) in str(error)
    assert str(error).endswith(".")
    assert isinstance(error, RuntimeError)
