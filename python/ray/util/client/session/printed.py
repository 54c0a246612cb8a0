"""How lines that workers printed are shown to people: as Ray shows them to a driver.

Written again, since Ray's own function goes by the environment of the process that calls it, takes
several times as long, and draws progress bars on the way.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

# What Ray's processes write into lines for one another.
INFO_MARK = ":info_message:"
BAR_MARK = "__ray_tqdm_magic_token__"

_RESET = "\x1b[0m"
_YELLOW = "\x1b[33m"
_CYAN = "\x1b[36m"
# Magenta, cyan, green, and the light versions of black, blue and magenta.
_BY_PID = ("\x1b[35m", _CYAN, "\x1b[32m", "\x1b[90m", "\x1b[94m", "\x1b[95m")

# Longer texts are cut between lines, so that none holds other traffic up.
PIECE_CHARS = 64 * 1024


class Style(NamedTuple):
    """What the look of a line depends on beside its process.

    Attributes:
        node_ip: the address that goes without saying, the driver's node's.
        colour: the setting ``RAY_COLOR_PREFIX``: ``0`` none, ``1`` by process, else one for all.
    """

    node_ip: str
    colour: str = ""


class Text(NamedTuple):
    """Whole lines in UTF-8, and how many they are."""

    data: bytes
    lines: int


def shown(batch: Mapping[str, Any], style: Style, limit: int = PIECE_CHARS) -> Iterator[Text]:
    """The lines of one batch of Ray's log monitor, as they are shown.

    Lines that only move progress bars are left out.

    Args:
        batch: with ``lines``, ``pid`` and ``ip``, perhaps ``actor_name`` and ``task_name``.
        style: see there.
        limit: characters of one text; a longer line is a text by itself.
    """
    prefix = _prefix(batch, style)
    told = _coloured(prefix, _colour(batch["pid"], style), style)
    # What a raylet says by itself is a warning.
    plain = _coloured(prefix, _YELLOW, style) if batch["pid"] == "raylet" else told
    lines = (
        f"{told} {line.split(INFO_MARK)[1]}\n" if INFO_MARK in line else f"{plain} {line}\n"
        for line in batch["lines"]
        if BAR_MARK not in line
    )
    return _cut(lines, limit)


def _cut(lines: Iterable[str], limit: int) -> Iterator[Text]:
    taken: list[str] = []
    size = 0
    for line in lines:
        if taken and size + len(line) > limit:
            yield _text(taken)
            taken, size = [], 0
        taken.append(line)
        size += len(line)
    if taken:
        yield _text(taken)


def _text(lines: list[str]) -> Text:
    return Text("".join(lines).encode("utf-8", "replace"), len(lines))


def _prefix(batch: Mapping[str, Any], style: Style) -> str:
    elsewhere = "" if batch["ip"] == style.node_ip else f", ip={batch['ip']}"
    if batch["pid"] == "raylet":
        return f"(raylet{elsewhere})"
    name = batch.get("actor_name") or batch.get("task_name")
    return f"({name + ' ' if name else ''}pid={batch['pid']}{elsewhere})"


def _coloured(prefix: str, colour: str, style: Style) -> str:
    return prefix if style.colour == "0" else f"{colour}{prefix}{_RESET}"


def _colour(pid: str, style: Style) -> str:
    if style.colour != "1":
        return _CYAN
    return _BY_PID[int(pid) % len(_BY_PID) if pid.isdecimal() else 0]
