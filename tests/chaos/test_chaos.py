"""A few seconds of chaos; ``make chaos`` has more."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tests.chaos.plan import faults
from tests.chaos.run import Options, run


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_moment_of_chaos(tmp_path: Path) -> None:
    plan = faults(seed=3, sessions=2, pause_s=1.0)
    options = Options(sys.executable, tmp_path / "run", plan, 3, minutes=0.2, threads=(2, 1))
    outcome = run(options, print)
    assert outcome.violations == []
    assert outcome.deaths
