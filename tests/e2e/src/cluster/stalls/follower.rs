//! Followers whose disk stalls, is slow, or breaks.

use std::{
    thread::sleep,
    time::{Duration, Instant},
};

use super::{GOES_ON_MAX, observed::Observed, run};
use crate::{
    cluster::trial::Trial,
    node::Bench,
    outcome::{Ended, ensure, ensure_contains},
};

/// What each flush of a slow disk takes.
const SLOW: Duration = Duration::from_millis(200);
/// Puts are measured for so long without the slow disk and with it, so many times in turn: what else the machine does falls on both.
const MEASURED: Duration = Duration::from_secs(2);
const ROUNDS: usize = 4;
/// With fewer puts the percentile stands on one or two.
const PUTS_MIN: usize = 500;

/// Puts take as long with a follower that is slow as with one that isn't, as far as this machine can show: told, not judged.
pub(super) fn a_follower_with_slow_flushes_costs_the_others_nothing(bench: &Bench) -> Result<String, Ended> {
    run(bench, |trial| {
        let observed = Observed::begin(trial)?;
        let leader = observed.leader;
        let slow = (leader + 1) % 3;
        let others = trial.cluster.all_but(&[slow]);
        let (mut sound, mut with) = (Vec::new(), Vec::new());
        for _ in 0..ROUNDS {
            sound.extend(latencies(trial, &others)?);
            trial.cluster.member(slow).disk()?.slow_down(SLOW..=SLOW);
            with.extend(latencies(trial, &others)?);
            trial.cluster.member(slow).heal_disk();
        }
        let seen = observed.end(trial)?;
        seen.ensure_same_leader(leader)?;
        let (puts, before, with) = (with.len(), p99(sound)?, p99(with)?);
        let ratio = with.as_secs_f64() / before.as_secs_f64();
        Ok(format!(
            "a follower's flush takes 200 ms: p99 of {puts} puts through the others {with:.1?}, without it {before:.1?}, {ratio:.2} times; \
             {seen}"
        ))
    })
}

/// What puts through `members` take from now on for a while. No request may fail.
fn latencies(trial: &Trial<'_>, members: &[usize]) -> Result<Vec<Duration>, Ended> {
    let (failed, since) = (trial.recording.totals().failed, Instant::now());
    sleep(MEASURED);
    let writes = trial.recording.writes_since(since);
    let failed = trial.recording.totals().failed - failed;
    ensure(failed == 0, || format!("{failed} requests failed"))?;
    let through_them = writes.iter().filter(|write| members.contains(&write.through));
    Ok(through_them.map(|write| write.acknowledged - write.began).collect())
}

/// What all but one in a hundred take at most.
fn p99(mut took: Vec<Duration>) -> Result<Duration, Ended> {
    ensure(took.len() >= PUTS_MIN, || format!("only {} puts were accepted", took.len()))?;
    took.sort_unstable();
    Ok(took[took.len() * 99 / 100])
}

fn follower_stuck_for(bench: &Bench, seconds: u64) -> Result<String, Ended> {
    let duration = Duration::from_secs(seconds);
    run(bench, |trial| {
        let mut observed = Observed::begin(trial)?;
        let leader = observed.leader;
        let stuck = (leader + 1) % 3;
        trial.cluster.member(stuck).disk()?.stick(duration);
        observed.look_on(trial, &[stuck], duration)?;
        let answered = Instant::now();
        trial.await_own_write(stuck)?;
        let took = answered.elapsed();
        let seen = observed.end(trial)?;
        seen.ensure_same_leader(leader)?;
        ensure(seen.pause < GOES_ON_MAX, || format!("writes went on too late: {seen}"))?;
        let own = "a put through it was accepted";
        Ok(format!("a follower's flush stuck for {seconds} s: {seen}, {own} {took:.1?} after its disk answered"))
    })
}

pub(super) fn a_follower_whose_flush_is_stuck_for_4_s_goes_on_by_itself(bench: &Bench) -> Result<String, Ended> {
    follower_stuck_for(bench, 4)
}

pub(super) fn a_follower_whose_flush_is_stuck_for_30_s_goes_on_by_itself(bench: &Bench) -> Result<String, Ended> {
    follower_stuck_for(bench, 30)
}

/// A flush that failed is never tried again: who knows what the disk has. The member stops and says why.
pub(super) fn a_follower_whose_flush_fails_stops_and_comes_back(bench: &Bench) -> Result<String, Ended> {
    run(bench, |trial| {
        let observed = Observed::begin(trial)?;
        let leader = observed.leader;
        let broken = (leader + 1) % 3;
        let others = trial.cluster.all_but(&[broken]);
        let said_before = trial.cluster.member(broken).log().len();
        trial.cluster.member(broken).disk()?.fail();
        let code = trial.cluster.member_mut(broken).await_own_end()?;
        let ended = Instant::now();
        ensure(code == Some(1), || format!("m{broken} ended with {code:?}"))?;
        let log = trial.cluster.member(broken).log();
        let last = log[said_before..].lines().last().unwrap_or_default();
        ensure_contains(last, &["storage failed: the node stops", "Input/output error"])?;
        let pause = trial.load.await_write(&others, ended)?;
        trial.load.await_writes(20)?;
        trial.cluster.member(broken).heal_disk();
        let again = Instant::now();
        trial.cluster.restart(broken)?;
        trial.await_own_write(broken)?;
        let back = again.elapsed();
        let seen = observed.end(trial)?;
        seen.ensure_same_leader(leader)?;
        Ok(format!(
            "a follower's flush fails: it stops, the others accept a write {pause:.1?} later, and it takes one {back:.1?} after its start; {seen}"
        ))
    })
}
