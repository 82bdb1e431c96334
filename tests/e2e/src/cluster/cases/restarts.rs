//! Restarts in order.

use std::time::Instant;

use crate::{
    cluster::{members::Wiring, trial},
    node::Bench,
    outcome::Ended,
};

/// Each member in turn, the leader of the moment among them, each when the one before is back.
pub(super) fn a_rolling_restart_under_load_is_survived(bench: &Bench) -> Result<String, Ended> {
    trial::run(bench, 3, Wiring::Direct, |trial| {
        let mut pauses = Vec::new();
        for member in trial.cluster.all() {
            let led = trial.cluster.await_leader(&trial.cluster.all())? == member;
            let since = Instant::now();
            trial.cluster.member_mut(member).terminate()?;
            trial.cluster.member_mut(member).await_stop()?;
            trial.cluster.restart(member)?;
            trial.await_own_write(member)?;
            trial.load.await_writes(20)?;
            let longest = trial.recording.longest_pause(since);
            pauses.push(format!("{longest:.1?}{}", if led { " (of the leader)" } else { "" }));
        }
        Ok(format!("the longest pauses of each restart were {}", pauses.join(", ")))
    })
}
