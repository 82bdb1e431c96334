//! The sender's side.

use std::{rc::Rc, sync::Arc, time::Duration};

use bytes::{Bytes, BytesMut};
use plinth_base::{Instant, LogIndex, Mark, MemberId};
use plinth_env::{Env, TaskQueue};
use plinth_kv::State;
use plinth_raft::{Input, Position};
use plinth_tree::{CopySource, Missing, TreeId, View};

use super::super::{Completion, Shard};
use crate::{
    budget::Use,
    peers::{Place, SnapshotFrame, SnapshotRecord},
    published::Root,
};

/// Bytes of one part, and one record more.
const PART_BYTES: usize = 256 << 10;

/// Records that are read before others have their turn.
const SLICE_RECORDS: usize = 128;

/// An offer that nobody has taken up is made again after this: the receiver may have been busy with another one.
const OFFER_AGAIN: Duration = Duration::from_secs(1);

/// A receiver that asks for nothing for so long is gone, or has changed its mind.
const SILENCE_MAX: Duration = Duration::from_secs(10);

/// A snapshot under way to a peer.
pub(in crate::shard) struct Outgoing<E: Env> {
    at: usize,
    peer: MemberId,
    session: u64,
    position: Position,
    content: Content<E>,
    used: Instant,
    /// When it was last offered.
    offered: Instant,
    /// When the first part was asked for.
    began: Option<Instant>,
    /// The last part was asked for.
    is_sent: bool,
}

/// What a snapshot consists of.
enum Content<E: Env> {
    Pages(Rc<CopySource<E>>),
    Records(Arc<Root<E::Pages>>),
}

impl<E: Env> Outgoing<E> {
    fn offer(&self) -> SnapshotFrame {
        let (state, meta) = match &self.content {
            Content::Pages(source) => (source.state().clone(), source.meta()),
            Content::Records(root) => (root.snapshot.view().state().clone(), Bytes::new()),
        };
        SnapshotFrame::Offer { session: self.session, at: self.position, state, meta }
    }
}

impl<E: Env> Shard<E> {
    /// Offers the pages of the newest checkpoint.
    pub(in crate::shard) fn offer_snapshot(&mut self, at: usize, peer: MemberId) {
        Mark::SnapshotOffered.hit();
        let source = self.groups[at].store.begin_copy();
        let Ok(state) = State::decode(source.state()) else {
            // There is none yet.
            return self.offer_records(at, peer);
        };
        plinth_base::log_info!(
            "a member lacks entries that are gone: it gets a snapshot",
            "peer" => format!("{:x}", peer.0).as_str(),
            "entry" => state.applied.0
        );
        let position = Position { index: state.applied, term: state.applied_term };
        self.offer(at, peer, position, Content::Pages(Rc::new(source)));
    }

    /// The same for somebody who can't read these pages: the records of the newest published root.
    fn offer_records(&mut self, at: usize, peer: MemberId) {
        let root = self.groups[at].published.root();
        let position = Position { index: root.state.applied, term: root.state.applied_term };
        self.offer(at, peer, position, Content::Records(root));
    }

    fn offer(&mut self, at: usize, peer: MemberId, position: Position, content: Content<E>) {
        let session = self.env.random_u64();
        self.end_all_outgoing(|outgoing| (outgoing.at, outgoing.peer) == (at, peer));
        let outgoing = Outgoing {
            at,
            peer,
            session,
            position,
            content,
            used: self.now,
            offered: self.now,
            began: None,
            is_sent: false,
        };
        self.send_snapshot_frame(at, peer, &outgoing.offer());
        self.outgoing.push(outgoing);
    }

    /// The peer can be reached again. If it has started anew it doesn't know what was offered to it.
    pub(in crate::shard) fn offer_again(&mut self, peer: MemberId) {
        let outgoing = self.outgoing.iter().filter(|outgoing| outgoing.peer == peer);
        let offers: Vec<_> = outgoing.map(|outgoing| (outgoing.at, outgoing.offer())).collect();
        for (at, offer) in offers {
            self.send_snapshot_frame(at, peer, &offer);
        }
    }

    /// Entries up to this one are in all snapshots that are under way: those behind are needed when they have arrived.
    pub(in crate::shard) fn entries_in_snapshots(&self, at: usize) -> Option<LogIndex> {
        self.outgoing.iter().filter(|outgoing| outgoing.at == at).map(|outgoing| outgoing.position.index).min()
    }

