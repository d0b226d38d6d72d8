"""What CPython checks of its own Futures and executors (Lib/test/test_concurrent_futures), and where it is checked of ours.

Each row is (module, name of the check there, what has to hold, where): `where` names one of our tests, as file::test, or
begins with "–" and says why the check does not apply. `test_cpython.py` sees to it that no check is missing and that every
test named here exists.
"""

from __future__ import annotations

__all__ = ["CHECKS"]

FUTURES, MAP, LIFE = "test_futures.py::", "test_map.py::", "test_lifecycle.py::"
CALLS, ERRORS = "test_calls.py::", "test_errors.py::"
UNIT = "../unit/"

_OVER = FUTURES + "test_a_task_that_is_over_tells_so_and_is_final"
_STATES = FUTURES + "test_a_task_goes_through_its_states"
_CALLBACKS = FUTURES + "test_callbacks_run_in_order_and_one_that_fails_costs_nothing"
_CANCELLED = FUTURES + "test_callbacks_of_a_cancelled_task_run_where_it_is_cancelled"
_MANY = FUTURES + "test_waiting_for_many_tasks_of_several_pools"
_ALIVE = FUTURES + "test_nothing_keeps_what_was_taken_alive"
_ORDER = MAP + "test_values_come_in_order_whatever_the_chunks"
_BUFFER = MAP + "test_no_more_is_taken_from_the_iterables_than_the_buffer_holds"
_IN_PLACE = MAP + "test_an_error_comes_in_its_place_and_ends_the_iteration"
_DEATH = ERRORS + "test_the_death_of_the_process_is_told_and_costs_no_other_task"
_PICKLES = ERRORS + "test_a_pickle_that_harms_the_process_is_an_error_and_no_hang"
_UNSENDABLE = ERRORS + "test_a_result_that_cannot_be_sent_is_told"
_UNREADABLE = ERRORS + "test_a_result_that_cannot_be_read_is_told"
_EXIT = UNIT + "test_exit.py::test_tasks_that_were_added_are_done_when_the_script_ends"
_REPLACED = UNIT + "test_limits.py::test_many_short_tasks_are_counted_one_by_one"
_REPLACED_AT_END = UNIT + "test_limits.py::test_closing_while_processes_are_replaced_loses_no_task"
_BROKEN = "test_initializer.py::test_one_that_fails_ends_the_pool_and_is_named_with_its_traceback"
_INSIDE = "– looks inside the standard library's executor, at what ours has none of"

