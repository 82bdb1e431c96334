//! The Cluster service.

use std::time::Duration;

use plinth_base::{MemberId, Url, limits::URLS_MAX};
use plinth_env::Env;
use plinth_kv::{Command, MemberRecord, MembersChange, OpOutcome, Outcome, ProposalId, Standing};
use plinth_rpc::{Code, Status, errors, etcdserverpb as pb};
use sha1::{Digest, Sha1};

use super::{Api, convert::status, refused};
use crate::message::{Message, Refusal, Reply as ShardReply};

/// Between two attempts at a change that has to wait for another one, or for a leader.
const CHANGE_PAUSE: Duration = Duration::from_millis(10);

/// What is told to whoever adds one more than there is room for; etcd has no such limit.
pub(super) const TOO_MANY_MEMBERS: Status =
    Status::fixed(Code::FailedPrecondition, "etcdserver: a cluster has at most 16 members");

/// The id of a member: the first 8 bytes of SHA-1 over its sorted peer URLs and what tells it from others at the same URLs: the cluster's token for
/// a first member, the time in seconds for one that was added.
#[must_use]
pub fn member_id(peer_urls: &[String], salt: &str) -> MemberId {
    let mut urls: Vec<_> = peer_urls.iter().map(String::as_str).collect();
    urls.sort_unstable();
    let mut hash = Sha1::new();
    urls.iter().for_each(|url| hash.update(url.as_bytes()));
    hash.update(salt.as_bytes());
    let digest = hash.finalize();
    MemberId(u64::from_be_bytes(*digest.first_chunk().expect("SHA-1 has 20 bytes")))
}

impl<E: Env> Api<E> {
    /// The members, by ascending id. The header carries no revision.
    ///
    /// # Errors
    /// If no leader confirms a linearizable list in time.
    pub async fn member_list(&self, request: pb::MemberListRequest) -> Result<pb::MemberListResponse, Status> {
        if request.linearizable {
            self.read_index().await?;
        }
        let (header, members) = self.header_and_members().await?;
        Ok(pb::MemberListResponse { header, members })
    }

    /// Adds a member, which has an id from now on and can be started. As a voter it counts from when it has everything.
    ///
    /// # Errors
    /// If its URLs are none, are used, or are another cluster's; if the change could cost the quorum.
    pub async fn member_add(&self, request: pb::MemberAddRequest) -> Result<pb::MemberAddResponse, Status> {
        let peer_urls = urls(&request.peer_ur_ls)?;
        let standing = if request.is_learner { Standing::Learner } else { Standing::Voter };
        let seconds = self.executor.env().unix_time().as_secs();
        let id = member_id(&peer_urls, &seconds.to_string());
        if !request.is_learner {
            self.check_quorum(Votes::may_add).await?;
        }
        let added = MemberRecord { id, peer_urls, standing, ..MemberRecord::default() };
        self.change(MembersChange { added: vec![added.clone()], ..MembersChange::default() }).await?;
        let (header, members) = self.header_and_members().await?;
        Ok(pb::MemberAddResponse { header, member: Some(member(added)), members })
    }

    /// Removes a member for ever.
    ///
    /// # Errors
    /// If it isn't there, or those that are left would be no quorum.
    pub async fn member_remove(&self, request: pb::MemberRemoveRequest) -> Result<pb::MemberRemoveResponse, Status> {
        let id = MemberId(request.id);
        self.check_quorum(|votes| votes.may_remove(id)).await?;
        self.change(MembersChange { removed: vec![id], ..MembersChange::default() }).await?;
        let (header, members) = self.header_and_members().await?;
        Ok(pb::MemberRemoveResponse { header, members })
    }

    /// Makes a learner a voter.
    ///
    /// # Errors
    /// If it is none, or lacks too much.
    pub async fn member_promote(&self, request: pb::MemberPromoteRequest) -> Result<pb::MemberPromoteResponse, Status> {
        let promoted = self.promote(MemberId(request.id)).await;
        self.shard().metrics.promotions.count(promoted.as_ref().map(drop).map_err(|status| &*status.message));
        promoted?;
        let (header, members) = self.header_and_members().await?;
        Ok(pb::MemberPromoteResponse { header, members })
    }

