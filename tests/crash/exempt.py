"""Tests of ``tests/integration`` that can't hold when servers die all the time, and why."""

from __future__ import annotations

from typing import Dict, Optional

_RAW = "speaks the protocol itself, to one server, and does not recover"
_SHORT = "its session has no recovery, or too short a grace period for more deaths"
_COUNTS = "counts runs, deaths, servers or lines, of which more deaths make more"
_ONCE = "what it makes may be run or made but once, and is lost with another death"
_RESTARTED = "what its actors hold is gone with each death, and they may not be restarted"
_TOO_MANY = "makes so many requests that a death for each is hours"

# By a part of the test's id; the first that fits counts.
_REASONS: Dict[str, str] = {
    "test_bad_input.py": _RAW,
    "test_bad_pickles.py": _RAW,
    "test_grace_period.py": _SHORT,
    "test_lost_refs.py": _SHORT,
    "test_troubled_recovery.py": _SHORT,
    "test_connect_errors.py::test_a_server_that_dies_at_its_start": _COUNTS,
    "test_callbacks.py": _RESTARTED,
    "test_gap.py::test_ctrl_c_ends_a_call_of_a_healthy_session": _COUNTS,
    "test_gap.py::test_a_session_survives_ctrl_c_at_any_point": _TOO_MANY,
    "test_gap.py::test_shutdown_ends_in_the_gap": _SHORT,
    "test_gap.py::test_threads_that_call_in_the_gap_all_go_on_with_one_new_server": _COUNTS,
    "test_large_objects.py": _COUNTS,
    "test_link_faults.py::test_a_large_object": _COUNTS,
    "test_link_faults.py::test_log_streaming": _COUNTS,
    "test_link_faults.py": _RESTARTED,
    "test_logs.py": _COUNTS,
    "test_operations.py": _COUNTS,
    "test_session_info.py": _COUNTS,
    "test_several.py::test_a_get_of_another_session_goes_on_while_one_recovers": _RESTARTED,
    "test_several.py::test_one_of_two_clients": _COUNTS,
    "test_several.py::test_other_sessions_are_undisturbed": _COUNTS,
    "test_several.py::test_a_new_session_begins": _COUNTS,
    "test_several.py::test_the_client_count": _COUNTS,
    "test_several.py::test_all_sessions_come_back": _COUNTS,
    "test_two_nodes.py": _COUNTS,
    "test_proxier_restart.py": _COUNTS,
    "test_recovery.py::test_actor_classes": _RESTARTED,
    "test_recovery.py::test_packages_outlive": _COUNTS,
    "test_restored.py::test_two_thousand": _TOO_MANY,
    "test_restored.py::test_threads_under_kills": _TOO_MANY,
    "test_in_flight.py::test_threads_with_actors": _TOO_MANY,
}


def reason_to_leave_out(test_id: str) -> Optional[str]:
    """Why a test can't hold; None if it can."""
    return next((why for part, why in _REASONS.items() if part in test_id), None)
