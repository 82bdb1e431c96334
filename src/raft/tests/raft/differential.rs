//! Groups of members of both kinds, this crate's and the crate `raft` 0.7's: elections and replication by the same messages under the same faults. Whatever
//! one of them takes for granted that the other doesn't do, shows as two leaders in a term, as two entries at one index, or as a group that gets nowhere.
//!
//! What both have in common is translated in `translation.rs`; changes of the members, reads and snapshots are not part of it.
//!
//! `PLINTH_RAFT_SEEDS=FROM..TO` plays others than the usual ones.

mod theirs;
mod translation;

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use bytes::Bytes;
use plinth_base::{Instant, LogIndex, MemberId, Prng, Term};
use plinth_raft::{Configuration, Effects, Entry, HardState, Input, Options, Position, Raft, Role, Start};
use raft::eraftpb;

use self::theirs::Theirs;
use crate::figure;

/// A tick of the other crate.
const TICK_NANOS: u64 = 100_000_000;
const STEPS: u64 = 1200;

/// Term and payload of an entry.
pub(crate) type Committed = (u64, Bytes);

/// This crate's, with a disk that is always done at once.
struct Ours {
    raft: Raft,
    entries: Vec<Entry>,
    hard_state: HardState,
    applied: LogIndex,
}

enum Member {
    Ours(Box<Ours>),
    Theirs(Box<Theirs>),
}

/// On the wire everything is the other crate's message.
struct Group {
    prng: Prng,
    members: BTreeMap<u64, Member>,
    network: BTreeMap<(u64, u64), VecDeque<eraftpb::Message>>,
    cuts: BTreeSet<(u64, u64)>,
    now: Instant,
    leaders: BTreeMap<u64, u64>,
    committed: BTreeMap<u64, Committed>,
    proposals: u64,
    /// Leaders of either kind.
    led: [usize; 2],
}

fn seeds() -> std::ops::Range<u64> {
    crate::random::seeds_or(0..60)
}

#[test]
fn members_of_both_kinds_agree_under_random_faults_and_recover() {
    let (mut committed, mut led) = (0, [0, 0]);
    for seed in seeds() {
        let run = std::panic::catch_unwind(|| Group::new(seed).play());
        match run {
            Ok(group) => {
                committed += group.committed.len();
                led = [led[0] + group.led[0], led[1] + group.led[1]];
            }
            Err(_) => panic!("seed {seed} fails; PLINTH_RAFT_SEEDS={seed}..{} plays it again", seed + 1),
        }
    }
    eprintln!("{committed} entries committed, {} terms led by ours, {} by theirs", led[0], led[1]);
    assert!(led.iter().all(|count| *count > 0), "both kinds lead: {led:?}");
}

impl Group {
    fn new(seed: u64) -> Self {
        let mut prng = Prng::new(seed);
        let count = if prng.chance(1, 3) { 5 } else { 3 };
        let voters: Vec<u64> = (1..=count).collect();
        let mut members = BTreeMap::new();
        for id in &voters {
            // At least one of each kind.
            let is_ours = *id == 1 || (*id != 2 && prng.chance(1, 2));
            let member = if is_ours {
                Member::Ours(Box::new(Ours::new(*id, &voters, prng.next_u64())))
            } else {
                Member::Theirs(Box::new(Theirs::new(*id, &voters, 10 + prng.index(10))))
            };
            members.insert(*id, member);
        }
        Self {
            prng,
            members,
            network: BTreeMap::new(),
            cuts: BTreeSet::new(),
            now: Instant(1_000_000_000),
            leaders: BTreeMap::new(),
            committed: BTreeMap::new(),
            proposals: 0,
            led: [0, 0],
        }
    }

    fn play(mut self) -> Self {
        for _ in 0..STEPS {
            self.step();
        }
        self.recover();
        self
    }

    fn any(&mut self) -> u64 {
        1 + self.prng.below(self.members.len() as u64)
    }

    fn step(&mut self) {
        match self.prng.below(100) {
            0..60 => {
                let busy: Vec<_> =
                    self.network.iter().filter(|(_, queue)| !queue.is_empty()).map(|(pair, _)| *pair).collect();
                if let Some(pair) = busy.get(self.prng.index(busy.len().max(1))) {
                    self.deliver(*pair);
                }
            }
            60..80 => self.tick(),
            80..90 => {
                let id = self.any();
                self.propose(id);
            }
            90..93 => self.lose(),
            93..95 => {
                let id = self.any();
                self.restart(id);
            }
            95..98 => {
                let pair = (self.any(), self.any());
                self.cuts.insert(pair);
            }
            _ => self.cuts.clear(),
        }
    }

