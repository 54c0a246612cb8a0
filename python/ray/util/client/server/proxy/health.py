"""Keeps the key fresh by which ``ray health-check --component ray_client_server`` goes."""

from __future__ import annotations

import asyncio
import json
import logging
import time

from ray._private import ray_constants
from ray.util.client.server.proxy.gcs import Gcs

logger = logging.getLogger(__name__)

_KEY = b"ray_client_server"
_EVERY_S = 1.0


async def keep_reporting(gcs: Gcs) -> None:
    """Writes the time, again and again, until cancelled."""
    well = True
    while True:
        try:
            report = json.dumps({"time": time.time()}).encode()
            await gcs.put(_KEY, report, ray_constants.KV_NAMESPACE_HEALTHCHECK)
            well = True
        except Exception as e:  # The GCS may be away for a while; one line an outage is enough.
            if well:
                logger.error("The health of the Ray Client server could not be reported: %s", e)
            well = False
        await asyncio.sleep(_EVERY_S)