    /// Reads what is asked for, beside everything else.
    pub(super) fn read_part(&mut self, at: usize, peer: MemberId, session: u64, number: u64, place: Place) {
        let mut paced = self.paced(Use::Snapshot);
        let is_asked = |outgoing: &&mut Outgoing<E>| (outgoing.peer, outgoing.session) == (peer, session);
        let Some(outgoing) = self.outgoing.iter_mut().find(is_asked) else {
            return self.send_snapshot_frame(at, peer, &SnapshotFrame::End { session });
        };
        outgoing.used = self.now;
        if let (Content::Pages(_), Place::Records { .. }) = (&outgoing.content, &place) {
            return self.offer_records(at, peer);
        }
        if outgoing.began.replace(outgoing.began.unwrap_or(self.now)).is_none() {
            self.metrics.snapshots_sent.begin(peer);
        }
        let (env, completions) = (self.env.clone(), self.completions.clone());
        let frame = move |content, is_last| SnapshotFrame::Part { session, number, is_last, content };
        let is_unreadable = |error: &dyn std::fmt::Display| {
            // The receiver gives up in the end.
            plinth_base::log_error!(
                "a page of a snapshot can't be read: its receiver doesn't get it",
                "error" => plinth_base::log::Value::display(error)
            );
        };
        match (&outgoing.content, place) {
            (Content::Pages(source), Place::Pages { from }) => {
                let source = Rc::clone(source);
                self.env.spawn(TaskQueue::Background, async move {
                    match source.read(from, PART_BYTES, paced).await {
                        Ok(part) => completions.push(Completion::PartRead(at, peer, frame(part.pages, part.is_last))),
                        Err(error) => is_unreadable(&error),
                    }
                });
            }
            (Content::Records(root), Place::Records { tree, after }) => {
                let root = Arc::clone(root);
                self.env.spawn(TaskQueue::Background, async move {
                    let mut part = Part { tree, after, records: BytesMut::new(), is_last: false };
                    loop {
                        match part.read(root.snapshot.view().passing()) {
                            Ok(true) => break,
                            Ok(false) => env.yield_now().await,
                            Err(missing) => {
                                if let Err(error) = env.load_pages(root.snapshot.pages(), missing.wants).await {
                                    return is_unreadable(&error);
                                }
                            }
                        }
                    }
                    paced(part.records.len()).await;
                    completions.push(Completion::PartRead(at, peer, frame(part.records.freeze(), part.is_last)));
                });
            }
            _ => self.end_outgoing(at, peer, session),
        }
    }

    pub(in crate::shard) fn send_part(&mut self, at: usize, peer: MemberId, part: &SnapshotFrame) {
        if let SnapshotFrame::Part { session, is_last: true, .. } = part
            && let Some(outgoing) = self.outgoing.iter_mut().find(|outgoing| outgoing.session == *session)
        {
            outgoing.is_sent = true;
        }
        self.send_snapshot_frame(at, peer, part);
    }

    pub(super) fn end_outgoing(&mut self, at: usize, peer: MemberId, session: u64) {
        let is_ended = |outgoing: &Outgoing<E>| (outgoing.peer, outgoing.session) == (peer, session);
        if !self.end_all_outgoing(is_ended).is_empty() {
            self.step(at, Input::SnapshotEnded { peer });
        }
    }

    /// Offers again what nobody has taken up, and lets go of what nobody asks for any more.
    pub(in crate::shard) fn look_after_outgoing(&mut self) {
        let now = self.now;
        let mut offers = Vec::new();
        for outgoing in &mut self.outgoing {
            if outgoing.began.is_none() && now.since(outgoing.offered) >= OFFER_AGAIN {
                outgoing.offered = now;
                offers.push((outgoing.at, outgoing.peer, outgoing.offer()));
            }
        }
        for (at, peer, offer) in offers {
            self.send_snapshot_frame(at, peer, &offer);
        }
        for (at, peer) in self.end_all_outgoing(|outgoing| now.since(outgoing.used) >= SILENCE_MAX) {
            self.step(at, Input::SnapshotEnded { peer });
        }
    }

    /// Lets go of some, and says of which groups and whose they were.
    fn end_all_outgoing(&mut self, are_ended: impl Fn(&Outgoing<E>) -> bool) -> Vec<(usize, MemberId)> {
        let ended: Vec<Outgoing<E>> = self.outgoing.extract_if(.., |outgoing| are_ended(outgoing)).collect();
        for outgoing in &ended {
            if let Some(began) = outgoing.began {
                let took = outgoing.is_sent.then(|| self.now.since(began));
                self.metrics.snapshots_sent.end(outgoing.peer, took);
            }
        }
        ended.into_iter().map(|outgoing| (outgoing.at, outgoing.peer)).collect()
    }
}

/// Records from a place on.
struct Part {
    tree: u8,
    after: Option<Bytes>,
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
            if usize::from(self.tree) >= trees {
                self.is_last = true;
                return Ok(true);
            }
            let mut cursor = view.cursor(TreeId(self.tree));
            let mut is_there = cursor.seek(self.after.as_deref().unwrap_or_default())?;
            if is_there && self.after.as_deref() == Some(cursor.key()?) {
                is_there = cursor.next()?;
            }
            if !is_there {
                (self.tree, self.after) = (self.tree + 1, None);
                continue;
            }
            let (key, value) = (cursor.key()?, cursor.value());
            SnapshotRecord::put(&mut self.records, self.tree, key, value.head(), value.body()?);
            self.after = Some(Bytes::copy_from_slice(key));
        }
        Ok(false)
    }
}
