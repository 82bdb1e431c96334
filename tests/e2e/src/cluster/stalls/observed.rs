//! What a case sees of a cluster from when a disk stalls.

use std::{
    thread::sleep,
    time::{Duration, Instant},
};

use crate::{
    cluster::{
        members::{POLL, WAIT_MAX},
        trial::Trial,
    },
    outcome::{Ended, Outcome, ensure},
};

/// Longer than an election takes: whoever would campaign has done so, and whoever would take leadership back.
const SETTLES: Duration = Duration::from_secs(2);
/// Puts that show that all goes on.
const PUTS: usize = 20;

/// Who led when the disk began to stall, and when that was.
pub(super) struct Observed {
    pub(super) leader: usize,
    term: u64,
    pub(super) since: Instant,
    /// When another member was first seen to lead.
    replaced: Option<Instant>,
    /// Whose disk was stuck, if it was one member's.
    stuck: Option<usize>,
    /// How often leaders had fled from stuck disks before.
    flights: f64,
}

/// What came of it.
pub(super) struct Seen {
    /// The longest time without an acknowledged put.
    pub(super) pause: Duration,
    /// The same through the member whose disk was stuck, if it was one.
    own_pause: Option<Duration>,
    /// Terms that began: elections, those that nobody won among them.
    pub(super) terms: u64,
    pub(super) leader: usize,
    /// How often leaders fled from stuck disks.
    pub(super) flights: f64,
    /// How long it took until another member led.
    pub(super) replaced_after: Option<Duration>,
}

impl Observed {
    /// From now on, before anything stalls.
    pub(super) fn begin(trial: &Trial<'_>) -> Result<Self, Ended> {
        let leader = trial.cluster.await_leader(&trial.cluster.all())?;
        let (term, _) = trial.cluster.leadership(leader)?;
        Ok(Self { leader, term, since: Instant::now(), replaced: None, stuck: None, flights: flights(trial)? })
    }

    /// Looks on for so long since the begin. Whoever is in `stuck` must have said in the meantime that its disk doesn't answer.
    pub(super) fn look_on(&mut self, trial: &Trial<'_>, stuck: &[usize], duration: Duration) -> Outcome {
        let mut silent: Vec<usize> = stuck.to_vec();
        if let [one] = stuck {
            self.stuck = Some(*one);
        }
        let others = trial.cluster.all_but(&[self.leader]);
        while self.since.elapsed() < duration {
            for other in &others {
                let (_, leader) = trial.cluster.leadership(*other)?;
                if leader.is_some_and(|leader| leader != self.leader) {
                    self.replaced.get_or_insert_with(Instant::now);
                }
            }
            let mut still_silent = Vec::new();
            for member in silent {
                if !says_that_it_is_stuck(trial, member)? {
                    still_silent.push(member);
                }
            }
            silent = still_silent;
            sleep(POLL);
        }
        ensure(silent.is_empty(), || format!("/readyz and /metrics of {silent:?} never said that the disk is stuck"))
    }

    /// Once the disks are sound: everybody is well, and what the stall has set off has come to its end.
    pub(super) fn end(self, trial: &Trial<'_>) -> Result<Seen, Ended> {
        let all = trial.cluster.all();
        for member in &all {
            await_well(trial, *member)?;
        }
        trial.load.await_writes(PUTS)?;
        sleep(SETTLES);
        let leader = trial.cluster.await_leader(&all)?;
        let (term, _) = trial.cluster.leadership(leader)?;
        Ok(Seen {
            pause: trial.recording.longest_pause(self.since),
            own_pause: self.stuck.map(|stuck| trial.recording.longest_pause_through(stuck, self.since)),
            terms: term - self.term,
            leader,
            flights: flights(trial)? - self.flights,
            replaced_after: self.replaced.map(|at| at - self.since),
        })
    }
}

impl Seen {
    /// Fails unless the leader of the beginning led all the time.
    pub(super) fn ensure_same_leader(&self, leader: usize) -> Outcome {
        ensure(self.terms == 0 && self.leader == leader, || format!("m{leader} led, and {self}"))
    }
}

impl std::fmt::Display for Seen {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} ms without an accepted write", self.pause.as_millis())?;
        if let Some(own) = self.own_pause {
            write!(f, " ({} ms through the stuck member)", own.as_millis())?;
        }
        write!(f, ", {} leader {}", self.terms, if self.terms == 1 { "change" } else { "changes" })?;
        self.replaced_after.map_or(Ok(()), |after| write!(f, " (after {} ms)", after.as_millis()))
    }
}

/// Whether a member says, to those who watch and to those who measure, that the disk of its log doesn't answer.
fn says_that_it_is_stuck(trial: &Trial<'_>, member: usize) -> Result<bool, Ended> {
    let ready = trial.cluster.member(member).get("/readyz")?;
    let is_told = ready.status == 503 && ready.text().contains("[-]wal_stall failed");
    Ok(is_told && stalled(trial, member)? > 0.0)
}

/// Waits until a member says that it is well.
fn await_well(trial: &Trial<'_>, member: usize) -> Outcome {
    let deadline = Instant::now() + WAIT_MAX;
    loop {
        let ready = trial.cluster.member(member).get("/readyz")?;
        if ready.status == 200 && stalled(trial, member)? == 0.0 {
            return Ok(());
        }
        ensure(Instant::now() < deadline, || format!("m{member} doesn't get well: {}", ready.text()))?;
        sleep(POLL);
    }
}

/// How bad the stall of a member's log is as it says itself: 0 is none.
fn stalled(trial: &Trial<'_>, member: usize) -> Result<f64, Ended> {
    metric(trial, member, "plinth_wal_stalled")
}

/// How often leadership was given away because of a stall, by anybody.
fn flights(trial: &Trial<'_>) -> Result<f64, Ended> {
    let all = trial.cluster.all().into_iter();
    all.map(|member| metric(trial, member, "plinth_leader_handovers_total{reason=\"stall\"}")).sum()
}

/// A metric of a member, named with its labels.
fn metric(trial: &Trial<'_>, member: usize, name: &str) -> Result<f64, Ended> {
    let text = trial.cluster.member(member).get("/metrics")?.text();
    let values = text.lines().filter_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    let value = values.filter_map(|value| value.parse().ok()).next();
    value.ok_or_else(|| Ended::Failed(format!("m{member} has no metric {name}")))
}
