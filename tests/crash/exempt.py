"""Tests of ``tests/integration`` that can't hold when servers die all the time, and why."""

from __future__ import annotations

from typing import Dict, Optional

_RAW = "speaks the protocol itself, to one server, and does not recover"
_SHORT = "its session has no recovery, or too short a grace period for more deaths"
_COUNTS = "counts runs, deaths, servers or lines, of which more deaths make more"
_ONCE = "what it makes may be run or called but once, and is lost with another death"
_ACTORS = "what its actors hold is gone with another death, or they may not be restarted"
_TOO_MANY = "makes so many requests, or so large ones, that a death for each takes hours"

# By file, or by file and the beginning of the test's name.
REASONS: Dict[str, str] = {
    "test_bad_input": _RAW,
    "test_bad_pickles": _RAW,
    "test_callbacks": _ACTORS,
    "test_connect_errors::test_a_server_that_dies_at_its_start": _COUNTS,
    "test_equality": _ACTORS,
    "test_gap::test_a_session_survives_ctrl_c_at_any_point": _TOO_MANY,
    "test_gap::test_ctrl_c_ends_a_call_of_a_healthy_session": _COUNTS,
    "test_gap::test_shutdown_ends_in_the_gap": _SHORT,
    "test_gap::test_threads_that_call_in_the_gap": _COUNTS,
    "test_grace_period": _SHORT,
    "test_in_flight::test_a_detached_actor": _ONCE,
    "test_in_flight::test_a_handle_means_its_own_actor": _ONCE,
    "test_in_flight::test_a_seen_chance_value_stays": _COUNTS,
    "test_in_flight::test_an_actor_that_is_got_or_made": _COUNTS,
    "test_in_flight::test_an_actor_that_was_found": _ACTORS,
    "test_in_flight::test_every_way_to_wait_goes_on": _COUNTS,
    "test_in_flight::test_found_actors": _ACTORS,
    "test_in_flight::test_handles_passed_to_pending_tasks": _ACTORS,
    "test_in_flight::test_options": _ONCE,
    "test_in_flight::test_the_name_of_a_dead_actor": _ACTORS,
    "test_in_flight::test_threads_with_actors": _TOO_MANY,
    "test_in_flight::test_what_is_done_in_the_gap": _ONCE,
    "test_large_objects": _TOO_MANY,
    "test_link_faults::test_a_black_hole": _COUNTS,
    "test_link_faults::test_a_get_under_way": _ACTORS,
    "test_link_faults::test_refs_and_actors": _ACTORS,
    "test_link_faults::test_shutdown_after_a_cut": _COUNTS,
    "test_link_faults::test_tasks_are_not_run_twice": _ACTORS,
    "test_logs": _COUNTS,
    "test_lost_refs": _SHORT,
    "test_nested": _TOO_MANY,
    "test_operations::test_a_head_of_the_tests": _COUNTS,
    "test_operations::test_a_server_ends": _COUNTS,
    "test_operations::test_a_terminated_server": _COUNTS,
    "test_operations::test_ctrl_c_at_the_head": _COUNTS,
    "test_operations::test_servers": _SHORT,
    "test_proxier_restart::test_a_server_s_death_after_it": _COUNTS,
    "test_proxier_restart::test_again_and_again": _COUNTS,
    "test_proxier_restart::test_the_session_is_begun_anew": _COUNTS,
    "test_proxier_restart::test_what_workers_print": _ONCE,
    "test_recovery::test_a_detached_actor": _ONCE,
    "test_recovery::test_actor_classes": _ACTORS,
    "test_recovery::test_packages_outlive": _SHORT,
    "test_restored::test_a_call": _ONCE,
    "test_restored::test_a_chain_of_finished_tasks": _COUNTS,
    "test_restored::test_a_detached_actor_is_the_same": _ONCE,
    "test_restored::test_a_finished_task_whose_value": _COUNTS,
    "test_restored::test_a_part_that_a_second_run_lacks": _COUNTS,
    "test_restored::test_a_pending_task": _COUNTS,
    "test_restored::test_a_seen_value": _ONCE,
    "test_restored::test_a_task_that_needs_a_failed_one": _ONCE,
    "test_restored::test_a_task_that_no_server_was_given": _ONCE,
    "test_restored::test_an_actor": _ACTORS,
    "test_restored::test_an_application_error": _ONCE,
    "test_restored::test_an_error_that_was_seen": _COUNTS,
    "test_restored::test_five_deaths": _ACTORS,
    "test_restored::test_handles_in_arguments": _ACTORS,
    "test_restored::test_killed_and_cancelled": _COUNTS,
    "test_restored::test_order_is_kept": _ACTORS,
    "test_restored::test_released_refs": _COUNTS,
    "test_restored::test_retries_are_counted": _COUNTS,
    "test_restored::test_the_handle": _ONCE,
    "test_restored::test_threads_under_kills": _TOO_MANY,
    "test_restored::test_two_thousand": _TOO_MANY,
    "test_restored::test_what_came_inside_a_result_goes": _ONCE,
    "test_restored::test_what_is_in_a_placement_group": _ONCE,
    "test_restored::test_what_may_not_be_retried": _ONCE,
    "test_restored::test_what_the_journal_has_no_room_for": _ONCE,
    "test_session_info::test_a_listener": _COUNTS,
    "test_session_info::test_a_removed_listener": _COUNTS,
    "test_session_info::test_each_session_of_a_process": _COUNTS,
    "test_session_info::test_listeners_hear": _COUNTS,
    "test_session_info::test_states_and_counters": _COUNTS,
    "test_session_info::test_the_end_is_heard": _COUNTS,
    "test_session_info::test_what_is_heard": _SHORT,
    "test_session_info::test_what_was_lost": _COUNTS,
    "test_several::test_a_get_of_another_session": _ACTORS,
    "test_several::test_a_new_session_begins": _COUNTS,
    "test_several::test_all_sessions_come_back": _COUNTS,
    "test_several::test_one_of_two_clients": _COUNTS,
    "test_several::test_other_sessions": _COUNTS,
    "test_several::test_the_client_count": _COUNTS,
    "test_troubled_recovery": _SHORT,
    "test_two_nodes": _COUNTS,
}


def reason_to_leave_out(test_id: str) -> Optional[str]:
    """Why a test can't hold; None if it can.

    Args:
        test_id: as pytest has it, ``folder/file.py::name[parameters]``.
    """
    within = test_id.partition("[")[0].rpartition("/")[2].replace(".py::", "::")
    return next((why for part, why in REASONS.items() if within.startswith(part)), None)
