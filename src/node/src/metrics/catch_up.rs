//! How far the peers of a leader are behind it.

use std::sync::{Mutex, PoisonError};

use plinth_base::MemberId;

/// What a peer does about it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum CatchUpState {
    /// The leader asks where their logs agree, or hears nothing.
    Probing,
    /// It gets entries as they come.
    Streaming,
    /// It gets a snapshot.
    Snapshot,
    /// It has installed one, and gets what came after it.
    Recovering,
}

impl CatchUpState {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Probing, Self::Streaming, Self::Snapshot, Self::Recovering];

    /// As a label.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Probing => "probing",
            Self::Streaming => "streaming",
            Self::Snapshot => "snapshot",
            Self::Recovering => "recovering",
        }
    }
}

/// One peer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct CatchUp {
    /// Who.
    pub peer: MemberId,
    /// What it does.
    pub state: CatchUpState,
    /// Entries of the leader's log that it doesn't have durably.
    pub behind: u64,
}

/// All peers, as the leader saw them last; empty at others.
#[derive(Default, Debug)]
pub struct CatchUps(Mutex<Vec<CatchUp>>);

impl CatchUps {
    pub(crate) fn set(&self, peers: Vec<CatchUp>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = peers;
    }

    /// As they were a moment ago.
    #[must_use]
    pub fn figures(&self) -> Vec<CatchUp> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}
