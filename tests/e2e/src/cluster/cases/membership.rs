//! Members that come and go.

use std::{
    thread::sleep,
    time::{Duration, Instant},
};

use plinth_client::Status;

use crate::{
    cluster::{
        members::{POLL, WAIT_MAX, Wiring},
        trial::{self, Trial},
    },
    node::Bench,
    outcome::{Ended, Outcome, ensure, ensure_contains},
};

/// What a member that was removed says when it ends, and when it is started again.
const REMOVED: &str = "permanently removed from the cluster";
/// The exit code of a member that can't go on.
const ENDED: Option<i32> = Some(1);
/// An operator needs so long from adding a member to starting it.
const LATE: Duration = Duration::from_secs(60);
/// Puts that show that writes go on.
const PUTS: usize = 30;

fn ensure_refused<T: std::fmt::Debug>(answer: &Result<T, Status>, want: &str) -> Outcome {
    ensure(answer.as_ref().is_err_and(|status| status.message == want), || format!("instead of {want:?}: {answer:?}"))
}

/// Waits until a member ends that was removed, and looks what it says.
fn ensure_leaves(trial: &mut Trial<'_>, member: usize) -> Outcome {
    let code = trial.cluster.member_mut(member).await_own_end()?;
    ensure(code == ENDED, || format!("it ended with {code:?}"))?;
    ensure_contains(&trial.cluster.member(member).log(), &[REMOVED])
}

/// Starts a member that was added, and waits until it takes writes, from then on also those of a client of its own.
fn join(trial: &mut Trial<'_>, member: usize) -> Result<Duration, Ended> {
    let since = Instant::now();
    trial.cluster.restart(member)?;
    trial.await_own_write(member)?;
    let took = since.elapsed();
    trial.load.follow(&trial.cluster, member)?;
    Ok(took)
}

/// Removes a member that is down, and adds its machine again with an empty disk.
fn replace(trial: &mut Trial<'_>, member: usize) -> Result<Duration, Ended> {
    let by = trial.cluster.all_but(&[member])[0];
    trial.cluster.member_mut(member).forget()?;
    trial.cluster.remove(by, member)?;
    trial.cluster.add(by, member, false)?;
    join(trial, member)
}

/// It has forgotten what it voted for, so it must not come back as itself.
pub(super) fn a_member_whose_data_is_lost_is_replaced(bench: &Bench) -> Result<String, Ended> {
    trial::run(bench, 3, Wiring::Direct, |trial| {
        let leader = trial.cluster.await_leader(&trial.cluster.all())?;
        let member = (leader + 1) % 3;
        trial.cluster.member_mut(member).kill()?;
        trial.cluster.member_mut(member).forget()?;
        let refused = trial.cluster.refusal(member)?;
        ensure(refused.code == ENDED, || format!("exit code {:?}: {}", refused.code, refused.line))?;
        ensure_contains(&refused.line, &["already been bootstrapped", "remove"])?;
        let took = replace(trial, member)?;
        Ok(format!("it took writes {took:.1?} after its start"))
    })
}

/// The leader, that is.
pub(super) fn a_member_whose_log_is_corrupt_is_replaced(bench: &Bench) -> Result<String, Ended> {
    trial::run(bench, 3, Wiring::Direct, |trial| {
        let leader = trial.cluster.await_leader(&trial.cluster.all())?;
        super::damage::corrupt_log_of(trial, leader)?;
        let took = replace(trial, leader)?;
        Ok(format!("it took writes {took:.1?} after its start"))
    })
}

