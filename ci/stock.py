"""Reads the stock wheel."""

from __future__ import annotations

import base64
import csv
import io
import zipfile
from pathlib import Path


def dist_info(names: list[str]) -> str:
    """The name of the wheel's ``.dist-info`` folder, out of all its members' names."""
    return next(n.split("/")[0] for n in names if n.split("/")[0].endswith(".dist-info"))


def hashes(path: Path) -> dict[str, str]:
    """Each member's sha256 in hex, as the RECORD of the wheel at ``path`` gives it."""
    with zipfile.ZipFile(path) as wheel:
        record = wheel.read(f"{dist_info(wheel.namelist())}/RECORD").decode()
    found = {}
    for name, digest, _ in csv.reader(io.StringIO(record)):
        if digest:
            encoded = digest.partition("=")[2]
            found[name] = base64.urlsafe_b64decode(encoded + "=" * (-len(encoded) % 4)).hex()
    return found
