//! Snapshots for members that are so far behind that the log doesn't reach back to them.
//!
//! The receiver asks for one part after the other, the next one while it writes the last one: so the sender holds one of them in memory, the receiver two, and a
//! part that is lost is asked for again. What is offered are the pages of the newest checkpoint; who can't read them asks for records, and is offered those of the newest root. The sender keeps either
//! until it is done, or nobody asks any more; pages that are held for too long, and those of a snapshot that was
//! proven and is old, are exchanged for those of a newer checkpoint. The receiver makes a tree of its own beside the one it serves from, proves it, makes it durable, and puts it in
//! the other's place; only then does its log begin behind it.

mod build;
mod install;
mod receive;
mod recovery;
mod send;

pub(super) use install::Placed;
pub(super) use receive::{Built, FailedSnapshot, Incoming};
pub(super) use recovery::Recovering;
pub(super) use send::{Moved, Outgoing};

use bytes::Bytes;
use plinth_base::MemberId;
use plinth_env::{Env, PeerLane};

use self::receive::Offer;
use super::Shard;
use crate::peers::SnapshotFrame;

/// A member, as operators know it.
fn name(member: MemberId) -> String {
    format!("{:x}", member.0)
}

impl<E: Env> Shard<E> {
    pub(super) fn handle_snapshot_frame(&mut self, at: usize, peer: MemberId, frame: SnapshotFrame) {
        match frame {
            SnapshotFrame::Offer { session, at: position, state, meta, since } => {
                self.consider_offer(at, peer, &Offer { session, position, state, meta, since });
            }
            SnapshotFrame::Ask { session, number, place, done_ppm } => {
                self.read_part(at, peer, (session, number), place, done_ppm);
            }
            SnapshotFrame::Part { session, number, content } => self.take_part(at, peer, (session, number), content),
            SnapshotFrame::End { session, ending } => {
                self.end_outgoing(at, peer, session, ending);
                self.drop_incoming(at, peer, session);
            }
        }
    }

    /// The same as [`Self::send_snapshot_frame`], of what is a frame already.
    pub(super) fn send_part(&self, to: MemberId, frame: Bytes) {
        let _ = self.links.send_frame(to, PeerLane::Bulk, frame);
    }

    /// What is lost is asked for again, so nobody has to know whether it was sent.
    pub(super) fn send_snapshot_frame(&mut self, at: usize, to: MemberId, frame: &SnapshotFrame) {
        let group = self.groups[at].id;
        let _ = self.links.send(to, PeerLane::Bulk, |out| frame.encode(group, out));
    }
}
