//! The receiver's side, up to a tree that is whole and durable under a name of its own.

use std::{cell::Cell, fmt, io, path::PathBuf, rc::Rc, sync::Arc, time::Duration};

use bytes::Bytes;
use plinth_base::{Instant, MemberId, codec::Malformed};
use plinth_env::{Env, TaskQueue};
use plinth_kv::State;
use plinth_raft::Position;
use plinth_tree::{CopyMeta, Store, TreeError};

use super::{
    super::{Completion, Shard},
    build::Builder,
};
use crate::{
    bootstrap::{snapshot_path, tree_options},
    completions::Completions,
    peers::{Place, SnapshotFrame},
};

/// A part that doesn't come is asked for again after this.
const ASK_AGAIN: Duration = Duration::from_secs(1);

/// After a snapshot that couldn't be used, none is taken for so long.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// The sender is given up when nothing has come for so long.
const SILENCE_MAX: Duration = Duration::from_secs(10);

/// What the leader has.
pub(super) struct Offer {
    pub(super) session: u64,
    pub(super) position: Position,
    /// The record of its root.
    pub(super) state: Bytes,
    /// The meta of its pages, if it consists of pages.
    pub(super) meta: Bytes,
}

/// What it consists of.
enum Offered {
    Pages(CopyMeta),
    /// Of another version of their format.
    OtherPages,
    Records,
}

impl Offer {
    fn read(&self) -> Result<(State, Offered), Malformed> {
        let state = State::decode(&self.state)?;
        if self.meta.is_empty() {
            return Ok((state, Offered::Records));
        }
        match CopyMeta::decode(&self.meta, plinth_kv::trees::TREES)? {
            None => Ok((state, Offered::OtherPages)),
            Some(meta) if *meta.state() == self.state => Ok((state, Offered::Pages(meta))),
            Some(_) => Err(Malformed("an offer with two states")),
        }
    }
}

/// A snapshot that comes in.
pub(in crate::shard) struct Incoming<E: Env> {
    pub(super) at: usize,
    pub(super) from: MemberId,
    pub(super) session: u64,
    pub(super) position: Position,
    pub(super) state: State,
    /// What was asked for last.
    place: Place,
    /// When; none while a part is being put.
    asked: Option<Instant>,
    number: u64,
    began: Instant,
    /// When something last came.
    heard: Instant,
    parts: Completions<(Bytes, bool)>,
    /// The task that builds has to end.
    is_given_up: Rc<Cell<bool>>,
    /// Everything has come; nothing else is taken before it is in place.
    is_whole: bool,
    /// The tree then, until it is put in its place.
    pub(super) store: Option<Store<E>>,
}

impl<E: Env> Drop for Incoming<E> {
    fn drop(&mut self) {
        self.is_given_up.set(true);
        // Wakes it.
        self.parts.push((Bytes::new(), false));
    }
}

/// What has become of a part.
pub(crate) enum Built<E: Env> {
    /// It is in; the next one comes from there on.
    Until(Place),
    /// It was the last one, and everything is durable.
    Whole(Box<Store<E>>),
    /// It can't be used.
    Failed(BuildError),
}

/// Why a snapshot can't be used.
#[derive(Debug)]
pub(crate) enum BuildError {
    Tree(TreeError),
    Page(plinth_env::PageError),
    Io(PathBuf, io::Error),
    Malformed(Malformed),
}

impl fmt::Display for BuildError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tree(error) => error.fmt(f),
            Self::Page(error) => error.fmt(f),
            Self::Io(path, error) => write!(f, "removing {}: {error}", path.display()),
            Self::Malformed(malformed) => write!(f, "what came means nothing here ({})", malformed.0),
        }
    }
}

