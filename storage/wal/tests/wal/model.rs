//! What the log must hold, kept in ordered maps.
//!
//! Invariant: the log's durable state is the model's `acked` state and perhaps a prefix of `waiting` behind it.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;
use plinth_base::{GroupId, LogIndex, Term};
use plinth_wal::{Durable, Entry, HardState, Position};

/// One call that changes the log.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Op {
    Append(Entry),
    HardState(GroupId, HardState),
    Start(GroupId, Position),
}

#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub struct GroupModel {
    pub hard_state: HardState,
    pub start: Position,
    pub entries: BTreeMap<LogIndex, Entry>,
    /// Entries up to here may be gone.
    pub released: LogIndex,
}

impl GroupModel {
    pub fn last(&self) -> Position {
        let entry = self.entries.values().next_back();
        entry.map_or(self.start, |entry| Position { index: entry.index, term: entry.term })
    }
}

pub type Groups = BTreeMap<GroupId, GroupModel>;

fn apply(groups: &mut Groups, op: &Op) {
    match op {
        Op::Append(entry) => {
            let group = groups.get_mut(&entry.group).expect("started");
            group.entries.split_off(&entry.index);
            group.entries.insert(entry.index, entry.clone());
        }
        Op::HardState(group, state) => groups.get_mut(group).expect("started").hard_state = *state,
        Op::Start(group, start) => {
            let group = groups.entry(*group).or_default();
            group.start = *start;
            group.entries.clear();
            group.released = start.index;
        }
    }
}

#[derive(Default)]
pub struct Model {
    /// What was reported durable.
    pub acked: Groups,
    /// Calls since then, oldest first.
    pub waiting: VecDeque<Op>,
    /// With all calls.
    pub tail: Groups,
    /// How many calls were reported durable.
    pub acked_count: u64,
}

impl Model {
    pub fn call(&mut self, op: Op) {
        apply(&mut self.tail, &op);
        self.waiting.push_back(op);
    }

    /// Everything up to what `durable` names is acknowledged.
    pub fn ack(&mut self, durable: &Durable) {
        let mut count = 0;
        let mut saw = |at: Option<usize>| count = count.max(at.expect("what is durable was called for") + 1);
        for done in &durable.groups {
            if let Some(last) = done.last {
                saw(self.waiting.iter().position(|op| match op {
                    Op::Append(Entry { group, index, term, .. }) => {
                        *group == done.group && last == Position { index: *index, term: *term }
                    }
                    Op::Start(group, start) => *group == done.group && last == *start,
                    Op::HardState(..) => false,
                }));
            }
            if let Some(state) = done.hard_state {
                saw(self.waiting.iter().position(|op| *op == Op::HardState(done.group, state)));
            }
        }
        self.advance(count);
    }

    fn advance(&mut self, count: usize) {
        for op in self.waiting.drain(..count) {
            apply(&mut self.acked, &op);
        }
        self.acked_count += count as u64;
    }

    pub fn release(&mut self, group: GroupId, through: LogIndex) {
        for groups in [&mut self.acked, &mut self.tail] {
            let group = groups.get_mut(&group).expect("started");
            group.released = group.released.max(through);
        }
    }

    /// After a crash: finds the prefix of waiting calls that survived and takes it for the whole. `seen` gives each group's hard
    /// state and last entry.
    pub fn settle(&mut self, seen: &BTreeMap<GroupId, (HardState, Position)>) -> Result<(), String> {
        let shape = |groups: &Groups| -> BTreeMap<GroupId, (HardState, Position)> {
            groups.iter().map(|(&id, group)| (id, (group.hard_state, group.last()))).collect()
        };
        let mut trial = self.acked.clone();
        let mut count = 0;
        while shape(&trial) != *seen {
            let Some(op) = self.waiting.get(count) else {
                return Err(format!("the log has {seen:?}, acknowledged was {:?}", shape(&self.acked)));
            };
            apply(&mut trial, op);
            count += 1;
        }
        self.advance(count);
        self.waiting.clear();
        self.tail = self.acked.clone();
        Ok(())
    }

    /// One behind the last entry that a read may give.
    pub fn readable_end(&self, group: GroupId) -> LogIndex {
        let end = self.acked.get(&group).map_or(LogIndex(0), |group| group.last().index.next());
        self.waiting.iter().fold(end, |end, op| match op {
            Op::Append(entry) if entry.group == group => end.min(entry.index),
            Op::Start(started, _) if *started == group => LogIndex(0),
            _ => end,
        })
    }
}

/// `bytes` bytes that tell group, index and term.
pub fn payload(group: GroupId, at: Position, bytes: usize) -> Bytes {
    let mut prng = plinth_base::Prng::new(u64::from(group.0) << 48 ^ at.index.0 << 16 ^ at.term.0);
    let mut payload = vec![0; bytes];
    prng.fill(&mut payload);
    payload.into()
}

pub fn entry(group: u32, index: u64, term: u64, bytes: usize) -> Entry {
    let (group, index, term) = (GroupId(group), LogIndex(index), Term(term));
    Entry { group, index, term, is_change: false, payload: payload(group, Position { index, term }, bytes) }
}
