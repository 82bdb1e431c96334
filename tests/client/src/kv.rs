//! The calls that tests and load make most, by their names.

use plinth_rpc::etcdserverpb::{
    DeleteRangeRequest, DeleteRangeResponse, PutRequest, PutResponse, RangeRequest, RangeResponse, StatusRequest,
    StatusResponse, TxnRequest, TxnResponse,
};

use crate::{Client, Status};

impl Client {
    /// `KV/Range`.
    pub async fn range(&self, request: &RangeRequest) -> Result<RangeResponse, Status> {
        self.unary("/etcdserverpb.KV/Range", request).await
    }

    /// `KV/Put`.
    pub async fn put(&self, request: &PutRequest) -> Result<PutResponse, Status> {
        self.unary("/etcdserverpb.KV/Put", request).await
    }

    /// `KV/DeleteRange`.
    pub async fn delete_range(&self, request: &DeleteRangeRequest) -> Result<DeleteRangeResponse, Status> {
        self.unary("/etcdserverpb.KV/DeleteRange", request).await
    }

    /// `KV/Txn`.
    pub async fn txn(&self, request: &TxnRequest) -> Result<TxnResponse, Status> {
        self.unary("/etcdserverpb.KV/Txn", request).await
    }

    /// `Maintenance/Status`.
    pub async fn status(&self) -> Result<StatusResponse, Status> {
        self.unary("/etcdserverpb.Maintenance/Status", &StatusRequest::default()).await
    }
}
