"""What the always-crashing integration suite leaves out is there, and named precisely."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.crash.exempt import REASONS, reason_to_leave_out

_SUITE = Path(__file__).parents[1] / "integration"


def _tests() -> list[str]:
    return [
        f"{file.stem}::{name}"
        for file in _SUITE.glob("test_*.py")
        for name in re.findall(r"^(?:async )?def (test_\w+)", file.read_text(), re.MULTILINE)
    ]


@pytest.mark.parametrize("part", REASONS)
def test_each_entry_means_a_test(part: str) -> None:
    assert any(test.startswith(part) for test in _tests())


def test_ids_are_understood() -> None:
    told = "tests/integration/test_bad_input.py::test_an_unknown_method[/no.such.Service/Do]"
    assert reason_to_leave_out(told) == REASONS["test_bad_input"]
    assert reason_to_leave_out("tests/integration/test_gap.py::test_new[a/b]") is None
