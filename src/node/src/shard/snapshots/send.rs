//! The sender's side.

use std::{sync::Arc, time::Duration};

use bytes::{Bytes, BytesMut};
use plinth_base::{Instant, Mark, MemberId};
use plinth_env::{Env, TaskQueue};
use plinth_raft::{Input, Position};
use plinth_tree::{Missing, TreeId, View};

use super::super::{Completion, Shard};
use crate::{
    peers::{Place, SnapshotFrame, SnapshotRecord},
    published::Root,
};

/// Bytes of records in one part, and one record more.
const PART_BYTES: usize = 256 << 10;

/// Records that are read before others have their turn.
const SLICE_RECORDS: usize = 128;

/// A receiver that asks for nothing for so long is gone, or has changed its mind.
const SILENCE_MAX: Duration = Duration::from_secs(10);

/// A snapshot under way to a peer.
pub(in crate::shard) struct Outgoing<E: Env> {
    at: usize,
    peer: MemberId,
    session: u64,
    root: Arc<Root<E::Pages>>,
    used: Instant,
}

impl<E: Env> Shard<E> {
    /// Offers the newest published root.
    pub(in crate::shard) fn offer_snapshot(&mut self, at: usize, peer: MemberId) {
        Mark::SnapshotOffered.hit();
        let root = self.groups[at].published.root();
        let session = self.env.random_u64();
        let position = Position { index: root.state.applied, term: root.state.applied_term };
        plinth_base::log_info!(
            "a member lacks entries that are gone: it gets a snapshot",
            "peer" => format!("{:x}", peer.0).as_str(),
            "entry" => position.index.0
        );
        let offer = SnapshotFrame::Offer { session, at: position, state: root.snapshot.view().state().clone() };
        self.outgoing.retain(|outgoing| (outgoing.at, outgoing.peer) != (at, peer));
        self.outgoing.push(Outgoing { at, peer, session, root, used: self.now });
        self.send_snapshot_frame(at, peer, &offer);
    }

    /// Reads what is asked for, beside everything else.
    pub(super) fn read_part(&mut self, at: usize, peer: MemberId, session: u64, number: u64, place: Place) {
        let is_asked = |outgoing: &&mut Outgoing<E>| (outgoing.peer, outgoing.session) == (peer, session);
        let Some(outgoing) = self.outgoing.iter_mut().find(is_asked) else {
            return self.send_snapshot_frame(at, peer, &SnapshotFrame::End { session });
        };
        outgoing.used = self.now;
        let (env, root) = (self.env.clone(), Arc::clone(&outgoing.root));
        let (pace, completions) = (std::rc::Rc::clone(&self.log_pace), self.completions.clone());
        self.env.spawn(TaskQueue::Background, async move {
            let mut part = Part { place, records: BytesMut::new(), is_last: false };
            loop {
                env.sleep(pace.pause(env.now())).await;
                match part.read(root.snapshot.view().passing()) {
                    Ok(true) => break,
                    Ok(false) => env.yield_now().await,
                    Err(missing) => {
                        if let Err(error) = env.load_pages(root.snapshot.pages(), missing.wants).await {
                            // The receiver gives up in the end.
                            return plinth_base::log_error!(
                                "a page of a snapshot can't be read: its receiver doesn't get it",
                                "error" => plinth_base::log::Value::display(&error)
                            );
                        }
                    }
                }
            }
            let Part { records, is_last, .. } = part;
            let frame = SnapshotFrame::Part { session, number, is_last, records: records.freeze() };
            completions.push(Completion::PartRead(at, peer, frame));
        });
    }

    pub(in crate::shard) fn send_part(&mut self, at: usize, peer: MemberId, part: &SnapshotFrame) {
        self.send_snapshot_frame(at, peer, part);
    }

    pub(super) fn end_outgoing(&mut self, at: usize, peer: MemberId, session: u64) {
        let is_ended = |outgoing: &mut Outgoing<E>| (outgoing.peer, outgoing.session) == (peer, session);
        if self.outgoing.extract_if(.., is_ended).count() > 0 {
            self.step(at, Input::SnapshotEnded { peer });
        }
    }

    /// Lets go of what nobody asks for any more.
    pub(in crate::shard) fn end_silent_snapshots(&mut self) {
        let now = self.now;
        let is_silent = |outgoing: &mut Outgoing<E>| now.since(outgoing.used) >= SILENCE_MAX;
        let silent: Vec<_> = self.outgoing.extract_if(.., is_silent).map(|silent| (silent.at, silent.peer)).collect();
        for (at, peer) in silent {
            self.step(at, Input::SnapshotEnded { peer });
        }
    }
}

/// Records from a place on.
struct Part {
    place: Place,
    records: BytesMut,
    is_last: bool,
}

impl Part {
    /// A slice; true when the part is full, or nothing comes any more.
    fn read<P: plinth_env::PageSource>(&mut self, view: View<'_, P>) -> Result<bool, Missing> {
        for _ in 0..SLICE_RECORDS {
            if self.records.len() >= PART_BYTES {
                return Ok(true);
            }
            let trees = plinth_kv::trees::TREES.len();
            if usize::from(self.place.tree) >= trees {
                self.is_last = true;
                return Ok(true);
            }
            let mut cursor = view.cursor(TreeId(self.place.tree));
            let mut is_there = cursor.seek(self.place.after.as_deref().unwrap_or_default())?;
            if is_there && self.place.after.as_deref() == Some(cursor.key()?) {
                is_there = cursor.next()?;
            }
            if !is_there {
                self.place = Place { tree: self.place.tree + 1, after: None };
                continue;
            }
            let (key, value) = (cursor.key()?, cursor.value());
            SnapshotRecord::put(&mut self.records, self.place.tree, key, value.head(), value.body()?);
            self.place.after = Some(Bytes::copy_from_slice(key));
        }
        Ok(false)
    }
}
