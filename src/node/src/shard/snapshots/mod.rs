//! Snapshots for members that are so far behind that the log doesn't reach back to them.
//!
//! The receiver asks for one part after the other, so that neither end holds more than one of them in memory, and a part that is lost is asked for again. What
//! is offered are the pages of the newest checkpoint; who can't read them asks for records, and is offered those of the newest root. The sender keeps either
//! until it is done, or nobody asks any more. The receiver makes a tree of its own beside the one it serves from, proves it, makes it durable, and puts it in
//! the other's place; only then does its log begin behind it.

mod build;
mod install;
mod receive;
mod send;

pub(super) use install::Placed;
pub(super) use receive::{Built, Incoming};
pub(super) use send::Outgoing;

use plinth_base::MemberId;
use plinth_env::{Env, PeerLane};

use self::receive::Offer;
use super::Shard;
use crate::peers::SnapshotFrame;

impl<E: Env> Shard<E> {
    pub(super) fn handle_snapshot_frame(&mut self, at: usize, peer: MemberId, frame: SnapshotFrame) {
        match frame {
            SnapshotFrame::Offer { session, at: position, state, meta } => {
                self.consider_offer(at, peer, &Offer { session, position, state, meta });
            }
            SnapshotFrame::Ask { session, number, place } => self.read_part(at, peer, session, number, place),
            SnapshotFrame::Part { session, number, is_last, content } => {
                self.take_part(at, peer, (session, number), is_last, content);
            }
            SnapshotFrame::End { session } => {
                self.end_outgoing(at, peer, session);
                self.drop_incoming(at, peer, session);
            }
        }
    }

    /// What is lost is asked for again, so nobody has to know whether it was sent.
    fn send_snapshot_frame(&mut self, at: usize, to: MemberId, frame: &SnapshotFrame) {
        let group = self.groups[at].id;
        let _ = self.links.send(to, PeerLane::Bulk, |out| frame.encode(group, out));
    }
}
