//! The way to the other members: frames on three lanes for each of them.

use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use plinth_base::{Instant, MemberId};

/// A connection to a peer. Each keeps its order, and none waits for another.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum PeerLane {
    /// Small and urgent.
    Pulse,
    /// Entries and proposals.
    Log,
    /// Snapshots.
    Bulk,
}

impl PeerLane {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Pulse, Self::Log, Self::Bulk];
}

/// What came from a peer, or became of the way to it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum PeerEvent {
    /// Frames can be sent, and what was sent before is lost.
    Connected {
        /// Who is there.
        peer: MemberId,
        /// On which lane.
        lane: PeerLane,
    },
    /// Nothing comes any more; what was sent may have arrived or not.
    Broken {
        /// Whose connection.
        peer: MemberId,
        /// Which one.
        lane: PeerLane,
    },
    /// A peer says that this member was removed from the cluster.
    Expelled {
        /// Who says so.
        by: MemberId,
    },
    /// A frame came, whole.
    Received {
        /// From whom.
        peer: MemberId,
        /// On which lane.
        lane: PeerLane,
        /// As it was sent.
        frame: Bytes,
    },
}

/// Why a frame wasn't taken. It will not arrive.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum NotSent {
    /// The peer isn't there.
    NotConnected,
    /// More waits already than a peer that is slow may have.
    Full,
}

/// Where a member is found.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PeerAddress {
    /// Who should be there.
    pub id: MemberId,
    /// Where, in the order to try.
    pub urls: Vec<String>,
    /// It has started once: its name is known.
    pub has_started: bool,
}

/// Who answers at a peer URL.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Resident {
    /// The cluster that it belongs to.
    pub cluster: u64,
    /// Its id.
    pub member: MemberId,
}

/// One member's way to the others. Connections are made and made again by themselves.
pub trait Peers {
    /// Keeps connections to all of these but this member itself, and to others only if they call as members that were added meanwhile, until they are among these.
    /// Those that were `removed` are told so when they call.
    fn set_members(&self, members: Vec<PeerAddress>, removed: Vec<MemberId>);

    /// The first member of any cluster that answers at one of these URLs.
    fn find_resident(&self, urls: Vec<String>) -> Pin<Box<dyn Future<Output = Option<Resident>>>>;

    /// Sends a frame, behind those that were sent on this lane before. It arrives once, or, if the lane breaks, perhaps not.
    ///
    /// # Errors
    /// It wasn't taken.
    fn send(&self, to: MemberId, lane: PeerLane, frame: Bytes) -> Result<(), NotSent>;

    /// The same for a frame that was due at that time: whoever writes it may count how late it was.
    ///
    /// # Errors
    /// It wasn't taken.
    fn send_due(&self, to: MemberId, lane: PeerLane, frame: Bytes, due: Instant) -> Result<(), NotSent> {
        let _ = due;
        self.send(to, lane, frame)
    }

    /// Breaks a lane on which something came that makes no sense; it is connected again as after any other break.
    fn reset(&self, peer: MemberId, lane: PeerLane);

    /// The next event, in the order in which they happened on each lane.
    fn take(&self) -> Option<PeerEvent>;

    /// Ready when there is something to take; else the task of `cx` is woken when there is.
    fn poll_ready(&self, cx: &Context<'_>) -> Poll<()>;
}

/// Of a member that has no way to any other: the only one of its cluster.
#[derive(Clone, Copy, Debug)]
pub struct Alone;

impl Peers for Alone {
    fn set_members(&self, _: Vec<PeerAddress>, _: Vec<MemberId>) {}

    fn find_resident(&self, _: Vec<String>) -> Pin<Box<dyn Future<Output = Option<Resident>>>> {
        Box::pin(std::future::ready(None))
    }

    fn send(&self, _: MemberId, _: PeerLane, _: Bytes) -> Result<(), NotSent> {
        Err(NotSent::NotConnected)
    }

    fn reset(&self, _: MemberId, _: PeerLane) {}

    fn take(&self) -> Option<PeerEvent> {
        None
    }

    fn poll_ready(&self, _: &Context<'_>) -> Poll<()> {
        Poll::Pending
    }
}
