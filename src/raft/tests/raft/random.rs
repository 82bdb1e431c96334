//! Runs of random faults over whole groups: messages lost, doubled, late and out of order, crashes that keep any part of what wasn't durable, cuts, stalls,
//! pauses, changes of the members, transfers, compaction and snapshots. Then everything heals, and the group has to get somewhere.
//!
//! `PLINTH_RAFT_SEEDS=FROM..TO` plays others than the usual ones.

use plinth_base::{LogIndex, MemberId, Prng};
use plinth_raft::{Change, Configuration, Input, Options, Stall};

use crate::cluster::Cluster;

const STEPS: u64 = 1500;
const MEMBERS_MAX: u64 = 6;

fn options(id: MemberId, seed: u64) -> Options {
    let mut options = Options::new(id, seed);
    options.append_bytes_max = 300;
    options.window_bytes = 1000;
    options.cache_bytes_max = 500;
    options
}

/// The seeds that `PLINTH_RAFT_SEEDS` names, or the usual ones.
pub fn seeds_or(usual: std::ops::Range<u64>) -> std::ops::Range<u64> {
    let Ok(range) = std::env::var("PLINTH_RAFT_SEEDS") else { return usual };
    let (from, to) = range.split_once("..").expect("FROM..TO");
    from.parse().expect("a number")..to.parse().expect("a number")
}

#[test]
fn groups_stay_right_under_random_faults_and_recover() {
    let mut total = Totals::default();
    for seed in seeds_or(0..150) {
        let run = std::panic::catch_unwind(|| Run::new(seed).play());
        match run {
            Ok(totals) => total.add(&totals),
            Err(_) => panic!("seed {seed} fails; PLINTH_RAFT_SEEDS={seed}..{} plays it again", seed + 1),
        }
    }
    eprintln!("{total:?}");
    let Totals { committed, reads, changes, transfers, snapshots, crashes, doubts } = total;
    let reached = [committed, reads, changes, transfers, snapshots, crashes, doubts];
    assert!(reached.iter().all(|count| *count > 0), "something never happened: {total:?}");
}

#[derive(Default, Debug)]
struct Totals {
    committed: usize,
    reads: usize,
    changes: usize,
    transfers: usize,
    snapshots: usize,
    crashes: usize,
    doubts: usize,
}

impl Totals {
    fn add(&mut self, other: &Self) {
        let Self { committed, reads, changes, transfers, snapshots, crashes, doubts } = other;
        self.committed += committed;
        self.reads += reads;
        self.changes += changes;
        self.transfers += transfers;
        self.snapshots += snapshots;
        self.crashes += crashes;
        self.doubts += doubts;
    }
}

struct Run {
    prng: Prng,
    cluster: Cluster,
    /// Disks lose the end of a log; else the members change. Both at once can leave the only copy of an entry with a member that was removed.
    has_losses: bool,
    totals: Totals,
}

impl Run {
    fn new(seed: u64) -> Self {
        let mut prng = Prng::new(seed);
        let voters = [1, 3, 3, 3, 5][prng.index(5)];
        let initial = Configuration::of_voters((1..=voters).map(MemberId));
        let mut cluster = Cluster::new(initial, options);
        for id in 1..=MEMBERS_MAX {
            cluster.add(id);
            if id <= voters {
                cluster.start(id);
            }
        }
        let has_losses = prng.chance(1, 3);
        Self { prng, cluster, has_losses, totals: Totals::default() }
    }

    fn play(mut self) -> Totals {
        for _ in 0..STEPS {
            self.step();
            self.cluster.told.clear();
        }
        self.recover();
        self.totals.committed = self.cluster.committed.len();
        self.totals.reads = self.cluster.reads_served;
        self.totals.transfers = self.cluster.transfers.iter().filter(|(_, is_done)| *is_done).count();
        self.totals
    }

    fn any_running(&mut self) -> Option<u64> {
        let running: Vec<u64> = self.cluster.running().collect();
        (!running.is_empty()).then(|| running[self.prng.index(running.len())])
    }

    fn step(&mut self) {
        let Some(id) = self.any_running() else {
            let id = 1 + self.prng.below(MEMBERS_MAX);
            return self.cluster.start(id);
        };
        match self.prng.below(1000) {
            0..450 => self.deliver(),
            450..650 => {
                let count = 1 + self.prng.index(4);
                self.cluster.flush_some(id, count, true);
            }
            650..760 => {
                let nanos = 1 + self.prng.below(60_000_000);
                self.cluster.advance(nanos);
            }
            760..850 => {
                self.cluster.propose(id, "a command of some bytes");
            }
            850..890 => {
                self.cluster.read(id);
            }
            890..900 => self.lose_or_double(),
            900..910 => self.crash(id),
            910..930 => {
                let stopped: Vec<u64> =
                    self.cluster.members.keys().copied().filter(|id| self.cluster.members[id].raft.is_none()).collect();
                if let Some(id) = stopped.get(self.prng.index(stopped.len().max(1))) {
                    self.cluster.start(*id);
                }
            }
            930..940 => self.cut(id),
            940..945 => {
                let to = 1 + self.prng.below(MEMBERS_MAX);
                self.cluster.transfer(id, to);
            }
            945..950 => {
                let stall = [Stall::None, Stall::None, Stall::Soft, Stall::Hard][self.prng.index(4)];
                self.cluster.step(id, Input::Stalled(stall));
            }
            950..965 if !self.has_losses => self.change(),
            965..975 => {
                let through = self.cluster.raft(id).commit();
                self.cluster.compact(id, LogIndex(through.0.saturating_sub(self.prng.below(5))));
            }
            975..990 => self.snapshot(),
            _ => {
                let peer = MemberId(1 + self.prng.below(MEMBERS_MAX));
                self.cluster.step(id, Input::Unreachable { peer });
            }
        }
    }

