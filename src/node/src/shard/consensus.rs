//! Raft's inputs and effects: what the clock, the log and the peers say goes in, and what comes out goes to the log, to the peers and to whoever waits.

use bytes::{Bytes, BytesMut};
use plinth_base::{Instant, LogIndex, MemberId};
use plinth_env::{Env, NotSent, PeerEvent, PeerLane, Peers, TaskQueue};
use plinth_kv::{Command, Envelope, MembersChange, ProposalId};
use plinth_raft::{Body, Fetch, HardState, Input, Lane, Position, Reason};
use plinth_wal::{Durable, Entry, WalError};

use super::{Completion, Shard};
use crate::{
    bootstrap::NodeError,
    group::{Asked, Group, TailEntry},
    message::{Refusal, ReplyTo},
    peers::{
        FRAME_HEADER_BYTES, FrameError, FrameHeader, LeaseFrame, MembershipFrame, SnapshotFrame, decode, encode,
        is_about_leases, is_about_members, is_about_snapshots,
    },
};

/// Events of peers that are taken in one turn.
const PEER_EVENTS_PER_TURN_MAX: usize = 256;

/// Ticket of proposals that nobody waits for.
pub(super) const NO_TICKET: u64 = u64::MAX;

/// The lanes that lead to others.
pub(super) struct Links {
    peers: Box<dyn Peers>,
    /// Those that are connected, and since when.
    connected: Vec<((MemberId, PeerLane), Instant)>,
    buffer: BytesMut,
}

impl Links {
    pub(super) fn new(peers: Box<dyn Peers>) -> Self {
        Self { peers, connected: Vec::new(), buffer: BytesMut::new() }
    }

    pub(super) fn peers(&self) -> &dyn Peers {
        &*self.peers
    }

    fn is_connected(&self, peer: MemberId, lane: PeerLane) -> bool {
        self.connected.iter().any(|(connected, _)| *connected == (peer, lane))
    }

    /// Since when a peer can be told whatever concerns a group's log.
    pub(super) fn connected_since(&self, peer: MemberId) -> Option<Instant> {
        let since = |lane| self.connected.iter().find(|(connected, _)| *connected == (peer, lane));
        let (pulse, log) = (since(PeerLane::Pulse)?, since(PeerLane::Log)?);
        Some(pulse.1.max(log.1))
    }

    /// What is for a peer that isn't there costs nothing.
    pub(super) fn send(
        &mut self,
        to: MemberId,
        lane: PeerLane,
        frame: impl FnOnce(&mut BytesMut),
    ) -> Result<(), NotSent> {
        self.send_due(to, lane, None, frame)
    }

    /// The same, of what is a frame already.
    pub(super) fn send_frame(&self, to: MemberId, lane: PeerLane, frame: Bytes) -> Result<(), NotSent> {
        if self.is_connected(to, lane) { self.peers.send(to, lane, frame) } else { Err(NotSent::NotConnected) }
    }

    /// The same, perhaps for what should have been sent at that time.
    fn send_due(
        &mut self,
        to: MemberId,
        lane: PeerLane,
        due: Option<Instant>,
        frame: impl FnOnce(&mut BytesMut),
    ) -> Result<(), NotSent> {
        if !self.is_connected(to, lane) {
            return Err(NotSent::NotConnected);
        }
        frame(&mut self.buffer);
        let frame = self.buffer.split().freeze();
        match due {
            Some(due) => self.peers.send_due(to, lane, frame, due),
            None => self.peers.send(to, lane, frame),
        }
    }
}

fn peer_lane(lane: Lane) -> PeerLane {
    match lane {
        Lane::Pulse => PeerLane::Pulse,
        Lane::Log => PeerLane::Log,
    }
}

impl<E: Env> Shard<E> {
    /// One input for a group.
    pub(super) fn step(&mut self, at: usize, input: Input) {
        self.groups[at].step(self.now, input, &mut self.effects);
        self.carry_out(at);
    }

    /// What the turn's inputs have made worth doing together.
    pub(super) fn finish_steps(&mut self) {
        for at in 0..self.groups.len() {
            self.groups[at].raft.finish(self.now, &mut self.effects);
            self.carry_out(at);
        }
    }

    /// How the log's device does. Where it has been silent for long, the members that don't depend on it had better lead.
    pub(super) fn watch_stall(&mut self) {
        if let Some(stall) = self.stall.look(self.now, &self.metrics) {
            (0..self.groups.len()).for_each(|at| self.step(at, Input::Stalled(stall)));
        }
    }

    /// Groups whose only voter this is need no election timeout to find that out.
    pub(super) fn campaign_alone(&mut self) {
        for at in 0..self.groups.len() {
            if self.groups[at].raft.is_alone() {
                self.step(at, Input::Campaign);
            }
        }
        self.start_flush();
    }

