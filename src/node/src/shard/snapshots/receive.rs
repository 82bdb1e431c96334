//! The receiver's side, up to a tree that is whole and durable under a name of its own.

use std::{cell::Cell, fmt, rc::Rc, sync::Arc, time::Duration};

use bytes::Bytes;
use plinth_base::{Instant, MemberId, codec::Malformed};
use plinth_env::{Env, TaskQueue};
use plinth_kv::State;
use plinth_raft::Position;
use plinth_tree::{CopyMeta, CopyTarget, Since, Store, TreeError};

use super::{
    super::{Completion, Shard},
    build::{Builder, OfferedPages, Step},
    name,
};
use crate::{
    bootstrap::{snapshot_path, tree_options},
    completions::Completions,
    peers::{Content, Ending, Place, SnapshotFrame},
};

/// A part that doesn't come is asked for again after this.
const ASK_AGAIN: Duration = Duration::from_secs(1);

/// After a snapshot that couldn't be used, none is taken from the same member for so long; twice as long after each further one, up to a limit.
const RETRY_AFTER: Duration = Duration::from_secs(1);
const RETRY_AFTER_MAX: Duration = Duration::from_secs(30);

/// When the sender doesn't say for so long whether there is a newer checkpoint, what was proven is new enough.
const NEWER_WAIT_MAX: Duration = Duration::from_secs(2);

/// The sender is given up when nothing has come for so long.
const SILENCE_MAX: Duration = Duration::from_secs(10);

/// Nothing is taken from somebody else while the one that is under way has been heard of so lately. No longer: a quorum may wait for this member.
const HEARD_LATELY: Duration = Duration::from_millis(500);

/// What has come of a snapshot that nobody goes on with is removed after so long.
const LEFTOVER_MAX: Duration = Duration::from_secs(600);

/// What the leader has.
pub(super) struct Offer {
    pub(super) session: u64,
    pub(super) position: Position,
    /// The record of its root.
    pub(super) state: Bytes,
    /// The meta of its pages, if it consists of pages.
    pub(super) meta: Bytes,
    /// What has changed since an earlier one of the same session.
    pub(super) since: Option<Since>,
}

/// What it consists of.
enum Offered {
    Pages(OfferedPages),
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
        let Some(meta) = CopyMeta::decode(&self.meta, plinth_kv::trees::TREES)? else {
            return Ok((state, Offered::OtherPages));
        };
        if *meta.state() != self.state {
            return Err(Malformed("an offer with two states"));
        }
        Ok((state, Offered::Pages(OfferedPages { meta, since: self.since.clone() })))
    }
}

/// None of a member's snapshots since the last one that was installed could be used. Most likely the disk is full, and the next one fails as well.
pub(in crate::shard) struct FailedSnapshot {
    from: MemberId,
    wait: Duration,
    until: Instant,
}

impl FailedSnapshot {
    /// One more, after those that failed `before`.
    fn after(before: Option<Self>, from: MemberId, now: Instant) -> Self {
        let before = before.filter(|before| before.from == from);
        let wait = before.map_or(RETRY_AFTER, |before| (2 * before.wait).min(RETRY_AFTER_MAX));
        Self { from, wait, until: now + wait }
    }
}

/// A snapshot that comes in.
pub(in crate::shard) struct Incoming<E: Env> {
    pub(super) at: usize,
    pub(super) from: MemberId,
    pub(super) session: u64,
    /// Of the offer, until everything has come: then of what has come.
    pub(super) position: Position,
    pub(super) state: State,
    /// The generation that is copied, if pages are.
    generation: Option<u64>,
    /// What was asked for last.
    place: Place,
    /// When; none while a part is being put.
    asked: Option<Instant>,
    number: u64,
    began: Instant,
    /// When something last came.
    heard: Instant,
    /// Nothing has come since a connection with its sender broke.
    is_cut: bool,
    /// How much is there, in millionths.
    done_ppm: u32,
    steps: Completions<Step>,
    /// The task that builds has to end.
    is_given_up: Rc<Cell<bool>>,
    /// Everything has come: no other one is taken, unless this one becomes that of a newer checkpoint.
    is_whole: bool,
    /// And it becomes none.
    is_final: bool,
    /// The tree then, until it is put in its place.
    pub(super) store: Option<Store<E>>,
}

