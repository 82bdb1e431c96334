//! Disks that stall, under clusters of real processes: each member's log lies on a file system of the test's own, whose flushes do as the case says.
//!
//! Each member flushes its log in another way. Beside the load that every cluster has, owners keep leases with short TTLs.

mod everybody;
mod follower;
mod leader;
mod observed;

use std::time::Duration;

use super::{
    leases::Owners,
    members::{Cluster, Logs, Wiring},
    trial::{self, Trial},
};
use crate::{
    cases::Case,
    node::Bench,
    outcome::{Ended, ensure},
};

/// With a leader, writes go on within this of a stall's begin: less than an election after an election timeout would take in the worst case.
const GOES_ON_MAX: Duration = Duration::from_secs(2);

cases! {
    leader:
        a_leader_whose_flush_is_stuck_for_300_ms_goes_on_leading,
        a_leader_whose_flush_is_stuck_for_2_s_hands_over_once,;
    follower:
        a_follower_with_slow_flushes_costs_the_others_nothing,
        a_follower_whose_flush_is_stuck_for_4_s_goes_on_by_itself,
        a_follower_whose_flush_fails_stops_and_comes_back,;
    everybody:
        flushes_that_take_all_sorts_of_times_change_nothing,
        disks_that_are_all_stuck_for_3_s_lose_nothing,;
}

/// Those that take a minute each.
pub(crate) const LONG_CASES: &[Case] = long::CASES;

mod long {
    use super::{follower, leader};
    use crate::cases::Case;

    cases! {
        leader:
            a_leader_whose_flush_is_stuck_for_30_s_hands_over_once,;
        follower:
            a_follower_whose_flush_is_stuck_for_30_s_goes_on_by_itself,;
    }
}

/// Runs a case on three members whose disks can stall, with leases that nobody may lose. `body` begins with what happens, as in `leader stuck for 2 s: ...`.
fn run(bench: &Bench, body: impl FnOnce(&mut Trial<'_>) -> Result<String, Ended>) -> Result<String, Ended> {
    trial::run_on(Cluster::start(bench, 3, Wiring::Direct, Logs::Apart)?, |trial| {
        let owners = Owners::start(&trial.cluster)?;
        let told = body(trial)?;
        let kept = owners.stop()?;
        ensure(kept.lost == 0, || format!("{told}, and {} leases were lost: {kept:?}", kept.lost))?;
        let gap = kept.longest_gap;
        Ok(format!("{told}, {} leases lost (renewed {} times, at most {gap:.1?} apart)", kept.lost, kept.renewals))
    })
}
