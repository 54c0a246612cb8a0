"""Tests of ``tests/integration`` that can't hold when servers die all the time, and why."""

from __future__ import annotations

from typing import Dict, Optional

# By a part of the test's id; the first that fits counts.
_REASONS: Dict[str, str] = {}


def reason_to_leave_out(test_id: str) -> Optional[str]:
    """Why a test can't hold; None if it can."""
    return next((why for part, why in _REASONS.items() if part in test_id), None)
