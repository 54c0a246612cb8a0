"""Fuzzes all targets: ``python -m tests.fuzz --runs N --seed S``. Exits with 1 on a finding."""

from __future__ import annotations

import argparse
import importlib.util
import sys
from pathlib import Path

from tests.fuzz.runner import fuzz
from tests.fuzz.targets import TARGETS


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=1_000_000, help="inputs, over all targets")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--target", action="append", choices=sorted(TARGETS))
    parser.add_argument("--findings", type=Path, default=Path("build/fuzz"))
    arguments = parser.parse_args()
    if importlib.util.find_spec("atheris") is None:
        raise SystemExit(
            "error: atheris is not installed. It has wheels for CPython 3.10 to 3.13 on Linux "
            "x86_64 (ci/requirements-test.txt); name such a Python with PYTHON=."
        )
    names = arguments.target or list(TARGETS)
    each = -(-arguments.runs // len(names))
    print(
        f"{'target':<14} {'inputs':>9} {'seconds':>8} {'kept':>6}   result (seed {arguments.seed})"
    )
    results = []
    for name in names:
        result = fuzz(name, TARGETS[name], each, arguments.seed, arguments.findings)
        print(
            f"{name:<14} {result.inputs:>9} {result.seconds:>8.0f} {result.kept:>6}   "
            f"{result.verdict}",
            flush=True,
        )
        results.append(result)
    print(f"{sum(result.inputs for result in results)} inputs.")
    for result in results:
        if result.output:
            print(result.output)
    sys.exit(any(result.output for result in results))


main()
