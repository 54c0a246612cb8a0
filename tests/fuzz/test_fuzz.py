"""A thousand inputs for each target; ``make fuzz`` runs a million."""

from __future__ import annotations

import pytest

from tests.fuzz.runner import fuzz
from tests.fuzz.targets import TARGETS, Target

RUNS = 1000
SEED = 1


@pytest.fixture
def _atheris() -> None:
    pytest.importorskip("atheris", reason="atheris has no wheel for this Python and machine")


@pytest.mark.parametrize("name", TARGETS)
def test_seeds(name: str) -> None:
    for seed in TARGETS[name].seeds():
        TARGETS[name].run(seed)


@pytest.mark.usefixtures("_atheris")
@pytest.mark.parametrize("name", TARGETS)
def test_a_few_inputs(name: str, tmp_path) -> None:
    result = fuzz(name, TARGETS[name], RUNS, SEED, tmp_path)
    assert not result.output, result.output
    assert result.inputs >= RUNS
    assert result.kept > len(set(TARGETS[name].seeds())), "no input took a way of its own"


def faulty(data: bytes) -> None:
    """Has a fault behind two comparisons, which chance alone would hardly pass."""
    if data[:2] == b"ab" and len(data) > 2:
        assert data[2] != ord("c"), "the fault"


@pytest.mark.usefixtures("_atheris")
def test_a_fault_is_found(tmp_path) -> None:
    target = Target(faulty, lambda: [b"ab"])
    result = fuzz("faulty", target, 100_000, SEED, tmp_path)
    assert "the fault" in result.output
    assert "FAILED" in result.verdict
    (found,) = tmp_path.glob("faulty-*")
    assert found.read_bytes().startswith(b"abc")