pub(super) fn a_learner_is_added_under_load_and_promoted(bench: &Bench) -> Result<String, Ended> {
    trial::run(bench, 3, Wiring::Direct, |trial| {
        let learner = trial.cluster.plug_in()?;
        trial.cluster.add(0, learner, true)?;
        let id = trial.cluster.id(learner);
        ensure_refused(
            &trial.cluster.connect(1)?.member_promote(id),
            "etcdserver: can only promote a learner member which is in sync with leader",
        )?;
        trial.cluster.restart(learner)?;
        trial.read_serializable(learner)?;
        ensure_refused(&trial.cluster.connect(learner)?.member_list(), "etcdserver: rpc not supported for learner")?;
        let since = Instant::now();
        while let Err(status) = trial.cluster.connect(2)?.member_promote(id) {
            ensure(since.elapsed() < WAIT_MAX, || format!("it is never promoted: {status}"))?;
            sleep(POLL);
        }
        let took = since.elapsed();
        trial.await_own_write(learner)?;
        trial.load.follow(&trial.cluster, learner)?;
        trial.load.await_writes(PUTS)?;
        // Three of four are a majority, with its vote.
        let gone = (trial.cluster.await_leader(&trial.cluster.all())? + 1) % 4;
        let gone = if gone == learner { 0 } else { gone };
        trial.cluster.member_mut(gone).kill()?;
        trial.load.await_writes(PUTS)?;
        Ok(format!("it was promoted after {took:.1?}"))
    })
}

pub(super) fn a_voter_counts_from_when_it_is_there(bench: &Bench) -> Result<String, Ended> {
    trial::run(bench, 3, Wiring::Direct, |trial| {
        let voter = trial.cluster.plug_in()?;
        trial.cluster.add(2, voter, false)?;
        // Two of three are a majority; of four they would be none.
        let leader = trial.cluster.await_leader(&[0, 1, 2])?;
        let gone = (leader + 1) % 3;
        trial.cluster.member_mut(gone).kill()?;
        sleep(LATE);
        trial.load.await_writes(PUTS)?;
        let took = join(trial, voter)?;
        trial.load.await_writes(PUTS)?;
        trial.cluster.restart(gone)?;
        trial.await_own_write(gone)?;
        // Now it is one of four, and two of the first three with it are a majority.
        trial.cluster.member_mut(gone).kill()?;
        trial.load.await_writes(PUTS)?;
        Ok(format!("it took writes {took:.1?} after its start"))
    })
}

pub(super) fn a_voter_that_never_starts_costs_nothing(bench: &Bench) -> Result<String, Ended> {
    trial::run(bench, 3, Wiring::Direct, |trial| {
        let voter = trial.cluster.plug_in()?;
        trial.cluster.add(0, voter, false)?;
        let leader = trial.cluster.await_leader(&[0, 1, 2])?;
        trial.cluster.member_mut(leader).kill()?;
        let others: Vec<usize> = (0..3).filter(|member| *member != leader).collect();
        let pause = trial.load.await_write(&others, Instant::now())?;
        trial.load.await_writes(PUTS)?;
        trial.cluster.restart(leader)?;
        trial.cluster.remove(leader, voter)?;
        let listed = trial.cluster.connect(leader)?.member_list();
        ensure(listed.as_ref().is_ok_and(|members| members.len() == 3), || format!("members: {listed:?}"))?;
        Ok(format!("without the leader writes went on after {pause:.1?}"))
    })
}

/// Whoever it knows is gone, and whom it doesn't know is the only one that can lead.
pub(super) fn a_member_that_was_away_lets_in_who_was_added_meanwhile(bench: &Bench) -> Result<String, Ended> {
    trial::run(bench, 3, Wiring::Direct, |trial| {
        let [by, away, goes] = [0, 1, 2];
        // Else nobody is added while somebody is away.
        trial.restart_with(by, &["--strict-reconfig-check=false"])?;
        trial.cluster.member_mut(away).kill()?;
        let voter = trial.cluster.plug_in()?;
        trial.cluster.add(by, voter, false)?;
        join(trial, voter)?;
        trial.cluster.remove(by, goes)?;
        ensure_leaves(trial, goes)?;
        trial.load.await_writes(PUTS)?;
        trial.cluster.member_mut(by).kill()?;
        let since = Instant::now();
        trial.cluster.spawn(away)?;
        let pause = trial.load.await_write(&[away, voter], since)?;
        trial.load.await_writes(PUTS)?;
        Ok(format!("writes went on {pause:.1?} after it had come back"))
    })
}