CHECKS: tuple[tuple[str, str, str, str], ...] = (
    # One Future
    ("test_future", "test_done_callback_with_result", "a callback finds the result", _CALLBACKS),
    ("test_future", "test_done_callback_with_exception", "a callback finds the exception", _CALLBACKS),
    ("test_future", "test_done_callback_with_cancel", "callbacks run on cancelling", _CANCELLED),
    ("test_future", "test_done_callback_raises", "an exception in a callback is logged, the next one runs", _CALLBACKS),
    ("test_future", "test_done_callback_already_successful", "one added after success runs at once", _CALLBACKS),
    ("test_future", "test_done_callback_already_failed", "one added after failure runs at once", _CALLBACKS),
    ("test_future", "test_done_callback_already_cancelled", "one added after cancelling runs at once", _CANCELLED),
    ("test_future", "test_done_callback_raises_already_succeeded", "such a one is logged, too, if it raises", _CALLBACKS),
    ("test_future", "test_repr", "the state, and the type of result or exception, are shown", _OVER),
    ("test_future", "test_cancel", "only what has not begun can be cancelled; cancelling again is True", _STATES),
    ("test_future", "test_cancelled", "cancelled() in each state", _STATES),
    ("test_future", "test_done", "done() in each state", _STATES),
    ("test_future", "test_running", "running() in each state", _STATES),
    ("test_future", "test_result_with_timeout", "result(timeout=0) in each state", _STATES),
    ("test_future", "test_result_with_success", "a thread that waits for the result gets it", _STATES),
    ("test_future", "test_result_with_cancel", "a thread that waits hears of the cancelling", _STATES),
    ("test_future", "test_exception_with_timeout", "exception(timeout=0) in each state", _STATES),
    ("test_future", "test_exception_with_success", "a thread that waits for the exception gets it", _STATES),
    ("test_future", "test_multiple_set_result", "a result is final: InvalidStateError", _OVER),
    ("test_future", "test_multiple_set_exception", "an exception is final: InvalidStateError", _OVER),
    (
        "test_future",
        "test_get_snapshot",
        "asyncio's way to ask",
        UNIT + "test_task.py::test_asking_for_all_at_once_counts_as_asking",
    ),
    ("test_future", "test_class_str", "names of the module's classes", "– they are the standard library's own"),
    # Several Futures
    ("test_as_completed", "test_no_timeout", "each comes when it is done, whatever its end", _MANY),
    ("test_as_completed", "test_future_times_out", "what is done comes before the time is up, also if that is 0", _MANY),
    ("test_as_completed", "test_zero_timeout", "a time of 0 (a check of its own until Python 3.12)", _MANY),
    ("test_as_completed", "test_duplicate_futures", "one given twice comes once; any iterable will do", _MANY),
    ("test_as_completed", "test_free_reference_yielded_future", "no reference stays to what was given out", _ALIVE),
    ("test_as_completed", "test_correct_timeout_exception_msg", "the error says how many are missing", _MANY),
    ("test_wait", "test_20369", "one given twice is waited for once", _MANY),
    ("test_wait", "test_first_completed", "FIRST_COMPLETED returns with the first", _MANY),
    ("test_wait", "test_first_completed_some_already_completed", "and at once if there is one", _MANY),
    ("test_wait", "test_first_exception", "FIRST_EXCEPTION returns with the first failure", _MANY),
    ("test_wait", "test_first_exception_some_already_complete", "successes and cancelled ones do not count", _MANY),
    ("test_wait", "test_first_exception_one_already_failed", "and at once if there is one", _MANY),
    ("test_wait", "test_all_completed", "ALL_COMPLETED waits for all, whatever their ends", _MANY),
    ("test_wait", "test_timeout", "what is not done in time is told apart", _MANY),
    (
        "test_wait",
        "test_pending_calls_race",
        "many that end at once are all seen",
        LIFE + "test_every_task_ends_once_however_cancel_and_workers_race",
    ),
    # Calls
    ("executor", "test_submit", "a call's value comes back", CALLS + "test_a_value_comes_back"),
    ("executor", "test_submit_keyword", "self and fn may be names of the function's own arguments", _OVER),
    ("executor", "test_map", "values in order, with and without chunks", _ORDER),
    ("executor", "test_map_exception", "values, then the error in its place", _IN_PLACE),
    (
        "executor",
        "test_map_timeout",
        "values, then TimeoutError, then nothing",
        MAP + "test_time_that_is_up_cancels_what_is_left",
    ),
    ("executor", "test_map_timeout_from_callable", "a call's own TimeoutError is not map's", _IN_PLACE),
    ("executor", "test_map_close", "a closed iterator is at its end", MAP + "test_who_stops_early_cancels_what_is_left"),
    ("executor", "test_map_buffersize_type_validation", "buffersize is a whole number", _ORDER),
    ("executor", "test_map_buffersize_value_validation", "buffersize is at least 1", _ORDER),
    ("executor", "test_map_buffersize", "all values come, whatever the buffer", _BUFFER),
    ("executor", "test_map_buffersize_on_multiple_iterables", "also of several iterables", _BUFFER),
    ("executor", "test_map_buffersize_on_infinite_iterable", "iterables may have no end", _BUFFER),
    ("executor", "test_map_buffersize_on_multiple_infinite_iterables", "also several of them", _BUFFER),
    ("executor", "test_map_buffersize_on_empty_iterable", "nothing of nothing", _BUFFER),
    ("executor", "test_map_buffersize_without_iterable", "nothing without iterables", _ORDER),
    ("executor", "test_map_buffersize_when_buffer_is_full", "no more is taken than the buffer holds", _BUFFER),
    (
        "executor",
        "test_shutdown_race_issue12456",
        "closing right after map",
        MAP + "test_calls_are_made_though_nobody_takes_the_values",
    ),
    (
        "executor",
        "test_no_stale_references",
        "a dropped task's arguments are let go",
        LIFE + "test_a_finished_task_that_is_dropped_is_gone",
    ),
    (
        "executor",
        "test_max_workers_negative",
        "a number of workers below 1 is refused",
        UNIT + "test_base.py::test_wrong_number_of_threads_is_named_and_no_pool_is_made",
    ),
    ("executor", "test_free_reference", "map keeps no value that was given out", _ALIVE),
    ("executor", "test_swallows_falsey_exceptions", "an exception that is falsy is one", _OVER),
    (
        "test_thread_pool",
        "test_map_submits_without_iteration",
        "map's calls are made though nobody iterates",
        MAP + "test_calls_are_made_though_nobody_takes_the_values",
    ),
    (
        "test_thread_pool",
        "test_default_workers",
        "how many workers there are by default",
        UNIT + "test_cpus.py::test_pools_of_this_machine_have_as_many_workers",
    ),
    (
        "test_thread_pool",
        "test_saturation",
        "no more workers than asked for",
        CALLS + "test_no_more_tasks_run_at_once_than_workers",
    ),
    (
        "test_thread_pool",
        "test_idle_thread_reuse",
        "an idle worker is used before another is made",
        UNIT + "test_threads.py::test_one_thread_after_the_other_task_is_enough_for_tasks_one_after_the_other",
    ),
    (
        "test_thread_pool",
        "test_hang_global_shutdown_lock",
        "a process forked from a busy one can end",
        UNIT + "test_base.py::test_fork_while_other_threads_hold_the_locks_is_safe",
    ),
    (
        "test_thread_pool",
        "test_process_fork_from_a_threadpool",
        "a process forked by a task ends well",
        UNIT + "test_exit.py::test_forked_child_ends_cleanly_and_so_does_the_parent",
    ),
    (
        "test_thread_pool",
        "test_executor_map_current_future_cancel",
        "what map waits for when its time is up is cancelled",
        MAP + "test_time_that_is_up_cancels_what_is_left",
    ),
    # Worker processes
    (
        "test_process_pool",
        "test_max_workers_too_large",
        "at most 61 workers on Windows",
        "– each worker has a thread here: Windows' limit is on waits for many processes at once",
    ),
    (
        "test_process_pool",
        "test_sysconf_permission_error",
        "limits on semaphores that cannot be asked for",
        "– no semaphores are used",
    ),
    (
        "test_process_pool",
        "test_killed_child",
        "a killed worker is told; here it costs only its own task, and the pool goes on",
        _DEATH,
    ),
    (
        "test_process_pool",
        "test_broken_process_pool_traceback",
        "each task has an error of its own",
        ERRORS + "test_the_traceback_does_not_grow_with_each_time",
    ),
    ("test_process_pool", "test_map_chunksize", "chunks of any size, but not below 1", _ORDER),
    (
        "test_process_pool",
        "test_traceback",
        "the remote traceback comes along",
        ERRORS + "test_the_error_shows_the_line_that_failed",
    ),
    ("test_process_pool", "test_traceback_when_child_process_terminates_abruptly", "the exit status is told", _DEATH),
    (
        "test_process_pool",
        "test_ressources_gced_in_workers",
        "workers let go of arguments",
        UNIT + "test_processes.py::test_arguments_are_let_go_once_they_are_sent",
    ),
    (
        "test_process_pool",
        "test_saturation",
        "no more workers than asked for",
        CALLS + "test_no_more_tasks_run_at_once_than_workers",
    ),
    (
        "test_process_pool",
        "test_idle_process_reuse_one",
        "an idle worker is used again",
        UNIT + "test_threads.py::test_one_thread_after_the_other_task_is_enough_for_tasks_one_after_the_other",
    ),
    (
        "test_process_pool",
        "test_idle_process_reuse_multiple",
        "the same with several",
        UNIT + "test_processes.py::test_as_many_workers_are_used_as_there_may_be",
    ),
    ("test_process_pool", "test_max_tasks_per_child", "a worker ends after so many tasks", _REPLACED),
    (
        "test_process_pool",
        "test_max_tasks_per_child_defaults_to_spawn_context",
        "and how it is started then",
        "– none of ours is ever a bare fork",
    ),
    ("test_process_pool", "test_max_tasks_per_child_pending_tasks_gh115634", "and that it is replaced", _REPLACED_AT_END),
    ("test_process_pool", "test_shutdown_no_wait_max_tasks_gh119592", "also after shutdown", _REPLACED_AT_END),
    ("test_process_pool", "test_gc_during_max_tasks_worker_exit_gh152967", "or that tasks fail", _REPLACED_AT_END),
    ("test_process_pool", "test_force_shutdown_during_max_tasks_worker_exit", "or are not run", _REPLACED_AT_END),
    (
        "test_process_pool",
        "test_failed_worker_replacement_breaks_pool",
        "workers that cannot be started are an error",
        UNIT + "test_processes.py::test_workers_that_cannot_be_started_are_an_error_and_no_hang",
    ),
    ("test_process_pool", "test_max_tasks_early_shutdown", "closing while workers are replaced", _REPLACED_AT_END),
    (
        "test_process_pool",
        "test_python_finalization_error",
        "threads that cannot be started are borne",
        UNIT + "test_threads.py::test_limit_of_the_system_on_threads_is_borne",
    ),
    (
        "test_process_pool",
        "test_terminate_workers",
        "workers can be ended",
        UNIT + "test_processes.py::test_terminated_workers_fail_their_tasks_and_the_pool_goes_on",
    ),
    ("test_process_pool", "test_kill_workers", "or killed", "– terminate_workers kills what does not end"),
    ("test_process_pool", "test_force_shutdown_workers_invalid_op", "an unknown operation", _INSIDE),
    (
        "test_process_pool",
        "test_force_shutdown_workers",
        "what they ran is not done",
        UNIT + "test_processes.py::test_terminated_workers_fail_their_tasks_and_the_pool_goes_on",
    ),
    (
        "test_process_pool",
        "test_force_shutdown_workers_dead_workers",
        "dead ones do not matter",
        UNIT + "test_processes.py::test_death_of_an_idle_worker_costs_nothing",
    ),
    (
        "test_process_pool",
        "test_force_shutdown_workers_not_started_yet",
        "nor does it if there are none",
        UNIT + "test_processes.py::test_pool_without_tasks_has_no_workers_not_even_when_it_is_closed",
    ),
    (
        "test_process_pool",
        "test_force_shutdown_workers_stops_pool",
        "the pool takes no more tasks",
        "– here it goes on with new workers; `abandon` ends it",
    ),
    # Faults of workers and of pickles: nothing hangs
    (
        "test_deadlock",
        "test_error_at_task_pickle",
        "an argument that cannot be sent",
        CALLS + "test_an_argument_that_cannot_be_sent_is_refused_at_once",
    ),
    ("test_deadlock", "test_exit_at_task_unpickle", "an argument that ends the process that reads it", _PICKLES),
    ("test_deadlock", "test_error_at_task_unpickle", "an argument that cannot be read", _PICKLES),
    ("test_deadlock", "test_crash_at_task_unpickle", "an argument that crashes the process that reads it", _PICKLES),
    ("test_deadlock", "test_crash_during_func_exec_on_worker", "a function that crashes", _DEATH),
    (
        "test_deadlock",
        "test_exit_during_func_exec_on_worker",
        "a function that exits",
        ERRORS + "test_sys_exit_of_a_task_does_not_end_the_script",
    ),
    (
        "test_deadlock",
        "test_error_during_func_exec_on_worker",
        "a function that raises",
        ERRORS + "test_the_original_exception_is_raised_every_time_it_is_asked_for",
    ),
    ("test_deadlock", "test_crash_during_result_pickle_on_worker", "a result that crashes the process that sends it", _PICKLES),
    ("test_deadlock", "test_exit_during_result_pickle_on_worker", "a result that ends it", _PICKLES),
    ("test_deadlock", "test_error_during_result_pickle_on_worker", "a result that cannot be sent", _UNSENDABLE),
    ("test_deadlock", "test_error_during_result_unpickle_in_result_handler", "a result that cannot be read", _UNREADABLE),
    (
        "test_deadlock",
        "test_exit_during_result_unpickle_in_result_handler",
        "a result that exits when it is read",
        "– what user code does to this process while it is read here is not held up: it would be hidden",
    ),
    ("test_deadlock", "test_shutdown_deadlock", "a crash after shutdown", _DEATH),
    (
        "test_deadlock",
        "test_shutdown_deadlock_pickle",
        "an argument that cannot be sent, after shutdown",
        CALLS + "test_an_argument_that_cannot_be_sent_is_refused_at_once",
    ),
    (
        "test_deadlock",
        "test_crash_big_data",
        "a crash while much is being sent",
        UNIT + "test_processes.py::test_large_results_of_a_group_do_not_block_it",
    ),
    (
        "test_deadlock",
        "test_gh105829_should_not_deadlock_if_wakeup_pipe_full",
        "many tasks before the first worker is up",
        CALLS + "test_submit_never_blocks",
    ),
    # Beginning and end
    (
        "test_init",
        "test_initializer",
        "each worker is set up by a function",
        "test_initializer.py::test_every_worker_is_set_up_once_before_its_first_task",
    ),
    ("test_init", "test_spawn", "one that fails leaks nothing", _BROKEN),
    ("test_init", "test_forkserver", "one that fails leaks nothing", _BROKEN),
    (
        "test_shutdown",
        "test_run_after_shutdown",
        "a closed pool raises RuntimeError",
        LIFE + "test_a_closed_pool_refuses_and_its_name_gives_a_new_one",
    ),
    ("test_shutdown", "test_interpreter_shutdown", "a script ends when its tasks are done", _EXIT),
    (
        "test_shutdown",
        "test_submit_after_interpreter_shutdown",
        "after that, RuntimeError",
        UNIT + "test_exit.py::test_a_task_that_is_added_when_all_is_over_is_refused",
    ),
    ("test_shutdown", "test_hang_issue12364", "closing with many tasks waiting", LIFE + "test_closing_waits_for_tasks"),
    ("test_shutdown", "test_cancel_futures", "closing may cancel what waits", LIFE + "test_closing_may_cancel_what_waits"),
    ("test_shutdown", "test_hang_gh83386", "shutdown(wait=False), then the end of the script", _EXIT),
    (
        "test_shutdown",
        "test_hang_gh94440",
        "closing right after the last task was cancelled",
        LIFE + "test_closing_right_after_the_last_task_was_cancelled",
    ),
    (
        "test_shutdown",
        "test_threads_terminate",
        "no thread is left",
        UNIT + "test_threads.py::test_parked_threads_end_with_the_pool",
    ),
    ("test_shutdown", "test_processes_terminate", "no process is left", UNIT + "test_exit.py::test_no_helper_process_is_left"),
    ("test_shutdown", "test_context_manager_shutdown", "a with block closes", LIFE + "test_a_with_block_closes"),
    (
        "test_shutdown",
        "test_del_shutdown",
        "an executor that is dropped ends",
        "– a pool has a name by which it is found again: it lives until it is closed",
    ),
    (
        "test_shutdown",
        "test_shutdown_no_wait",
        "shutdown(wait=False) lets tasks finish and leaves nothing",
        LIFE + "test_closing_without_waiting_lets_tasks_finish",
    ),
    (
        "test_shutdown",
        "test_thread_names_assigned",
        "threads are named after the pool",
        UNIT + "test_threads.py::test_threads_are_added_as_tasks_need_them",
    ),
    ("test_shutdown", "test_thread_names_default", "or by a default", "– every pool has a name"),
    (
        "test_shutdown",
        "test_cancel_futures_wait_false",
        "both at once, then the end of the script",
        LIFE + "test_closing_may_cancel_what_waits",
    ),
    ("test_shutdown", "test_shutdown_gh_132969_case_1", "closing while a worker is replaced", _REPLACED_AT_END),
    ("test_shutdown", "test_shutdown_gh_132969_case_2", "the same with more workers", _REPLACED_AT_END),
)