    fn tick(&mut self) {
        self.now = Instant(self.now.0 + TICK_NANOS);
        let ids: Vec<u64> = self.members.keys().copied().collect();
        for id in ids {
            let sent = match self.members.get_mut(&id).expect("a member") {
                Member::Ours(ours) => {
                    let is_due = ours.raft.deadline().is_some_and(|deadline| deadline <= self.now);
                    if is_due { ours.step(self.now, Input::Tick) } else { Vec::new() }
                }
                Member::Theirs(theirs) => theirs.tick(),
            };
            self.sent(id, sent);
        }
    }

    fn propose(&mut self, id: u64) {
        self.proposals += 1;
        let payload = Bytes::from(format!("command {}", self.proposals));
        let sent = match self.members.get_mut(&id).expect("a member") {
            Member::Ours(ours) => ours.step(self.now, Input::Propose { ticket: 1, payload }),
            Member::Theirs(theirs) => theirs.propose(&payload),
        };
        self.sent(id, sent);
    }

    fn deliver(&mut self, pair: (u64, u64)) {
        let Some(message) = self.network.get_mut(&pair).and_then(VecDeque::pop_front) else { return };
        let to = pair.1;
        let sent = match self.members.get_mut(&to).expect("a member") {
            Member::Ours(ours) => {
                let message = translation::to_ours(&message, ours.raft.term());
                ours.step(self.now, Input::Received(message))
            }
            Member::Theirs(theirs) => theirs.receive(message),
        };
        self.sent(to, sent);
    }

    fn lose(&mut self) {
        let busy: Vec<_> = self.network.iter().filter(|(_, queue)| !queue.is_empty()).map(|(pair, _)| *pair).collect();
        let Some(pair) = busy.get(self.prng.index(busy.len().max(1))).copied() else { return };
        let queue = self.network.get_mut(&pair).expect("it is busy");
        let at = self.prng.index(queue.len());
        match self.prng.below(3) {
            0 => queue.clear(),
            1 => {
                queue.remove(at);
            }
            _ => queue.push_back(queue[at].clone()),
        }
    }

    fn restart(&mut self, id: u64) {
        let voters: Vec<u64> = self.members.keys().copied().collect();
        let seed = self.prng.next_u64();
        match self.members.get_mut(&id).expect("a member") {
            Member::Ours(ours) => ours.restart(&voters, seed, self.now),
            Member::Theirs(theirs) => theirs.restart(),
        }
        self.network.retain(|(from, to), _| *from != id && *to != id);
        for (peer, member) in &mut self.members {
            if let (Member::Ours(ours), true) = (member, *peer != id) {
                // What it makes worth sending goes with the next step.
                ours.raft.step(self.now, Input::Unreachable { peer: MemberId(id) }, &mut Effects::default());
            }
        }
    }

    /// Sends what a member had to say, and checks what it has become.
    fn sent(&mut self, id: u64, messages: Vec<eraftpb::Message>) {
        for message in messages {
            let pair = (id, message.to);
            if !self.cuts.contains(&pair) {
                self.network.entry(pair).or_default().push_back(message);
            }
        }
        let (leads, kind, term, committed) = match self.members.get_mut(&id).expect("a member") {
            Member::Ours(ours) => (ours.raft.role() == Role::Leader, 0, ours.raft.term().0, ours.newly_committed()),
            Member::Theirs(theirs) => (theirs.is_leader(), 1, theirs.term(), theirs.newly_committed()),
        };
        if leads && self.leaders.insert(term, id).is_none_or(|before| before != id) {
            assert_eq!(self.leaders.get(&term), Some(&id));
            self.led[kind] += 1;
        }
        for (index, entry) in committed {
            let first = self.committed.entry(index).or_insert_with(|| entry.clone());
            assert_eq!(*first, entry, "{id} commits another entry {index} than was committed before");
        }
    }

