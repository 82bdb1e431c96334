//! The receiver's side, up to a tree that is whole and durable under a name of its own.

use std::{cell::Cell, fmt, io, path::PathBuf, rc::Rc, time::Duration};

use bytes::Bytes;
use plinth_base::{Instant, MemberId, codec::Malformed};
use plinth_env::{Env, TaskQueue};
use plinth_kv::State;
use plinth_raft::Position;
use plinth_tree::{Store, TreeError};

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

/// The sender is given up when nothing has come for so long.
const SILENCE_MAX: Duration = Duration::from_secs(10);

/// A snapshot that comes in.
pub(in crate::shard) struct Incoming<E: Env> {
    pub(super) at: usize,
    pub(super) from: MemberId,
    pub(super) session: u64,
    pub(super) position: Position,
    pub(super) state: State,
    /// What was asked for last, and when; none while a part is being put.
    asked: Option<(Place, Instant)>,
    number: u64,
    /// When something last came.
    heard: Instant,
    parts: Completions<(Bytes, bool)>,
    /// The task that builds has to end.
    is_given_up: Rc<Cell<bool>>,
    /// Everything has come.
    pub(super) is_whole: bool,
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
    pub(super) fn consider_offer(
        &mut self,
        at: usize,
        from: MemberId,
        session: u64,
        position: Position,
        state: &Bytes,
    ) {
        let state = match State::decode(state) {
            Ok(state) if state.applied == position.index && state.cluster_id == self.cluster => state,
            _ => return self.send_snapshot_frame(at, from, &SnapshotFrame::End { session }),
        };
        let is_busy = self.incoming.as_ref().is_some_and(|incoming| incoming.at != at || incoming.is_whole);
        if is_busy || !self.groups[at].raft.wants_snapshot(position) {
            return self.send_snapshot_frame(at, from, &SnapshotFrame::End { session });
        }
        plinth_base::log_info!(
            "this member is far behind: it gets a snapshot",
            "from" => format!("{:x}", from.0).as_str(),
            "entry" => position.index.0
        );
        // One that was under way is void.
        self.incoming = None;
        if self.is_building.replace(true) {
            // It has the file until it has ended; by then there will be another offer.
            return self.send_snapshot_frame(at, from, &SnapshotFrame::End { session });
        }
        let (parts, is_given_up) = (Completions::new(), Rc::new(Cell::new(false)));
        let builder = Builder {
            env: self.env.clone(),
            options: tree_options(&self.options, snapshot_path(&self.options, self.groups[at].id)),
            state: state.encode(),
            pace: Rc::clone(&self.log_pace),
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
            asked: None,
            number: 0,
            heard: self.now,
            parts,
            is_given_up,
            is_whole: false,
            store: None,
        });
        self.ask_for_part(Place::default());
    }

    fn ask_for_part(&mut self, place: Place) {
        let now = self.now;
        let Some(incoming) = &mut self.incoming else { return };
        incoming.asked = Some((place.clone(), now));
        let Incoming { at, from, session, number, .. } = *incoming;
        self.send_snapshot_frame(at, from, &SnapshotFrame::Ask { session, number, place });
    }

    pub(super) fn take_part(&mut self, at: usize, from: MemberId, name: (u64, u64), is_last: bool, records: Bytes) {
        let now = self.now;
        let Some(incoming) = &mut self.incoming else { return };
        let is_asked = incoming.asked.is_some() && incoming.at == at && incoming.from == from;
        if is_asked && (incoming.session, incoming.number) == name {
            (incoming.asked, incoming.heard) = (None, now);
            incoming.number += 1;
            incoming.parts.push((records, is_last));
        }
    }

    pub(in crate::shard) fn handle_built(&mut self, at: usize, session: u64, built: Built<E>) {
        let Some(incoming) = self.incoming.as_mut().filter(|incoming| incoming.session == session) else { return };
        match built {
            Built::Until(place) => self.ask_for_part(place),
            Built::Whole(store) => (incoming.is_whole, incoming.store) = (true, Some(*store)),
            Built::Failed(error) => {
                plinth_base::log_error!("a snapshot can't be used", "reason" => plinth_base::log::Value::display(&error));
                self.give_incoming_up(at);
            }
        }
    }

    /// Asks again, or no more.
    pub(in crate::shard) fn look_after_incoming(&mut self) {
        let now = self.now;
        let Some(incoming) = &self.incoming else { return };
        let at = incoming.at;
        let Some((place, since)) = &incoming.asked else { return };
        if now.since(incoming.heard) >= SILENCE_MAX {
            self.give_incoming_up(at);
        } else if now.since(*since) >= ASK_AGAIN {
            let place = place.clone();
            self.ask_for_part(place);
        }
    }

    pub(super) fn give_incoming_up(&mut self, at: usize) {
        if let Some(incoming) = self.incoming.take() {
            let end = SnapshotFrame::End { session: incoming.session };
            self.send_snapshot_frame(at, incoming.from, &end);
        }
    }

    /// The sender has it no longer.
    pub(super) fn drop_incoming(&mut self, at: usize, from: MemberId, session: u64) {
        let is_meant = |incoming: &mut Incoming<E>| {
            (incoming.at, incoming.from, incoming.session) == (at, from, session) && !incoming.is_whole
        };
        drop(self.incoming.take_if(is_meant));
    }
}
