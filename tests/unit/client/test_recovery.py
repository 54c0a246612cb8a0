"""What a user may set about recovery."""

from __future__ import annotations

import pytest

from ray.util.client.recovery import Limits, Recovery


@pytest.mark.parametrize("value", ["-1", "many", "1.5"])
def test_a_bad_number_is_refused(monkeypatch, value):
    monkeypatch.setenv("RAY_CLIENT_JOURNAL_ENTRIES", value)
    with pytest.raises(ValueError, match="RAY_CLIENT_JOURNAL_ENTRIES is a whole number"):
        Limits.from_environment()


def test_a_folder_that_is_none_is_refused(monkeypatch, tmp_path):
    monkeypatch.setenv("RAY_CLIENT_JOURNAL_SPILL", str(tmp_path / "missing"))
    with pytest.raises(ValueError, match="RAY_CLIENT_JOURNAL_SPILL names a folder"):
        Limits.from_environment()


def test_an_unknown_mode_is_refused(monkeypatch):
    monkeypatch.setenv("RAY_CLIENT_RECOVERY", "of")
    with pytest.raises(ValueError, match="replay, reconnect, off"):
        Recovery.from_environment()


def test_settings(monkeypatch, tmp_path):
    assert Recovery.from_environment() is Recovery.REPLAY
    assert Limits.from_environment().spill_folder is None
    monkeypatch.setenv("RAY_CLIENT_RECOVERY", "off")
    monkeypatch.setenv("RAY_CLIENT_JOURNAL_BYTES", "5")
    monkeypatch.setenv("RAY_CLIENT_JOURNAL_SPILL", str(tmp_path))
    assert Recovery.from_environment() is Recovery.OFF
    limits = Limits.from_environment()
    assert (limits.max_bytes, limits.spill_folder) == (5, str(tmp_path))