    async fn promote(&self, id: MemberId) -> Result<Outcome, Status> {
        self.check_quorum(|votes| votes.may_promote(id)).await?;
        self.change(MembersChange { promoted: vec![id], ..MembersChange::default() }).await
    }

    /// Changes where the others find a member. As in etcd, what is given isn't looked at, except that nobody else may have it.
    ///
    /// # Errors
    /// If it isn't there, the URLs are another's, or there are too many.
    pub async fn member_update(&self, request: pb::MemberUpdateRequest) -> Result<pb::MemberUpdateResponse, Status> {
        if request.peer_ur_ls.len() > URLS_MAX {
            return Err(errors::MEMBER_BAD_URLS);
        }
        let command = Command::UpdateMember { id: MemberId(request.id), peer_urls: request.peer_ur_ls };
        let outcome = self.propose(command, 0).await?;
        outcome.result.map_err(status)?;
        let (header, members) = self.header_and_members().await?;
        Ok(pb::MemberUpdateResponse { header, members })
    }

    pub(super) async fn members(&self) -> Result<Vec<MemberRecord>, Status> {
        let root = self.root();
        self.slice(&root, |view, _| plinth_kv::members(view)).await
    }

    async fn header_and_members(&self) -> Result<(Option<pb::ResponseHeader>, Vec<pb::Member>), Status> {
        let members = self.members().await?.into_iter().map(member).collect();
        Ok((Some(self.header(0)), members))
    }

    /// Unless the operator has taken the check away: those who have started can still decide afterwards.
    async fn check_quorum(&self, is_safe: impl FnOnce(&Votes) -> bool) -> Result<(), Status> {
        if !self.options.strict_reconfig_check {
            return Ok(());
        }
        let votes = Votes(self.members().await?);
        if is_safe(&votes) { Ok(()) } else { Err(errors::MEMBER_NOT_ENOUGH_STARTED) }
    }

    /// Has the leader propose a change, and waits until it is applied here. What was certainly not proposed is tried again.
    async fn change(&self, change: MembersChange) -> Result<Outcome, Status> {
        let env = self.executor.env();
        let begun = env.now();
        loop {
            let refusal = match self.propose_change(change.clone()).await? {
                Ok(outcome) => return outcome.result.clone().map(|_: OpOutcome| outcome).map_err(status),
                Err(refusal) => refusal,
            };
            let may_pass = matches!(refusal, Refusal::ChangeUnderWay | Refusal::NoLeader | Refusal::LeaderChanged);
            if !may_pass {
                return Err(refused(refusal));
            }
            if env.now().since(begun) >= self.executor.timeout() {
                return Err(errors::TIMEOUT);
            }
            env.sleep(CHANGE_PAUSE).await;
        }
    }

    async fn propose_change(&self, change: MembersChange) -> Result<Result<Outcome, Refusal>, Status> {
        let ticket = self.executor.ticket();
        let proposal = ProposalId { origin: self.shard.origin, number: self.executor.next_proposal() };
        let (group, reply) = (self.group().group, ticket.reply_to());
        let is_strict = self.options.strict_reconfig_check;
        let message = Message::ChangeMembers { group, proposal, change, is_strict, reply };
        self.shard.inbox.send(message).map_err(|_| errors::TOO_MANY_REQUESTS)?;
        match ticket.await {
            ShardReply::Applied(outcome) => Ok(Ok(*outcome)),
            ShardReply::Refused(refusal) => Ok(Err(refusal)),
            ShardReply::ReadReady | ShardReply::Leases(_) | ShardReply::News | ShardReply::Stopped => {
                unreachable!("a change is answered as a proposal")
            }
        }
    }
}

/// The members, when it has to be known whether a change leaves a quorum of such as have started.
struct Votes(Vec<MemberRecord>);

impl Votes {
    /// How many vote, and how many of them have started, without `id`.
    fn count(&self, without: Option<MemberId>) -> (usize, usize) {
        let voters = self.0.iter().filter(|member| !member.is_learner() && Some(member.id) != without);
        (voters.clone().count(), voters.filter(|member| !member.name.is_empty()).count())
    }

