//! Changes of the members that clients ask for.
//!
//! Any member takes them. It looks whether something else answers at the URLs of a new one, and whether enough members are connected; the leader
//! finds out who votes afterwards, and proposes the change by the name that it has there. Whoever asked learns of the outcome where it is applied.

use std::time::Duration;

use plinth_base::{MemberId, limits::MEMBERS_MAX};
use plinth_env::{Env, PeerLane, Resident, TaskQueue};
use plinth_kv::{Command, Envelope, MembersChange, ProposalId};
use plinth_raft::{Change, ChangeError, Configuration, Reason};

use super::{Completion, Shard};
use crate::{
    message::{Refusal, ReplyTo},
    peers::MembershipFrame,
};

/// A member counts as connected when it has been for so long.
const HEALTH_INTERVAL: Duration = Duration::from_secs(5);

/// A change that somebody waits for.
#[derive(Debug)]
pub(crate) struct AskedChange {
    pub(crate) proposal: ProposalId,
    pub(crate) change: MembersChange,
    pub(crate) reply: ReplyTo,
}

impl<E: Env> Shard<E> {
    pub(super) fn change_members(&mut self, at: usize, asked: AskedChange, is_strict: bool) {
        if self.stopping.is_some() {
            return self.refuse(asked.reply, Refusal::Stopping);
        }
        if is_strict && !self.is_healthy_enough(at, &asked.change) {
            return self.refuse(asked.reply, Refusal::Unhealthy);
        }
        let urls: Vec<String> = asked.change.added.iter().flat_map(|member| member.peer_urls.clone()).collect();
        if urls.is_empty() {
            return self.hand_in(at, asked);
        }
        let found = self.links.peers().find_resident(urls);
        let completions = self.completions.clone();
        self.env.spawn(TaskQueue::Consensus, async move {
            completions.push(Completion::ResidentFound(at, asked, found.await));
        });
    }

    /// A new member's URLs were looked at.
    pub(super) fn handle_resident(&mut self, at: usize, asked: AskedChange, found: Option<Resident>) {
        match found {
            Some(resident) if resident.cluster != self.cluster => self.refuse(asked.reply, Refusal::OtherCluster),
            Some(_) => self.refuse(asked.reply, Refusal::OtherMember),
            None => self.hand_in(at, asked),
        }
    }

    /// To the leader, which may be this member.
    fn hand_in(&mut self, at: usize, asked: AskedChange) {
        let AskedChange { proposal, change, reply } = asked;
        match self.groups[at].raft.leader() {
            Some(leader) if leader.0 == self.member => match self.complete(at, change) {
                Ok(change) => self.propose_change(at, entry(proposal, change), Some((proposal, reply))),
                Err(refusal) => self.refuse(reply, refusal),
            },
            Some(leader) => {
                let now = self.now;
                self.groups[at].begin_proposal(proposal, reply, now);
                if self.send_membership_frame(at, leader, &MembershipFrame::Change(proposal, change)).is_err() {
                    self.refuse_change(at, proposal.number, Refusal::NoLeader);
                }
            }
            None => self.refuse(reply, Refusal::NoLeader),
        }
    }

    /// A peer hands a change in, or refuses one.
    pub(super) fn handle_membership_frame(&mut self, at: usize, peer: MemberId, frame: MembershipFrame) {
        match frame {
            MembershipFrame::Change(proposal, change) => match self.complete(at, change) {
                Ok(change) => self.propose_change(at, entry(proposal, change), None),
                Err(refusal) => {
                    // If it can't be reached, its client gives up in the end.
                    let _ = self.send_membership_frame(at, peer, &MembershipFrame::Refused(proposal.number, refusal));
                }
            },
            MembershipFrame::Refused(number, refusal) => self.refuse_change(at, number, refusal),
        }
    }

    fn refuse_change(&mut self, at: usize, number: u64, refusal: Refusal) {
        if let Some(reply) = self.groups[at].end_proposal(number) {
            self.refuse(reply, refusal);
        }
    }

