//! The Lock service.

use plinth_env::Env;
use plinth_rpc::{Status, errors, etcdserverpb as pb, v3lockpb};

use super::{GivesUp, Place, Request, SortOrder, by_age, created_at, found, get, inner, op, revision_of};
use crate::api::Api;

impl<E: Env> Api<E> {
    /// Waits for the lock of a name.
    ///
    /// # Errors
    /// What its steps say, or that the lease ended meanwhile.
    pub async fn lock(&self, request: v3lockpb::LockRequest) -> Result<v3lockpb::LockResponse, Status> {
        let Place { prefix, key, lease } = self.place(&request.name, request.lease).await?;
        let put = pb::PutRequest { key: key.clone(), lease, ..pb::PutRequest::default() };
        let owner = || op(Request::RequestRange(by_age(&prefix, SortOrder::Ascend)));
        let enter = pb::TxnRequest {
            compare: vec![created_at(&key, 0)],
            success: vec![op(Request::RequestPut(put)), owner()],
            failure: vec![op(Request::RequestRange(get(&key))), owner()],
        };
        let entered = self.txn(enter).await.map_err(inner)?;
        let mut responses = entered.responses.into_iter();
        let (first, owner) = (responses.next(), found(responses.next()));
        let mine = match (entered.succeeded, found(first)) {
            (false, Some(kv)) => kv.create_revision,
            _ => revision_of(entered.header.as_ref()),
        };
        if owner.is_none_or(|owner| owner.create_revision == mine) {
            return Ok(v3lockpb::LockResponse { header: entered.header, key });
        }
        let gives_up = GivesUp::new(self, Vec::new(), &key);
        self.await_turn(&prefix, mine).await?;
        let still = self.range(get(&key)).await.map_err(inner)?;
        gives_up.keep();
        if still.kvs.is_empty() {
            return Err(errors::MUTEX_SESSION_EXPIRED);
        }
        Ok(v3lockpb::LockResponse { header: still.header, key })
    }

    /// Gives a lock back: deletes its key.
    ///
    /// # Errors
    /// What the deletion says.
    pub async fn unlock(&self, request: v3lockpb::UnlockRequest) -> Result<v3lockpb::UnlockResponse, Status> {
        let delete = pb::DeleteRangeRequest { key: request.key, ..pb::DeleteRangeRequest::default() };
        let deleted = self.delete_range(delete).await.map_err(inner)?;
        Ok(v3lockpb::UnlockResponse { header: deleted.header })
    }
}
