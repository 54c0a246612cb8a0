"""Schedules keep every promise, each can be run again, and what breaks one is shown."""

from __future__ import annotations

import pytest

from tests.simulation import parallel, schedule
from tests.simulation.campaign import RUNS_THROUGH, Broken, broken, report, verdict
from tests.simulation.faults import MUTATIONS
from tests.simulation.parallel import Campaign, processors
from tests.simulation.plan import plan_of

SEEDS = range(1, 20_001)


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_no_schedule_breaks_a_promise() -> None:
    campaign = Campaign(SEEDS, processors())
    for news in campaign.run(most=1):
        if isinstance(news, Broken):
            pytest.fail(report(news))
    assert campaign.count == len(SEEDS)


@pytest.mark.parametrize("seed", [3, 5000])
def test_a_seed_decides_everything(seed: int) -> None:
    first, second = (schedule.run(plan_of(seed), traced=True) for _ in range(2))
    assert first.trace == second.trace != []
    assert first.events == second.events


def test_other_seeds_are_other_schedules() -> None:
    assert len({plan_of(seed)._replace(seed=0) for seed in range(200)}) == 200


def test_what_breaks_is_reported_with_its_seed_and_how_to_run_it_again() -> None:
    with MUTATIONS["a budget not counted"].in_place():
        found = next(broken(range(400)))
        text = report(found)
    assert f"SEED {found.seed} breaks promises" in text
    assert f"make simulate N=1 SEED={found.seed}\n" in text
    assert "The smallest plan that was found" in text and " FAULT " in text


def test_an_error_of_the_simulation_itself_is_told_with_its_seed(monkeypatch) -> None:
    def fail(plan, traced=False):
        raise ArithmeticError("planted")

    monkeypatch.setattr(schedule, "run", fail)
    (found,) = broken([7])
    assert found.seed == 7
    assert found.violations[0].promise == RUNS_THROUGH and "planted" in found.violations[0].text
    assert "planted" in report(found, shrinks=False)


@pytest.mark.parametrize("jobs", [1, 2])
def test_every_seed_is_run_once(monkeypatch, jobs: int) -> None:
    monkeypatch.setattr(parallel, "_SHARE", 8)
    counts = [share.count for share in parallel.shares(range(40, 60), jobs)]
    assert sorted(counts) == [4, 8, 8]


def test_a_campaign_ends_when_enough_is_broken(monkeypatch) -> None:
    monkeypatch.setattr(parallel, "_SHARE", 100)
    with MUTATIONS["a budget not counted"].in_place():
        campaign = Campaign(range(10**6), jobs=1)
        news = list(campaign.run(most=1))
    assert len(news) == campaign.found == 1
    assert "1 broke a promise" in campaign.summary()


def test_no_rubbish_of_one_schedule_is_seen_by_the_next() -> None:
    alone = schedule.run(plan_of(11), traced=True).trace
    assert not verdict(plan_of(10))
    assert schedule.run(plan_of(11), traced=True).trace == alone
