//! A shard's turn in small: completions come back as inputs, the log never waits.

use std::{cell::RefCell, collections::VecDeque, path::PathBuf, rc::Rc};

use plinth_base::{GroupId, LogIndex, MemberId, Prng, Term};
use plinth_env::{Env, TaskQueue};
use plinth_sim_env::SimEnv;
use plinth_wal::{
    Entry, FlushDone, GroupState, HardState, MaintenanceDone, Position, Recovered, SEGMENT_BYTES_MIN, Wal, WalError,
    WalOptions,
};

use crate::model::{self, Groups, Model, Op};

pub const DIR: &str = "/wal";

pub fn options() -> WalOptions {
    WalOptions { segment_bytes: SEGMENT_BYTES_MIN, spares_max: 2, ..WalOptions::new(PathBuf::from(DIR)) }
}

pub fn segment(sequence: u64) -> PathBuf {
    PathBuf::from(format!("{DIR}/{sequence:016x}.wal"))
}

/// A new log in a new directory.
pub async fn create(env: &SimEnv) -> Wal<SimEnv> {
    env.create_dir(DIR.as_ref()).await.expect("an empty disk takes a directory");
    env.sync_dir("/".as_ref()).await.expect("the root can be synced");
    Wal::create(env, options()).await.expect("an empty directory takes a log")
}

/// Makes everything appended durable.
pub async fn flush(wal: &mut Wal<SimEnv>) {
    while let Some(flush) = wal.begin_flush() {
        let done = flush.run().await;
        wal.finish_flush(done).expect("a sound disk takes a batch");
    }
}

/// Does all maintenance there is.
pub async fn maintain(wal: &mut Wal<SimEnv>) {
    while let Some(maintenance) = wal.begin_maintenance() {
        let done = maintenance.run(async |_| {}).await;
        wal.finish_maintenance(done).expect("a sound disk allows maintenance");
    }
}

pub async fn seal(wal: &mut Wal<SimEnv>) {
    let done = wal.begin_seal().expect("an idle log can be sealed").run().await;
    wal.finish_flush(done).expect("a sound disk takes a seal");
}

/// All entries of a group that the log can give.
pub async fn read_all(wal: &Wal<SimEnv>, group: GroupId, bytes_max: usize) -> Result<Vec<Entry>, WalError> {
    let mut entries: Vec<Entry> = Vec::new();
    let mut from = wal.first_index(group).expect("the group was started");
    loop {
        let more = wal.read(group, from, bytes_max).await?;
        let Some(last) = more.last() else { return Ok(entries) };
        from = last.index.next();
        entries.extend(more);
    }
}

enum Input {
    Flushed(FlushDone<SimEnv>),
    Maintained(MaintenanceDone<SimEnv>),
}

pub struct Shard {
    env: SimEnv,
    pub wal: Wal<SimEnv>,
    inputs: Rc<RefCell<VecDeque<Input>>>,
}

impl Shard {
    pub fn new(env: SimEnv, wal: Wal<SimEnv>) -> Self {
        Self { env, wal, inputs: Rc::default() }
    }

    pub async fn open(env: SimEnv) -> Result<(Self, Recovered), WalError> {
        let (wal, recovered) = Wal::open(&env, options()).await?;
        Ok((Self::new(env, wal), recovered))
    }

    /// Takes completions and starts what can be started.
    pub fn turn(&mut self, model: &mut Model) -> Result<(), WalError> {
        let inputs: Vec<_> = self.inputs.borrow_mut().drain(..).collect();
        for input in inputs {
            match input {
                Input::Flushed(done) => model.ack(&self.wal.finish_flush(done)?),
                Input::Maintained(done) => self.wal.finish_maintenance(done)?,
            }
        }
        if let Some(flush) = self.wal.begin_flush() {
            let inputs = Rc::clone(&self.inputs);
            let task = async move {
                let done = flush.run().await;
                inputs.borrow_mut().push_back(Input::Flushed(done));
            };
            self.env.spawn(TaskQueue::Consensus, task);
        }
        if let Some(maintenance) = self.wal.begin_maintenance() {
            let inputs = Rc::clone(&self.inputs);
            let task = async move {
                let done = maintenance.run(async |_| {}).await;
                inputs.borrow_mut().push_back(Input::Maintained(done));
            };
            self.env.spawn(TaskQueue::Background, task);
        }
        Ok(())
    }

