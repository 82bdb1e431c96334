//! The Cluster service, as far as it only reads.

use plinth_env::Env;
use plinth_kv::MemberRecord;
use plinth_rpc::{Status, etcdserverpb as pb};

use super::Api;

impl<E: Env> Api<E> {
    /// The members, by ascending id. The header carries no revision.
    ///
    /// # Errors
    /// If no leader confirms a linearizable list in time.
    pub async fn member_list(&self, request: pb::MemberListRequest) -> Result<pb::MemberListResponse, Status> {
        if request.linearizable {
            self.read_index().await?;
        }
        let members = self.members().await?;
        Ok(pb::MemberListResponse { header: Some(self.header(0)), members: members.into_iter().map(member).collect() })
    }

    pub(super) async fn members(&self) -> Result<Vec<MemberRecord>, Status> {
        let root = self.root();
        self.slice(&root, |view, _| plinth_kv::members(view)).await
    }
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
