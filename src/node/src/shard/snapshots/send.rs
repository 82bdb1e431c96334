//! The sender's side.

use std::{cell::RefCell, rc::Rc, sync::Arc, time::Duration};

use bytes::{Bytes, BytesMut};
use plinth_base::{Instant, LogIndex, Mark, MemberId, log::Value};
use plinth_env::{Env, TaskQueue};
use plinth_kv::State;
use plinth_raft::{Input, Position, Role};
use plinth_tree::{Blocks, CopyPart, CopySource, Missing, Since, TreeError, TreeId, View};

use super::{
    super::{Completion, Shard},
    name,
};
use crate::{
    budget::Use,
    peers::{Content as PartContent, Ending, OpenPart, Place, SnapshotFrame, SnapshotRecord},
    published::Root,
};

/// Records that are read before others have their turn.
const SLICE_RECORDS: usize = 128;

/// An offer is made again when nothing was asked for so long: the receiver may have been busy with another one, or have started anew.
const OFFER_AGAIN: Duration = Duration::from_secs(1);

/// A receiver that asks for nothing for so long is gone, or has changed its mind: until then it can go on where it was. Who leads no more has less patience:
/// its successor offers one, too.
const SILENCE_MAX: Duration = Duration::from_secs(120);
const SILENCE_MAX_OF_FOLLOWERS: Duration = Duration::from_secs(10);

/// What a pin may hold, as a part of the pages in use, if that is more than the limit.
const PINNED_DIVISOR: u64 = 4;

/// Beside about as many pages as are asked for: a block more, and what stands in front of each run.
const PART_ROOM_BYTES: usize = 64 << 10;

/// How often the limits of a pin are doubled at most: that is for ever.
const DOUBLED_MAX: u32 = 16;

/// A snapshot that is all there is brought up to date when it is older than this part of the longest that a pin is held.
const STALE_DIVISOR: u32 = 12;

/// A snapshot under way to a peer.
pub(in crate::shard) struct Outgoing<E: Env> {
    at: usize,
    peer: MemberId,
    session: u64,
    /// What the receiver is known to have when it has got everything: entries behind it are needed then.
    position: Position,
    content: Content<E>,
    used: Instant,
    /// When it was last offered.
    offered: Instant,
    /// When the first part was asked for.
    began: Option<Instant>,
    /// The receiver has everything, and makes a tree of it.
    is_sent: bool,
}

/// What a snapshot consists of.
enum Content<E: Env> {
    Pages(Pages<E>),
    Records(Arc<Root<E::Pages>>),
}

/// A checkpoint, and what the receiver has of it or of an older one.
struct Pages<E: Env> {
    source: Rc<CopySource<E>>,
    position: Position,
    pinned: Instant,
    /// How often it became that of a newer checkpoint because it was held for too long.
    moves: u32,
    /// How old it was when it last became one to be up to date.
    renewed_at: Option<Duration>,
    /// It is about to become one.
    moving: Option<Why>,
    /// What has changed since the generation that the receiver spoke of last.
    since: Option<Since>,
    /// For parts. One is under way as a rule; so its memory is used again.
    buffer: Rc<RefCell<BytesMut>>,
}

/// Why a snapshot goes on as one of a newer checkpoint.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Why {
    /// Its pages can't be used again for too long, or are too many.
    Held,
    /// The log behind it has gone: who gets it couldn't go on from there.
    CutOff,
    /// All of it is there, and old. The pages that have changed since are fewer than the entries that changed them, and whoever applied those would catch up slowly.
    Stale,
}

impl Why {
    fn text(self) -> &'static str {
        match self {
            Self::Held => "its pages are held for too long, or are too many",
            Self::CutOff => "the log behind it has gone",
            Self::Stale => "it is all there, and brought up to date first",
        }
    }
}

impl<E: Env> Pages<E> {
    /// Of the newest checkpoint, if there is one.
    fn pin(source: CopySource<E>, now: Instant) -> Option<Self> {
        let position = position_of(&source)?;
        Some(Self {
            source: Rc::new(source),
            position,
            pinned: now,
            moves: 0,
            renewed_at: None,
            moving: None,
            since: None,
            buffer: Rc::default(),
        })
    }

    /// The receiver copies this generation.
    fn confirm(&mut self) {
        let generation = self.source.generation();
        if self.since.as_ref().is_none_or(|since| since.from() != generation) {
            self.since = Some(Since::generation(generation));
        }
    }

