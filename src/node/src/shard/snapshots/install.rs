//! A snapshot that is whole takes the place of the tree that this member had.
//!
//! First the file, then the log: a crash between the two leaves a tree that is ahead of its log, which the next start takes for what it is. From the rename on
//! nothing may be written to the old tree, and raft hears nothing, so that it can't come further than the snapshot meanwhile.

use plinth_base::{Mark, bug};
use plinth_env::{Env, TaskQueue};
use plinth_raft::Input;
use plinth_tree::Store;

use super::{
    super::{Shard, send_answer},
    receive::Incoming,
};
use crate::{
    bootstrap::{self, NodeError},
    group::configuration,
    message::Refusal,
    peers::{Ending, SnapshotFrame},
    shard::{BackgroundWork, Completion},
};

/// The tree, opened in its place.
pub(crate) type Placed<E> = Result<Box<Store<E>>, NodeError>;

impl<E: Env> Shard<E> {
    /// Begins when nothing is under way on the old tree any more.
    pub(in crate::shard) fn install_if_whole(&mut self) {
        let Some(incoming) = self.incoming.as_mut().filter(|incoming| incoming.store.is_some()) else { return };
        let (at, position) = (incoming.at, incoming.position);
        let group = &mut self.groups[at];
        if !group.raft.wants_snapshot(position) && !bug!(OldSnapshotInstalled) {
            group.work.is_closed = false;
            return self.give_incoming_up(at, Ending::Over);
        }
        // Nothing new begins on a tree that is about to go.
        group.work.is_closed = true;
        // Not only when all is applied that the log holds: that may never be.
        group.work.verify_now();
        if !group.work.is_quiet() {
            return;
        }
        group.work.is_placing = true;
        let store = incoming.store.take();
        let (env, options, id) = (self.env.clone(), self.options.clone(), group.id);
        let completions = self.completions.clone();
        self.env.spawn(TaskQueue::Consensus, async move {
            drop(store);
            let placed = bootstrap::place_snapshot(&env, &options, id).await;
            completions.push(Completion::Placed(at, placed.map(Box::new)));
        });
    }

    pub(in crate::shard) fn handle_placed(&mut self, at: usize, placed: Placed<E>) -> Result<(), NodeError> {
        let store = *placed?;
        let incoming = self.end_incoming(|_| true, true).expect("it was placed");
        let Incoming { position, from, session, ref state, .. } = incoming;
        let state = state.clone();
        Mark::SnapshotInstalled.hit();
        self.snapshot_failed = None;
        plinth_base::log_info!("the snapshot is in place", "entry" => position.index.0, "revision" => state.revision);
        self.drop_outgoing(at);
        let configuration = configuration(&state.electorate);
        self.wal.start_group(self.groups[at].id, position.index, position.term);
        let group = &mut self.groups[at];
        let work = BackgroundWork::new(group.raft.hard_state(), position.index, self.now, true);
        let unknown = group.replace(store, state, work);
        let (replies, touched) = (&self.replies, &mut self.touched);
        group.announce(|to, reply| send_answer(replies, touched, to, reply));
        for reply in unknown {
            // It may be in the snapshot, or not.
            self.refuse(reply, Refusal::TimedOut);
        }
        self.step(at, Input::SnapshotInstalled { at: position, configuration });
        self.send_snapshot_frame(at, from, &SnapshotFrame::End { session, ending: Ending::Installed });
        Ok(())
    }
}
