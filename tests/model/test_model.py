"""The model of the session protocol holds what it promises, and notices when it does not."""

from __future__ import annotations

import re
import subprocess

import pytest

from tests.model.check import MODEL, check, check_fault, missing
from tests.model.configurations import CONFIGURATIONS, FAULTS

pytestmark = pytest.mark.skipif(missing() is not None, reason=str(missing()))

SMALL = [one for one in CONFIGURATIONS if one.small]


def _name(one):
    return one.name


@pytest.mark.parametrize("configuration", SMALL, ids=_name)
def test_the_promises_hold(configuration):
    result = check(configuration)
    assert result.broken is None
    assert result.states > 10_000


@pytest.mark.parametrize("fault", FAULTS, ids=_name)
def test_a_fault_is_caught(fault):
    broken = check_fault(fault).broken
    assert broken is not None
    assert broken.promise == fault.breaks
    assert broken.steps


def test_every_fault_of_the_model_is_listed():
    faults = set(re.findall(r"^#define (\w+) +\d+ /\*", MODEL.read_text(), re.MULTILINE))
    assert {fault.name for fault in FAULTS} <= faults
    used = subprocess.run(
        ["grep", "-rhoE", r"FAULT [!=]= \w+", str(MODEL.parent)],
        capture_output=True,
        text=True,
        check=True,
    )
    shown = {line.split()[-1] for line in used.stdout.splitlines()}
    assert {fault.name for fault in FAULTS} == shown
