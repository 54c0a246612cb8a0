"""Keeps the packages of sessions' runtime environments in the cluster while a server is missing.

The cluster deletes a package with the last job that uses it. A session's next server is a new job,
which must still find what the last one ran.
"""

from __future__ import annotations

import asyncio
import logging
from typing import Collection

from ray.util.client.server.proxy.gcs import Gcs

logger = logging.getLogger(__name__)

_PIN_S = 600
_RENEW_S = 240


class Packages:
    """Pins packages, for a while at a time.

    Args:
        gcs: the cluster.
    """

    def __init__(self, gcs: Gcs) -> None:
        self._gcs = gcs

    async def keep(self, uris: Collection[str]) -> None:
        """Keeps ``uris`` pinned until cancelled; returns at once if there are none."""
        while uris:
            for uri in uris:
                try:
                    await self._gcs.pin(uri, _PIN_S)
                except Exception as e:  # The GCS may be away for a while; the last pin holds on.
                    logger.warning("Package %s could not be pinned: %s", uri, e)
            await asyncio.sleep(_RENEW_S)
