//! A member of the crate `raft`, with its storage in memory.

use bytes::Bytes;
use raft::{Config, RawNode, StateRole, eraftpb, storage::MemStorage};

use super::Committed;

pub(crate) struct Theirs {
    id: u64,
    /// In ticks; drawn once, for its own generator can't be given a seed.
    election_timeout: usize,
    storage: MemStorage,
    node: RawNode<MemStorage>,
    committed: Vec<(u64, Committed)>,
    applied: u64,
}

fn node(id: u64, election_timeout: usize, storage: &MemStorage, applied: u64) -> RawNode<MemStorage> {
    let config = Config {
        id,
        applied,
        election_tick: 10,
        heartbeat_tick: 1,
        min_election_tick: election_timeout,
        max_election_tick: election_timeout + 1,
        pre_vote: true,
        check_quorum: true,
        max_size_per_msg: 1 << 20,
        ..Config::default()
    };
    let logger = slog::Logger::root(slog::Discard, slog::o!());
    RawNode::new(&config, storage.clone(), &logger).expect("the configuration is sound")
}

impl Theirs {
    pub(crate) fn new(id: u64, voters: &[u64], election_timeout: usize) -> Self {
        let storage = MemStorage::new_with_conf_state((voters.to_vec(), Vec::new()));
        let node = node(id, election_timeout, &storage, 0);
        Self { id, election_timeout, storage, node, committed: Vec::new(), applied: 0 }
    }

    pub(crate) fn restart(&mut self) {
        self.node = node(self.id, self.election_timeout, &self.storage, self.applied);
    }

    pub(crate) fn tick(&mut self) -> Vec<eraftpb::Message> {
        self.node.tick();
        self.settle()
    }

    pub(crate) fn propose(&mut self, payload: &Bytes) -> Vec<eraftpb::Message> {
        // Without a leader it is dropped.
        self.node.propose(Vec::new(), payload.to_vec()).ok();
        self.settle()
    }

    pub(crate) fn receive(&mut self, message: eraftpb::Message) -> Vec<eraftpb::Message> {
        // A proposal on its way to a leader that is none any more is dropped.
        self.node.step(message).ok();
        self.settle()
    }

    pub(crate) fn is_leader(&self) -> bool {
        self.node.raft.state == StateRole::Leader
    }

    pub(crate) fn term(&self) -> u64 {
        self.node.raft.term
    }

    pub(crate) fn status(&self) -> String {
        let raft = &self.node.raft;
        let peers: Vec<String> =
            raft.prs().iter().map(|(id, peer)| format!("{id}: {:?} at {}", peer.state, peer.matched)).collect();
        format!(
            "theirs, {:?} of {}, term {}, log ends at {}, commit {}; {}",
            raft.state,
            raft.leader_id,
            raft.term,
            raft.raft_log.last_index(),
            raft.raft_log.committed,
            peers.join(", ")
        )
    }

    pub(crate) fn applied(&self) -> u64 {
        self.applied
    }

    pub(crate) fn newly_committed(&mut self) -> Vec<(u64, Committed)> {
        std::mem::take(&mut self.committed)
    }

    /// Stores, sends and applies until nothing is left.
    fn settle(&mut self) -> Vec<eraftpb::Message> {
        let mut sent = Vec::new();
        while self.node.has_ready() {
            let mut ready = self.node.ready();
            sent.append(&mut ready.take_messages());
            self.apply(ready.take_committed_entries());
            self.storage.wl().append(ready.entries()).expect("entries follow each other");
            if let Some(hard_state) = ready.hs() {
                self.storage.wl().set_hardstate(hard_state.clone());
            }
            sent.append(&mut ready.take_persisted_messages());
            let mut light = self.node.advance(ready);
            if let Some(commit) = light.commit_index() {
                self.storage.wl().mut_hard_state().commit = commit;
            }
            sent.append(&mut light.take_messages());
            self.apply(light.take_committed_entries());
            self.node.advance_apply();
        }
        sent
    }

    fn apply(&mut self, entries: Vec<eraftpb::Entry>) {
        for entry in entries {
            self.applied = entry.index;
            self.committed.push((entry.index, (entry.term, Bytes::from(entry.data))));
        }
    }
}
