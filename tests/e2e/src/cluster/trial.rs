//! A case: a cluster under load, to which something happens; then all is well again, and the verdict is given.

use std::{
    fs,
    path::Path,
    sync::Arc,
    thread::sleep,
    time::{Duration, Instant},
};

use plinth_sim::model::{Put, Request};

use super::{
    load::{self, Load},
    members::{Cluster, Logs, POLL, WAIT_MAX, Wiring},
    recording::{Recording, Told},
    verdict,
};
use crate::{
    node::Bench,
    outcome::{Ended, Outcome, ensure},
};

/// Puts before something happens, so that there is a history.
const WARM_PUTS: usize = 30;
/// Puts between what happened and the verdict, so that what it left is seen.
const AFTER_PUTS: usize = 30;
/// A call of the trial's own may take so long.
const CALL_MAX: Duration = Duration::from_secs(10);
/// Lines of each member's log that a failure shows.
const LINES_SHOWN: usize = 8;

/// A cluster under load.
pub(crate) struct Trial<'a> {
    // The clients go before whom they ask.
    pub(crate) load: Load,
    pub(crate) recording: Arc<Recording>,
    pub(crate) cluster: Cluster<'a>,
}

/// Runs a case: `body` says in a few words what it saw.
pub(crate) fn run(
    bench: &Bench,
    size: usize,
    wiring: Wiring,
    body: impl FnOnce(&mut Trial<'_>) -> Result<String, Ended>,
) -> Result<String, Ended> {
    run_on(Cluster::start(bench, size, wiring, Logs::Inside)?, body)
}

/// The same on a cluster that is there already.
pub(crate) fn run_on(
    cluster: Cluster<'_>,
    body: impl FnOnce(&mut Trial<'_>) -> Result<String, Ended>,
) -> Result<String, Ended> {
    let recording = Arc::new(Recording::new());
    let load = Load::start(&cluster, &recording)?;
    let mut trial = Trial { load, recording, cluster };
    let told = trial.load.await_writes(WARM_PUTS).and_then(|()| body(&mut trial));
    let told = told.and_then(|told| trial.conclude().map(|()| told));
    match told {
        Ok(told) => {
            let totals = trial.recording.totals();
            Ok(format!("{told}; {} requests, {} with an unknown outcome", totals.requests, totals.unknown))
        }
        Err(Ended::Failed(why)) => Err(Ended::Failed(trial.explain(&why))),
        Err(skipped) => Err(skipped),
    }
}

impl Trial<'_> {
    fn conclude(&mut self) -> Outcome {
        self.cluster.heal()?;
        for member in self.cluster.all() {
            self.await_own_write(member)?;
        }
        self.load.await_writes(AFTER_PUTS)?;
        self.load.stop()?;
        verdict::check(&self.cluster, &self.recording)?;
        self.cluster.stop()
    }

    /// Stops a member in order and starts it again with these flags; it takes writes then.
    pub(crate) fn restart_with(&mut self, member: usize, flags: &[&str]) -> Outcome {
        self.cluster.member_mut(member).terminate()?;
        self.cluster.member_mut(member).await_stop()?;
        self.cluster.member_mut(member).set_flags(flags);
        self.cluster.restart(member)?;
        self.await_own_write(member)
    }

    /// Writes something through a member until it acknowledges.
    pub(crate) fn await_own_write(&self, member: usize) -> Outcome {
        self.write(member, b"progress")
    }

    /// Writes this value through a member until it acknowledges.
    pub(crate) fn write(&self, member: usize, value: &[u8]) -> Outcome {
        let deadline = Instant::now() + WAIT_MAX;
        let request = Request::Put(Put { key: load::workload().key(1), value: value.to_vec(), ..Put::default() });
        loop {
            let caller = self.cluster.member(member).connect(CALL_MAX)?;
            let under_way = self.recording.begin(member, &request, false);
            if self.recording.finish(&under_way, caller.request(&request, false)) == Told::Answer {
                return Ok(());
            }
            ensure(Instant::now() < deadline, || format!("m{member} takes no put"))?;
            sleep(POLL);
        }
    }

    /// Reads everything that a member has, however old; it must answer.
    pub(crate) fn read_serializable(&self, member: usize) -> Outcome {
        let caller = self.cluster.member(member).connect(CALL_MAX)?;
        let request = Request::Range(load::everything());
        let under_way = self.recording.begin(member, &request, true);
        let answer = caller.request(&request, true);
        let failed = answer.as_ref().err().map(ToString::to_string);
        self.recording.finish(&under_way, answer);
        failed.map_or(Ok(()), |why| Err(Ended::Failed(format!("a serializable read of m{member}: {why}"))))
    }

    /// The failure with what the members said last; all of it goes to files.
    fn explain(&self, why: &str) -> String {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/e2e");
        let mut text = why.to_owned();
        for member in self.cluster.machines() {
            let log = self.cluster.member(member).log();
            let path = folder.join(format!("{}-m{member}.log", self.cluster.network().number()));
            let kept = fs::create_dir_all(&folder).and_then(|()| fs::write(&path, &log));
            let place = kept.map_or_else(|error| format!("not kept: {error}"), |()| path.display().to_string());
            text.push_str(&format!("\n  the end of m{member}'s log ({place}):"));
            let lines: Vec<&str> = log.lines().collect();
            for line in &lines[lines.len().saturating_sub(LINES_SHOWN)..] {
                text.push_str(&format!("\n    {line}"));
            }
        }
        text
    }
}
