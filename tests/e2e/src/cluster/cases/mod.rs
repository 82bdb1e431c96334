//! The cases, by what happens to the cluster.

mod damage;
mod leaders;
mod links;
mod majorities;
mod membership;
mod partitions;
mod restarts;

use crate::cases::Case;

cases! {
    leaders:
        a_killed_leader_of_three_is_replaced,
        a_killed_leader_of_five_is_replaced,
        a_frozen_leader_is_replaced_and_follows_when_it_is_thawed,
        leadership_goes_to_whom_it_is_given,;
    majorities:
        without_a_minority_writes_go_on,
        without_a_majority_nothing_is_written_until_there_is_one_again,
        members_that_are_all_killed_at_once_lose_nothing,;
    partitions:
        a_leader_on_the_larger_side_goes_on,
        a_leader_on_the_smaller_side_is_replaced,
        a_leader_of_three_that_is_alone_is_replaced,
        two_and_two_of_four_write_nothing_until_they_meet,;
    links:
        a_slow_network_that_loses_packets_and_connections_is_survived,;
    damage:
        a_member_with_a_corrupt_log_is_refused_and_comes_back_when_it_is_mended,;
    membership:
        a_member_whose_data_is_lost_is_replaced,
        a_member_whose_log_is_corrupt_is_replaced,
        a_learner_is_added_under_load_and_promoted,
        a_voter_counts_from_when_it_is_there,
        a_voter_that_never_starts_costs_nothing,
        a_member_that_was_away_lets_in_who_was_added_meanwhile,
        a_removed_leader_stops_and_stays_away,
        one_member_grows_to_three,
        the_url_of_another_cluster_is_refused,
        a_new_cluster_is_forced_out_of_one_member,;
    restarts:
        a_rolling_restart_under_load_is_survived,
        a_member_that_was_away_for_long_gets_a_snapshot,;
}
