//! A group in memory: members, their disks, the network between them, and what must never happen, checked after every step.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use bytes::Bytes;
use plinth_base::{Instant, LogIndex, MemberId, Term};
use plinth_raft::{
    Configuration, Effects, Entry, HardState, Input, Lane, Message, Options, Position, Raft, Role, Start,
};

use crate::figure;

/// What was logged and isn't durable yet.
#[derive(Clone, Debug)]
enum Record {
    HardState(HardState),
    Entry(Entry),
}

/// What survives a crash.
#[derive(Clone, Debug)]
pub struct Disk {
    pub hard_state: HardState,
    pub start: Position,
    pub entries: Vec<Entry>,
    /// The state machine's root, never ahead of the durable log, unless a snapshot was installed.
    pub applied: Position,
    pub configuration: Configuration,
}

impl Disk {
    fn last(&self) -> Position {
        self.entries.last().map_or(self.start, Entry::position)
    }

    fn write(&mut self, entry: Entry) {
        while self.entries.last().is_some_and(|last| last.index >= entry.index) {
            self.entries.pop();
        }
        assert_eq!(entry.index, self.last().index.next(), "no gaps in a log");
        self.entries.push(entry);
    }

    fn entry(&self, index: LogIndex) -> Option<&Entry> {
        self.entries.iter().find(|entry| entry.index == index)
    }
}

pub struct Member {
    pub raft: Option<Raft>,
    pub disk: Disk,
    /// Logged, in order.
    pending: VecDeque<Record>,
    /// In memory: the log behind the disk's root, as the node would hold it.
    log: BTreeMap<LogIndex, Entry>,
    /// Configurations by the index at which they were applied.
    configurations: BTreeMap<LogIndex, Configuration>,
    pub applied: Position,
    starts: u64,
}

pub struct Cluster {
    pub members: BTreeMap<u64, Member>,
    /// By sender, receiver and lane.
    pub network: BTreeMap<(u64, u64, Lane), VecDeque<Message>>,
    /// Who can't send to whom.
    pub cuts: BTreeSet<(u64, u64)>,
    /// Members whose disks make nothing durable of themselves.
    pub stuck: std::collections::BTreeSet<u64>,
    pub now: Instant,
    /// What happened, to be told.
    pub told: Vec<String>,
    /// Every message that was sent is told.
    pub tells_messages: bool,
    pub options: fn(MemberId, u64) -> Options,
    initial: Configuration,
    leaders: BTreeMap<Term, u64>,
    pub committed: BTreeMap<LogIndex, Entry>,
    /// What was committed when each read began, by ticket.
    reads: BTreeMap<u64, LogIndex>,
    next_ticket: u64,
    is_applying: bool,
    /// Who asked for a snapshot for whom.
    pub wanted: BTreeSet<(u64, u64)>,
    pub reads_served: usize,
    /// Tickets of transfers that ended, and whether they came about.
    pub transfers: Vec<(u64, bool)>,
}

impl Cluster {
    pub fn new(initial: Configuration, options: fn(MemberId, u64) -> Options) -> Self {
        Self {
            members: BTreeMap::new(),
            network: BTreeMap::new(),
            cuts: BTreeSet::new(),
            stuck: std::collections::BTreeSet::new(),
            now: Instant(1_000_000_000),
            told: Vec::new(),
            tells_messages: false,
            options,
            initial,
            leaders: BTreeMap::new(),
            committed: BTreeMap::new(),
            reads: BTreeMap::new(),
            next_ticket: 1,
            is_applying: false,
            wanted: BTreeSet::new(),
            reads_served: 0,
            transfers: Vec::new(),
        }
    }

    /// A member with an empty log, not started yet.
    pub fn add(&mut self, id: u64) {
        let disk = Disk {
            hard_state: HardState::default(),
            start: Position::default(),
            entries: Vec::new(),
            applied: Position::default(),
            configuration: self.initial.clone(),
        };
        self.members.insert(
            id,
            Member {
                raft: None,
                disk,
                pending: VecDeque::new(),
                log: BTreeMap::new(),
                configurations: BTreeMap::new(),
                applied: Position::default(),
                starts: 0,
            },
        );
    }

