//! Members that are gone, few and many.

use std::time::{Duration, Instant};

use crate::{
    cluster::{members::Wiring, trial},
    node::Bench,
    outcome::Ended,
};

/// So long nothing must be written: longer than a leader takes to notice that it is alone.
const SILENCE: Duration = Duration::from_secs(3);

pub(super) fn without_a_minority_writes_go_on(bench: &Bench) -> Result<String, Ended> {
    trial::run(bench, 5, Wiring::Direct, |trial| {
        let leader = trial.cluster.await_leader(&trial.cluster.all())?;
        let gone = [(leader + 1) % 5, (leader + 2) % 5];
        for member in gone {
            trial.cluster.member_mut(member).kill()?;
        }
        let since = Instant::now();
        let others = trial.cluster.all_but(&gone);
        trial.load.await_writes(100)?;
        let longest = trial.recording.longest_pause(since);
        let still = if trial.cluster.await_leader(&others)? == leader {
            "the leader stayed"
        } else {
            "another one leads by now"
        };
        Ok(format!("the longest pause was {longest:.1?}; {still}"))
    })
}

/// Reads that don't ask for the newest state go on meanwhile.
pub(super) fn without_a_majority_nothing_is_written_until_there_is_one_again(bench: &Bench) -> Result<String, Ended> {
    trial::run(bench, 5, Wiring::Direct, |trial| {
        let leader = trial.cluster.await_leader(&trial.cluster.all())?;
        let gone = [leader, (leader + 1) % 5, (leader + 2) % 5];
        for member in gone {
            trial.cluster.member_mut(member).kill()?;
        }
        let since = Instant::now();
        let left = trial.cluster.all_but(&gone);
        trial.load.ensure_no_write(&left, since, SILENCE)?;
        for member in &left {
            trial.read_serializable(*member)?;
        }
        trial.load.ensure_no_write(&left, since, Duration::ZERO)?;
        let since = Instant::now();
        trial.cluster.restart(gone[1])?;
        let pause = trial.load.await_write(&left, since)?;
        Ok(format!("writes went on {pause:.1?} after a third member was started"))
    })
}

pub(super) fn members_that_are_all_killed_at_once_lose_nothing(bench: &Bench) -> Result<String, Ended> {
    trial::run(bench, 3, Wiring::Direct, |trial| {
        for member in trial.cluster.all() {
            trial.cluster.member_mut(member).kill()?;
        }
        let since = Instant::now();
        trial.cluster.start_missing()?;
        let pause = trial.load.await_write(&trial.cluster.all(), since)?;
        Ok(format!("writes went on {pause:.1?} after the start"))
    })
}