    /// What only time brings about.
    pub(super) fn tick_groups(&mut self) {
        for at in 0..self.groups.len() {
            self.tick_due = self.deadline(&self.groups[at]).filter(|at| *at <= self.now);
            if self.tick_due.is_some() {
                self.step(at, Input::Tick);
                self.tick_due = None;
            }
        }
    }

    /// When a group has to be told of the time; never while its tree is replaced, or once this member leaves. What isn't told must not set an alarm either: it would
    /// ring again and again.
    fn deadline(&self, group: &Group<E>) -> Option<Instant> {
        group.raft.deadline().filter(|_| !group.work.is_placing && !self.is_leaving())
    }

    /// Has the shard wake up when a group's time comes, or a batch of the log is late. An alarm that is set already and rings early does no harm.
    pub(super) fn set_alarm(&mut self) {
        let groups = self.groups.iter().filter_map(|group| self.deadline(group));
        let Some(due) = groups.chain(self.stall.deadline()).min() else { return };
        if self.alarm_at.is_some_and(|at| at <= due) {
            return;
        }
        self.alarm_at = Some(due);
        let (env, completions) = (self.env.clone(), self.completions.clone());
        self.env.spawn(TaskQueue::Consensus, async move {
            env.sleep_until(due).await;
            completions.push(Completion::Alarm(due));
        });
    }

    pub(super) fn handle_alarm(&mut self, at: Instant) {
        self.alarm_at.take_if(|set| *set == at);
    }

    pub(super) fn handle_durable(&mut self, durable: &Durable) {
        self.is_log_full &= !durable.rotated;
        self.metrics.wal_flush.observe(durable.flush_ns);
        self.budget.note_flush(self.env.now(), durable.flush_ns, durable.bytes);
        self.metrics.wal_flushes.inc();
        self.metrics.wal_write_bytes.add(durable.bytes);
        for part in &durable.groups {
            let at = self.position(part.group);
            let group = &mut self.groups[at];
            group.work.log_bytes += durable.bytes;
            let hard_state = part.hard_state.map(from_wal);
            if let Some(hard_state) = hard_state {
                group.work.durable_hard_state = hard_state;
            }
            let last = part.last.map(|last| Position { index: last.index, term: last.term });
            self.step(at, Input::Durable { last, hard_state });
        }
    }

    pub(super) fn take_peer_events(&mut self) {
        for _ in 0..PEER_EVENTS_PER_TURN_MAX {
            let Some(event) = self.links.peers.take() else { return };
            match event {
                PeerEvent::Connected { peer, lane } => {
                    if !self.links.is_connected(peer, lane) {
                        let now = self.now;
                        self.links.connected.push(((peer, lane), now));
                    }
                    self.note_lost(peer, lane);
                    if lane == PeerLane::Bulk {
                        self.offer_again(peer);
                    }
                }
                PeerEvent::Broken { peer, lane } => {
                    self.links.connected.retain(|(connected, _)| *connected != (peer, lane));
                    self.note_lost(peer, lane);
                    self.note_sender_lost(peer);
                }
                PeerEvent::Expelled { by } => self.note_expelled(by),
                PeerEvent::Received { peer, lane, frame } => {
                    if let Err(error) = self.handle_frame(peer, &frame) {
                        self.metrics.frames_refused.inc();
                        plinth_base::log_warn!(
                            "a peer sent what makes no sense: its connection is closed",
                            "peer" => format!("{:x}", peer.0).as_str(),
                            "reason" => plinth_base::log::Value::display(&error)
                        );
                        self.links.peers.reset(peer, lane);
                    }
                }
            }
        }
    }

    /// What was on its way may be gone.
    fn note_lost(&mut self, peer: MemberId, lane: PeerLane) {
        if lane != PeerLane::Bulk {
            (0..self.groups.len()).for_each(|at| self.step(at, Input::Unreachable { peer }));
        }
    }

