//! Disks that all stall, or all have their moods.

use std::time::Duration;

use super::{observed::Observed, run};
use crate::{
    node::Bench,
    outcome::{Ended, ensure},
};

/// What flushes of a device take that has other work, well below a limit for stalls.
const MOODS: [Duration; 2] = [Duration::ZERO, Duration::from_millis(80)];
const MOODY: Duration = Duration::from_secs(6);
const STUCK: Duration = Duration::from_secs(3);

pub(super) fn flushes_that_take_all_sorts_of_times_change_nothing(bench: &Bench) -> Result<String, Ended> {
    run(bench, |trial| {
        let mut observed = Observed::begin(trial)?;
        let leader = observed.leader;
        for member in trial.cluster.all() {
            trial.cluster.member(member).disk()?.slow_down(MOODS[0]..=MOODS[1]);
        }
        observed.look_on(trial, &[], MOODY)?;
        let seen = observed.end(trial)?;
        seen.ensure_same_leader(leader)?;
        Ok(format!("all flushes take up to 80 ms: {seen}"))
    })
}

/// Nobody's disk is better: to hand over would help nobody.
pub(super) fn disks_that_are_all_stuck_for_3_s_lose_nothing(bench: &Bench) -> Result<String, Ended> {
    run(bench, |trial| {
        let mut observed = Observed::begin(trial)?;
        let all = trial.cluster.all();
        for member in &all {
            trial.cluster.member(*member).disk()?.stick(STUCK);
        }
        observed.look_on(trial, &all, STUCK)?;
        let seen = observed.end(trial)?;
        ensure(seen.terms <= 1, || format!("leadership wanders: {seen}"))?;
        Ok(format!("all flushes stuck for 3 s: {seen}"))
    })
}
