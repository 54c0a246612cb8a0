"""Response caches of Ray Client's servers: each request runs once, however often it is sent.

The ordered cache comes compiled, or in Python where the extension is not there or
RAY_CLIENT_PURE_PYTHON_CACHE=1 is set; IMPLEMENTATION tells which ("cython" or "python"). Both
have one contract, written down in `_python`.
"""

from __future__ import annotations

import os

from ray.util.client.cache._ids import INIT_REQ_ID, INT32_MAX, UNTRACKED_REQ_ID, id_is_newer
from ray.util.client.cache._states import EntryState
from ray.util.client.cache._unary import ResponseCache
from ray.util.client.cache.errors import (
    AcknowledgedError,
    AlreadyAnsweredError,
    CacheBusyError,
    CacheClosedError,
    CacheError,
    CacheFullError,
    EvictedError,
    InvalidRequestIdError,
    SupersededError,
    UnknownRequestError,
    WaitTimeoutError,
)

PURE_PYTHON_ENV = "RAY_CLIENT_PURE_PYTHON_CACHE"

if os.environ.get(PURE_PYTHON_ENV) == "1":
    from ray.util.client.cache._python import OrderedResponseCache

    IMPLEMENTATION = "python"
else:
    try:
        from ray.util.client.cache._cython import OrderedResponseCache

        IMPLEMENTATION = "cython"
    except ModuleNotFoundError:
        from ray.util.client.cache._python import OrderedResponseCache

        IMPLEMENTATION = "python"

__all__ = [
    "IMPLEMENTATION",
    "INIT_REQ_ID",
    "INT32_MAX",
    "PURE_PYTHON_ENV",
    "UNTRACKED_REQ_ID",
    "AcknowledgedError",
    "AlreadyAnsweredError",
    "CacheBusyError",
    "CacheClosedError",
    "CacheError",
    "CacheFullError",
    "EntryState",
    "EvictedError",
    "InvalidRequestIdError",
    "OrderedResponseCache",
    "ResponseCache",
    "SupersededError",
    "UnknownRequestError",
    "WaitTimeoutError",
    "id_is_newer",
]