    fn deliver(&mut self) {
        let busy: Vec<_> =
            self.cluster.network.iter().filter(|(_, queue)| !queue.is_empty()).map(|(key, _)| *key).collect();
        if let Some(key) = busy.get(self.prng.index(busy.len().max(1))) {
            self.cluster.deliver(*key);
        }
    }

    fn lose_or_double(&mut self) {
        let busy: Vec<_> =
            self.cluster.network.iter().filter(|(_, queue)| !queue.is_empty()).map(|(key, _)| *key).collect();
        let Some(key) = busy.get(self.prng.index(busy.len().max(1))) else { return };
        let queue = self.cluster.network.get_mut(key).expect("it is busy");
        let at = self.prng.index(queue.len());
        match self.prng.below(4) {
            0 => queue.clear(),
            1 => {
                queue.remove(at);
            }
            2 => queue.push_back(queue[at].clone()),
            _ => {
                let message = queue.remove(at).expect("it is there");
                queue.push_back(message);
            }
        }
    }

    fn crash(&mut self, id: u64) {
        self.totals.crashes += 1;
        let kept = self.prng.index(4);
        self.cluster.crash(id, kept);
        // The end of the log rots away; recovery sees that something is missing. Once at a time.
        let is_doubtful = self.cluster.members.values().any(|member| member.disk.hard_state.is_doubtful);
        if self.has_losses && !is_doubtful && self.prng.chance(1, 4) {
            let disk = &mut self.cluster.members.get_mut(&id).expect("a member").disk;
            if disk.entries.last().is_some_and(|last| last.index > disk.applied.index) {
                disk.entries.pop();
                disk.hard_state.is_doubtful = true;
                self.totals.doubts += 1;
            }
        }
    }

    fn cut(&mut self, id: u64) {
        if self.prng.chance(1, 2) {
            return self.cluster.cuts.clear();
        }
        let to = 1 + self.prng.below(MEMBERS_MAX);
        self.cluster.cuts.insert((id, to));
        if self.prng.chance(1, 2) {
            self.cluster.cuts.insert((to, id));
        }
    }

    fn change(&mut self) {
        let Some(leader) = self.cluster.leader() else { return };
        let count = 1 + self.prng.index(3) / 2;
        let mut changes = Vec::new();
        for _ in 0..count {
            let id = MemberId(1 + self.prng.below(MEMBERS_MAX));
            changes.push(match self.prng.below(4) {
                0 => Change::AddVoter(id),
                1 => Change::AddLearner(id),
                2 => Change::Promote(id),
                _ => Change::Remove(id),
            });
        }
        let Ok(next) = self.cluster.raft(leader).configuration().changed(&changes) else { return };
        if next.voters.len() >= 2 {
            self.totals.changes += 1;
            self.cluster.propose_configuration(leader, &next);
        }
    }

    fn snapshot(&mut self) {
        let wanted: Vec<_> = self.cluster.wanted.iter().copied().collect();
        if let Some((from, to)) = wanted.get(self.prng.index(wanted.len().max(1))) {
            let before = self.cluster.members[to].applied;
            self.cluster.send_snapshot(*from, *to);
            self.totals.snapshots += usize::from(self.cluster.members[to].applied.index > before.index);
        }
    }

    /// Everything works again: all members of the newest configuration come to agree on something new, in bounded time.
    fn recover(&mut self) {
        self.cluster.cuts.clear();
        let all: Vec<u64> = self.cluster.members.keys().copied().collect();
        for id in &all {
            if self.cluster.members[id].raft.is_none() {
                self.cluster.start(*id);
            }
            self.cluster.step(*id, Input::Stalled(Stall::None));
        }
        let before = self.cluster.committed.len();
        for round in 0..600 {
            self.cluster.settle();
            self.cluster.advance(50_000_000);
            let Some(leader) = self.cluster.leader() else { continue };
            if round % 10 == 0 {
                self.cluster.propose(leader, "something new");
                self.cluster.read(leader);
            }
            let members: Vec<u64> = self.cluster.raft(leader).configuration().members().map(|id| id.0).collect();
            for (from, to) in self.cluster.wanted.clone() {
                self.cluster.send_snapshot(from, to);
            }
            let commit = self.cluster.raft(leader).commit();
            let is_done = |id: &u64| self.cluster.raft(*id).commit() == commit;
            let configuration = self.cluster.raft(leader).configuration();
            if self.cluster.committed.len() > before + 3
                && !configuration.is_joint()
                && configuration.awaited.is_empty()
                && members.iter().all(is_done)
            {
                return;
            }
        }
        let states: Vec<String> = all.iter().map(|id| crate::figure::status(self.cluster.raft(*id))).collect();
        panic!("the group gets nowhere:\n{}", states.join("\n"));
    }
}
