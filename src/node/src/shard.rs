//! A shard: one log, the groups placed on it, and the turn that moves them all.
//!
//! A turn takes at most [`MESSAGES_PER_TURN_MAX`] messages, steps the groups, starts one batch of the log for all of them, applies a bounded slice
//! of what is committed, publishes, and answers. It never waits: the batch, page loads, checkpoints and ticks are tasks that put
//! their completion into the shard's own queue.
//!
//! Invariants: at most one batch is in flight; an answer leaves after the turn that published its effect; a failed flush ends the shard.
//! A crash anywhere leaves a log whose durable entries are a prefix of what was proposed, and trees behind it.

mod background;
mod consensus;
mod defragment;
mod growth;
mod leadership;
mod leases;
mod loads;
mod members;
mod membership;
mod memory_pace;
mod new_cluster;
mod pace;
mod proposals;
mod relocation;
mod scrub;
mod snapshots;
mod stall;
mod sweep;
mod turn;

use std::{cell::Cell, collections::VecDeque, future::poll_fn, rc::Rc, sync::Arc, task::Poll, time::Duration};

use bytes::Bytes;
use plinth_base::{
    GroupId, Instant, LogIndex, MemberId,
    mailbox::{Keeper, Receiver, Sender},
};
use plinth_env::{Env, PageError, Peers, Resident, TaskQueue};
use plinth_kv::MemberRecord;
use plinth_raft::Effects;
use plinth_tree::{CheckpointDone, GrowDone, PunchDone, ScrubDone, TreeError};
use plinth_wal::{Entry, FlushDone, MaintenanceDone, Wal, WalError};

pub(crate) use background::BackgroundWork;
use consensus::Links;
pub(crate) use consensus::from_wal;
use leadership::Transfers;
pub(crate) use members::Members;
use membership::AskedChange;
use new_cluster::Forcing;
pub(crate) use new_cluster::alone;
use proposals::Held;
use snapshots::{Built, FailedSnapshot, Incoming, Moved, Outgoing, Placed, Recovering};
use stall::StallWatch;

use crate::{
    bootstrap::NodeError,
    budget::Budget,
    completions::Completions,
    group::{Asker, Group, LeaseQuestion, TailEntry},
    message::{Answer, Message, Reply, ReplyTo},
    metrics::ShardMetrics,
    options::ShardOptions,
    published::Published,
};

/// Messages taken in one turn.
const MESSAGES_PER_TURN_MAX: usize = 1024;

/// How often a shard looks at what only time changes: seals, checkpoints by age, room.
const TICK: Duration = Duration::from_millis(100);

/// The mailboxes of a shard.
pub struct ShardPorts {
    /// Where messages come in.
    pub inbox: Receiver<Message>,
    /// Where answers go, by executor.
    pub replies: Vec<Sender<Answer>>,
}

/// What every executor holds of a shard.
pub struct ShardHandle<E: Env> {
    /// Its mailbox.
    pub inbox: Sender<Message>,
    /// What its proposals are named after: a number that no other run of any member has.
    pub origin: u64,
    /// Its groups.
    pub groups: Vec<Arc<Published<E::Pages>>>,
    /// Its counters.
    pub metrics: Arc<ShardMetrics>,
    /// What is read and written beside its log.
    pub budget: Arc<Budget>,
}

impl<E: Env> Clone for ShardHandle<E> {
    fn clone(&self) -> Self {
        let Self { inbox, origin, groups, metrics, budget } = self;
        let (metrics, budget) = (Arc::clone(metrics), Arc::clone(budget));
        Self { inbox: inbox.clone(), origin: *origin, groups: groups.clone(), metrics, budget }
    }
}