pub(super) fn a_removed_leader_stops_and_stays_away(bench: &Bench) -> Result<String, Ended> {
    trial::run(bench, 5, Wiring::Direct, |trial| {
        let leader = trial.cluster.await_leader(&trial.cluster.all())?;
        let since = Instant::now();
        trial.cluster.remove((leader + 1) % 5, leader)?;
        let removed = Instant::now();
        let others = trial.cluster.all();
        let pause = trial.load.await_write(&others, removed)?;
        ensure_leaves(trial, leader)?;
        trial.cluster.spawn(leader)?;
        ensure_leaves(trial, leader)?;
        trial.load.await_writes(PUTS)?;
        trial.cluster.await_leader(&others)?;
        let longest = trial.recording.longest_pause(since);
        Ok(format!("writes went on after {pause:.1?}, the longest pause was {longest:.1?}"))
    })
}

pub(super) fn one_member_grows_to_three(bench: &Bench) -> Result<String, Ended> {
    trial::run(bench, 1, Wiring::Direct, |trial| {
        let mut took = Vec::new();
        for by in 0..2 {
            let member = trial.cluster.plug_in()?;
            trial.cluster.add(by, member, false)?;
            took.push(join(trial, member)?);
            trial.load.await_writes(PUTS)?;
        }
        // The first is not needed any more.
        let first = trial.cluster.member_mut(0);
        first.kill()?;
        trial.await_own_write(1)?;
        Ok(format!("they took writes {took:.1?} after their starts"))
    })
}

pub(super) fn the_url_of_another_cluster_is_refused(bench: &Bench) -> Result<String, Ended> {
    trial::run(bench, 3, Wiring::Direct, |trial| {
        let stranger = trial.cluster.plug_in()?;
        let machine = trial.cluster.member_mut(stranger);
        let (entry, url) = (machine.entry(), machine.peer_url().to_owned());
        machine.set_flags(&["--initial-cluster", &entry]);
        trial.cluster.restart(stranger)?;
        let since = Instant::now();
        let answer = loop {
            match trial.cluster.connect(0)?.member_add(&url, false) {
                Err(status) if status.message.contains("unhealthy") && since.elapsed() < WAIT_MAX => sleep(POLL),
                answer => break answer,
            }
        };
        ensure_refused(&answer, "etcdserver: cluster ID mismatch")?;
        let taken = trial.cluster.member(1).peer_url().to_owned();
        ensure_refused(&trial.cluster.connect(0)?.member_add(&taken, false), "etcdserver: Peer URLs already exists")?;
        trial.cluster.member_mut(stranger).terminate()?;
        trial.cluster.member_mut(stranger).await_stop()?;
        Ok("it stayed as it was".to_owned())
    })
}

/// When the last two of three have acknowledged something together, each of them has all that was ever acknowledged.
pub(super) fn a_new_cluster_is_forced_out_of_one_member(bench: &Bench) -> Result<String, Ended> {
    trial::run(bench, 3, Wiring::Direct, |trial| {
        let leader = trial.cluster.await_leader(&trial.cluster.all())?;
        let [first, last] = [(leader + 1) % 3, (leader + 2) % 3];
        trial.cluster.member_mut(first).kill()?;
        trial.load.await_writes(PUTS)?;
        trial.cluster.member_mut(leader).kill()?;
        trial.cluster.member_mut(last).kill()?;
        trial.cluster.bury(&[first, leader]);
        trial.cluster.member_mut(last).set_flags(&["--force-new-cluster"]);
        trial.cluster.restart(last)?;
        trial.await_own_write(last)?;
        let listed = trial.cluster.connect(last)?.member_list();
        ensure(listed.as_ref().is_ok_and(|members| members.len() == 1), || format!("members: {listed:?}"))?;
        // The next start is an ordinary one.
        trial.cluster.member_mut(last).kill()?;
        trial.cluster.member_mut(last).set_flags(&[]);
        trial.cluster.restart(last)?;
        // Whoever else comes back is told that it doesn't belong there any more.
        trial.cluster.spawn(first)?;
        ensure_leaves(trial, first)?;
        let back = trial.cluster.plug_in()?;
        trial.cluster.add(last, back, false)?;
        let took = join(trial, back)?;
        Ok(format!("a new second member took writes {took:.1?} after its start"))
    })
}
