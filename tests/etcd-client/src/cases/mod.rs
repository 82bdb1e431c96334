//! The cases, by what they are about.

mod cluster;
mod keys;
mod load;
mod refusals;
mod txns;

use std::pin::Pin;

use etcd_client::Client;

use crate::check::Outcome;

/// A name that states the fact, and what shows it.
pub(crate) type Case = (&'static str, fn(Client) -> Pin<Box<dyn Future<Output = Outcome>>>);

macro_rules! cases {
    ($($module:ident: $($case:ident,)*;)*) => {
        /// All of them.
        pub(crate) const CASES: &[Case] = &[$($((stringify!($case), |client| Box::pin($module::$case(client))),)*)*];
    };
}

cases! {
    keys:
        a_put_is_read_back_with_its_revisions,
        prev_key_is_the_version_before,
        a_prefix_is_read_in_key_order_up_to_the_limit,
        a_sort_orders_by_its_target,
        keys_only_and_count_only_leave_out_what_they_say,
        an_older_revision_is_read_as_it_was,
        revision_filters_choose_by_revision,
        a_deletion_counts_and_returns_what_it_deleted,
        ignore_value_keeps_the_value,;
    txns:
        a_txn_whose_compares_hold_takes_the_first_branch,
        a_txn_whose_compare_fails_takes_the_other_branch,
        compares_look_at_every_target,
        a_compare_of_a_prefix_holds_only_if_every_key_does,
        a_nested_txn_is_answered_within_its_outer_one,;
    refusals:
        an_empty_key_is_refused,
        a_future_revision_is_refused,
        a_key_written_twice_in_a_txn_is_refused,
        a_value_beside_ignore_value_is_refused,;
    cluster:
        the_only_member_is_listed_with_name_and_urls,
        status_names_the_leader_and_the_version,
        headers_name_the_cluster_and_the_member,;
    load:
        a_thousand_concurrent_puts_each_get_a_revision_of_their_own,
        a_large_value_survives_the_way_there_and_back,;
}