impl<E: Env> Incoming<E> {
    /// What was proven becomes the tree.
    fn finish(&mut self) {
        self.is_final = true;
        self.steps.push(Step::Finish);
    }
}

impl<E: Env> Drop for Incoming<E> {
    fn drop(&mut self) {
        self.is_given_up.set(true);
        self.steps.push(Step::Wake);
    }
}

/// What the task that builds says.
pub(crate) enum Built<E: Env> {
    /// Everything so far is in, so many millionths of all; the next part comes from there on.
    Until(Place, u32),
    /// Nothing is missing any more.
    Complete,
    /// And every page of this generation was proven.
    Proven(u64),
    /// It is a tree, and durable.
    Whole(Box<Store<E>>),
    /// It can't be used.
    Failed(BuildError),
}

/// Why a snapshot can't be used.
#[derive(Debug)]
pub(crate) enum BuildError {
    Tree(TreeError),
    Page(plinth_env::PageError),
    Malformed(Malformed),
}

impl fmt::Display for BuildError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tree(error) => error.fmt(f),
            Self::Page(error) => error.fmt(f),
            Self::Malformed(malformed) => write!(f, "what came means nothing here ({})", malformed.0),
        }
    }
}

impl<E: Env> Shard<E> {
    /// The leader has a snapshot for this member.
    pub(super) fn consider_offer(&mut self, at: usize, from: MemberId, offer: &Offer) {
        let Offer { session, position, .. } = *offer;
        let refusal = SnapshotFrame::End { session, ending: Ending::Over };
        let Ok((state, content)) = offer.read() else { return self.send_snapshot_frame(at, from, &refusal) };
        let content = match content {
            Offered::Pages(pages) if self.is_under_way(at, session) => match self.follow(pages) {
                // It can't go on from what is there.
                Some(pages) => Offered::Pages(pages),
                None => return,
            },
            // What was lost on it is asked for again.
            _ if self.is_under_way(at, session) => return,
            content => content,
        };
        let is_sound = state.applied == position.index && state.cluster_id == self.cluster;
        if !is_sound || !self.groups[at].raft.wants_snapshot(position) {
            return self.send_snapshot_frame(at, from, &refusal);
        }
        let has_failed =
            self.snapshot_failed.as_ref().is_some_and(|failed| failed.from == from && self.now < failed.until);
        let is_busy = |incoming: &Incoming<E>| {
            // A leader that has lost its office goes on with what it began.
            let is_heard = !incoming.is_cut && self.now.since(incoming.heard) < HEARD_LATELY;
            let is_alive = incoming.from != from && is_heard;
            incoming.at != at || incoming.is_whole || is_alive
        };
        if has_failed || self.incoming.as_ref().is_some_and(is_busy) {
            // It is offered again.
            return;
        }
        let pages = match content {
            Offered::Pages(pages) if self.options.reads_pages => Some(pages),
            Offered::Records => None,
            Offered::Pages(_) | Offered::OtherPages => {
                let ask = SnapshotFrame::Ask { session, number: 0, place: Place::RECORDS, done_ppm: 0 };
                return self.send_snapshot_frame(at, from, &ask);
            }
        };
        // One that was under way is void, but for what the next one finds of use in it.
        self.end_incoming(|_| true, false);
        if self.is_building.replace(true) {
            // It has the file until it has ended; then it is offered again.
            return;
        }
        plinth_base::log_info!(
            "this member is far behind: it gets a snapshot",
            "from" => name(from).as_str(),
            "entry" => position.index.0
        );
        let generation = pages.as_ref().map(|pages| pages.meta.generation());
        let place = generation.map_or(Place::RECORDS, |generation| Place::Pages { generation, wanted: Vec::new() });
        let steps = Completions::new();
        let is_given_up = self.build(at, session, pages, &state, steps.clone());
        self.incoming = Some(Incoming {
            at,
            from,
            session,
            position,
            state,
            generation,
            place,
            asked: None,
            number: 0,
            began: self.now,
            heard: self.now,
            is_cut: false,
            done_ppm: 0,
            steps,
            is_given_up,
            is_whole: false,
            is_final: false,
            store: None,
        });
        self.metrics.snapshots_received.begin(from);
    }