    /// A newer checkpoint takes its place; `changed` are the blocks with pages that only that one uses.
    fn advance(&mut self, source: Rc<CopySource<E>>, changed: &Blocks, now: Instant) {
        if let Some(position) = position_of(&source) {
            self.position = position;
        }
        if let Some(since) = &mut self.since {
            since.advance(changed);
        }
        match self.moving.take() {
            Some(Why::Stale) => self.renewed_at = Some(now.since(self.pinned)),
            _ => self.moves = (self.moves + 1).min(DOUBLED_MAX),
        }
        (self.source, self.pinned) = (source, now);
    }
}

fn position_of<E: Env>(source: &CopySource<E>) -> Option<Position> {
    let state = State::decode(source.state()).ok()?;
    Some(Position { index: state.applied, term: state.applied_term })
}

impl<E: Env> Outgoing<E> {
    fn offer(&self) -> SnapshotFrame {
        let (at, state, meta, since) = match &self.content {
            Content::Pages(Pages { source, position, since, .. }) => {
                let is_newer = |since: &&Since| since.from() != source.generation();
                (*position, source.state().clone(), source.meta(), since.as_ref().filter(is_newer).cloned())
            }
            Content::Records(root) => (self.position, root.snapshot.view().state().clone(), Bytes::new(), None),
        };
        SnapshotFrame::Offer { session: self.session, at, state, meta, since }
    }
}

/// A newer checkpoint, and what has changed up to it.
pub(crate) type Moved<E> = Result<(Rc<CopySource<E>>, Blocks), TreeError>;