    /// One random call, on both the log and the model.
    pub fn random_call(&mut self, prng: &mut Prng, model: &mut Model) {
        let group = GroupId(prng.below(4) as u32);
        let Some(state) = model.tail.get(&group) else {
            return self.call(model, Op::Start(group, Position::default()));
        };
        let (last, hard_state, released) = (state.last(), state.hard_state, state.released);
        // Terms only grow, so that index and term name one call.
        let newer = Term(last.term.0.max(hard_state.term.0) + 1);
        match prng.below(100) {
            0 => {
                let index = LogIndex(last.index.0 + prng.below(50));
                self.call(model, Op::Start(group, Position { index, term: newer }));
            }
            1..10 => {
                let vote = prng.chance(1, 2).then(|| MemberId(prng.below(5)));
                self.call(
                    model,
                    Op::HardState(group, HardState { term: newer, vote, commit: last.index, is_doubtful: false }),
                );
            }
            10..13 if last.index > released => {
                let index = LogIndex(released.0 + 1 + prng.below(last.index.0 - released.0));
                self.call(model, Op::Append(model::entry(group.0, index.0, newer.0, 100)));
            }
            roll => {
                let bytes = match roll {
                    99 => 50_000 + prng.index(150_000),
                    90..99 => prng.index(20_000),
                    _ => prng.index(500),
                };
                self.call(model, Op::Append(model::entry(group.0, last.index.0 + 1, last.term.0.max(1), bytes)));
            }
        }
    }

    pub fn call(&mut self, model: &mut Model, op: Op) {
        match op.clone() {
            Op::Append(entry) => self.wal.append(entry),
            Op::HardState(group, state) => self.wal.set_hard_state(group, state),
            Op::Start(group, start) => self.wal.start_group(group, start.index, start.term),
        }
        model.call(op);
    }

    /// Releases a random part of what is acknowledged.
    pub fn random_release(&mut self, prng: &mut Prng, model: &mut Model) {
        let group = GroupId(prng.below(4) as u32);
        let Some(state) = model.acked.get(&group) else { return };
        // Nothing that a waiting call replaces is committed.
        let end = state.last().index.0.min(model.readable_end(group).0.saturating_sub(1));
        if end > state.released.0 {
            let through = LogIndex(state.released.0 + 1 + prng.below(end - state.released.0));
            self.wal.release(group, through);
            model.release(group, through);
        }
    }

    /// Reads from a random index while the log goes on, and compares with what was durable when the read began.
    pub async fn check_random_read(&self, prng: &mut Prng, model: &RefCell<Model>) -> Result<(), WalError> {
        let group = GroupId(prng.below(4) as u32);
        let first = self.wal.first_index(group).unwrap_or_default();
        let end = model.borrow().readable_end(group);
        if first >= end {
            return Ok(());
        }
        let from = LogIndex(first.0 + prng.below(end.0 - first.0));
        let bytes_max = prng.index(100_000);
        let reading = self.wal.read(group, from, bytes_max);
        let want: Vec<_> =
            model.borrow().acked[&group].entries.range(from..end).map(|(_, entry)| entry.clone()).collect();
        let entries = reading.await?;
        assert!(!entries.is_empty(), "at least one entry is given");
        assert_eq!(entries, want[..entries.len()], "a read gives what was durable");
        let bytes: usize = entries.iter().map(|entry| entry.payload.len()).sum();
        assert!(entries.len() == 1 || bytes <= bytes_max, "a read keeps to its bytes");
        Ok(())
    }

    /// Compares what was recovered with the model, which gives up what did not survive; then every entry.
    pub async fn check_recovered(&self, model: &RefCell<Model>, recovered: &Recovered) -> Result<(), String> {
        // A power cut tears the last batch, or not: the model doesn't know whether a group is in doubt.
        let known = |state: &GroupState| (HardState { is_doubtful: false, ..state.hard_state }, state.last);
        let seen = recovered.groups.iter().map(|(&id, state)| (id, known(state))).collect();
        model.borrow_mut().settle(&seen)?;
        let settled = model.borrow().acked.clone();
        self.check_entries(&settled).await
    }

    /// Every acknowledged entry that was not released is there, and nothing else.
    pub async fn check_entries(&self, acked: &Groups) -> Result<(), String> {
        for (&id, group) in acked {
            let entries = read_all(&self.wal, id, 30_000).await.map_err(|error| error.to_string())?;
            let first = self.wal.first_index(id).expect("recovered");
            if first > group.released.next().max(group.start.index.next()) {
                return Err(format!("group {id} begins at {first}, released was {}", group.released));
            }
            let want: Vec<_> = group.entries.range(first..).map(|(_, entry)| entry.clone()).collect();
            if entries != want {
                let shape = |entries: &[Entry]| -> Vec<_> {
                    entries.iter().map(|e| (e.index, e.term, e.payload.len())).collect()
                };
                return Err(format!("group {id} from {first} has {:?}, not {:?}", shape(&entries), shape(&want)));
            }
            for entry in &want {
                if self.wal.term_of(id, entry.index) != Some(entry.term) && entry.index > group.released {
                    return Err(format!("group {id} doesn't know the term of {}", entry.index));
                }
            }
        }
        Ok(())
    }
}