    fn is_under_way(&self, at: usize, session: u64) -> bool {
        self.incoming.as_ref().is_some_and(|incoming| (incoming.at, incoming.session) == (at, session))
    }

    /// The sender has moved to a newer checkpoint, or says again that it has. Gives the offer back if what is under way can't become that.
    fn follow(&mut self, pages: OfferedPages) -> Option<OfferedPages> {
        let incoming = self.incoming.as_mut()?;
        let generation = pages.meta.generation();
        let copied = incoming.generation.filter(|_| !incoming.is_final)?;
        if copied >= generation {
            return None;
        }
        if !pages.follows(copied) {
            return Some(pages);
        }
        // A part of the older one that comes from now on may lack what has changed.
        (incoming.asked, incoming.generation, incoming.heard) = (None, Some(generation), self.now);
        incoming.number += 1;
        incoming.steps.push(Step::Advance(pages));
        None
    }

    /// Starts the task that makes a tree of what comes.
    fn build(
        &self,
        at: usize,
        session: u64,
        pages: Option<OfferedPages>,
        state: &State,
        steps: Completions<Step>,
    ) -> Rc<Cell<bool>> {
        let is_given_up = Rc::new(Cell::new(false));
        let builder = Builder {
            env: self.env.clone(),
            options: tree_options(&self.options, snapshot_path(&self.options, self.groups[at].id)),
            save_bytes: self.options.snapshot_save_bytes,
            pages,
            state: state.encode(),
            budget: Arc::clone(&self.budget),
            steps,
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
        is_given_up
    }

    fn ask_for_part(&mut self, place: Place) {
        let now = self.now;
        let Some(incoming) = &mut self.incoming else { return };
        (incoming.place, incoming.asked) = (place.clone(), Some(now));
        let Incoming { at, from, session, number, done_ppm, .. } = *incoming;
        self.send_snapshot_frame(at, from, &SnapshotFrame::Ask { session, number, place, done_ppm });
    }

    pub(super) fn take_part(&mut self, at: usize, from: MemberId, name: (u64, u64), content: Content) {
        let now = self.now;
        let Some(incoming) = &mut self.incoming else { return };
        let is_asked = incoming.asked.is_some() && incoming.at == at && incoming.from == from;
        if is_asked && (incoming.session, incoming.number) == name {
            (incoming.asked, incoming.heard, incoming.is_cut) = (None, now, false);
            incoming.number += 1;
            match incoming.place.clone() {
                Place::Proven { .. } => incoming.finish(),
                place => incoming.steps.push(Step::Part(place, content)),
            }
        }
    }

    /// A connection with a peer broke.
    pub(in crate::shard) fn note_sender_lost(&mut self, peer: MemberId) {
        if let Some(incoming) = self.incoming.as_mut().filter(|incoming| incoming.from == peer) {
            incoming.is_cut = true;
        }
    }

    pub(in crate::shard) fn handle_built(&mut self, at: usize, session: u64, built: Built<E>) {
        let Some(incoming) = self.incoming.as_mut().filter(|incoming| incoming.session == session) else { return };
        match built {
            Built::Until(place, done_ppm) => {
                (incoming.done_ppm, incoming.is_whole) = (done_ppm, false);
                self.metrics.snapshots_received.note(incoming.from, done_ppm);
                let is_of_older =
                    matches!(place, Place::Pages { generation, .. } if Some(generation) != incoming.generation);
                if !is_of_older {
                    self.ask_for_part(place);
                }
            }
            Built::Complete => {
                incoming.is_whole = true;
                self.say_that_all_is_there();
            }
            Built::Proven(generation) if Some(generation) == incoming.generation => {
                incoming.heard = self.now;
                self.ask_for_part(Place::Proven { generation });
            }
            // It is about to become that of a newer one.
            Built::Proven(_) => {}
            Built::Whole(store) => match State::decode(store.state()) {
                Ok(state) => {
                    incoming.position = Position { index: state.applied, term: state.applied_term };
                    incoming.state = state;
                    incoming.store = Some(*store);
                }
                Err(malformed) => self.fail_incoming(at, &BuildError::Malformed(malformed)),
            },
            Built::Failed(error) => self.fail_incoming(at, &error),
        }
    }

    fn fail_incoming(&mut self, at: usize, error: &BuildError) {
        let Some(from) = self.incoming.as_ref().map(|incoming| incoming.from) else { return };
        let failed = FailedSnapshot::after(self.snapshot_failed.take(), from, self.now);
        plinth_base::log_error!(
            "a snapshot can't be used",
            "reason" => plinth_base::log::Value::display(error),
            "next_after_s" => failed.wait.as_secs()
        );
        self.snapshot_failed = Some(failed);
        let is_rotten = matches!(error, BuildError::Tree(TreeError::Corrupt(_)));
        self.give_incoming_up(at, if is_rotten { Ending::Rotten } else { Ending::Over });
    }

    /// Asks again, or no more.
    pub(in crate::shard) fn look_after_incoming(&mut self) {
        let now = self.now;
        let Some(incoming) = &mut self.incoming else { return self.remove_leftover() };
        let at = incoming.at;
        let silence = now.since(incoming.heard);
        let Some(since) = incoming.asked else {
            if incoming.is_whole && silence >= ASK_AGAIN {
                self.say_that_all_is_there();
            }
            return;
        };
        if matches!(incoming.place, Place::Proven { .. }) && silence >= NEWER_WAIT_MAX {
            incoming.asked = None;
            incoming.finish();
        } else if silence >= SILENCE_MAX {
            self.give_incoming_up(at, Ending::Over);
        } else if now.since(since) >= ASK_AGAIN {
            let place = incoming.place.clone();
            self.ask_for_part(place);
        }
    }

    /// Proving it takes time, in which the sender must not think that nobody wants it any more.
    fn say_that_all_is_there(&mut self) {
        let Some(incoming) = &mut self.incoming else { return };
        incoming.heard = self.now;
        let Incoming { at, from, session, number, done_ppm, .. } = *incoming;
        let ask = SnapshotFrame::Ask { session, number, place: incoming.place.end(), done_ppm };
        self.send_snapshot_frame(at, from, &ask);
    }

    /// What came of a snapshot that nobody goes on with takes room.
    fn remove_leftover(&mut self) {
        let is_due = self.leftover_since.is_some_and(|since| self.now.since(since) >= LEFTOVER_MAX);
        if !is_due || self.is_building.get() {
            return;
        }
        self.is_building.set(true);
        self.leftover_since = None;
        let ids = self.groups.iter().map(|group| group.id);
        let options: Vec<_> = ids.map(|id| tree_options(&self.options, snapshot_path(&self.options, id))).collect();
        let (env, is_building) = (self.env.clone(), Rc::clone(&self.is_building));
        self.env.spawn(TaskQueue::Background, async move {
            for options in &options {
                // What can't be removed now is when the next one comes.
                drop(CopyTarget::remove(&env, options).await);
            }
            is_building.set(false);
        });
    }

    pub(super) fn give_incoming_up(&mut self, at: usize, ending: Ending) {
        if let Some(incoming) = self.end_incoming(|_| true, false) {
            let end = SnapshotFrame::End { session: incoming.session, ending };
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
        self.leftover_since = (!is_in_place).then_some(self.now);
        self.metrics.snapshots_received.end(incoming.from, took);
        Some(incoming)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_member_waits_longer_each_time_that_the_same_one_s_snapshots_fail() {
        let (first, second) = (MemberId(1), MemberId(2));
        let mut now = Instant::default();
        let mut failed = None;
        let mut waits = Vec::new();
        for from in [first, first, first, first, first, first, first, second, second, first] {
            let next = FailedSnapshot::after(failed.take(), from, now);
            assert_eq!(next.until, now + next.wait);
            now = next.until;
            waits.push(next.wait.as_secs());
            failed = Some(next);
        }
        assert_eq!(waits, [1, 2, 4, 8, 16, 30, 30, 1, 2, 1]);
    }
}