    /// Everything works again, and something new is committed by all.
    fn recover(&mut self) {
        self.cuts.clear();
        let before = self.committed.len();
        for _ in 0..300 {
            for _ in 0..1000 {
                let busy: Vec<_> =
                    self.network.iter().filter(|(_, queue)| !queue.is_empty()).map(|(pair, _)| *pair).collect();
                if busy.is_empty() {
                    break;
                }
                busy.into_iter().for_each(|pair| self.deliver(pair));
            }
            self.tick();
            let ids: Vec<u64> = self.members.keys().copied().collect();
            for id in ids {
                let leads = match &self.members[&id] {
                    Member::Ours(ours) => ours.raft.role() == Role::Leader,
                    Member::Theirs(theirs) => theirs.is_leader(),
                };
                if leads {
                    self.propose(id);
                }
            }
            let applied = |member: &Member| match member {
                Member::Ours(ours) => ours.applied.0,
                Member::Theirs(theirs) => theirs.applied(),
            };
            if self.members.values().map(applied).min() >= Some(before as u64 + 5) {
                return;
            }
        }
        let state = |(id, member): (&u64, &Member)| match member {
            Member::Ours(ours) => figure::status(&ours.raft),
            Member::Theirs(theirs) => format!("{id}: {}", theirs.status()),
        };
        let states: Vec<String> = self.members.iter().map(state).collect();
        panic!("the group gets nowhere: {before} entries, then {}\n{}", self.committed.len(), states.join("\n"));
    }
}

impl Ours {
    fn new(id: u64, voters: &[u64], seed: u64) -> Self {
        let raft = Self::raft(id, voters, seed, &[], HardState::default(), LogIndex(0), Instant(1_000_000_000));
        Self { raft, entries: Vec::new(), hard_state: HardState::default(), applied: LogIndex(0) }
    }

    fn raft(
        id: u64,
        voters: &[u64],
        seed: u64,
        entries: &[Entry],
        hard_state: HardState,
        applied: LogIndex,
        now: Instant,
    ) -> Raft {
        let mut runs = VecDeque::from([Position::default()]);
        for entry in entries {
            if runs.back().is_some_and(|run| run.term < entry.term) {
                runs.push_back(entry.position());
            }
        }
        let applied_term = entries.iter().find(|entry| entry.index == applied).map_or(Term(0), |entry| entry.term);
        let start = Start {
            hard_state,
            runs,
            changes: VecDeque::new(),
            last: entries.last().map_or(LogIndex(0), |last| last.index),
            applied: Position { index: applied, term: applied_term },
            configuration: Configuration::of_voters(voters.iter().copied().map(MemberId)),
        };
        Raft::new(Options::new(MemberId(id), seed), start, now)
    }

    fn restart(&mut self, voters: &[u64], seed: u64, now: Instant) {
        let id = self.raft.id().0;
        self.raft = Self::raft(id, voters, seed, &self.entries, self.hard_state, self.applied, now);
    }

    /// One input, and all that follows of it until nothing is left to become durable.
    fn step(&mut self, now: Instant, input: Input) -> Vec<eraftpb::Message> {
        let mut sent = Vec::new();
        let mut inputs = VecDeque::from([input]);
        while let Some(input) = inputs.pop_front() {
            let mut effects = Effects::default();
            self.raft.step(now, input, &mut effects);
            self.raft.finish(now, &mut effects);
            sent.extend(effects.messages.drain(..).map(translation::to_theirs));
            if let Some(hard_state) = effects.hard_state {
                self.hard_state = hard_state;
            }
            let last = effects.entries.last().map(Entry::position);
            for entry in effects.entries.drain(..) {
                self.entries.truncate(usize::try_from(entry.index.0 - 1).expect("small"));
                self.entries.push(entry);
            }
            for fetch in effects.fetches.drain(..) {
                let from = usize::try_from(fetch.from.0 - 1).expect("small");
                let entries = self.entries[from..].iter().take(4).cloned().collect();
                inputs.push_back(Input::Fetched { peer: fetch.peer, from: fetch.from, entries });
            }
            if last.is_some() || effects.hard_state.is_some() {
                inputs.push_back(Input::Durable { last, hard_state: effects.hard_state });
            }
        }
        sent
    }

    fn newly_committed(&mut self) -> Vec<(u64, Committed)> {
        let (from, to) = (self.applied.0, self.raft.commit().0);
        self.applied = self.raft.commit();
        self.raft.step(Instant(0), Input::Applied { index: self.applied }, &mut Effects::default());
        let range = usize::try_from(from).expect("small")..usize::try_from(to).expect("small");
        self.entries[range].iter().map(|entry| (entry.index.0, (entry.term.0, entry.payload.clone()))).collect()
    }
}
