//! Leaders that go.

use std::time::{Duration, Instant};

use plinth_client::Status;

use crate::{
    cluster::{
        members::Wiring,
        trial::{self, Trial},
    },
    node::Bench,
    outcome::{Ended, ensure},
};

/// Puts while the leader is frozen, and the reads that wait for it then.
const FROZEN_PUTS: usize = 50;
const FROZEN_READS: usize = 8;
/// Reads of each member that wait for a new leader.
const WAITING_READS: usize = 4;
/// Asked of somebody who doesn't lead.
const NOT_LEADER: &str = "etcdserver: not leader";

fn killed_leader_is_replaced(bench: &Bench, size: usize) -> Result<String, Ended> {
    trial::run(bench, size, Wiring::Direct, |trial| {
        let leader = trial.cluster.await_leader(&trial.cluster.all())?;
        trial.cluster.member_mut(leader).kill()?;
        let since = Instant::now();
        let others = trial.cluster.all_but(&[leader]);
        // They wait for whoever leads next, and must not be answered before it knows what was acknowledged.
        for member in &others {
            trial.load.send_reads(&trial.cluster, *member, WAITING_READS)?;
        }
        let pause = trial.load.await_write(&others, since)?;
        trial.cluster.await_leader(&others)?;
        trial.cluster.restart(leader)?;
        trial.await_own_write(leader)?;
        Ok(format!("writes went on after {pause:.1?}"))
    })
}

pub(super) fn a_killed_leader_of_three_is_replaced(bench: &Bench) -> Result<String, Ended> {
    killed_leader_is_replaced(bench, 3)
}

pub(super) fn a_killed_leader_of_five_is_replaced(bench: &Bench) -> Result<String, Ended> {
    killed_leader_is_replaced(bench, 5)
}

/// Requests wait in its sockets meanwhile: what it says to them when it is thawed must not be of the past.
pub(super) fn a_frozen_leader_is_replaced_and_follows_when_it_is_thawed(bench: &Bench) -> Result<String, Ended> {
    trial::run(bench, 3, Wiring::Direct, |trial| {
        let leader = trial.cluster.await_leader(&trial.cluster.all())?;
        trial.cluster.member_mut(leader).freeze()?;
        let others = trial.cluster.all_but(&[leader]);
        let pause = trial.load.await_write(&others, Instant::now())?;
        let next = trial.cluster.await_leader(&others)?;
        trial.load.await_writes(FROZEN_PUTS)?;
        trial.load.send_reads(&trial.cluster, leader, FROZEN_READS)?;
        trial.load.await_writes(FROZEN_PUTS)?;
        trial.cluster.member_mut(leader).thaw()?;
        let agreed = trial.cluster.await_leader(&trial.cluster.all())?;
        let told = if agreed == next { "it follows" } else { "another one leads by now" };
        Ok(format!("writes went on after {pause:.1?}; {told}"))
    })
}

fn hand_over(trial: &Trial<'_>, from: usize, to: usize) -> Result<Result<(), Status>, Ended> {
    Ok(trial.cluster.connect(from)?.move_leader(trial.cluster.id(to)))
}

/// Every member gets it once.
pub(super) fn leadership_goes_to_whom_it_is_given(bench: &Bench) -> Result<String, Ended> {
    trial::run(bench, 3, Wiring::Direct, |trial| {
        let all = trial.cluster.all();
        let (mut came_about, mut longest) = (0, Duration::ZERO);
        for _ in &all {
            let leader = trial.cluster.await_leader(&all)?;
            let to = (leader + 1) % all.len();
            let refused = hand_over(trial, to, leader)?;
            ensure(refused.as_ref().is_err_and(|status| status.message == NOT_LEADER), || {
                format!("m{to} doesn't lead, and said {refused:?}")
            })?;
            let since = Instant::now();
            let handed = hand_over(trial, leader, to)?;
            handed.map_err(|status| Ended::Failed(format!("from m{leader} to m{to}: {status}")))?;
            longest = longest.max(trial.load.await_write(&all, since)?);
            came_about += usize::from(trial.cluster.await_leader(&all)? == to);
            trial.load.await_writes(10)?;
        }
        // On a slow machine there may be an election on top of one.
        ensure(came_about > 0, || "whoever was given leadership doesn't lead".to_owned())?;
        Ok(format!("{came_about} transfers, writes went on after {longest:.1?} at most"))
    })
}
