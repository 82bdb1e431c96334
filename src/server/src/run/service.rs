//! What the connections of one executor call.

use std::sync::Arc;

use bytes::Bytes;
use plinth_node::api::Api;
use plinth_rpc::{Method, Replies, Reply, RequestMeta, Requests, Status};
use plinth_uring::UringEnv;

use super::{Boot, figures};
use crate::{
    conn::{GrpcTotals, Service},
    metrics::MetricsSnapshot,
    routes::{self, Alarm, Backend},
};

/// The API of the node, and its HTTP routes.
pub(crate) struct NodeService {
    env: UringEnv,
    api: Api<UringEnv>,
    boot: Arc<Boot>,
}

impl NodeService {
    pub(crate) fn new(env: UringEnv, api: Api<UringEnv>, boot: Arc<Boot>) -> Self {
        Self { env, api, boot }
    }
}

impl Service for NodeService {
    fn implements(&self, method: Method) -> bool {
        Api::<UringEnv>::implements(method)
    }

    async fn unary(&self, method: Method, request: Bytes, meta: RequestMeta) -> Result<Reply, Status> {
        let _in_flight = self.env.in_flight();
        self.api.unary(method, request, &meta).await
    }

    async fn stream(
        &self,
        method: Method,
        meta: RequestMeta,
        requests: impl Requests,
        replies: impl Replies,
    ) -> Result<(), Status> {
        self.api.stream(method, &meta, requests, replies).await
    }

    async fn http(&self, request: http::Request<()>) -> http::Response<Bytes> {
        let _in_flight = self.env.in_flight();
        routes::respond(self, &self.boot.http, &request).await
    }
}

impl Backend for NodeService {
    async fn linearizable_read(&self) -> Result<(), String> {
        self.api.probe_read(false).await
    }

    async fn serializable_read(&self) -> Result<(), String> {
        self.api.probe_read(true).await
    }

    fn alarms(&self) -> Vec<Alarm> {
        let all = [Alarm::NoSpace, Alarm::Corrupt];
        let names = self.api.alarm_names();
        all.into_iter().filter(|alarm| names.contains(&alarm.name())).collect()
    }

    fn has_leader(&self) -> bool {
        self.api.has_leader()
    }

    fn is_learner(&self) -> bool {
        self.api.is_learner()
    }

    fn wal_stall(&self) -> Option<String> {
        let is_stalled = self.api.shard().metrics.wal_stalled.get() != 0;
        let limit_ms = self.boot.shard_options.stall_soft.as_millis();
        is_stalled
            .then(|| format!("a write of the log takes longer than {limit_ms}ms: new proposals wait for the disk"))
    }

    fn is_cluster_version_decided(&self) -> bool {
        true
    }

    fn metrics(&self) -> MetricsSnapshot {
        figures::snapshot(&self.api, &self.boot)
    }

    fn grpc_totals(&self) -> GrpcTotals {
        GrpcTotals::sum(self.boot.grpc.iter().map(|metrics| &**metrics))
    }
}
