//! Networks that fall into parts. Clients reach every member all the while.

use std::time::{Duration, Instant};

use crate::{
    cluster::{
        members::Wiring,
        trial::{self, Trial},
    },
    node::Bench,
    outcome::Ended,
};

/// So long a part without a majority must not write: longer than its leader takes to notice that it is alone.
const SILENCE: Duration = Duration::from_secs(3);

/// Parts `large`, which has a majority, from `small`: writes go on in one and end in the other, and when they meet all is well again.
fn part(trial: &Trial<'_>, large: &[usize], small: &[usize]) -> Result<String, Ended> {
    trial.cluster.network().part(&[large, small])?;
    let since = Instant::now();
    let pause = trial.load.await_write(large, since)?;
    trial.load.ensure_no_write(small, since, SILENCE)?;
    trial.cluster.await_leader(large)?;
    for member in small {
        trial.read_serializable(*member)?;
    }
    trial.load.ensure_no_write(small, since, Duration::ZERO)?;
    trial.cluster.network().heal()?;
    let met = Instant::now();
    // Its clients may still wait for answers that the cut has taken away.
    for member in small {
        trial.await_own_write(*member)?;
    }
    let healed = met.elapsed();
    Ok(format!("writes went on after {pause:.1?}, on the smaller side {healed:.1?} after they met"))
}

pub(super) fn a_leader_on_the_larger_side_goes_on(bench: &Bench) -> Result<String, Ended> {
    trial::run(bench, 5, Wiring::Direct, |trial| {
        let leader = trial.cluster.await_leader(&trial.cluster.all())?;
        let small = [(leader + 1) % 5, (leader + 2) % 5];
        let told = part(trial, &trial.cluster.all_but(&small), &small)?;
        // Who comes back doesn't unseat a leader that is well; on a slow machine it may look unwell.
        let stayed = trial.cluster.await_leader(&trial.cluster.all())? == leader;
        Ok(told + if stayed { "; the leader stayed" } else { "; another one leads by now" })
    })
}

pub(super) fn a_leader_on_the_smaller_side_is_replaced(bench: &Bench) -> Result<String, Ended> {
    trial::run(bench, 5, Wiring::Direct, |trial| {
        let leader = trial.cluster.await_leader(&trial.cluster.all())?;
        let small = [leader, (leader + 1) % 5];
        part(trial, &trial.cluster.all_but(&small), &small)
    })
}

pub(super) fn a_leader_of_three_that_is_alone_is_replaced(bench: &Bench) -> Result<String, Ended> {
    trial::run(bench, 3, Wiring::Direct, |trial| {
        let leader = trial.cluster.await_leader(&trial.cluster.all())?;
        part(trial, &trial.cluster.all_but(&[leader]), &[leader])
    })
}

pub(super) fn two_and_two_of_four_write_nothing_until_they_meet(bench: &Bench) -> Result<String, Ended> {
    trial::run(bench, 4, Wiring::Direct, |trial| {
        let all = trial.cluster.all();
        trial.cluster.network().part(&[&[0, 1], &[2, 3]])?;
        let since = Instant::now();
        trial.load.ensure_no_write(&all, since, SILENCE)?;
        for member in &all {
            trial.read_serializable(*member)?;
        }
        trial.load.ensure_no_write(&all, since, Duration::ZERO)?;
        trial.cluster.network().heal()?;
        let pause = trial.load.await_write(&all, Instant::now())?;
        Ok(format!("writes went on {pause:.1?} after they met"))
    })
}
