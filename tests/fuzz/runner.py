"""Runs atheris in processes of its own: libFuzzer takes over the one that it runs in."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

from tests.fuzz.targets import Target

# For one input. What takes longer, or more memory than this, is a finding.
_SECONDS = 30
_MEGABYTES = 2048
_COUNT = re.compile(r"stat::number_of_executed_units:\s+(\d+)")
_TAIL = 6000


class Result(NamedTuple):
    """What became of one target.

    Attributes:
        inputs: how many were run.
        kept: how many of them took a way of their own.
        verdict: in a few words.
        output: the end of what libFuzzer printed, if there was a finding; else "".
    """

    inputs: int
    seconds: float
    kept: int
    verdict: str
    output: str


def fuzz(name: str, target: Target, runs: int, seed: int, findings: Path) -> Result:
    """Runs a target ``runs`` times; what it fails on is left in the folder ``findings``."""
    findings.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="fuzz") as folder:
        for number, seed_input in enumerate(target.seeds()):
            Path(folder, f"seed{number}").write_bytes(seed_input)
        began = time.monotonic()
        done = subprocess.run(
            [
                *(sys.executable, "-m", "tests.fuzz.child"),
                f"{target.run.__module__}:{target.run.__name__}",
                folder,
                f"-runs={runs}",
                f"-seed={seed}",
                f"-max_len={target.longest}",
                f"-timeout={_SECONDS}",
                f"-rss_limit_mb={_MEGABYTES}",
                f"-artifact_prefix={findings}/{name}-",
                "-print_final_stats=1",
            ],
            # One order of sets and dicts, so that a seed stands for one run.
            env={**os.environ, "PYTHONHASHSEED": "0"},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            check=False,
        )
        seconds = time.monotonic() - began
        kept = len(list(Path(folder).iterdir()))
    counted = _COUNT.search(done.stdout)
    inputs = int(counted.group(1)) if counted else 0
    if done.returncode == 0 and inputs >= runs:
        return Result(inputs, seconds, kept, "nothing found", "")
    verdict = f"FAILED, exit code {done.returncode}; inputs are in {findings}"
    return Result(inputs, seconds, kept, verdict, f"-- {name}:\n{done.stdout[-_TAIL:]}")