/// The end of one of the shard's own tasks.
pub(crate) enum Completion<E: Env> {
    Flushed(FlushDone<E>),
    Maintained(MaintenanceDone<E>),
    Loaded(usize, Result<(), PageError>),
    LoadedAhead(usize),
    ReadBack(usize, Result<Vec<TailEntry>, WalError>),
    Checkpointed(usize, CheckpointDone),
    /// It is time for some more of what a checkpoint left to do in memory.
    Settle(usize),
    /// It is time for some more of what a compaction left to remove.
    Sweep(usize),
    Grown(usize, GrowDone),
    Punched(usize, PunchDone),
    Verified(usize, Result<u64, TreeError>),
    /// The slice of a scrub with this number.
    Scrubbed(usize, u64, ScrubDone),
    LoadedForRelocation(usize, Result<(), PageError>),
    /// A question about leases can be answered.
    LoadedForLeases(usize, LeaseQuestion, Asker),
    /// Entries for a peer.
    Fetched {
        at: usize,
        peer: MemberId,
        from: LogIndex,
        entries: Result<Vec<Entry>, WalError>,
    },
    /// What answers at the URLs of a new member.
    ResidentFound(usize, AskedChange, Option<Resident>),
    /// Who belongs to the cluster.
    Members(usize, Result<Vec<MemberRecord>, PageError>),
    /// A part of a snapshot for a peer, as a frame.
    PartRead(MemberId, Bytes),
    /// A newer checkpoint for a snapshot to a peer, of this name.
    SnapshotMoved(usize, (MemberId, u64), Moved<E>),
    /// What became of records of a snapshot of this name.
    PartBuilt(usize, u64, Built<E>),
    /// A snapshot's tree is in its place.
    Placed(usize, Placed<E>),
    /// A group's time may have come.
    Alarm(Instant),
    /// It is time for some more of a defragmentation.
    Defragment(usize),
    /// More memory may be used.
    Paced,
    Tick,
}

/// A shard, owned by the task that runs it.
pub struct Shard<E: Env> {
    env: E,
    options: ShardOptions,
    wal: Wal<E>,
    groups: Vec<Group<E>>,
    inbox: Receiver<Message>,
    replies: Vec<Sender<Answer>>,
    /// Executors with answers that nobody told them of yet.
    touched: Vec<bool>,
    completions: Completions<Completion<E>>,
    metrics: Arc<ShardMetrics>,
    /// Proposals that wait for room or for the log's device, and since when.
    held: VecDeque<(Instant, Held)>,
    /// Somebody says when to look again at those that wait for memory.
    is_paced: bool,
    stall: StallWatch,
    /// When something was last logged.
    last_logged: Instant,
    /// When the turn began.
    now: Instant,
    /// The log found no room for another segment.
    is_log_full: bool,
    stopping: Option<ReplyTo>,
    has_stopped: bool,
    /// Who is told when everything is on disk.
    stopped_for: Option<ReplyTo>,
    /// What is read and written beside the log.
    budget: Arc<Budget>,
    /// This member.
    member: u64,
    /// The run of this process, for the names of proposals.
    origin: u64,
    links: Links,
    /// Of all members.
    cluster: u64,
    /// Snapshots that peers get.
    outgoing: Vec<Outgoing<E>>,
    /// Members that have installed a snapshot and lack what came after it.
    recovering: Vec<Recovering>,
    /// The snapshot that this member gets.
    incoming: Option<Incoming<E>>,
    /// The last ones couldn't be used.
    snapshot_failed: Option<FailedSnapshot>,
    /// A task builds a snapshot's file, for that one or for one that nobody wants any more.
    is_building: Rc<Cell<bool>>,
    /// Since when nobody has gone on with what may be there of a snapshot.
    leftover_since: Option<Instant>,
    /// When somebody will say that a group's time may have come.
    alarm_at: Option<Instant>,
    /// When a group's time came, while it is told so.
    tick_due: Option<Instant>,
    /// By group: who belongs to it.
    members: Vec<Members>,
    /// Transfers of leadership under way.
    transfers: Transfers,
    /// By group: whether a new cluster is being made of it.
    forcing: Vec<Forcing>,
    /// When the group that this member was removed from was left.
    removed_at: Option<Instant>,
    // Memory kept between turns.
    effects: Effects,
    messages: Vec<Message>,
}