impl<E: Env> Shard<E> {
    /// The leader has a snapshot for this member.
    pub(super) fn consider_offer(&mut self, at: usize, from: MemberId, offer: &Offer) {
        let Offer { session, position, .. } = *offer;
        if self.incoming.as_ref().is_some_and(|incoming| (incoming.at, incoming.session) == (at, session)) {
            // It is under way, and what was lost on it is asked for again.
            return;
        }
        let refusal = SnapshotFrame::End { session };
        let Ok((state, content)) = offer.read() else { return self.send_snapshot_frame(at, from, &refusal) };
        let is_sound = state.applied == position.index && state.cluster_id == self.cluster;
        // What has just failed fails again: most likely the disk is full.
        let has_failed = self.snapshot_failed.is_some_and(|since| self.now.since(since) < RETRY_AFTER);
        let is_busy =
            has_failed || self.incoming.as_ref().is_some_and(|incoming| incoming.at != at || incoming.is_whole);
        if !is_sound || !self.groups[at].raft.wants_snapshot(position) {
            return self.send_snapshot_frame(at, from, &refusal);
        }
        if is_busy {
            // It is offered again.
            return;
        }
        let (meta, first) = match content {
            Offered::Pages(meta) if self.options.reads_pages => (Some(meta), Place::PAGES),
            Offered::Records => (None, Place::RECORDS),
            Offered::Pages(_) | Offered::OtherPages => {
                let ask = SnapshotFrame::Ask { session, number: 0, place: Place::RECORDS };
                return self.send_snapshot_frame(at, from, &ask);
            }
        };
        plinth_base::log_info!(
            "this member is far behind: it gets a snapshot",
            "from" => format!("{:x}", from.0).as_str(),
            "entry" => position.index.0
        );
        // One that was under way is void.
        self.end_incoming(|_| true, false);
        if self.is_building.replace(true) {
            // It has the file until it has ended; then it is offered again.
            return;
        }
        let (parts, is_given_up) = (Completions::new(), Rc::new(Cell::new(false)));
        let builder = Builder {
            env: self.env.clone(),
            options: tree_options(&self.options, snapshot_path(&self.options, self.groups[at].id)),
            meta,
            state: state.encode(),
            budget: Arc::clone(&self.budget),
            parts: parts.clone(),
            is_given_up: Rc::clone(&is_given_up),
        };
        let (completions, is_building) = (self.completions.clone(), Rc::clone(&self.is_building));
        self.env.spawn(TaskQueue::Background, async move {
            let told = |built| completions.push(Completion::PartBuilt(at, session, built));
            let run = builder.run(told).await;
            is_building.set(false);
            if let Err(error) = run {
                completions.push(Completion::PartBuilt(at, session, Built::Failed(error)));
            }
        });
        self.incoming = Some(Incoming {
            at,
            from,
            session,
            position,
            state,
            place: first.clone(),
            asked: None,
            number: 0,
            began: self.now,
            heard: self.now,
            parts,
            is_given_up,
            is_whole: false,
            store: None,
        });
        self.metrics.snapshots_received.begin(from);
        self.ask_for_part(first);
    }

    fn ask_for_part(&mut self, place: Place) {
        let now = self.now;
        let Some(incoming) = &mut self.incoming else { return };
        (incoming.place, incoming.asked) = (place.clone(), Some(now));
        let Incoming { at, from, session, number, .. } = *incoming;
        self.send_snapshot_frame(at, from, &SnapshotFrame::Ask { session, number, place });
    }

    pub(super) fn take_part(&mut self, at: usize, from: MemberId, name: (u64, u64), is_last: bool, content: Bytes) {
        let now = self.now;
        let Some(incoming) = &mut self.incoming else { return };
        let is_asked = incoming.asked.is_some() && incoming.at == at && incoming.from == from;
        if is_asked && (incoming.session, incoming.number) == name {
            (incoming.asked, incoming.heard) = (None, now);
            incoming.number += 1;
            incoming.is_whole = is_last;
            incoming.parts.push((content, is_last));
        }
    }

    pub(in crate::shard) fn handle_built(&mut self, at: usize, session: u64, built: Built<E>) {
        let Some(incoming) = self.incoming.as_mut().filter(|incoming| incoming.session == session) else { return };
        match built {
            Built::Until(place) => self.ask_for_part(place),
            Built::Whole(store) => incoming.store = Some(*store),
            Built::Failed(error) => {
                plinth_base::log_error!("a snapshot can't be used", "reason" => plinth_base::log::Value::display(&error));
                self.snapshot_failed = Some(self.now);
                self.give_incoming_up(at);
            }
        }
    }

    /// Asks again, or no more.
    pub(in crate::shard) fn look_after_incoming(&mut self) {
        let now = self.now;
        let Some(incoming) = &mut self.incoming else { return };
        let Incoming { at, from, session, number, .. } = *incoming;
        if incoming.is_whole && now.since(incoming.heard) >= ASK_AGAIN {
            // Proving it takes time, in which the sender must not think that nobody wants it any more.
            incoming.heard = now;
            let ask = SnapshotFrame::Ask { session, number, place: incoming.place.end() };
            return self.send_snapshot_frame(at, from, &ask);
        }
        let Some(since) = incoming.asked else { return };
        if now.since(incoming.heard) >= SILENCE_MAX {
            self.give_incoming_up(at);
        } else if now.since(since) >= ASK_AGAIN {
            let place = incoming.place.clone();
            self.ask_for_part(place);
        }
    }

    pub(super) fn give_incoming_up(&mut self, at: usize) {
        if let Some(incoming) = self.end_incoming(|_| true, false) {
            let end = SnapshotFrame::End { session: incoming.session };
            self.send_snapshot_frame(at, incoming.from, &end);
        }
    }

    /// The sender has it no longer.
    pub(super) fn drop_incoming(&mut self, at: usize, from: MemberId, session: u64) {
        let is_meant = |incoming: &Incoming<E>| {
            (incoming.at, incoming.from, incoming.session) == (at, from, session) && !incoming.is_whole
        };
        drop(self.end_incoming(is_meant, false));
    }

    /// Lets go of the one that comes in, if it is that one.
    pub(super) fn end_incoming(
        &mut self,
        is_meant: impl Fn(&Incoming<E>) -> bool,
        is_in_place: bool,
    ) -> Option<Incoming<E>> {
        let incoming = self.incoming.take_if(|incoming| is_meant(incoming))?;
        let took = is_in_place.then(|| self.now.since(incoming.began));
        self.metrics.snapshots_received.end(incoming.from, took);
        Some(incoming)
    }
}
