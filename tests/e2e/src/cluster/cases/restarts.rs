//! Restarts in order.

use std::{
    fs,
    path::Path,
    time::{Duration, Instant},
};

use crate::{
    cluster::{
        members::{WAIT_MAX, Wiring},
        trial::{self, Trial},
    },
    node::Bench,
    outcome::{Ended, Outcome, ensure},
};

/// A leader that keeps nothing of the log for members that are away, with many checkpoints.
const FORGETFUL: &[&str] = &["--catch-up-log-bytes", "0", "--checkpoint-log-bytes", "65536"];
/// A segment of the log is full after some of them.
const LARGE_BYTES: usize = 1 << 20;
/// What a member says when it gets a snapshot, and when that is in place.
const FAR_BEHIND: &str = "this member is far behind";
const IN_PLACE: &str = "the snapshot is in place";

/// Each member in turn, the leader of the moment among them, each when the one before is back.
pub(super) fn a_rolling_restart_under_load_is_survived(bench: &Bench) -> Result<String, Ended> {
    trial::run(bench, 3, Wiring::Direct, |trial| {
        let mut pauses = Vec::new();
        for member in trial.cluster.all() {
            let led = trial.cluster.await_leader(&trial.cluster.all())? == member;
            let since = Instant::now();
            trial.restart_with(member, &[])?;
            trial.load.await_writes(20)?;
            let longest = trial.recording.longest_pause(since);
            pauses.push(format!("{longest:.1?}{}", if led { " (of the leader)" } else { "" }));
        }
        Ok(format!("the longest pauses of each restart were {}", pauses.join(", ")))
    })
}

/// The segments of a member's log, by their numbers.
fn sequences(data_dir: &Path) -> Result<Vec<u64>, Ended> {
    let mut found = Vec::new();
    for entry in fs::read_dir(data_dir.join("wal"))? {
        let name = entry?.file_name();
        let sequence = name.to_str().and_then(|name| name.strip_suffix(".wal"));
        found.extend(sequence.and_then(|sequence| u64::from_str_radix(sequence, 16).ok()));
    }
    Ok(found)
}

/// It was killed, and comes back when the log no longer reaches back to it; then the same with one that is killed while it gets its snapshot.
pub(super) fn a_member_that_was_away_for_long_gets_a_snapshot(bench: &Bench) -> Result<String, Ended> {
    trial::run(bench, 3, Wiring::Direct, |trial| {
        for member in trial.cluster.all() {
            trial.restart_with(member, FORGETFUL)?;
        }
        let mut took = Vec::new();
        for is_killed in [false, true] {
            let leader = trial.cluster.await_leader(&trial.cluster.all())?;
            let away = (leader + 1) % 3;
            trial.cluster.member_mut(away).kill()?;
            let segments = || sequences(trial.cluster.member(leader).data_dir());
            let newest = segments()?.into_iter().max();
            let since = Instant::now();
            // How soon the beginning of the log goes is up to the checkpoints.
            while segments()?.into_iter().min() <= newest {
                ensure(since.elapsed() < WAIT_MAX, || format!("the log of m{leader} keeps its beginning"))?;
                trial.write(leader, &[7; LARGE_BYTES])?;
            }
            let before = trial.cluster.member(away).log().len();
            let since = Instant::now();
            trial.cluster.spawn(away)?;
            let has_said = |trial: &Trial<'_>, what: &str| -> Outcome {
                while !trial.cluster.member(away).log()[before..].contains(what) {
                    ensure(since.elapsed() < WAIT_MAX, || format!("m{away} never says: {what}"))?;
                    std::thread::sleep(Duration::from_millis(1));
                }
                Ok(())
            };
            if is_killed {
                has_said(trial, FAR_BEHIND)?;
                trial.cluster.member_mut(away).kill()?;
                trial.cluster.spawn(away)?;
            }
            has_said(trial, IN_PLACE)?;
            took.push(since.elapsed());
            trial.await_own_write(away)?;
            trial.load.await_writes(30)?;
        }
        Ok(format!("snapshots were in place after {took:.1?}"))
    })
}
