//! Status and alarms.

use plinth_base::MemberId;
use plinth_env::Env;
use plinth_kv::{AlarmKind, OpOutcome};
use plinth_rpc::{Code, Status, errors, etcdserverpb as pb};

use super::{
    Api,
    convert::{self, status},
    refused, version,
};
use crate::message::{Message, Refusal, Reply as ShardReply};

/// What whoever enables a downgrade is told. etcd has no words for it.
const NO_DOWNGRADE: Status = Status::fixed(
    Code::Unimplemented,
    "etcdserver: there is no older version to go back to; restore a snapshot instead",
);

impl<E: Env> Api<E> {
    /// What this member knows of itself; never waits for others.
    ///
    /// # Errors
    /// None at present.
    pub fn status(&self, _: pb::StatusRequest) -> Result<pb::StatusResponse, Status> {
        let (root, numbers) = (self.root(), &self.group().status);
        let mut errors = Vec::new();
        if numbers.leader() == 0 {
            errors.push(errors::NO_LEADER.message.into_owned());
        }
        errors.extend(root.state.alarms.iter().map(|(member, kind)| {
            // The text form of etcd's AlarmMember.
            format!("memberID:{member} alarm:{}", alarm_name(*kind))
        }));
        Ok(pb::StatusResponse {
            header: Some(self.header(root.state.revision)),
            version: self.options.version.to_owned(),
            db_size: numbers.total_bytes(),
            leader: numbers.leader(),
            raft_index: numbers.commit(),
            raft_term: numbers.term(),
            raft_applied_index: numbers.applied(),
            errors,
            db_size_in_use: numbers.in_use_bytes(),
            is_learner: numbers.is_learner(),
            storage_version: storage_version(self.options.version),
            db_size_quota: self.options.quota_bytes.map_or(i64::MAX, |bytes| i64::try_from(bytes).unwrap_or(i64::MAX)),
            downgrade_info: Some(pb::DowngradeInfo::default()),
        })
    }

    /// Lists, raises or clears alarms, through the log.
    ///
    /// # Errors
    /// etcd's status for whatever is wrong.
    pub async fn alarm(&self, request: pb::AlarmRequest) -> Result<pb::AlarmResponse, Status> {
        let Some(command) = convert::alarm(&request) else {
            return Ok(pb::AlarmResponse { header: Some(self.header(self.root().state.revision)), alarms: Vec::new() });
        };
        let outcome = self.propose(command, 0).await?;
        match outcome.result.map_err(status)? {
            OpOutcome::Alarms(alarms) => {
                let alarms =
                    alarms.into_iter().map(|(member_id, kind)| pb::AlarmMember { member_id, alarm: kind as i32 });
                Ok(pb::AlarmResponse { header: Some(self.header(outcome.revision)), alarms: alarms.collect() })
            }
            other => unreachable!("an alarm request ended as {other:?}"),
        }
    }

    /// Gives what is free of this member's file back to the file system, beside the work. The answer comes when that is done, or after half a minute.
    ///
    /// # Errors
    /// If the member is going down.
    pub async fn defragment(&self, _: pb::DefragmentRequest) -> Result<pb::DefragmentResponse, Status> {
        let ticket = self.executor.patient_ticket();
        let message = Message::Defragment { group: self.group().group, reply: ticket.reply_to() };
        self.shard.inbox.send(message).map_err(|_| errors::TOO_MANY_REQUESTS)?;
        match ticket.await {
            ShardReply::Refused(refusal) => Err(refused(refusal)),
            _ => Ok(pb::DefragmentResponse { header: None }),
        }
    }

    /// Hands leadership to another member.
    ///
    /// # Errors
    /// If this member doesn't lead, or nobody has that id.
    pub async fn move_leader(&self, request: pb::MoveLeaderRequest) -> Result<pb::MoveLeaderResponse, Status> {
        if self.group().status.leader() != self.options.member_id {
            return Err(errors::NOT_LEADER);
        }
        let mut voters = self.members().await?.into_iter().filter(|member| !member.is_learner());
        if !voters.any(|member| member.id.0 == request.target_id) {
            return Err(errors::BAD_LEADER_TRANSFEREE);
        }
        if request.target_id == self.options.member_id {
            return Ok(pb::MoveLeaderResponse { header: None });
        }
        let ticket = self.executor.ticket();
        let (group, to, reply) = (self.group().group, MemberId(request.target_id), ticket.reply_to());
        self.shard.inbox.send(Message::MoveLeader { group, to, reply }).map_err(|_| errors::TOO_MANY_REQUESTS)?;
        match ticket.await {
            ShardReply::ReadReady => Ok(pb::MoveLeaderResponse { header: None }),
            ShardReply::Refused(Refusal::TimedOut) => Err(errors::TIMEOUT_LEADER_TRANSFER),
            ShardReply::Refused(Refusal::LeaderChanged) => Err(errors::NOT_LEADER),
            ShardReply::Refused(refusal) => Err(refused(refusal)),
            ShardReply::Applied(_) | ShardReply::Leases(_) | ShardReply::News | ShardReply::Stopped => {
                unreachable!("a transfer is answered as a transfer")
            }
        }
    }

    /// Says whether the cluster could go back by a minor version. It never does: no older version of plinth reads what this one writes, and a snapshot is the
    /// way to etcd.
    ///
    /// # Errors
    /// If the version is none, or not the one below; enabling is refused.
    pub async fn downgrade(&self, request: pb::DowngradeRequest) -> Result<pb::DowngradeResponse, Status> {
        use pb::downgrade_request::DowngradeAction;
        let action = DowngradeAction::try_from(request.action).map_err(|_| errors::UNKNOWN_METHOD)?;
        let current = version::parse(self.options.version).ok_or(errors::CLUSTER_VERSION_UNAVAILABLE)?;
        if action != DowngradeAction::Cancel {
            let target = version::parse(&request.version).ok_or(errors::WRONG_DOWNGRADE_VERSION_FORMAT)?;
            self.read_index().await?;
            if !target.is_one_minor_below(current) {
                return Err(errors::INVALID_DOWNGRADE_VERSION);
            }
            if action == DowngradeAction::Enable {
                return Err(NO_DOWNGRADE);
            }
        }
        let header = Some(self.header(self.root().state.revision));
        Ok(pb::DowngradeResponse { header, version: format!("{}.{}", current.major, current.minor) })
    }
}

pub(super) fn alarm_name(kind: AlarmKind) -> &'static str {
    match kind {
        AlarmKind::None => "NONE",
        AlarmKind::NoSpace => "NOSPACE",
        AlarmKind::Corrupt => "CORRUPT",
    }
}

/// `X.Y.0` of `X.Y.Z`.
pub(super) fn storage_version(version: &str) -> String {
    version.rsplit_once('.').map_or_else(String::new, |(minor, _)| format!("{minor}.0"))
}
