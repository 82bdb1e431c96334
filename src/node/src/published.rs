//! What every executor may read of a group: its newest published root and a few numbers.

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering},
};

use arc_swap::ArcSwap;
use plinth_base::{GroupId, LogIndex};
use plinth_env::PageSource;
use plinth_kv::State;
use plinth_tree::Snapshot;

use crate::{metrics::RangeTimes, readers::Readers, watch::WatchMetrics};

/// A published root with the state record that belongs to it.
pub struct Root<P: PageSource> {
    /// The trees.
    pub snapshot: Snapshot<P>,
    /// Revision, applied index and so on.
    pub state: State,
}

/// A group as readers see it.
pub struct Published<P: PageSource> {
    /// Which group.
    pub group: GroupId,
    root: ArcSwap<Root<P>>,
    /// Its numbers.
    pub status: GroupStatus,
    /// Long reads under way.
    pub readers: Arc<Readers>,
    /// What watches count.
    pub watches: Arc<WatchMetrics>,
    /// How long its range reads took.
    pub ranges: RangeTimes,
}

impl<P: PageSource> Published<P> {
    pub(crate) fn new(group: GroupId, snapshot: Snapshot<P>, state: State) -> Arc<Self> {
        let root = ArcSwap::from_pointee(Root { snapshot, state });
        Arc::new(Self {
            group,
            root,
            status: GroupStatus::default(),
            readers: Arc::default(),
            watches: Arc::default(),
            ranges: RangeTimes::default(),
        })
    }

    /// The newest root. While it is held, none of its pages is used again: don't keep it across waits for anything but its own pages.
    #[must_use]
    pub fn root(&self) -> Arc<Root<P>> {
        self.root.load_full()
    }

    pub(crate) fn publish(&self, snapshot: Snapshot<P>, state: State) {
        self.root.store(Arc::new(Root { snapshot, state }));
    }
}

/// Numbers of a group that change with every turn; relaxed, each true at some moment.
#[derive(Default, Debug)]
pub struct GroupStatus {
    term: AtomicU64,
    leader: AtomicU64,
    leader_changes: AtomicU64,
    commit: AtomicU64,
    applied: AtomicU64,
    pending: AtomicU64,
    total_bytes: AtomicI64,
    in_use_bytes: AtomicI64,
    pending_bytes: AtomicI64,
    is_learner: AtomicBool,
    is_doubtful: AtomicBool,
}

impl GroupStatus {
    pub(crate) fn set_raft(&self, term: u64, leader: u64, commit: LogIndex) {
        if self.leader.swap(leader, Ordering::Relaxed) != leader && leader != 0 {
            self.leader_changes.fetch_add(1, Ordering::Relaxed);
        }
        self.term.store(term, Ordering::Relaxed);
        self.commit.store(commit.0, Ordering::Relaxed);
    }

    pub(crate) fn set_applied(&self, applied: LogIndex, pending: usize) {
        self.applied.store(applied.0, Ordering::Relaxed);
        self.pending.store(pending as u64, Ordering::Relaxed);
    }

    pub(crate) fn set_sizes(&self, total_bytes: u64, in_use_bytes: u64) {
        self.total_bytes.store(i64::try_from(total_bytes).unwrap_or(i64::MAX), Ordering::Relaxed);
        self.in_use_bytes.store(i64::try_from(in_use_bytes).unwrap_or(i64::MAX), Ordering::Relaxed);
    }

    pub(crate) fn set_doubtful(&self, is_doubtful: bool) {
        self.is_doubtful.store(is_doubtful, Ordering::Relaxed);
    }

    pub(crate) fn set_pending(&self, bytes: u64) {
        self.pending_bytes.store(i64::try_from(bytes).unwrap_or(i64::MAX), Ordering::Relaxed);
    }

    pub(crate) fn set_learner(&self, is_learner: bool) {
        self.is_learner.store(is_learner, Ordering::Relaxed);
    }

    /// Whether the member has no vote, and wasn't added to get one.
    #[must_use]
    pub fn is_learner(&self) -> bool {
        self.is_learner.load(Ordering::Relaxed)
    }

    /// The member's term.
    #[must_use]
    pub fn term(&self) -> u64 {
        self.term.load(Ordering::Relaxed)
    }

    /// The leader's member id, 0 if none is known.
    #[must_use]
    pub fn leader(&self) -> u64 {
        self.leader.load(Ordering::Relaxed)
    }

    /// How often a leader was found.
    #[must_use]
    pub fn leader_changes(&self) -> u64 {
        self.leader_changes.load(Ordering::Relaxed)
    }

    /// The newest committed entry.
    #[must_use]
    pub fn commit(&self) -> u64 {
        self.commit.load(Ordering::Relaxed)
    }

    /// The newest applied entry.
    #[must_use]
    pub fn applied(&self) -> u64 {
        self.applied.load(Ordering::Relaxed)
    }

    /// The end of the log was cut at a start, and the member hasn't caught up since, or its disk doesn't know that yet: its vote counts only where all vote.
    #[must_use]
    pub fn is_doubtful(&self) -> bool {
        self.is_doubtful.load(Ordering::Relaxed)
    }

    /// Proposals without an answer yet.
    #[must_use]
    pub fn pending(&self) -> u64 {
        self.pending.load(Ordering::Relaxed)
    }

    /// Bytes of the tree file: pages in use and free pages not given back.
    #[must_use]
    pub fn total_bytes(&self) -> i64 {
        self.total_bytes.load(Ordering::Relaxed)
    }

    /// Bytes of pages in use.
    #[must_use]
    pub fn in_use_bytes(&self) -> i64 {
        self.in_use_bytes.load(Ordering::Relaxed)
    }

    /// Bytes of pages that the newest root doesn't need and that can't be used again yet, because of an older root or checkpoint.
    #[must_use]
    pub fn pending_bytes(&self) -> i64 {
        self.pending_bytes.load(Ordering::Relaxed)
    }
}