    fn handle_frame(&mut self, peer: MemberId, frame: &bytes::Bytes) -> Result<(), FrameError> {
        let short = FrameError::Malformed("a frame without a whole header");
        let head = frame.first_chunk::<FRAME_HEADER_BYTES>().ok_or(short)?;
        let (header, payload) = (FrameHeader::read(head)?, frame.slice(FRAME_HEADER_BYTES..));
        let Some(at) = self.groups.iter().position(|group| group.id == header.group()) else {
            return Err(FrameError::Malformed("a group that isn't here"));
        };
        if is_about_leases(header.kind()) {
            self.handle_lease_frame(at, peer, LeaseFrame::decode(&header, payload)?);
            return Ok(());
        }
        if is_about_snapshots(header.kind()) {
            self.handle_snapshot_frame(at, peer, SnapshotFrame::decode(&header, payload)?);
            return Ok(());
        }
        if is_about_members(header.kind()) {
            self.handle_membership_frame(at, peer, MembershipFrame::decode(&header, payload)?);
            return Ok(());
        }
        let message = decode(&header, payload, peer, MemberId(self.member))?;
        self.groups[at].raft.check(&message).map_err(FrameError::Malformed)?;
        if self.groups[at].work.is_placing || self.is_leaving() {
            // What it says now it will say again. While entries come all the time, a stop would never find the log at rest.
            return Ok(());
        }
        if matches!(message.body, Body::Propose { .. }) {
            self.take_forwarded(at, message);
        } else {
            self.step(at, Input::Received(message));
        }
        Ok(())
    }

    /// Sends something that isn't raft's.
    pub(super) fn send_lease_frame(&mut self, at: usize, to: MemberId, frame: &LeaseFrame) -> Result<(), NotSent> {
        let group = self.groups[at].id;
        self.links.send(to, PeerLane::Log, |out| frame.encode(group, out))
    }

    /// Carries out what a group's step asks for. The log's part stays in memory; the next batch takes it along.
    pub(super) fn carry_out(&mut self, at: usize) {
        // A step may ask for what takes another step; that begins with empty effects.
        let mut effects = std::mem::take(&mut self.effects);
        self.log_effects(at, &mut effects);
        let mut undelivered = Vec::new();
        for message in effects.messages.drain(..) {
            let (group, lane) = (self.groups[at].id, peer_lane(message.body.lane()));
            // A round of reads may ask for a heartbeat before its time.
            let due = matches!(message.body, Body::Heartbeat { .. }).then(|| self.tick_due.unwrap_or(self.now));
            if self.links.send_due(message.to, lane, due, |out| encode(group, &message, out)).is_err()
                && matches!(message.body, Body::Propose { .. } | Body::ReadIndex { .. })
            {
                undelivered.push(message);
            }
        }
        for ready in effects.reads.drain(..) {
            self.groups[at].read_is_ready(ready.ticket, ready.index);
        }
        for rejected in effects.rejected.drain(..) {
            self.handle_rejected(at, rejected.ticket, rejected.reason);
        }
        for (ticket, index) in effects.accepted.drain(..) {
            self.groups[at].accept(ticket, index);
        }
        for fetch in effects.fetches.drain(..) {
            self.fetch(at, fetch);
        }
        if let Some((to, why)) = effects.fled.take() {
            self.note_fled(to, why);
        }
        for (ticket, has_come_about) in effects.transferred.drain(..) {
            self.handle_transferred(ticket, has_come_about);
        }
        for peer in effects.snapshots.drain(..) {
            self.offer_snapshot(at, peer);
        }
        let arrived = std::mem::take(&mut effects.arrived);
        let leave_joint = effects.leave_joint;
        effects.clear();
        self.effects = effects;
        for message in undelivered {
            self.step(at, Input::Undelivered(message));
        }
        self.change_of_itself(at, &arrived, leave_joint);
    }

    fn log_effects(&mut self, at: usize, effects: &mut plinth_raft::Effects) {
        let group = &mut self.groups[at];
        if let Some(hard_state) = effects.hard_state.take() {
            self.wal.set_hard_state(group.id, to_wal(hard_state));
        }
        for entry in effects.entries.drain(..) {
            self.metrics.wal_entries.inc();
            let plinth_raft::Entry { index, term, is_change, payload } = entry;
            let replaced =
                group.push_tail(TailEntry { index, term, payload: payload.clone() }, self.options.tail_bytes_max);
            for reply in replaced {
                // A leader of a later term put something else in its place here. Others may still have it, and carry it out (Raft, figure 8).
                super::send_answer(
                    &self.replies,
                    &mut self.touched,
                    reply,
                    crate::message::Reply::Refused(Refusal::LeaderLost),
                );
            }
            self.wal.append(Entry { group: group.id, index, term, is_change, payload });
        }
    }

    fn handle_rejected(&mut self, at: usize, ticket: u64, reason: Reason) {
        let refusal = match reason {
            Reason::NoLeader => Refusal::NoLeader,
            Reason::LeaderChanged => Refusal::LeaderChanged,
            Reason::TooMany => Refusal::TooManyRequests,
            Reason::ChangeUnderWay => Refusal::ChangeUnderWay,
        };
        match self.groups[at].end_read(ticket) {
            Some(asked @ Asked::Read(_)) if reason == Reason::NoLeader => self.groups[at].ask_later(asked, self.now),
            Some(asked) => self.refuse_asked(at, &asked, refusal),
            None => {
                if let Some(reply) = self.groups[at].take_proposal(ticket) {
                    self.refuse(reply, refusal);
                }
            }
        }
    }

