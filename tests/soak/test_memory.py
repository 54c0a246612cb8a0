"""What a soak takes for flat, and what not."""

from __future__ import annotations

import random
from xml.etree import ElementTree

import pytest

from tests.soak.memory import MEBI, Sample, medians, trend
from tests.soak.plot import svg

HOUR_S = 3600


def _samples(gained_an_hour: float, seed: int = 1, noise: float = 25 * MEBI) -> list[Sample]:
    """An hour of a process that holds 150 MiB, with large objects now and then."""
    chance = random.Random(seed)
    return [
        (at, int(150 * MEBI + gained_an_hour * at / HOUR_S + chance.random() ** 2 * noise))
        for at in range(HOUR_S)
    ]


@pytest.mark.parametrize("seed", range(20))
def test_work_alone_is_flat(seed: int) -> None:
    assert trend(_samples(0, seed), 60).is_flat


@pytest.mark.parametrize("seed", range(20))
def test_a_leak_is_not(seed: int) -> None:
    found = trend(_samples(20 * MEBI, seed), 60)
    assert not found.is_flat
    assert found.gained == pytest.approx(10 * MEBI, rel=0.4)


def test_what_is_filled_once_is_flat() -> None:
    filling = [(at, 100 * MEBI + min(at, 900) * MEBI // 10) for at in range(HOUR_S)]
    assert trend(filling, 60).is_flat


def test_less_is_flat() -> None:
    assert trend(_samples(-30 * MEBI), 60).is_flat


def test_too_short_a_run_is_no_verdict() -> None:
    with pytest.raises(ValueError, match="no two spans"):
        trend(_samples(0)[:50], 60)


def test_medians_pass_over_a_gap() -> None:
    assert medians([(0, 1), (1, 3), (2, 2), (25, 7)], 10) == [(5, 2), (25, 7)]


def test_the_plot_is_well_formed() -> None:
    picture = ElementTree.fromstring(svg({"a": [(0, 0), (60, MEBI)]}, [30.0], "Title"))
    assert len(picture.findall("{*}polyline")) == 1