impl<E: Env> Shard<E> {
    pub(crate) fn new(
        env: &E,
        options: ShardOptions,
        (cluster, member): (u64, u64),
        wal: Wal<E>,
        groups: Vec<Group<E>>,
        ports: ShardPorts,
        (origin, peers, members): (u64, Box<dyn Peers>, Vec<Members>),
    ) -> Self {
        let forcing = if options.force_new_cluster { Forcing::Replaying } else { Forcing::Done };
        Self {
            env: env.clone(),
            forcing: vec![forcing; groups.len()],
            stall: StallWatch::new(options.stall_soft, options.stall_hard),
            options,
            wal,
            groups,
            touched: vec![false; ports.replies.len()],
            inbox: ports.inbox,
            replies: ports.replies,
            completions: Completions::new(),
            metrics: Arc::default(),
            held: VecDeque::new(),
            is_paced: false,
            last_logged: env.now(),
            now: env.now(),
            is_log_full: false,
            stopping: None,
            has_stopped: false,
            stopped_for: None,
            budget: Arc::default(),
            member,
            origin,
            links: Links::new(peers),
            cluster,
            outgoing: Vec::new(),
            recovering: Vec::new(),
            incoming: None,
            snapshot_failed: None,
            is_building: Rc::default(),
            leftover_since: Some(env.now()),
            alarm_at: None,
            tick_due: None,
            members,
            transfers: Transfers::default(),
            removed_at: None,
            effects: Effects::default(),
            messages: Vec::new(),
        }
    }

    /// What executors need to talk to it.
    #[must_use]
    pub fn handle(&self, inbox: Sender<Message>) -> ShardHandle<E> {
        let groups = self.groups.iter().map(|group| Arc::clone(&group.published)).collect();
        let (metrics, budget) = (Arc::clone(&self.metrics), Arc::clone(&self.budget));
        ShardHandle { inbox, origin: self.origin, groups, metrics, budget }
    }

    /// Runs until it is told to stop, or until its log or a tree fails.
    ///
    /// # Errors
    /// What failed. Nothing was retried, and nothing was acknowledged after it.
    pub async fn run(mut self) -> Result<(), NodeError> {
        self.env.spawn(TaskQueue::Consensus, tick(self.env.clone(), self.completions.clone()));
        self.env.spawn(TaskQueue::Consensus, keep(self.inbox.keeper()));
        self.connect();
        self.campaign_alone();
        loop {
            let is_busy = self.turn()?;
            if self.has_stopped {
                return self.finish().await;
            }
            if is_busy {
                self.env.yield_now().await;
            } else {
                self.wait().await;
            }
        }
    }

    /// Says that the stop was clean, to the next start and to whoever asked for it.
    async fn finish(mut self) -> Result<(), NodeError> {
        crate::bootstrap::write_clean_marker(&self.env, &self.options).await?;
        if let Some(reply) = self.stopped_for.take() {
            send_answer(&self.replies, &mut self.touched, reply, Reply::Stopped);
            self.replies[usize::from(reply.executor)].wake();
        }
        Ok(())
    }

    async fn wait(&mut self) {
        poll_fn(|cx| {
            if self.completions.poll_ready(cx).is_ready()
                || self.inbox.poll_ready(cx).is_ready()
                || self.links.peers().poll_ready(cx).is_ready()
            {
                return Poll::Ready(());
            }
            Poll::Pending
        })
        .await;
    }

    fn position(&self, group: GroupId) -> usize {
        self.groups.iter().position(|g| g.id == group).expect("executors know the shard's groups")
    }
}

/// Woken by senders whose messages are not taken; that it runs is all.
async fn keep(mut keeper: Keeper<Message>) {
    loop {
        keeper.kicked().await;
    }
}

/// Sends an answer without waking its executor: that is done once at the end of the turn.
fn send_answer(replies: &[Sender<Answer>], touched: &mut [bool], to: ReplyTo, reply: Reply) {
    let executor = usize::from(to.executor);
    // The answers in a mailbox are no more than the tickets that its executor has given out, and it holds more.
    if replies[executor].send_quietly(Answer { ticket: to.ticket, reply }).is_err() {
        plinth_base::log_warn!("an executor's mailbox is full: an answer was dropped, its request will time out");
    }
    touched[executor] = true;
}

async fn tick<E: Env>(env: E, completions: Completions<Completion<E>>) {
    loop {
        env.sleep(TICK).await;
        completions.push(Completion::Tick);
    }
}