    fn may_add(&self) -> bool {
        let (voters, started) = self.count(None);
        // The second member of a cluster is the way to save the data of the first.
        (voters, started) == (1, 1) || is_quorum(started, voters + 1)
    }

    fn may_remove(&self, id: MemberId) -> bool {
        let is_voter = self.0.iter().any(|member| member.id == id && !member.is_learner());
        let (voters, started) = self.count(Some(id));
        !is_voter || is_quorum(started, voters)
    }

    fn may_promote(&self, id: MemberId) -> bool {
        let is_learner = self.0.iter().any(|member| member.id == id && member.is_learner());
        let (voters, started) = self.count(None);
        // It counts as started.
        !is_learner || is_quorum(started + 1, voters + 1)
    }
}

fn is_quorum(count: usize, of: usize) -> bool {
    count > of / 2
}

/// As etcd takes them: sorted, at least one; and not more than a record of a member can hold, or nobody could read its entry.
fn urls(texts: &[String]) -> Result<Vec<String>, Status> {
    let mut urls: Vec<String> = Vec::new();
    for text in texts {
        urls.push(Url::parse(text).map_err(|_| errors::MEMBER_BAD_URLS)?.to_string());
    }
    urls.sort_unstable();
    if urls.is_empty() || urls.len() > URLS_MAX { Err(errors::MEMBER_BAD_URLS) } else { Ok(urls) }
}

fn member(record: MemberRecord) -> pb::Member {
    pb::Member {
        is_learner: record.is_learner(),
        id: record.id.0,
        name: record.name,
        peer_ur_ls: record.peer_urls,
        client_ur_ls: record.client_urls,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn votes(members: &[(u64, bool, Standing)]) -> Votes {
        let record = |(id, has_started, standing): &(u64, bool, Standing)| MemberRecord {
            id: MemberId(*id),
            name: if *has_started { "n".to_owned() } else { String::new() },
            standing: *standing,
            ..MemberRecord::default()
        };
        Votes(members.iter().map(record).collect())
    }

    #[test]
    fn changes_leave_a_quorum_of_such_as_have_started() {
        use Standing::{Learner, Voter};
        let one = votes(&[(1, true, Voter)]);
        assert!(one.may_add() && !one.may_remove(MemberId(1)));
        let two = votes(&[(1, true, Voter), (2, false, Voter)]);
        assert!(!two.may_add() && two.may_remove(MemberId(2)) && !two.may_remove(MemberId(1)));
        let three = votes(&[(1, true, Voter), (2, true, Voter), (3, true, Voter)]);
        assert!(three.may_add() && three.may_remove(MemberId(1)));
        let learner = votes(&[(1, true, Voter), (2, false, Learner)]);
        assert!(learner.may_promote(MemberId(2)) && learner.may_remove(MemberId(2)));
        let half = votes(&[(1, true, Voter), (2, false, Voter), (3, false, Voter), (4, true, Learner)]);
        assert!(!half.may_promote(MemberId(4)) && half.may_promote(MemberId(9)), "who isn't there is found out later");
    }

    #[test]
    fn urls_are_read_as_etcd_reads_them() {
        let texts = |list: &[&str]| list.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>();
        assert_eq!(urls(&texts(&["http://b:1", "http://a:1"])), Ok(texts(&["http://a:1", "http://b:1"])));
        for bad in [&[][..], &["a:1"], &["http://a:1/path"], &["http://a:1", ""]] {
            assert_eq!(urls(&texts(bad)), Err(errors::MEMBER_BAD_URLS));
        }
        let many = |count: usize| (0..count).map(|port| format!("http://a:{port}")).collect::<Vec<_>>();
        assert!(urls(&many(URLS_MAX)).is_ok());
        assert_eq!(urls(&many(URLS_MAX + 1)), Err(errors::MEMBER_BAD_URLS));
        assert_eq!(member_id(&texts(&["b", "a"]), "t"), member_id(&texts(&["a", "b"]), "t"));
        assert_ne!(member_id(&texts(&["a"]), "1"), member_id(&texts(&["a"]), "2"));
    }
}
