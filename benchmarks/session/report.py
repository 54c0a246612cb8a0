"""Results as Markdown tables for people and as JSON for programs."""

from __future__ import annotations

import json
import os
import platform
import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

_SIDES = ("fork", "stock", "native")


@dataclass(frozen=True)
class Row:
    """A measured quantity: side -> samples, in ``unit``."""

    what: str
    unit: str
    samples: dict[str, list[float]]


@dataclass(frozen=True)
class Fact:
    """Something that is told in words: side -> text."""

    what: str
    texts: dict[str, str]


@dataclass(frozen=True)
class Section:
    """What one benchmark found. ``problems`` are the fork's failures, apart from slowness."""

    title: str
    rows: list[Row]
    facts: list[Fact] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)


def describe_machine() -> dict[str, object]:
    """Returns what the figures depend on."""
    models = [
        line.split(":", 1)[1].strip()
        for line in Path("/proc/cpuinfo").read_text().splitlines()
        if line.startswith("model name")
    ]
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return {
        "cpu": models[0] if models else platform.machine(),
        "cores": len(os.sched_getaffinity(0)),
        "memory_gib": round(memory / 2**30, 1),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "load_before": [round(load, 2) for load in os.getloadavg()],
    }


def summarise(samples: Sequence[float]) -> dict[str, float]:
    """Returns number, median, quartiles, least and greatest of one sample or more."""
    quartiles = statistics.quantiles(samples, n=4, method="inclusive") if samples[1:] else None
    low, _, high = quartiles or (samples[0],) * 3
    return {
        "n": len(samples),
        "median": statistics.median(samples),
        "q1": low,
        "q3": high,
        "min": min(samples),
        "max": max(samples),
    }


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def _cell(row: Row, side: str) -> str:
    samples = row.samples.get(side)
    if not samples:
        return ""
    found = summarise(samples)
    text = f"{_number(found['median'])} {row.unit}"
    if len(samples) > 1:
        text += f" ({_number(found['min'])}–{_number(found['max'])}, n={len(samples)})"
    return text


def _ratio(row: Row, other: str) -> str:
    fork, others = row.samples.get("fork"), row.samples.get(other)
    if not fork or not others:
        return ""
    return f"{statistics.median(fork) / statistics.median(others):.2f}"


def format_section(section: Section) -> str:
    """Returns the section as a Markdown table; ranges are least–greatest."""
    lines = [
        f"### {section.title}",
        "",
        "| median (range) | fork | stock | native | fork/stock | fork/native |",
        "|---|---|---|---|---|---|",
    ]
    for row in section.rows:
        cells = [_cell(row, side) for side in _SIDES]
        cells += [_ratio(row, "stock"), _ratio(row, "native")]
        lines.append("| " + " | ".join([row.what, *cells]) + " |")
    for fact in section.facts:
        cells = [fact.texts.get(side, "").replace("|", "/") for side in _SIDES]
        lines.append("| " + " | ".join([fact.what, *cells, "", ""]) + " |")
    return "\n".join(lines) + "\n"


def write_json(path: Path, machine: dict[str, object], sections: Sequence[Section]) -> None:
    """Writes everything, samples and summaries, to ``path``."""
    found = []
    for section in sections:
        told = asdict(section)
        for row in told["rows"]:
            row["summary"] = {side: summarise(s) for side, s in row["samples"].items() if s}
        found.append(told)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"machine": machine, "sections": found}, indent=2) + "\n")
