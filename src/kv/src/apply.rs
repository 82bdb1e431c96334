//! Commands, carried out in slices.
//!
//! Each command is a small state machine that keeps what it has done so far. A slice ends when the command is done, when the budget is spent, or when a
//! page is missing; nothing is published before the command is whole.

mod change;
mod compare;
mod delete;
mod lease;
mod members;
mod path;
mod put;
mod txn;

use plinth_base::{Mark, MemberId, Revision};
use plinth_tree::{Env, Missing, Store};

use crate::{
    Budget, Command, Event, KvError, MemberRecord, State,
    command::{AlarmAction, AlarmKind},
    outcome::{OpOutcome, Outcome},
    state::ALARMS_MAX,
};
use change::Changes;
use delete::DeleteRun;
use lease::{GrantRun, RevokeRun};
use members::MembersRun;
pub(crate) use members::remove_others;
use put::PutRun;
use txn::TxnRun;

pub(crate) use change::{OP_PUT, body_value, content_hash, discard};
pub(crate) use path::{Path, PathStep};

/// How far a command has got.
#[derive(Debug)]
pub enum Step {
    /// To its end.
    Done(Outcome),
    /// The budget ran out: call again.
    More,
}

/// A command under way.
#[derive(Debug)]
pub(crate) struct Applying {
    run: Run,
    changes: Changes,
}

#[derive(Debug)]
enum Run {
    Put(PutRun),
    Delete(DeleteRun),
    Txn(TxnRun),
    Grant(GrantRun),
    Revoke { run: RevokeRun, must_exist: bool },
    Compact(i64),
    Alarm { action: AlarmAction, member: u64, alarm: AlarmKind },
    PublishMember(MemberRecord),
    ChangeMembers(MembersRun),
    UpdateMember { id: MemberId, peer_urls: Vec<String> },
}

impl Applying {
    /// `state` is the store's as the command finds it; `is_watched` says that somebody wants the events.
    pub(crate) fn new(command: Command, state: &State, is_watched: bool) -> Self {
        let run = match command {
            Command::Put(put) => Run::Put(PutRun::new(put)),
            Command::DeleteRange(delete) => Run::Delete(DeleteRun::new(delete)),
            Command::Txn(txn) => Run::Txn(TxnRun::new(txn)),
            Command::LeaseGrant { id, ttl } => Run::Grant(GrantRun::new(id, ttl)),
            Command::LeaseRevoke { id } => Run::Revoke { run: RevokeRun::new(vec![id]), must_exist: true },
            Command::LeasesExpire { ids, .. } => Run::Revoke { run: RevokeRun::new(ids), must_exist: false },
            Command::Compact { revision } => Run::Compact(revision),
            Command::Alarm { action, member, alarm } => Run::Alarm { action, member, alarm },
            Command::PublishMember(member) => Run::PublishMember(member),
            Command::ChangeMembers(change) => Run::ChangeMembers(MembersRun::new(change)),
            Command::UpdateMember { id, peer_urls } => Run::UpdateMember { id, peer_urls },
        };
        Self { run, changes: Changes::new(Revision { main: state.revision + 1, sub: 0 }, is_watched) }
    }

    /// Whether the working root differs from what the command found.
    pub(crate) fn has_changed(&self) -> bool {
        self.changes.have_begun()
    }

    /// What a command that is done tells watchers: `None` if that wasn't wanted, or is too much.
    pub(crate) fn take_events(&mut self) -> Option<Vec<Event>> {
        self.changes.take_events()
    }

    /// Does one slice. `state` is brought up to date when the command is done.
    pub(crate) fn step<E: Env>(
        &mut self,
        store: &mut Store<E>,
        state: &mut State,
        budget: &mut Budget,
    ) -> Result<Step, Missing> {
        let changes = &mut self.changes;
        let result = match &mut self.run {
            Run::Put(run) => run.step(store, changes)?.map(Some),
            Run::Delete(run) => run.step(store, changes, budget)?.map_or(Ok(None), |done| Ok(Some(done))),
            Run::Txn(run) => run.step(store, state, changes, budget)?,
            Run::Grant(run) => run.step(store, changes)?.map(Some),
            Run::Revoke { run, must_exist } => match run.step(store, changes, budget)? {
                Some(OpOutcome::LeasesRevoked { found: 0, .. }) if *must_exist => Err(KvError::LeaseNotFound),
                outcome => Ok(outcome),
            },
            Run::Compact(revision) => compact(state, *revision).map(Some),
            Run::Alarm { action, member, alarm } => Ok(Some(alarms(state, *action, *member, *alarm))),
            Run::PublishMember(member) => Ok(Some(members::publish_member(store, member)?)),
            Run::ChangeMembers(run) => run.step(store, state, changes)?.map(Some),
            Run::UpdateMember { id, peer_urls } => members::update_member(store, *id, peer_urls)?.map(Some),
        };
        let Some(result) = result.transpose() else { return Ok(Step::More) };
        changes.settle(state);
        Ok(Step::Done(Outcome { revision: state.revision, result }))
    }
}

/// From now on nothing below `revision` can be read. What is left of that is removed by and by.
fn compact(state: &mut State, revision: i64) -> Result<OpOutcome, KvError> {
    if revision <= state.compacted {
        return Err(KvError::Compacted);
    }
    if revision > state.revision {
        return Err(KvError::FutureRevision);
    }
    if !state.is_swept() && state.swept.sub > 0 {
        Mark::CompactedInSweep.hit();
    }
    if state.swept.main == state.compacted {
        // The sweep has left the deletions at that revision, and may stand behind some of them: now they go.
        state.swept.sub = 0;
    }
    state.compacted = revision;
    Ok(OpOutcome::Compacted)
}

/// Alarms are idempotent: raising one that is raised, or clearing one that isn't, changes nothing.
fn alarms(state: &mut State, action: AlarmAction, member: u64, alarm: AlarmKind) -> OpOutcome {
    let at = state.alarms.binary_search(&(member, alarm));
    match (action, at) {
        (AlarmAction::Get, _) => {
            let asked = |kind: AlarmKind| alarm == AlarmKind::None || kind == alarm;
            return OpOutcome::Alarms(state.alarms.iter().copied().filter(|(_, kind)| asked(*kind)).collect());
        }
        (AlarmAction::Activate, _) if alarm == AlarmKind::None => return OpOutcome::Alarms(Vec::new()),
        (AlarmAction::Activate, Ok(_)) => {}
        (AlarmAction::Activate, Err(at)) if state.alarms.len() < ALARMS_MAX => state.alarms.insert(at, (member, alarm)),
        (AlarmAction::Deactivate, Ok(at)) => drop(state.alarms.remove(at)),
        (AlarmAction::Activate | AlarmAction::Deactivate, Err(_)) => return OpOutcome::Alarms(Vec::new()),
    }
    OpOutcome::Alarms(vec![(member, alarm)])
}
