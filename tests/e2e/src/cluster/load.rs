//! Clients that read and write through all members while the cluster is under test, each in a thread of its own.
//!
//! Every member has a patient client, which asks nobody else and waits for every answer: what a member says when it comes back is seen by it. Some
//! roam: they give up soon, and go to the next member.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle, sleep},
    time::{Duration, Instant},
};

use plinth_base::Prng;
use plinth_sim::{
    model::{Range, Request},
    workload::Workload,
};

use super::{
    caller::Caller,
    members::{Cluster, POLL, WAIT_MAX},
    net::Namespace,
    recording::{Recording, Told},
};
use crate::outcome::{Ended, Outcome, ensure};

/// Longer than the server takes to answer that a request timed out.
const PATIENCE: Duration = Duration::from_secs(12);
const ROAMERS: usize = 2;
/// More than there are ever of a load.
const CLIENTS_MAX: usize = 100;
const ROAMER_PATIENCE: Duration = Duration::from_secs(2);
/// A client rests so long between two requests at most; the checker reads every revision that they make.
const PAUSE_MAX: Duration = Duration::from_millis(20);
/// Writes go on within two election timeouts, which are 2 s; this is for slow machines.
const GOES_ON_MAX: Duration = Duration::from_secs(10);
/// Before a client tries again that wasn't answered.
const RETRY: Duration = Duration::from_millis(50);
/// One range in so many is serializable.
const SERIALIZABLE_ONE_IN: u64 = 4;

/// Clients under way; they end when this is dropped.
pub(crate) struct Load {
    recording: Arc<Recording>,
    is_over: Arc<AtomicBool>,
    clients: Vec<JoinHandle<()>>,
    /// Clients that ask once.
    once: Vec<JoinHandle<()>>,
}

/// What a client needs to know.
struct Client {
    recording: Arc<Recording>,
    is_over: Arc<AtomicBool>,
    /// Those that it asks, by number; who asks a single one is patient.
    members: Vec<(usize, Namespace)>,
    /// The place of the one that it asks now.
    at: usize,
    prng: Prng,
}

/// Few keys, so that clients meet.
pub(crate) fn workload() -> Workload {
    Workload { keys: 30, value_bytes: vec![16, 16, 64, 64, 200, 1000, 3000], ..Workload::default() }
}

/// All keys, as they are now.
pub(crate) fn everything() -> Range {
    Range { key: vec![0], range_end: vec![0], ..Range::default() }
}

impl Load {
    /// Clients of all members.
    pub(crate) fn start(cluster: &Cluster<'_>, recording: &Arc<Recording>) -> Result<Self, Ended> {
        let members: Vec<usize> = cluster.all();
        let is_over = Arc::new(AtomicBool::new(false));
        let mut load = Self {
            recording: Arc::clone(recording),
            is_over: Arc::clone(&is_over),
            clients: Vec::new(),
            once: Vec::new(),
        };
        for member in &members {
            load.follow(cluster, *member)?;
        }
        for number in 0..ROAMERS {
            load.add_client(cluster, members.clone(), number % members.len())?;
        }
        Ok(load)
    }

    /// One more patient client, of this member.
    pub(crate) fn follow(&mut self, cluster: &Cluster<'_>, member: usize) -> Outcome {
        self.add_client(cluster, vec![member], 0)
    }

    /// A client that asks the member at `first`, and goes on to the next one if there are others.
    fn add_client(&mut self, cluster: &Cluster<'_>, members: Vec<usize>, first: usize) -> Outcome {
        let number = self.clients.len();
        let client = Client {
            recording: Arc::clone(&self.recording),
            is_over: Arc::clone(&self.is_over),
            members: members.into_iter().map(|member| (member, cluster.member(member).namespace().clone())).collect(),
            at: first,
            // Clients of another load have written values of their own.
            prng: Prng::new((number + self.recording.totals().requests * CLIENTS_MAX) as u64),
        };
        let thread = thread::Builder::new().name(format!("client {number}"));
        self.clients.push(thread.spawn(move || client.run())?);
        Ok(())
    }

