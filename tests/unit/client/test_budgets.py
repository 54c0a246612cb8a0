"""Retries that a user allows, by options."""

import pickle

import pytest

from ray.util.client import budgets, protocol


@pytest.mark.parametrize(
    "layers,retries",
    [
        ((None, None), 3),
        (({"max_retries": 0}, None), 0),
        ((None, {"max_retries": -1}), -1),
        (({"max_retries": 1}, {"max_retries": 7}), 1),
        (({"max_retries": None}, {"max_retries": 7}), 7),
        (({"num_cpus": 1}, None), 3),
    ],
)
def test_of_a_task(layers, retries, monkeypatch):
    monkeypatch.delenv("RAY_TASK_MAX_RETRIES", raising=False)
    assert budgets.of_task(*layers) == retries


def test_the_environment_sets_the_default(monkeypatch):
    monkeypatch.setenv("RAY_TASK_MAX_RETRIES", "0")
    assert budgets.of_task(None, None) == 0
    assert budgets.of_task({"max_retries": 2}) == 2


def test_of_an_actor():
    assert budgets.of_actor(None, None) == 0
    assert budgets.of_actor({"max_restarts": 2}, {"max_restarts": 5}) == 2


@pytest.mark.parametrize("kind,name", [("FUNCTION", "max_retries"), ("ACTOR", "max_restarts")])
def test_what_is_left_is_told_to_ray_and_other_options_stay(kind, name):
    task = protocol.ClientTask(type=getattr(protocol.ClientTask, kind))
    budgets.spend(task, 2)
    assert pickle.loads(task.options.pickled_options) == {name: 2}
    task.options.pickled_options = pickle.dumps({"num_cpus": 4, name: 9})
    budgets.spend(task, 0)
    assert pickle.loads(task.options.pickled_options) == {"num_cpus": 4, name: 0}
