//! The node's counters as one scrape shows them.

use std::sync::Arc;

use plinth_base::MemberId;
use plinth_node::api::Api;
use plinth_rpc::Method;
use plinth_uring::UringEnv;

use crate::{
    conn::{GrpcMetrics, GrpcTotals},
    metrics::MetricsSnapshot,
};

pub(super) fn snapshot(api: &Api<UringEnv>, grpc: &[Arc<GrpcMetrics>]) -> MetricsSnapshot {
    let (shard, root) = (api.shard(), api.published().root());
    let (metrics, status) = (&shard.metrics, &api.published().status);
    let has_leader = status.leader() != 0;
    let totals = GrpcTotals::sum(grpc.iter().map(|metrics| &**metrics));
    MetricsSnapshot {
        member_id: MemberId(api.options().member_id),
        has_leader,
        is_leader: has_leader && status.leader() == api.options().member_id,
        leader_changes_seen: status.leader_changes(),
        proposals_committed: status.commit(),
        proposals_applied: status.applied(),
        proposals_pending: status.pending(),
        proposals_failed: metrics.proposals_failed.get(),
        quota_backend_bytes: api.options().quota_bytes.unwrap_or(0),
        db_total_bytes: u64::try_from(status.total_bytes()).unwrap_or(0),
        db_in_use_bytes: u64::try_from(status.in_use_bytes()).unwrap_or(0),
        range_count: totals.method(Method::Range).started,
        put_count: metrics.puts.get(),
        delete_count: metrics.deletes.get(),
        txn_count: metrics.txns.get(),
        keys: api.key_count(),
        current_revision: root.state.revision,
        compact_revision: root.state.compacted,
        put_bytes: root.state.put_bytes,
        wal_fsync: metrics.wal_flush.snapshot(),
        wal_write_bytes: metrics.wal_write_bytes.get(),
        backend_commit: metrics.checkpoint.snapshot(),
        ..MetricsSnapshot::default()
    }
}