    /// Whether a leader is known, and is this member or can be told something on that lane.
    pub(super) fn reaches_leader(&self, at: usize, lane: PeerLane) -> bool {
        let leader = self.groups[at].raft.leader();
        leader.is_some_and(|leader| leader.0 == self.member || self.links.is_connected(leader, lane))
    }

    /// Reads that came while no leader was known are asked again when there is one.
    pub(super) fn ask_again(&mut self) {
        for at in 0..self.groups.len() {
            let (now, timeout) = (self.now, self.options.request_timeout);
            while let Some(asked) = self.groups[at].overdue(now, timeout) {
                self.refuse_asked(at, &asked, Refusal::TimedOut);
            }
            if self.reaches_leader(at, PeerLane::Pulse) {
                for asked in self.groups[at].take_unasked() {
                    self.ask(at, asked);
                }
            }
        }
    }

    /// Something that is true only at a time when the group's leader is known to lead.
    pub(super) fn ask(&mut self, at: usize, asked: Asked) {
        if matches!(asked, Asked::Read(_)) && !self.reaches_leader(at, PeerLane::Pulse) {
            return self.groups[at].ask_later(asked, self.now);
        }
        let ticket = self.groups[at].begin_read(asked);
        self.step(at, Input::ReadIndex { ticket });
    }

    /// Proposes a command under its name, for whoever waits for it.
    pub(super) fn propose(&mut self, at: usize, payload: bytes::Bytes, waiting: Option<(ProposalId, ReplyTo)>) {
        let ticket = self.begin_proposal(at, waiting);
        self.step(at, Input::Propose { ticket, payload });
    }

    /// The same for a command that changes the members, which only a leader can do.
    pub(super) fn propose_change(&mut self, at: usize, payload: bytes::Bytes, waiting: Option<(ProposalId, ReplyTo)>) {
        let ticket = self.begin_proposal(at, waiting);
        self.step(at, Input::ProposeChange { ticket, payload });
    }

    fn begin_proposal(&mut self, at: usize, waiting: Option<(ProposalId, ReplyTo)>) -> u64 {
        let now = self.now;
        waiting.map_or(NO_TICKET, |(proposal, reply)| self.groups[at].begin_proposal(proposal, reply, now))
    }

    /// Changes of the members that follow of those before: whoever was added as a voter votes from when it is there.
    fn change_of_itself(&mut self, at: usize, arrived: &[MemberId], leave_joint: bool) {
        let configuration = self.groups[at].raft.configuration();
        let after = if leave_joint {
            configuration.left()
        } else if let Some(id) = arrived.first() {
            match configuration.changed(&[plinth_raft::Change::Promote(*id)]) {
                Ok(after) => after,
                Err(_) => return,
            }
        } else {
            return;
        };
        let change = MembersChange { electorate: crate::group::electorate(&after), ..MembersChange::default() };
        let command = Command::ChangeMembers(change);
        let payload = Envelope { proposal: ProposalId::default(), command }.encode();
        self.propose_change(at, payload, None);
    }

    /// Reads entries for a peer that are no longer in memory.
    fn fetch(&self, at: usize, fetch: Fetch) {
        let Fetch { peer, from, bytes_max } = fetch;
        let read = self.wal.read(self.groups[at].id, from, bytes_max);
        let completions = self.completions.clone();
        self.env.spawn(TaskQueue::Consensus, async move {
            completions.push(Completion::Fetched { at, peer, from, entries: read.await });
        });
    }

    pub(super) fn handle_fetched(
        &mut self,
        at: usize,
        peer: MemberId,
        from: LogIndex,
        entries: Result<Vec<Entry>, WalError>,
    ) -> Result<(), NodeError> {
        let entries = match entries {
            Ok(entries) => entries,
            Err(WalError::Gone { .. }) => Vec::new(),
            Err(error) => return Err(error.into()),
        };
        let entry =
            |Entry { index, term, is_change, payload, .. }| plinth_raft::Entry { index, term, is_change, payload };
        let entries = entries.into_iter().map(entry).collect();
        self.step(at, Input::Fetched { peer, from, entries });
        Ok(())
    }
}

fn to_wal(HardState { term, vote, commit, is_doubtful }: HardState) -> plinth_wal::HardState {
    plinth_wal::HardState { term, vote, commit, is_doubtful }
}

pub(crate) fn from_wal(plinth_wal::HardState { term, vote, commit, is_doubtful }: plinth_wal::HardState) -> HardState {
    HardState { term, vote, commit, is_doubtful }
}
