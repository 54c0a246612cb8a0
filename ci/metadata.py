"""Rewrites the stock wheel's METADATA and WHEEL for the fork."""

from __future__ import annotations

from collections.abc import Sequence

import fork

LICENSES = ("LICENSE", "NOTICE")


def _insert_after_last(lines: list[str], start: str, new: Sequence[str]) -> None:
    last = max(i for i, line in enumerate(lines) if line.startswith(start))
    lines[last + 1 : last + 1] = new


def _set(lines: list[str], field: str, value: str) -> None:
    at = next(i for i, line in enumerate(lines) if line.startswith(f"{field}: "))
    lines[at] = f"{field}: {value}"


def core(stock_text: str, version: str) -> str:
    """The fork's METADATA out of stock's: version, summary, licence files, requirements."""
    header, separator, description = stock_text.partition("\n\n")
    lines = header.split("\n")
    _set(lines, "Version", version)
    _set(lines, "Summary", fork.SUMMARY)
    _insert_after_last(lines, "License-File: ", [f"License-File: {name}" for name in LICENSES])
    extras = next(i for i, line in enumerate(lines) if line.startswith("Provides-Extra: "))
    plain = lines[:extras]
    _insert_after_last(plain, "Requires-Dist: ", [f"Requires-Dist: {r}" for r in fork.REQUIRES])
    return "\n".join(plain + lines[extras:]) + separator + description


def wheel(stock_text: str, tag: str) -> str:
    """The fork's WHEEL out of stock's: stock's tag is ``linux``, which its file name is not."""
    fields = [line for line in stock_text.splitlines() if line and not line.startswith("Tag: ")]
    _set(fields, "Generator", "ray-reconnect")
    return "\n".join([*fields, f"Tag: {tag}"]) + "\n"