    fn send_membership_frame(
        &mut self,
        at: usize,
        to: MemberId,
        frame: &MembershipFrame,
    ) -> Result<(), plinth_env::NotSent> {
        let group = self.groups[at].id;
        self.links.send(to, PeerLane::Log, |out| frame.encode(group, out))
    }

    /// The change with those who vote afterwards, if this member leads and may propose it now.
    fn complete(&self, at: usize, change: MembersChange) -> Result<MembersChange, Refusal> {
        let raft = &self.groups[at].raft;
        match raft.refuses_change() {
            None => {}
            Some(Reason::ChangeUnderWay) => return Err(Refusal::ChangeUnderWay),
            Some(_) => return Err(Refusal::LeaderChanged),
        }
        let configuration = raft.configuration();
        let changes = changes(&change);
        for change in &changes {
            match change {
                Change::AddLearner(_) if learners(configuration).count() >= self.options.learners_max => {
                    return Err(Refusal::TooManyLearners);
                }
                Change::AddLearner(_) | Change::AddVoter(_) if configuration.members().count() >= MEMBERS_MAX => {
                    return Err(Refusal::TooManyMembers);
                }
                Change::Promote(id) if learners(configuration).any(|learner| learner == *id) => {
                    let matched = raft.matched(*id).map_or(0, |index| u128::from(index.0));
                    // Nine tenths, as etcd has it.
                    if matched * 10 < u128::from(raft.last().index.0) * 9 {
                        return Err(Refusal::LearnerNotReady);
                    }
                }
                _ => {}
            }
        }
        let after = match configuration.changed(&changes) {
            Ok(after) => after,
            Err(ChangeError::NoVoter) => return Err(Refusal::NotEnoughStarted),
            Err(ChangeError::IsJoint) => return Err(Refusal::ChangeUnderWay),
            // The records of the members say the same: whoever applies it refuses it with etcd's words.
            Err(_) => configuration.clone(),
        };
        Ok(MembersChange { electorate: crate::group::electorate(&after), ..change })
    }

    /// Whether so many voters are connected that the change doesn't cost the quorum.
    fn is_healthy_enough(&self, at: usize, change: &MembersChange) -> bool {
        let configuration = self.groups[at].raft.configuration();
        let voters: Vec<MemberId> = configuration.all_voters().chain(configuration.awaited.iter().copied()).collect();
        let own = MemberId(self.member);
        let is_connected = |id: &MemberId| {
            *id == own || self.links.connected_since(*id).is_some_and(|since| self.now.since(since) >= HEALTH_INTERVAL)
        };
        let connected = voters.iter().filter(|id| is_connected(id)).count();
        if !change.added.is_empty() {
            return voters.len() <= 1 || connected > voters.len().div_ceil(2);
        }
        let loses = |id: &MemberId| {
            // One that is down was no part of the quorum, and learners never are.
            voters.contains(id) && (*id == own || self.links.connected_since(*id).is_some())
        };
        !change.removed.iter().any(loses) || connected >= 2 + (voters.len() - 1) / 2
    }
}

fn entry(proposal: ProposalId, change: MembersChange) -> bytes::Bytes {
    Envelope { proposal, command: Command::ChangeMembers(change) }.encode()
}

/// The same as raft has it.
fn changes(change: &MembersChange) -> Vec<Change> {
    let added = change
        .added
        .iter()
        .map(|member| if member.is_learner() { Change::AddLearner(member.id) } else { Change::AddVoter(member.id) });
    let promoted = change.promoted.iter().map(|id| Change::Promote(*id));
    let removed = change.removed.iter().map(|id| Change::Remove(*id));
    added.chain(promoted).chain(removed).collect()
}

/// Learners that nobody added as voters.
fn learners(configuration: &Configuration) -> impl Iterator<Item = MemberId> + '_ {
    configuration.learners.iter().copied().filter(|id| !configuration.awaited.contains(id))
}
