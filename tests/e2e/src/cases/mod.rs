//! The cases, by what they are about.

mod damage;
mod full_disk;
mod known_bugs;
mod machine;
mod refusals;
mod signals;
mod snapshot;
mod space;
mod terminal;

use crate::{node::Bench, outcome::Ended};

/// A name that states the fact, and what shows it; it may have something to tell.
pub(crate) type Case = (&'static str, fn(&Bench) -> Result<String, Ended>);

cases! {
    signals:
        sigterm_exits_143_and_the_next_start_replays_nothing,
        ctrl_c_exits_130,
        sigkill_loses_nothing_acknowledged,
        being_stopped_and_continued_is_survived,;
    refusals:
        a_second_node_on_a_directory_is_refused_with_the_pid_of_the_first,
        a_directory_of_etcd_is_refused,
        a_directory_of_another_format_is_refused,
        an_unwritable_directory_is_refused,
        an_unknown_flag_exits_2_with_one_line,
        a_bad_value_exits_2_with_one_line,
        a_port_of_another_program_is_refused,
        a_port_of_another_plinth_is_refused,;
    machine:
        too_little_lockable_memory_is_refused,
        a_machine_without_io_uring_is_refused,
        without_newer_ring_features_it_serves_all_the_same,
        a_file_system_without_direct_io_is_refused,;
    full_disk:
        a_full_disk_stops_writes_only_and_loses_nothing,;
    damage:
        a_corrupt_log_is_refused_with_file_and_offset_after_a_kill,
        a_corrupt_log_is_refused_with_file_and_offset_after_a_stop,
        a_tree_without_a_sound_meta_is_refused_with_file_and_offset,
        a_corrupt_page_of_the_newest_checkpoint_stops_the_node_after_a_kill,
        a_corrupt_page_is_never_served,
        rot_that_nobody_reads_is_found_by_the_scrub_and_raises_the_alarm,;
    snapshot:
        a_snapshot_is_taken_by_etcds_tools_and_by_an_etcd,
        hash_is_etcds_over_what_a_snapshot_holds,
        a_client_that_stops_reading_a_snapshot_keeps_nobody_from_working,
        a_snapshot_has_what_was_acknowledged_before_it,;
    space:
        the_alarm_of_the_quota_survives_a_restart_and_ends_when_it_is_cleared,
        defragment_gives_back_what_was_deleted,;
    known_bugs:
        the_binary_holds_no_known_bug,
        nothing_listens_to_the_variable_of_known_bugs,;
    terminal:
        a_terminal_is_told_where_it_listens_and_what_to_try,
        ctrl_c_at_a_terminal_exits_130,;
}
