//! Leaders whose disk stalls.

use std::time::Duration;

use super::{GOES_ON_MAX, observed::Observed, run};
use crate::{
    cluster::trial::Trial,
    node::Bench,
    outcome::{Ended, Outcome, ensure},
};

/// Less than what makes new writes wait, which is half the election timeout of 1 s.
const HICCUP: Duration = Duration::from_millis(300);

/// The hand-over comes before followers would have campaigned, had the leader gone silent: their election timeouts lie between 1 s and 2 s.
const HANDED_OVER_MAX: Duration = Duration::from_millis(1500);

/// Once for each member as the leader, since each flushes in another way.
pub(super) fn a_leader_whose_flush_is_stuck_for_300_ms_goes_on_leading(bench: &Bench) -> Result<String, Ended> {
    run(bench, |trial| {
        let mut told = Vec::new();
        for member in trial.cluster.all() {
            lead(trial, member)?;
            let mut observed = Observed::begin(trial)?;
            trial.cluster.member(member).disk()?.stick(HICCUP);
            observed.look_on(trial, &[], 2 * HICCUP)?;
            let seen = observed.end(trial)?;
            seen.ensure_same_leader(member)?;
            told.push(seen.to_string());
        }
        Ok(format!("leader's flush stuck for 300 ms: {}", told.join("; ")))
    })
}

/// Has a member lead.
fn lead(trial: &Trial<'_>, member: usize) -> Outcome {
    let all = trial.cluster.all();
    for _ in &all {
        let leader = trial.cluster.await_leader(&all)?;
        if leader == member {
            return Ok(());
        }
        // It may have lost its leadership meanwhile; then it is asked again who leads.
        trial.cluster.connect(leader)?.move_leader(trial.cluster.id(member)).ok();
    }
    let leader = trial.cluster.await_leader(&all)?;
    ensure(leader == member, || format!("m{member} was given leadership, and m{leader} leads"))
}

fn leader_stuck_for(trial: &Trial<'_>, duration: Duration) -> Result<String, Ended> {
    let mut observed = Observed::begin(trial)?;
    let leader = observed.leader;
    trial.cluster.member(leader).disk()?.stick(duration);
    observed.look_on(trial, &[leader], duration)?;
    let seen = observed.end(trial)?;
    ensure(seen.terms == 1 && seen.leader != leader, || format!("m{leader} led, m{} does now: {seen}", seen.leader))?;
    ensure(seen.flights == 1.0, || format!("{} leaders handed over because of their disks: {seen}", seen.flights))?;
    ensure(seen.pause < GOES_ON_MAX, || format!("writes went on too late: {seen}"))?;
    ensure(seen.replaced_after.is_some_and(|after| after < HANDED_OVER_MAX), || {
        format!("handed over too late: {seen}")
    })?;
    Ok(seen.to_string())
}

/// Once for each member as the leader, since each flushes in another way.
pub(super) fn a_leader_whose_flush_is_stuck_for_2_s_hands_over_once(bench: &Bench) -> Result<String, Ended> {
    run(bench, |trial| {
        let mut told = Vec::new();
        for member in trial.cluster.all() {
            lead(trial, member)?;
            told.push(leader_stuck_for(trial, Duration::from_secs(2))?);
        }
        Ok(format!("leader's flush stuck for 2 s: {}", told.join("; ")))
    })
}

pub(super) fn a_leader_whose_flush_is_stuck_for_30_s_hands_over_once(bench: &Bench) -> Result<String, Ended> {
    run(bench, |trial| {
        let told = leader_stuck_for(trial, Duration::from_secs(30))?;
        Ok(format!("leader's flush stuck for 30 s: {told}"))
    })
}
