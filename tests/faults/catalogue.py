"""What may go wrong, what must hold then, and which tests try it. `docs/reliability.md` is made of this list.

Tests are named as `file::function`, relative to `tests/`; a test checks that each of them exists, and that each fault
has one, or says why not and what holds instead.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True)
class Fault:
    """One row of the page."""

    number: str
    what: str
    must_hold: str
    tests: tuple[str, ...] = ()
    note: str = ""
    """Where it holds only in part, or is not tried: what is so instead."""


_ENDURANCE: Final = "worker/test_endurance.py"
_EFFECTS: Final = "worker/test_effects.py"
_CHILDREN: Final = "worker/execution/test_child_processes.py"
_GATE: Final = "store/sqlite/test_gate.py"
_PRESENCE: Final = "store/test_presence.py"
_CALLS: Final = "faults/test_system_calls.py"
_HISTORIES: Final = "faults/test_histories.py::test_what_clients_were_told_is_true_after_kills_and_pauses"
_CRASHES: Final = "worker/test_crashes.py"
_CUTS: Final = "faults/test_power_cuts.py"
_FILE: Final = "store/sqlite/test_database.py"
_FUZZ: Final = "faults/test_fuzz.py"
_BAD_PLACES: Final = "faults/postgres/test_bad_databases.py"
_INPUTS: Final = "faults/test_bad_inputs.py::test_bad_input_gets_one_clear_line_and_nothing_is_stored"
_SCENARIOS: Final = "faults/test_scenarios.py"
_SECURITY: Final = "faults/test_security.py"

SCENARIOS: Final = (
    Fault(
        "F01",
        "An enqueuer is killed before, in and after its commit",
        "One job or none; with a unique key it can be tried again (I1 I2 I15)",
        (f"{_CALLS}::test_an_enqueuer_that_is_killed_at_any_system_call_leaves_one_job_or_none", _HISTORIES),
    ),
    Fault(
        "F02",
        "A worker is killed after the claim, before the handler",
        "The job goes back as if nothing had been (I7 I8)",
        (f"{_CRASHES}::test_jobs_that_were_only_claimed_come_back_untouched", _HISTORIES),
    ),
    Fault(
        "F03",
        "A worker is killed inside a handler",
        "The job runs again within two seconds, no attempt spent (I8)",
        (
            f"{_CRASHES}::test_a_living_worker_takes_over_what_a_killed_one_ran",
            f"{_CRASHES}::test_a_crash_does_not_spend_the_last_attempt",
        ),
        "Two seconds are the aim, measured in the soak; the tests say: long before a lease ends",
    ),
    Fault(
        "F04",
        "A worker is killed between the handler's return and the settlement",
        "The handler runs twice, its effects in the transaction are there once (I6)",
        (
            "worker/test_effects.py::test_a_worker_killed_before_the_commit_leaves_no_effect_and_the_next_run_one",
            f"{_ENDURANCE}::test_effects_in_the_jobs_transaction_are_there_once_although_workers_are_killed_all_the_time",
            _HISTORIES,
        ),
    ),
    Fault(
        "F05",
        "A worker is killed at each system call of the settling transaction",
        "One ending, effects once, a sound file (I3 I6 I10)",
        (
            f"{_EFFECTS}::test_killed_at_each_write_and_sync_of_the_settling_transaction_the_effect_is_there_once",
            f"{_CALLS}::test_a_worker_that_is_killed_at_any_system_call_loses_no_job",
        ),
    ),
    Fault(
        "F06",
        "A process is killed with the write lock, or inside the writers' gate",
        "The others go on at once (I14)",
        (
            f"{_CRASHES}::test_a_worker_that_dies_with_the_write_lock_does_not_stop_the_others",
            "store/sqlite/test_gate.py::test_the_gate_opens_when_a_process_is_killed_inside",
        ),
    ),
    Fault(
        "F07",
        "A worker that has child processes, or a supervisor that has workers, is killed, they are not",
        "Its children end, its workers finish their jobs and end; nothing is left behind",
        (
            "worker/execution/test_child_processes.py::test_a_child_ends_with_its_worker_whatever_it_runs",
            "worker/execution/test_supervisor.py::test_the_workers_of_a_supervisor_that_is_killed_finish_their_jobs_and_end",
        ),
    ),
    Fault(
        "F08",
        "SIGTERM, SIGTERM again, SIGKILL",
        "Running jobs finish; then they are given back; then they are rescued",
        (
            "worker/test_signals.py::test_the_first_signal_lets_the_running_job_finish_and_gives_the_others_back",
            "worker/test_signals.py::test_the_second_signal_gives_the_running_job_back",
            "worker/test_signals.py::test_what_was_given_back_is_run_by_the_next_worker",
        ),
    ),
    Fault(
        "F09",
        "A handler exits the process, kills it, segfaults, overflows the stack",
        "A crash, never a success; stopped after `max_crashes`; its neighbours succeed",
        (
            "worker/test_poison.py::test_a_poisonous_job_is_stopped_and_all_others_succeed",
            "worker/test_bad_jobs.py::test_whatever_a_handler_raises_is_recorded",
            "worker/execution/test_child_processes.py::test_a_job_that_kills_its_child_is_stopped_after_some_crashes",
        ),
    ),
    Fault(
        "F10",
        "A handler takes so much memory that the kernel kills its worker",
        "A crash of that job; other workers live",
        (f"{_SCENARIOS}::test_a_job_that_is_killed_for_its_memory_is_a_crash_and_other_workers_live",),
        "Needs root and control groups of version 1; skipped elsewhere",
    ),
    Fault(
        "F11",
        "A handler never returns and does not listen",
        "The heartbeat goes on; the slot is reported as stuck; a child process is killed",
        (
            "worker/execution/test_timeouts.py::test_a_thread_in_a_long_call_into_c_is_reported_as_stuck_and_keeps_its_job",
            "worker/execution/test_timeouts.py::test_a_child_that_does_not_answer_is_killed",
            "test_slots.py::test_a_handler_that_never_returns_cannot_keep_the_process_alive",
        ),
        "A thread cannot be killed: its slot is lost until the worker is restarted",
    ),
    Fault(
        "F12",
        "All workers are dead; one starts alone, later",
        "It recovers everything, nothing else is needed",
        (f"{_CRASHES}::test_a_worker_that_starts_later_alone_recovers_everything",),
    ),
    Fault(
        "F13",
        "A worker starts again with the same name, process id and host",
        "What its predecessor ran is recovered",
        (f"{_SCENARIOS}::test_a_worker_with_the_same_name_host_and_process_id_recovers_what_its_predecessor_ran",),
    ),
    Fault(
        "F14",
        "The handlers' module cannot be imported, again and again",
        "One clear line, an exit code, no attempt spent",
        (
            _INPUTS,
            f"{_CHILDREN}::test_modules_that_children_cannot_import_end_the_worker_and_burn_no_attempt",
        ),
    ),
    Fault(
        "F15",
        "A worker is stopped in a handler for longer than its lease, and wakes up",
        "Another runs the job; the first one's ending changes nothing (I4)",
        (
            "worker/test_pauses.py::test_a_worker_that_wakes_up_while_another_runs_its_job_does_not_disturb_it",
            "worker/test_endurance.py::test_workers_that_are_paused_for_longer_than_their_lease_do_no_harm",
            _HISTORIES,
        ),
    ),
    Fault(
        "F16",
        "A process is stopped inside a write transaction",
        "The others wait, then say that the database is busy; all recover",
        (
            f"{_GATE}::test_a_process_that_is_stopped_inside_makes_the_others_wait_until_their_timeout_and_no_longer",
            "worker/test_database_faults.py::test_a_worker_waits_for_another_writer_and_loses_nothing",
            _HISTORIES,
        ),
    ),
    Fault(
        "F17",
        "The clock is set an hour forward, or two back, while workers run",
        "Nobody is taken for dead; pending jobs are not delayed",
        (
            "worker/test_pauses.py::test_a_jump_of_the_wall_clock_rescues_nothing_and_delays_nothing",
            "worker/test_pauses.py::test_a_scheduled_job_is_started_when_the_clock_jumps_past_its_moment",
            "store/test_claims.py::test_after_the_clock_was_set_back_jobs_that_were_pending_still_run",
        ),
        "Jobs for a time of day come due by the new clock: later, if it was set back. The worker's own clock is "
        "replaced, not the system's: libfaketime also changes the monotonic clock, on which nothing here may depend",
    ),
    Fault(
        "F18",
        "The heartbeat is starved, by computing handlers or a slow disk",
        "The lease is extended in time, or the token makes a second run harmless",
        (
            "worker/test_pauses.py::test_a_busy_worker_keeps_its_jobs_for_many_leases",
            f"{_CALLS}::test_syncs_that_take_long_lose_no_lease",
            "store/sqlite/test_gate.py::test_sixteen_processes_that_write_without_pause_all_get_a_fair_share",
        ),
        "C code that keeps the interpreter lock for longer than the lease makes a second run possible",
    ),
    Fault(
        "F19",
        "The power goes out at any write, sync, truncate or removal; sectors torn and reordered; again during recovery",
        "I1 I2 I3 I5 I6 I10 in what any cut leaves",
        (
            f"{_CUTS}::test_no_cut_breaks_a_promise",
            f"{_CUTS}::test_a_cut_while_the_last_one_is_recovered_breaks_no_promise",
            f"{_CUTS}::test_after_a_cut_a_worker_brings_every_job_to_its_end",
        ),
        "A model of a disk that keeps what a sync has confirmed. A disk that lies about that is beyond any program",
    ),
    Fault(
        "F20",
        "The power goes out during a migration, a checkpoint, a prune",
        "Old or new, never between",
        (
            f"{_CUTS}::test_no_cut_breaks_a_promise",
            f"{_SCENARIOS}::test_a_prune_of_a_hundred_thousand_jobs_that_is_killed_leaves_whole_jobs_and_true_counts",
        ),
        "The prune whose power is cut is of 250 jobs, the one of 100,000 is killed; pruning is in batches of 500, each "
        "a transaction of its own",
    ),
    Fault(
        "F21",
        "The disk is full at an enqueue",
        "It says so; nothing is acknowledged, nothing half",
        (
            f"{_FILE}::test_on_a_disk_that_is_really_full_what_was_acknowledged_is_there_and_nothing_else",
            f"{_CALLS}::test_an_enqueue_whose_system_call_fails_says_the_truth",
            f"{_CALLS}::test_a_batch_whose_system_call_fails_is_there_as_a_whole_or_not_at_all",
        ),
    ),
    Fault(
        "F22",
        "The disk is full when a job ends",
        "The result is kept and tried again; the same process goes on when there is room",
        (
            "worker/test_database_faults.py::test_a_result_that_found_no_room_is_stored_when_there_is_room_again",
            "worker/test_database_faults.py::test_a_worker_that_starts_on_a_full_disk_says_so",
        ),
        "For the length of a lease; then the worker ends, and the job runs again",
    ),
    Fault(
        "F23",
        "A limit on the size of files is reached",
        "As a full disk",
        (
            f"{_FILE}::test_a_file_size_limit_is_reported_and_the_same_process_goes_on_without_it",
            f"{_CALLS}::test_an_enqueue_without_descriptors_file_size_or_memory_says_the_truth",
        ),
    ),
    Fault(
        "F24",
        "A sync reports an I/O error, once or for ever",
        "The outcome is said to be unknown (I15); a worker that cannot write says so and ends",
        (
            f"{_CALLS}::test_an_enqueue_whose_system_call_fails_says_the_truth",
            f"{_CALLS}::test_an_enqueue_on_a_disk_that_has_failed_for_good_says_the_truth",
            f"{_CALLS}::test_a_worker_whose_system_call_fails_loses_no_job",
        ),
    ),
    Fault(
        "F25",
        "Reads, writes, locks, opens report errors",
        "No acknowledgement, no storm of lines, no loop faster than its pauses",
        (
            f"{_CALLS}::test_an_enqueue_whose_system_call_fails_says_the_truth",
            f"{_CALLS}::test_a_worker_whose_system_call_fails_loses_no_job",
            "store/test_presence.py::test_a_file_system_that_cannot_lock_is_an_error_and_not_a_lock_in_others_hands",
        ),
        "A read error of the page that holds a worker's own seat ends the process by SIGBUS: it is mapped memory",
    ),
    Fault(
        "F26",
        "Each sync takes half a second",
        "Leases survive; slower, nothing lost",
        (f"{_CALLS}::test_syncs_that_take_long_lose_no_lease",),
    ),
    Fault(
        "F27",
        "The file is deleted, replaced or restored under living workers and enqueuers",
        "Noticed within a second, in a clear message; a restored copy goes on where it was",
        (
            "worker/test_database_faults.py::test_a_worker_ends_when_its_database_is_gone",
            f"{_FILE}::test_an_enqueue_into_a_file_that_is_not_there_any_more_is_an_error",
            "worker/test_database_faults.py::test_a_restored_backup_is_noticed_and_goes_on_where_it_was",
        ),
        "`cp` onto the file in use keeps its identity, is not noticed, and may damage it: restore with `mv`",
    ),
    Fault(
        "F28",
        "A reader keeps a transaction open for long",
        "It sees its moment; the log grows, workers and `doctor` name the process, and it goes back afterwards",
        (
            f"{_SCENARIOS}::test_a_reader_that_stays_lets_the_log_grow_and_nothing_else_happens",
            "doctor/test_examination.py::test_a_long_log_is_found_with_the_process_that_keeps_it",
            "doctor/test_examination.py::test_a_worker_warns_of_a_log_that_a_reader_keeps_and_again_only_when_it_has_doubled",
        ),
    ),
    Fault(
        "F29",
        "A file or directory that may not be written; files of another owner",
        "One line that names the path",
        (
            "store/test_schema.py::test_without_the_right_to_write_in_the_directory_no_file_is_created",
            "store/test_schema.py::test_without_the_right_to_write_one_line_says_so",
            "doctor/test_examination.py::test_files_of_several_owners_are_found",
        ),
    ),
    Fault(
        "F30",
        "The file lies on a network file system",
        "Doctor and worker warn by its kind",
        (
            "doctor/test_examination.py::test_a_file_system_that_cannot_be_trusted_is_named",
            "doctor/test_examination.py::test_mounts_are_read_as_the_kernel_writes_them",
        ),
        "The kernel's table of mounts is written by the test. No network file system was mounted: that needs a second "
        "machine or a server; a FUSE mount would show the same name in the same table and nothing more",
    ),
    Fault(
        "F31",
        "Many processes start at once on an empty path, some are killed",
        "One schema, nothing half",
        (
            "store/test_schema.py::test_32_processes_that_start_at_once_on_an_empty_path_make_one_schema",
            f"{_SCENARIOS}::test_processes_that_start_at_once_while_some_are_killed_make_one_schema",
        ),
    ),
    Fault(
        "F32",
        "Sixteen processes write without pause",
        "Nobody is told that the database is locked; fair shares",
        ("store/sqlite/test_gate.py::test_sixteen_processes_that_write_without_pause_all_get_a_fair_share",),
    ),
    Fault(
        "F33",
        "A process forks with an open database",
        "The child uses connections of its own",
        (
            f"{_FILE}::test_a_forked_child_works_on_connections_of_its_own",
            f"{_FILE}::test_a_fork_in_the_middle_of_a_transaction_leaves_it_to_the_parent",
            "store/test_presence.py::test_a_forked_child_does_not_sit_on_its_parents_seat",
            "store/test_lock_file.py::test_a_forked_child_that_gives_back_what_it_inherited_keeps_its_own_seat",
        ),
    ),
    Fault(
        "F34",
        "No memory, no descriptors, no threads left",
        "Rolled back, not acknowledged, a clear error",
        (
            f"{_CALLS}::test_an_enqueue_without_descriptors_file_size_or_memory_says_the_truth",
            "worker/execution/test_child_processes.py::test_a_handler_that_runs_out_of_memory_fails_its_attempt",
            f"{_SCENARIOS}::test_a_worker_that_gets_no_thread_ends_and_its_jobs_wait_for_the_next",
            f"{_SCENARIOS}::test_the_command_says_in_one_line_that_the_system_gives_no_more_threads",
        ),
        "A worker without room for another thread ends at its start; the refusal is played by the test, for root has "
        "no such limit",
    ),
    Fault(
        "F35",
        "A rescuer acts on an old view while the worker settles",
        "One guarded statement: one of them changes nothing (I3)",
        (
            "store/test_state_machine.py::test_a_stale_ending_changes_nothing",
            "store/test_rescues.py::test_a_rescued_job_is_pending_at_once_and_its_old_claim_is_worth_nothing",
        ),
    ),
    Fault(
        "F36",
        "People cancel, retry, delete and prune while workers claim and settle",
        "One wins, the other is told; every change is legal (I3 I9)",
        (
            "faults/test_people.py::test_people_and_workers_race_and_every_change_is_legal",
            "store/test_state_machine.py::test_the_rows_are_what_the_model_says",
        ),
    ),
    Fault(
        "F37",
        "A running job is cancelled whose worker is dead",
        "It ends cancelled",
        (
            "worker/test_cancel.py::test_a_running_job_of_a_dead_worker_can_be_cancelled",
            "worker/execution/test_cancellation.py::test_a_job_whose_worker_has_died_meanwhile_ends_cancelled",
        ),
    ),
    Fault(
        "F38",
        "Two enqueues with one unique key at once; one while the first job ends",
        "Never two alive",
        (
            "store/test_inserts.py::test_sixteen_threads_that_enqueue_one_unique_key_at_once_store_one_row",
            "store/test_inserts.py::test_a_duplicate_whose_job_ends_meanwhile_is_never_stored_twice",
        ),
    ),
    Fault(
        "F39",
        "A handler commits by itself in its job's transaction, or raises after its effects",
        "Effects and ending stay together, or it is a clear error",
        (
            "test_transaction.py::test_ending_it_by_hand_is_refused_and_nothing_is_stored",
            "test_transaction.py::test_whatever_the_handler_raises_undoes_the_effects",
        ),
    ),
    Fault(
        "F40",
        "A row that cannot be decoded, or that SQL filled with nonsense",
        "It fails alone, with the reason; the others go on",
        (
            "worker/test_bad_jobs.py::test_a_row_that_cannot_be_decoded_fails_alone",
            f"{_FUZZ}::test_whatever_sql_inserts_is_refused_or_harms_no_other_job",
            "store/test_queries.py::test_a_time_that_python_cannot_read_is_none_and_spoils_no_list",
        ),
    ),
    Fault(
        "F41",
        "A million pending jobs; a hundred thousand orphans at once",
        "Bounded batches; claims go on",
        (
            "store/test_rescues.py::test_a_hundred_thousand_orphans_come_back_in_batches_while_others_claim",
            "store/test_plans.py::test_a_hot_statement_goes_through_its_index_and_sorts_nothing",
            "store/postgres/test_plans.py::test_a_hot_statement_reads_little_of_a_million_jobs",
        ),
        "On SQLite the million is in the benchmarks; its tests look at the plan of each statement",
    ),
)

_CLIPPED: Final = "faults/postgres/test_cuts.py"
_RESTARTS: Final = "faults/postgres/test_server.py"
_SILENCE: Final = "faults/postgres/test_silence.py"
_OUTAGES: Final = "faults/postgres/test_outages.py"
_MACHINES: Final = "faults/postgres/test_two_machines.py"
_CLOCKS: Final = "faults/postgres/test_wrong_clocks.py"
_REFUSALS: Final = "faults/postgres/test_refusals.py"

POSTGRES: Final = (
    Fault(
        "P01",
        "The connection dies at each step of an enqueue and of a worker's life, before the server gets the request or "
        "before its answer comes; a commit is done and the answer lost",
        "Stored, refused, or said to be unknown; a retry by unique key stores no second one; jobs are settled once, "
        "effects in the job's transaction are there once (I2 I6 I15)",
        (
            f"{_CLIPPED}::test_an_enqueue_that_is_cut_off_at_any_step_is_stored_refused_or_unknown_and_never_half_or_double",
            f"{_CLIPPED}::test_what_is_unknown_is_tried_again_by_its_unique_key_and_is_there_once",
            f"{_CLIPPED}::test_threads_that_shared_an_unknown_commit_are_all_told",
            f"{_CLIPPED}::test_a_worker_that_is_cut_off_at_any_step_settles_each_job_once",
        ),
        "A worker that is cut off while it signs on ends with the reason, as when it is started without a server. A "
        "connection that is lost inside a handler's own transaction is a failed attempt of that job: it is undone and "
        "runs again after its backoff",
    ),
    Fault(
        "P02",
        "The server is restarted, in good order and at once; single sessions are killed; it is a standby for a while",
        "Workers connect again; every job ends and runs once; a standby is out of reach, said in one line",
        (
            f"{_RESTARTS}::test_workers_connect_again_and_every_job_ends_after_running_once",
            f"{_RESTARTS}::test_a_worker_waits_while_its_server_is_a_standby_and_goes_on_when_it_is_promoted",
            f"{_OUTAGES}::test_a_job_that_runs_through_an_outage_longer_than_the_lease_is_settled_afterwards",
        ),
    ),
    Fault(
        "P03",
        "A connection falls silent, though the network acknowledges everything; a server accepts and never answers",
        "Noticed after 5 s, at most 10 more where no server answers at all; no lease is lost by one silent connection; "
        "locks of a session that is given up are freed; a statement that waits for a lock is left alone",
        (
            f"{_SILENCE}::test_a_connection_that_falls_silent_is_given_up_and_the_next_one_works",
            f"{_SILENCE}::test_a_commit_that_is_never_answered_is_unknown",
            f"{_SILENCE}::test_a_heartbeat_that_is_never_answered_costs_no_lease",
            f"{_SILENCE}::test_a_session_that_is_given_up_keeps_no_locks",
            f"{_SILENCE}::test_a_server_that_says_nothing_on_any_connection_is_out_of_reach",
            f"{_SILENCE}::test_a_server_that_accepts_and_never_answers_is_out_of_reach",
            f"{_SILENCE}::test_a_statement_that_waits_for_a_lock_is_left_alone_however_often_somebody_looks",
        ),
        "Whoever has waited for 5 s asks on a second connection whether the server is still at it. Behind a pooler "
        "(`?listen=no`) sessions are not known by number: there only a server that answers nobody is noticed. A "
        "connection that only listens and is silent costs wake-ups: the worker's interval is the net",
    ),
    Fault(
        "P04",
        "`synchronous_commit=off` is the server's default, and the server dies",
        "What was acknowledged is there (I1)",
        (
            f"{_RESTARTS}::test_what_was_acknowledged_survives_the_servers_death_though_it_commits_lazily_by_default",
            f"{_RESTARTS}::test_a_lazy_commit_is_lost_by_the_same_death",
        ),
        "The machine's own death is not tried here: the disk's part is the server's `fsync`",
    ),
    Fault(
        "P05",
        "Deadlock, serialization failure, lock and statement timeout, shutdown, too many connections, read-only, disk "
        "full, out of memory, I/O error",
        "One clear line, nothing stored; a worker tries again, and no attempt of a job is spent on it",
        (
            f"{_REFUSALS}::test_an_enqueue_that_is_refused_says_so_in_one_line_and_stores_nothing",
            f"{_REFUSALS}::test_a_worker_tries_again_and_the_job_runs_once_with_no_attempt_spent",
            f"{_REFUSALS}::test_a_deadlock_ends_at_once_and_says_that_nothing_was_stored",
            f"{_REFUSALS}::test_a_lock_that_somebody_keeps_is_waited_for_no_longer_than_the_busy_timeout",
            f"{_REFUSALS}::test_a_worker_without_a_free_connection_waits_until_there_is_one",
        ),
        "The codes come from a trigger, but for deadlock, locks, connections, shutdown and standby, which are real. "
        "What the server refuses to a handler's own transaction is that handler's failed attempt",
    ),
    Fault(
        "P06",
        "The clock of a worker's machine is ten minutes fast or slow",
        "It steals no live lease; `run_at` is by the server's clock",
        (f"{_CLOCKS}::test_a_machine_whose_clock_is_off_steals_nothing_and_is_neither_early_nor_late",),
    ),
    Fault(
        "P07",
        "A transaction stays open while a handler runs",
        "Never, but for the handler's own `current_job().transaction()`",
        (
            "faults/postgres/test_idle.py::test_no_transaction_is_open_while_a_handler_runs",
            "faults/postgres/test_idle.py::test_only_the_handlers_own_transaction_is_open_if_it_has_asked_for_one",
        ),
    ),
    Fault(
        "P08",
        "Of two machines at one server, one loses its network for longer than its lease",
        "Its jobs move to the other; its late endings change nothing; nothing is lost; it works on when the network is "
        "back (I4 I6 I7)",
        (f"{_MACHINES}::test_a_machine_that_is_cut_off_loses_its_jobs_to_the_other_and_works_on_when_it_is_back",),
        "Two network namespaces with host names of their own; needs root",
    ),
    Fault(
        "P09",
        "Clients and workers are killed and paused at random, workers for longer than their lease",
        "What clients were told is what is there; effects and endings agree (I1 I2 I5 I6 I7)",
        (_HISTORIES, "faults/test_histories.py::test_the_harness_finds_a_client_that_says_ok_before_it_is_stored"),
    ),
)

INPUTS: Final = (
    Fault("B01", "Arguments that are not JSON where JSON is asked for", "Which, line and column", (_INPUTS,)),
    Fault(
        "B02",
        "Values that are not JSON: datetime, bytes, set, Decimal, dataclass",
        "The path to the culprit and what to pass instead",
        (
            "test_arguments.py::test_what_is_not_json_is_refused_with_a_hint",
            "test_arguments.py::test_the_path_leads_to_the_culprit",
        ),
    ),
    Fault(
        "B03",
        "NaN, infinity, keys that are no strings, lone surrogates, NUL; tuples",
        "Refused with the path; a tuple comes back as a list",
        (
            "test_arguments.py::test_numbers_that_json_does_not_know_are_refused",
            "test_arguments.py::test_keys_that_are_not_strings_are_named_with_their_type",
            "test_arguments.py::test_a_lone_surrogate_is_refused_and_its_place_is_named",
            "test_arguments.py::test_a_nul_character_is_refused",
            "test_arguments.py::test_what_is_json_comes_back_equal_with_tuples_as_lists",
        ),
    ),
    Fault(
        "B04",
        "Nested deeper than 100, larger than the limit, integers of thousands of digits",
        "The limit is named",
        (
            "test_arguments.py::test_a_hundred_levels_are_stored_and_one_more_is_refused",
            "test_arguments.py::test_the_size_limit_counts_bytes_and_names_both_numbers",
            "test_arguments.py::test_an_integer_too_long_to_be_written_is_refused_like_any_other_culprit",
        ),
    ),
    Fault(
        "B05",
        "A result that is not JSON, or too large",
        "The job has succeeded; a marker stands for the result; never run again for that",
        (
            "test_executor.py::test_a_result_that_cannot_be_stored_is_replaced_by_a_marker_and_the_job_stays_succeeded",
            "worker/test_bad_jobs.py::test_a_result_that_cannot_be_stored_is_replaced_and_the_job_has_succeeded",
        ),
    ),
    Fault(
        "B06",
        "A message of megabytes, a traceback without end",
        "Cut, and it says by how much",
        (
            "test_executor.py::test_a_message_of_a_megabyte_is_cut_and_says_how_much_is_left_out",
            "test_executor.py::test_endless_recursion_is_a_failed_attempt",
        ),
    ),
    Fault(
        "B07",
        "A handler that is not known, at enqueue and at run time",
        "The nearest name; the attempt fails, with backoff, and the others go on",
        (
            _INPUTS,
            "worker/test_bad_jobs.py::test_an_unknown_handler_fails_with_the_names_that_are_known",
            "worker/test_bad_jobs.py::test_an_unknown_handler_is_tried_again_later",
        ),
    ),
    Fault(
        "B08",
        "Names of handlers and queues: empty, with blanks, control characters, 10 kB",
        "Refused, in one short line",
        (_INPUTS, "test_config.py::test_these_are_not_names_and_the_message_stays_short"),
    ),
    Fault(
        "B09",
        "Two handlers under one name",
        "An error that names both places",
        ("test_registry.py::test_two_handlers_under_one_name_are_refused_naming_both_places",),
    ),
    Fault(
        "B10",
        "Times without a zone, the year 9999, “tomorrow”",
        "Refused, with the forms that are taken",
        (_INPUTS, "test_client.py::test_an_option_out_of_bounds_is_refused_before_anything_is_stored"),
    ),
    Fault(
        "B11",
        "Delay, lease, interval, timeout of 0, below 0, NaN, 1e300; a heartbeat slower than a third of the lease",
        "Refused, with the bounds and both numbers",
        (
            "test_config.py::test_a_value_out_of_bounds_is_refused_and_the_setting_named",
            "test_config.py::test_a_heartbeat_slower_than_a_third_of_the_lease_is_refused_with_both_numbers",
        ),
    ),
    Fault(
        "B12",
        "`max_attempts` 0, -1, a billion; the backoff of attempt 2,000",
        "Bounds; capped before the power is taken",
        (_INPUTS, "test_backoff.py::test_attempt_two_thousand_waits_as_long_as_the_cap_says"),
    ),
    Fault(
        "B13",
        "Databases: a directory, a missing one, no permission, no database, another program's, an unknown URL, "
        "no server, a wrong password",
        "One line each, with path and cause, never a password",
        (
            "faults/test_bad_inputs.py::test_what_is_no_database_of_ours_gets_one_clear_line",
            f"{_BAD_PLACES}::test_a_place_where_there_is_no_queue",
            f"{_BAD_PLACES}::test_a_wrong_password_is_refused_and_never_shown",
            f"{_BAD_PLACES}::test_a_user_without_rights_on_the_tables_is_told_which_it_lacks",
            f"{_BAD_PLACES}::test_what_is_no_queue_of_ours_stays_as_it_is",
            "store/test_schema.py::test_a_file_that_is_no_database_is_refused_and_stays_as_it_is",
            "store/test_schema.py::test_a_table_jobs_of_another_program_is_not_touched",
            f"{_FILE}::test_looking_at_another_programs_database_does_not_change_how_it_is_kept",
            f"{_SECURITY}::test_a_password_in_a_url_is_never_shown",
        ),
    ),
    Fault(
        "B14",
        "Reading commands on a file that does not exist; `:memory:`",
        "It says so, and creates nothing",
        (
            "faults/test_bad_inputs.py::test_what_is_no_database_of_ours_gets_one_clear_line",
            "cli/test_commands.py::test_a_missing_database_is_not_created_by_looking",
        ),
    ),
    Fault(
        "B15",
        "Ids: 0, -1, 10^30, `1 OR 1=1`",
        "“no job …”, exit code 3",
        (_INPUTS, "test_client.py::test_an_id_that_no_job_has_is_answered_as_such"),
    ),
    Fault(
        "B16",
        "A status that is none, a limit below 0, a page too far",
        "The nearest status; the bounds",
        (_INPUTS, "test_client.py::test_a_limit_out_of_bounds_is_refused"),
    ),
    Fault(
        "B17",
        "A batch with one bad item among a thousand",
        "Nothing is stored; the item is named",
        (
            "test_client.py::test_one_bad_item_of_a_thousand_is_named_and_nothing_is_stored",
            "faults/test_bad_inputs.py::test_a_batch_with_one_bad_line_of_a_thousand_stores_nothing_and_names_it",
        ),
    ),
    Fault(
        "B18",
        "One unique key, other args",
        "The job that is there is returned",
        ("test_client.py::test_a_second_enqueue_with_a_live_unique_key_returns_the_first_job",),
    ),
    Fault(
        "B19",
        "Args that do not fit the handler",
        "Refused at enqueue where the handler is known; else failed at once, no attempt burnt",
        (
            "test_client.py::test_arguments_that_cannot_work_are_refused_and_nothing_is_stored",
            "worker/test_bad_jobs.py::test_arguments_that_do_not_fit_fail_at_once",
        ),
    ),
    Fault(
        "B20",
        "Handlers: async, generators, classes, lambdas, bound methods",
        "Taken, or refused at registration",
        (
            "test_registry.py::test_what_would_never_run_is_refused",
            "test_registry.py::test_bound_methods_callable_objects_builtins_and_lambdas_are_handlers",
        ),
    ),
    Fault(
        "B21",
        "A handler that raises SystemExit, KeyboardInterrupt, what cannot be shown",
        "A failure with a safe text; the worker lives",
        ("worker/test_bad_jobs.py::test_whatever_a_handler_raises_is_recorded",),
    ),
    Fault(
        "B22",
        "LANG=C, no HOME, closed stdin, stdout, stderr, COLUMNS=0, a full stdout, `| head -1`",
        "It works, or one clear line; no traceback",
        (
            "faults/test_bad_inputs.py::test_a_poor_environment_is_enough",
            "faults/test_bad_inputs.py::test_a_closed_stdout_is_no_traceback",
            "faults/test_bad_inputs.py::test_a_full_stdout_is_one_line",
            "cli/test_commands.py::test_a_reader_that_goes_away_is_no_error",
        ),
    ),
    Fault(
        "B23",
        "Settings with an unknown key or a wrong type",
        "The key and the nearest match, exit code 2",
        ("faults/test_bad_inputs.py::test_a_bad_setting_is_named",),
    ),
    Fault(
        "B24",
        "Any command line (fuzz)",
        "A known exit code, no traceback, no control characters",
        (f"{_FUZZ}::test_no_command_line_gets_a_traceback",),
    ),
    Fault(
        "B25",
        "Any `INSERT INTO jobs` (fuzz)",
        "Refused by the database, or harmless to every other job",
        (
            f"{_FUZZ}::test_whatever_sql_inserts_is_refused_or_harms_no_other_job",
            "test_sql_interface.py::test_nonsense_is_refused_by_the_database_and_the_check_is_named",
        ),
    ),
)

SECURITY: Final = (
    Fault(
        "S01",
        "Something stored becomes code",
        "JSON only; a name in a row is a key; errors stay text",
        (
            f"{_SECURITY}::test_nothing_that_is_read_can_become_code",
            f"{_SECURITY}::test_a_name_in_a_row_is_a_key_and_never_an_import_path",
            f"{_SECURITY}::test_a_stored_error_stays_text",
        ),
    ),
    Fault(
        "S02",
        "Others on the machine read or write the files",
        "Created with mode 0600; `doctor` finds other modes",
        (
            f"{_SECURITY}::test_every_file_beside_the_database_is_its_owners_alone",
            "doctor/test_examination.py::test_files_that_others_may_open_are_found",
            "doctor/test_examination.py::test_a_directory_that_others_may_write_is_found",
        ),
    ),
    Fault(
        "S03",
        "SQL in names, filters, ids",
        "Bound parameters; names of our own only",
        (
            f"{_SECURITY}::test_what_is_looked_for_is_a_value_and_never_sql",
            f"{_SECURITY}::test_no_sql_of_ours_is_made_of_values",
        ),
    ),
    Fault(
        "S04",
        "A file from a stranger",
        "Its schema is not trusted",
        (f"{_SECURITY}::test_a_foreign_schema_is_not_trusted",),
        "Older versions of SQLite call no JSON function from such a schema; there it has to be trusted",
    ),
    Fault(
        "S05",
        "Control characters and turned reading directions in names, args, errors",
        "Escaped in logs and on terminals",
        (
            f"{_SECURITY}::test_names_from_strangers_cannot_move_a_terminals_cursor",
            "test_ending_log.py::test_control_characters_in_an_error_are_escaped",
            "test_escaping.py::test_what_a_terminal_may_obey_is_written_as_its_code",
        ),
    ),
    Fault(
        "S06",
        "Secrets in outputs",
        "No password and no args in messages, logs, the process list, the register",
        (
            f"{_SECURITY}::test_args_are_neither_in_the_log_nor_in_the_process_list_nor_in_the_register",
            f"{_SECURITY}::test_a_password_in_a_url_is_never_shown",
        ),
        "A URL that is typed on the command line is in the process list; pass it by `DURABLEJOBS_DB`",
    ),
    Fault(
        "S07",
        "Holes in what we depend on",
        "Compared with the known ones at each run of CI",
        (),
        "`.ci/run` asks pip-audit; where its database is out of reach, the run says so and nothing was compared",
    ),
    Fault(
        "S08",
        "A shell between us and another program",
        "There is none: lists of arguments",
        (f"{_SECURITY}::test_nothing_that_is_read_can_become_code",),
    ),
)