    pub fn start(&mut self, id: u64) {
        let now = self.now;
        let member = self.members.get_mut(&id).expect("a member");
        assert!(member.raft.is_none(), "{id} runs already");
        member.starts += 1;
        let disk = &member.disk;
        let mut runs = VecDeque::from([disk.start]);
        for entry in &disk.entries {
            if runs.back().expect("not empty").term < entry.term {
                runs.push_back(entry.position());
            }
        }
        let applied = disk.applied;
        let is_new_change = |entry: &&Entry| entry.is_change && entry.index > applied.index;
        let start = Start {
            hard_state: disk.hard_state,
            runs,
            changes: disk.entries.iter().filter(is_new_change).map(|entry| entry.index).collect(),
            last: disk.last().index,
            applied,
            configuration: disk.configuration.clone(),
        };
        member.applied = applied;
        member.pending.clear();
        member.configurations.clear();
        member.log = disk.entries.iter().map(|entry| (entry.index, entry.clone())).collect();
        let options = (self.options)(MemberId(id), id * 1000 + member.starts);
        member.raft = Some(Raft::new(options, start, now));
    }

    /// The process ends; what wasn't durable is lost, but for the first `kept` records.
    pub fn crash(&mut self, id: u64, kept: usize) {
        self.flush_some(id, kept, false);
        let member = self.members.get_mut(&id).expect("a member");
        member.raft = None;
        member.pending.clear();
        for (key, queue) in &mut self.network {
            if key.0 == id || key.1 == id {
                queue.clear();
            }
        }
        let peers: Vec<u64> = self.running().filter(|peer| *peer != id).collect();
        for peer in peers {
            self.step(peer, Input::Unreachable { peer: MemberId(id) });
        }
    }