impl<E: Env> Shard<E> {
    /// Offers the pages of the newest checkpoint.
    pub(in crate::shard) fn offer_snapshot(&mut self, at: usize, peer: MemberId) {
        Mark::SnapshotOffered.hit();
        let Some(pages) = Pages::pin(self.groups[at].store.begin_copy(), self.now) else {
            // There is none yet.
            return self.offer_records(at, peer);
        };
        plinth_base::log_info!(
            "a member lacks entries that are gone: it gets a snapshot",
            "peer" => name(peer).as_str(),
            "entry" => pages.position.index.0
        );
        self.offer(at, peer, pages.position, Content::Pages(pages));
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
        self.recovering.retain(|recovering| (recovering.at, recovering.peer) != (at, peer));
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

    fn leads(&self, at: usize) -> bool {
        self.groups[at].raft.role() == Role::Leader
    }

    /// The peer can be reached again. If it has started anew it doesn't know what was offered to it.
    pub(in crate::shard) fn offer_again(&mut self, peer: MemberId) {
        let leads = |outgoing: &&Outgoing<E>| self.leads(outgoing.at);
        let outgoing = self.outgoing.iter().filter(|outgoing| outgoing.peer == peer).filter(leads);
        let offers: Vec<_> = outgoing.map(|outgoing| (outgoing.at, outgoing.offer())).collect();
        for (at, offer) in offers {
            self.send_snapshot_frame(at, peer, &offer);
        }
    }

    /// Entries up to this one are in all snapshots that are under way: those behind are needed when they have arrived.
    pub(super) fn entries_in_outgoing(&self, at: usize) -> Option<LogIndex> {
        self.outgoing.iter().filter(|outgoing| outgoing.at == at).map(|outgoing| outgoing.position.index).min()
    }

    /// Reads what is asked for, beside everything else.
    pub(super) fn read_part(
        &mut self,
        at: usize,
        peer: MemberId,
        (session, number): (u64, u64),
        place: Place,
        ppm: u32,
    ) {
        let (mut paced, part_bytes) = (self.paced(Use::Snapshot), self.options.snapshot_part_bytes);
        let is_asked = |outgoing: &Outgoing<E>| (outgoing.peer, outgoing.session) == (peer, session);
        let Some(which) = self.outgoing.iter().position(is_asked) else {
            return self.send_snapshot_frame(at, peer, &SnapshotFrame::End { session, ending: Ending::Over });
        };
        let outgoing = &mut self.outgoing[which];
        outgoing.used = self.now;
        if outgoing.began.replace(outgoing.began.unwrap_or(self.now)).is_none() {
            self.metrics.snapshots_sent.begin(peer);
        }
        self.metrics.snapshots_sent.note(peer, ppm);
        let (env, completions, group) = (self.env.clone(), self.completions.clone(), self.groups[at].id);
        let frame = move |content| SnapshotFrame::Part { session, number, content };
        let is_unreadable = |error: &dyn std::fmt::Display| {
            // The receiver gives up in the end.
            plinth_base::log_error!(
                "a page of a snapshot can't be read: its receiver doesn't get it",
                "error" => Value::display(error)
            );
        };
        let is_end = place.is_end();
        if let (Content::Pages(pages), Place::Pages { generation, .. } | Place::Proven { generation }) =
            (&mut outgoing.content, &place)
        {
            if *generation == pages.source.generation() {
                pages.confirm();
                outgoing.position = pages.position;
            } else if !is_end {
                // It doesn't know yet that there is a newer one.
                let offer = outgoing.offer();
                return self.send_snapshot_frame(at, peer, &offer);
            }
        }
        match (&mut outgoing.content, place) {
            (Content::Pages(_), Place::Records { .. }) => self.offer_records(at, peer),
            (Content::Pages(_), Place::Pages { .. }) if is_end => {}
            (Content::Pages(_), Place::Proven { .. }) => {
                if self.move_if_due(which, true) {
                    return;
                }
                self.outgoing[which].is_sent = true;
                let nothing = CopyPart { pages: Bytes::new(), until: 0 };
                self.send_snapshot_frame(at, peer, &frame(PartContent::Pages(nothing)));
            }
            (Content::Pages(pages), Place::Pages { wanted, .. }) => {
                outgoing.is_sent = false;
                let (source, buffer) = (Rc::clone(&pages.source), Rc::clone(&pages.buffer));
                self.env.spawn(TaskQueue::Background, async move {
                    let mut out = buffer.take();
                    out.reserve(part_bytes + PART_ROOM_BYTES);
                    let part = OpenPart::begin(&mut out, session, number);
                    match source.read(&wanted, part_bytes, &mut out, paced).await {
                        Ok(until) => {
                            part.end(&mut out, group, until);
                            completions.push(Completion::PartRead(peer, out.split().freeze()));
                            buffer.replace(out);
                        }
                        Err(error) => is_unreadable(&error),
                    }
                });
            }
            (Content::Records(_), Place::Records { .. }) if is_end => outgoing.is_sent = true,
            (Content::Records(root), Place::Records { tree, after }) => {
                let root = Arc::clone(root);
                self.env.spawn(TaskQueue::Background, async move {
                    let mut part =
                        Part { tree, after, records: BytesMut::new(), bytes_max: part_bytes, is_last: false };
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
                    let content = PartContent::Records { records: part.records.freeze(), is_last: part.is_last };
                    let mut out = BytesMut::new();
                    frame(content).encode(group, &mut out);
                    completions.push(Completion::PartRead(peer, out.freeze()));
                });
            }
            (Content::Records(_), Place::Pages { .. } | Place::Proven { .. }) => {
                self.end_outgoing(at, peer, session, Ending::Over);
            }
        }
    }

    /// The receiver says how it ended.
    pub(super) fn end_outgoing(&mut self, at: usize, peer: MemberId, session: u64, ending: Ending) {
        let is_meant = |outgoing: &&mut Outgoing<E>| (outgoing.peer, outgoing.session) == (peer, session);
        let Some(outgoing) = self.outgoing.iter_mut().find(is_meant) else { return };
        outgoing.is_sent = ending == Ending::Installed;
        let position = outgoing.position;
        self.end_all_outgoing(|outgoing| (outgoing.peer, outgoing.session) == (peer, session));
        self.step(at, Input::SnapshotEnded { peer });
        match ending {
            Ending::Installed => self.await_recovery(at, peer, position.index),
            Ending::Rotten => {
                plinth_base::log_error!(
                    "what a member got of a snapshot isn't what was written: this member's tree file is scrubbed now",
                    "peer" => name(peer).as_str()
                );
                self.scrub_now(at);
            }
            Ending::Over => {}
        }
    }

    /// Offers again what nobody has asked for, moves what is pinned too long, and lets go of what nobody asks for any more.
    pub(in crate::shard) fn look_after_outgoing(&mut self) {
        let now = self.now;
        let is_lost = |outgoing: &Outgoing<E>| {
            let silence = if self.leads(outgoing.at) { SILENCE_MAX } else { SILENCE_MAX_OF_FOLLOWERS };
            now.since(outgoing.used) >= silence
        };
        let lost: Vec<u64> = self.outgoing.iter().filter(|one| is_lost(one)).map(|one| one.session).collect();
        for (at, peer) in self.end_all_outgoing(|outgoing| lost.contains(&outgoing.session)) {
            self.step(at, Input::SnapshotEnded { peer });
        }
        for number in 0..self.outgoing.len() {
            let at = self.outgoing[number].at;
            if !self.leads(at) {
                continue;
            }
            self.move_if_due(number, false);
            let outgoing = &mut self.outgoing[number];
            if now.since(outgoing.offered.max(outgoing.used)) >= OFFER_AGAIN {
                outgoing.offered = now;
                let (peer, offer) = (outgoing.peer, outgoing.offer());
                self.send_snapshot_frame(at, peer, &offer);
            }
        }
    }

    /// Takes the newest checkpoint in the place of one whose pages can't be used again for too long, or that are too many, or behind which the log has gone, and of
    /// one that was proven and is old. Each time the limits are doubled, and what is brought up to date is half as old as the last time, so that age and size alone
    /// never keep a snapshot from its end. False if it stays what it is.
    fn move_if_due(&mut self, number: usize, is_proven: bool) -> bool {
        let outgoing = &mut self.outgoing[number];
        let (at, peer, session) = (outgoing.at, outgoing.peer, outgoing.session);
        let Content::Pages(pages) = &mut outgoing.content else { return false };
        let group = &self.groups[at];
        let newest = group.store.checkpoints().generation;
        if outgoing.is_sent || newest == pages.source.generation() || group.raft.role() != Role::Leader {
            return false;
        }
        if pages.moving.is_some() {
            return true;
        }
        let age = self.now.since(pages.pinned);
        let in_use_bytes = u64::try_from(group.published.status.in_use_bytes()).unwrap_or(0);
        let bytes_max = self.options.pin_bytes_max.max(in_use_bytes / PINNED_DIVISOR) << pages.moves;
        let is_old = age >= self.options.pin_age_max * (1 << pages.moves);
        let is_stale = age >= self.options.pin_age_max / STALE_DIVISOR;
        let is_cut_off = self.wal.first_index(group.id).is_some_and(|first| first > pages.position.index.next());
        let why = if is_cut_off {
            Why::CutOff
        } else if is_proven && is_stale && pages.renewed_at.is_none_or(|last| age <= last / 2) {
            Why::Stale
        } else if is_old || group.store.pending_bytes() >= bytes_max {
            Why::Held
        } else {
            return false;
        };
        pages.moving = Some(why);
        let (older, newer) = (Rc::clone(&pages.source), Rc::new(group.store.begin_copy()));
        let (completions, paced) = (self.completions.clone(), self.paced(Use::Snapshot));
        self.env.spawn(TaskQueue::Background, async move {
            let changed = newer.changed_since(&older, paced).await;
            completions.push(Completion::SnapshotMoved(at, (peer, session), changed.map(|changed| (newer, changed))));
        });
        true
    }

    pub(in crate::shard) fn handle_snapshot_moved(
        &mut self,
        at: usize,
        (peer, session): (MemberId, u64),
        moved: Moved<E>,
    ) {
        let now = self.now;
        let is_meant = |outgoing: &&mut Outgoing<E>| (outgoing.peer, outgoing.session) == (peer, session);
        let Some(outgoing) = self.outgoing.iter_mut().find(is_meant) else { return };
        let Content::Pages(pages) = &mut outgoing.content else { return };
        let (source, changed) = match moved {
            Ok(moved) => moved,
            Err(error) => {
                plinth_base::log_error!(
                    "what has changed in a tree file can't be read: a snapshot is begun anew",
                    "peer" => name(peer).as_str(),
                    "error" => Value::display(&error)
                );
                return self.end_outgoing(at, peer, session, Ending::Over);
            }
        };
        let why = pages.moving.expect("it is being moved");
        let mark = if why == Why::Stale { Mark::SnapshotRenewed } else { Mark::SnapshotMoved };
        mark.hit();
        pages.advance(source, &changed, now);
        let entry = pages.position.index.0;
        outgoing.offered = now;
        let offer = outgoing.offer();
        plinth_base::log_info!(
            "a snapshot goes on as one of a newer checkpoint",
            "peer" => name(peer).as_str(),
            "why" => why.text(),
            "entry" => entry,
            "changed_blocks" => changed.count()
        );
        self.send_snapshot_frame(at, peer, &offer);
    }

    /// The group's tree is another one.
    pub(super) fn drop_outgoing(&mut self, at: usize) {
        for (at, peer) in self.end_all_outgoing(|outgoing| outgoing.at == at) {
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
    /// And one record more.
    bytes_max: usize,
    is_last: bool,
}

impl Part {
    /// A slice; true when the part is full, or nothing comes any more.
    fn read<P: plinth_env::PageSource>(&mut self, view: View<'_, P>) -> Result<bool, Missing> {
        for _ in 0..SLICE_RECORDS {
            if self.records.len() >= self.bytes_max {
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