    /// Sends so many reads of everything to a member, and doesn't wait for the answers.
    pub(crate) fn send_reads(&mut self, cluster: &Cluster<'_>, member: usize, count: usize) -> Outcome {
        for _ in 0..count {
            let caller = cluster.member(member).connect(PATIENCE)?;
            let (recording, is_over) = (Arc::clone(&self.recording), Arc::clone(&self.is_over));
            self.once.push(thread::Builder::new().name(format!("reader of m{member}")).spawn(move || {
                let all = Request::Range(everything());
                let under_way = recording.begin(member, &all, false);
                recording.finish(&under_way, caller.request_until(&is_over, &all, false));
            })?);
        }
        Ok(())
    }

    /// Waits until a put through one of `members` is acknowledged that began at `since` or later, and says how long that took.
    pub(crate) fn await_write(&self, members: &[usize], since: Instant) -> Result<Duration, Ended> {
        let deadline = Instant::now() + GOES_ON_MAX;
        loop {
            let writes = self.recording.writes_since(since);
            if let Some(write) = writes.iter().find(|write| members.contains(&write.through)) {
                return Ok(write.acknowledged - since);
            }
            self.ensure_all_run()?;
            ensure(Instant::now() < deadline, || {
                format!("no put through {members:?} was acknowledged within {GOES_ON_MAX:?}")
            })?;
            sleep(POLL);
        }
    }

    /// Waits until so many puts are acknowledged that began from now on.
    pub(crate) fn await_writes(&self, count: usize) -> Outcome {
        let since = Instant::now();
        while self.recording.writes_since(since).len() < count {
            let told = || format!("no {count} puts were acknowledged within {WAIT_MAX:?}");
            self.ensure_all_run()?;
            ensure(since.elapsed() < WAIT_MAX, told)?;
            sleep(POLL);
        }
        Ok(())
    }

    /// Fails if a put through one of `members` is acknowledged that began at `since` or later, until now and for so long from now on.
    pub(crate) fn ensure_no_write(&self, members: &[usize], since: Instant, duration: Duration) -> Outcome {
        let end = Instant::now() + duration;
        loop {
            let writes = self.recording.writes_since(since);
            if let Some(write) = writes.iter().find(|write| members.contains(&write.through)) {
                return Err(Ended::Failed(format!(
                    "without a majority m{} acknowledged a put that began {:?} after that was so",
                    write.through,
                    write.began - since
                )));
            }
            if Instant::now() >= end {
                return Ok(());
            }
            sleep(POLL);
        }
    }

    fn ensure_all_run(&self) -> Outcome {
        ensure(!self.clients.iter().any(JoinHandle::is_finished), || "a client panicked".to_owned())
    }

    /// Ends all clients once they have their answers.
    pub(crate) fn stop(&mut self) -> Outcome {
        self.is_over.store(true, Ordering::Relaxed);
        for client in self.clients.drain(..).chain(self.once.drain(..)) {
            client.join().map_err(|_| Ended::Failed("a client panicked".to_owned()))?;
        }
        Ok(())
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.stop().ok();
    }
}

impl Client {
    fn run(mut self) {
        let workload = workload();
        let mut connected = None;
        while !self.is_over.load(Ordering::Relaxed) {
            let (member, namespace) = &self.members[self.at];
            let patience = if self.members.len() > 1 { ROAMER_PATIENCE } else { PATIENCE };
            let caller = connected.take().or_else(|| Caller::connect(namespace, patience).ok());
            let Some(caller) = caller else {
                self.give_up();
                continue;
            };
            let request = workload.request(&mut self.prng, self.recording.known_revision());
            let serializable = matches!(request, Request::Range(_)) && self.prng.chance(1, SERIALIZABLE_ONE_IN);
            let under_way = self.recording.begin(*member, &request, serializable);
            let answer = caller.request_until(&self.is_over, &request, serializable);
            match self.recording.finish(&under_way, answer) {
                Told::Answer => {
                    let pause_us = u64::try_from(PAUSE_MAX.as_micros()).expect("it is short");
                    caller.pause(Duration::from_micros(self.prng.below(pause_us)));
                    connected = Some(caller);
                }
                Told::Nothing => self.give_up(),
            }
        }
    }

    fn give_up(&mut self) {
        sleep(RETRY);
        self.at = (self.at + 1) % self.members.len();
    }
}