    pub fn running(&self) -> impl Iterator<Item = u64> + '_ {
        self.members.iter().filter(|(_, member)| member.raft.is_some()).map(|(id, _)| *id)
    }

    pub fn raft(&self, id: u64) -> &Raft {
        self.members[&id].raft.as_ref().expect("the member runs")
    }

    pub fn leader(&self) -> Option<u64> {
        let leaders = self.running().filter(|id| self.raft(*id).role() == Role::Leader);
        leaders.max_by_key(|id| self.raft(*id).term())
    }

    /// One input, and the end of the turn.
    pub fn step(&mut self, id: u64, input: Input) {
        let mut effects = Effects::default();
        let now = self.now;
        let Some(raft) = self.members.get_mut(&id).and_then(|member| member.raft.as_mut()) else { return };
        raft.step(now, input, &mut effects);
        raft.finish(now, &mut effects);
        self.carry_out(id, &mut effects);
    }

    fn carry_out(&mut self, id: u64, effects: &mut Effects) {
        if effects.role_changed {
            self.tell_role(id);
        }
        let member = self.members.get_mut(&id).expect("a member");
        if let Some(hard_state) = effects.hard_state {
            member.pending.push_back(Record::HardState(hard_state));
        }
        for entry in &effects.entries {
            member.log.split_off(&entry.index);
            member.log.insert(entry.index, entry.clone());
            member.pending.push_back(Record::Entry(entry.clone()));
        }
        for message in effects.messages.drain(..) {
            if self.tells_messages {
                self.told.push(format!("  {}", figure::message(&message)));
            }
            let key = (message.from.0, message.to.0, message.body.lane());
            if !self.cuts.contains(&(key.0, key.1)) {
                self.network.entry(key).or_default().push_back(message);
            }
        }
        for (ticket, index) in effects.accepted.drain(..) {
            if ticket > 0 {
                self.told.push(format!("{id}: proposal {ticket} is entry {}", index.0));
            }
        }
        for rejected in effects.rejected.drain(..) {
            self.told.push(format!("{id}: {} rejected, {:?}", rejected.ticket, rejected.reason));
            self.reads.remove(&rejected.ticket);
        }
        for ready in effects.reads.drain(..) {
            let floor = self.reads.remove(&ready.ticket).expect("a read that is under way");
            self.reads_served += 1;
            self.told.push(format!("{id}: read {} at {}", ready.ticket, ready.index.0));
            assert!(ready.index >= floor, "{id} serves a stale read: at {:?}, {floor:?} was committed", ready.index);
        }
        self.transfers.append(&mut effects.transferred.clone());
        for (ticket, is_done) in effects.transferred.drain(..) {
            self.told.push(format!("{id}: transfer {ticket} {}", if is_done { "done" } else { "failed" }));
        }
        for peer in effects.snapshots.drain(..) {
            self.told.push(format!("{id}: {} needs a snapshot", peer.0));
            self.wanted.insert((id, peer.0));
        }
        let fetches = std::mem::take(&mut effects.fetches);
        let arrived = std::mem::take(&mut effects.arrived);
        let (leaves_joint, committed) = (effects.leave_joint, effects.committed);
        if let Some(committed) = committed {
            self.told.push(format!("{id}: committed {}", committed.0));
        }
        self.check(id);
        if !std::mem::replace(&mut self.is_applying, true) {
            self.apply(id);
            self.is_applying = false;
        }
        for fetch in fetches {
            let disk = &self.members[&id].disk;
            let entries = disk.entries.iter().filter(|entry| entry.index >= fetch.from).take(2).cloned().collect();
            self.step(id, Input::Fetched { peer: fetch.peer, from: fetch.from, entries });
        }
        let is_leader = self.members[&id].raft.as_ref().is_some_and(|raft| raft.role() == Role::Leader);
        if leaves_joint && is_leader {
            let next = self.raft(id).configuration().left();
            self.propose_configuration(id, &next);
        }
        if let Some(id_arrived) = arrived.first()
            && is_leader
        {
            let next = self.raft(id).configuration().changed(&[plinth_raft::Change::Promote(*id_arrived)]);
            self.propose_configuration(id, &next.expect("an awaited member can be promoted"));
        }
    }

    fn tell_role(&mut self, id: u64) {
        let raft = self.raft(id);
        let role = match raft.role() {
            Role::Follower => raft.leader().map_or("follower".to_owned(), |leader| format!("follower of {}", leader.0)),
            Role::PreCandidate => "pre-candidate".to_owned(),
            Role::Candidate => "candidate".to_owned(),
            Role::Leader => "leader".to_owned(),
        };
        let line = format!("{id}: {role} in term {}", raft.term().0);
        if self.told.last() != Some(&line) {
            self.told.push(line);
        }
    }

    /// What must hold whatever happens.
    fn check(&mut self, id: u64) {
        let member = &self.members[&id];
        let raft = member.raft.as_ref().expect("it has just made a step");
        if raft.role() == Role::Leader {
            let leader = *self.leaders.entry(raft.term()).or_insert(id);
            assert_eq!(leader, id, "two leaders in term {}", raft.term().0);
        }
        let from = member.applied.index.next();
        for index in (from.0..=raft.commit().0).map(LogIndex) {
            let entry = &member.log[&index];
            let first = self.committed.entry(index).or_insert_with(|| entry.clone());
            assert_eq!(first, entry, "{id} commits another entry {} than was committed before", index.0);
        }
    }

    fn apply(&mut self, id: u64) {
        loop {
            let member = self.members.get_mut(&id).expect("a member");
            let Some(raft) = &member.raft else { return };
            if member.applied.index >= raft.commit() {
                return;
            }
            let entry = member.log[&member.applied.index.next()].clone();
            member.applied = entry.position();
            let index = entry.index;
            if entry.is_change {
                let configuration = figure::parse_configuration(&entry.payload);
                member.configurations.insert(index, configuration.clone());
                self.told.push(format!("{id}: members are {}", figure::configuration(&configuration)));
                self.step(id, Input::Configured(configuration));
            }
            self.step(id, Input::Applied { index });
        }
    }

    /// Makes the first `count` records durable and, unless the member is about to crash, tells it.
    pub fn flush_some(&mut self, id: u64, count: usize, tells: bool) {
        let member = self.members.get_mut(&id).expect("a member");
        let count = count.min(member.pending.len());
        let (mut last, mut hard_state) = (None, None);
        for record in member.pending.drain(..count) {
            match record {
                Record::HardState(state) => {
                    member.disk.hard_state = state;
                    hard_state = Some(state);
                }
                Record::Entry(entry) => {
                    last = Some(entry.position());
                    member.disk.write(entry);
                }
            }
        }
        if tells && count > 0 {
            self.step(id, Input::Durable { last, hard_state });
        }
        self.checkpoint(id);
    }

    pub fn flush(&mut self, id: u64) {
        self.flush_some(id, usize::MAX, true);
    }

    /// The root goes as far as the durable log and what is applied.
    fn checkpoint(&mut self, id: u64) {
        let member = self.members.get_mut(&id).expect("a member");
        let through = member.applied.index.min(member.disk.last().index);
        let Some(entry) = member.disk.entry(through) else { return };
        if through <= member.disk.applied.index || member.log.get(&through) != Some(entry) {
            return;
        }
        member.disk.applied = entry.position();
        if let Some((_, configuration)) = member.configurations.range(..=through).next_back() {
            member.disk.configuration = configuration.clone();
        }
    }

    pub fn has_unflushed(&self, id: u64) -> bool {
        !self.members[&id].pending.is_empty()
    }

    /// Forgets the log up to `through`, as far as the root goes.
    pub fn compact(&mut self, id: u64, through: LogIndex) {
        self.checkpoint(id);
        let member = self.members.get_mut(&id).expect("a member");
        let through = through.min(member.disk.applied.index);
        let Some(entry) = member.disk.entry(through).cloned() else { return };
        member.disk.start = entry.position();
        member.disk.entries.retain(|kept| kept.index > through);
        member.log.retain(|index, _| *index > through);
        self.step(id, Input::Released { through });
    }

    /// The snapshot of `from`'s root arrives at `to` and is installed; nothing but the message about it can be lost.
    pub fn send_snapshot(&mut self, from: u64, to: u64) {
        self.wanted.remove(&(from, to));
        self.checkpoint(from);
        let (at, configuration) = {
            let disk = &self.members[&from].disk;
            (disk.applied, disk.configuration.clone())
        };
        let wants = self.members[&to].raft.as_ref().is_some_and(|raft| raft.wants_snapshot(at));
        if !wants || self.cuts.contains(&(from, to)) {
            self.step(from, Input::SnapshotEnded { peer: MemberId(to) });
            return;
        }
        // The log starts anew: what was on its way to the disk is durable first.
        self.flush(to);
        if !self.raft(to).wants_snapshot(at) {
            self.step(from, Input::SnapshotEnded { peer: MemberId(to) });
            return;
        }
        let member = self.members.get_mut(&to).expect("a member");
        member.disk.start = at;
        member.disk.entries.clear();
        member.disk.applied = at;
        member.disk.configuration = configuration.clone();
        member.log.clear();
        member.pending.clear();
        member.configurations.clear();
        member.applied = at;
        self.told.push(format!("{to}: installed a snapshot at {}", at.index.0));
        self.step(to, Input::SnapshotInstalled { at, configuration });
        self.flush(to);
        self.step(from, Input::SnapshotEnded { peer: MemberId(to) });
    }

    /// The oldest message of a lane.
    pub fn deliver(&mut self, key: (u64, u64, Lane)) -> bool {
        let Some(message) = self.network.get_mut(&key).and_then(VecDeque::pop_front) else { return false };
        if self.tells_messages {
            self.told.push(figure::message(&message));
        }
        self.step(key.1, Input::Received(message));
        true
    }

    /// Messages that are under way now, in order; not those that they bring about.
    pub fn deliver_all(&mut self) -> bool {
        let under_way: Vec<_> = self.network.iter().map(|(key, queue)| (*key, queue.len())).collect();
        let mut moved = false;
        for (key, count) in under_way {
            for _ in 0..count {
                moved |= self.deliver(key);
            }
        }
        moved
    }

    /// Flushes and delivers until nothing moves. Time stands still.
    pub fn settle(&mut self) {
        for _ in 0..10_000 {
            let mut moved = false;
            let running: Vec<u64> = self.running().collect();
            for id in running {
                if !self.stuck.contains(&id) && self.has_unflushed(id) {
                    self.flush(id);
                    moved = true;
                }
            }
            if !self.deliver_all() && !moved {
                return;
            }
        }
        panic!("the group never comes to rest");
    }

    /// Time passes; whoever is due gets a tick.
    pub fn advance(&mut self, nanos: u64) {
        self.now = Instant(self.now.0 + nanos);
        let running: Vec<u64> = self.running().collect();
        for id in running {
            if self.raft(id).deadline().is_some_and(|deadline| deadline <= self.now) {
                self.step(id, Input::Tick);
            }
        }
    }

    pub fn propose(&mut self, id: u64, payload: &str) -> u64 {
        let ticket = self.ticket();
        self.step(id, Input::Propose { ticket, payload: Bytes::copy_from_slice(payload.as_bytes()) });
        ticket
    }

    pub fn propose_configuration(&mut self, id: u64, configuration: &Configuration) -> u64 {
        let ticket = self.ticket();
        let payload = Bytes::from(figure::configuration(configuration));
        self.step(id, Input::ProposeChange { ticket, payload });
        ticket
    }

    pub fn read(&mut self, id: u64) -> u64 {
        let ticket = self.ticket();
        let floor = self.committed.last_key_value().map_or(LogIndex(0), |(index, _)| *index);
        self.reads.insert(ticket, floor);
        self.step(id, Input::ReadIndex { ticket });
        ticket
    }

    pub fn transfer(&mut self, id: u64, to: u64) -> u64 {
        let ticket = self.ticket();
        self.step(id, Input::Transfer { ticket, to: MemberId(to) });
        ticket
    }

    fn ticket(&mut self) -> u64 {
        self.next_ticket += 1;
        self.next_ticket - 1
    }
}
