//! Names, types and help of the node's metrics. A name here is part of the contract with dashboards and alerts.

use plinth_node::Taken;

use super::{
    MetricsSnapshot, Number,
    exposition::{
        Exposition,
        FamilyKind::{self, Counter, Gauge, Histogram},
    },
};
use crate::version::{ETCD_CLUSTER_VERSION_SHORT, ETCD_VERSION};

/// What was observed in nanoseconds is shown in seconds.
pub const NS_PER_SECOND: f64 = 1e9;

type Value = fn(&MetricsSnapshot) -> Number;

/// Families of one sample without labels.
#[rustfmt::skip]
const SCALARS: &[(&str, FamilyKind, &str, Value)] = &[
    ("etcd_server_has_leader", Gauge, "Whether or not a leader exists. 1 is existence, 0 is not.", |m| m.has_leader.into()),
    ("etcd_server_is_leader", Gauge, "Whether or not this member is a leader. 1 if is, 0 otherwise.", |m| m.is_leader.into()),
    ("etcd_server_is_learner", Gauge, "Whether or not this member is a learner. 1 if is, 0 otherwise.", |m| m.is_learner.into()),
    ("etcd_server_leader_changes_seen_total", Counter, "The number of leader changes seen.", |m| m.leader_changes_seen.into()),
    // Gauges under names that end in _total: so it is in etcd.
    ("etcd_server_proposals_committed_total", Gauge, "The total number of consensus proposals committed.", |m| m.proposals_committed.into()),
    ("etcd_server_proposals_applied_total", Gauge, "The total number of consensus proposals applied.", |m| m.proposals_applied.into()),
    ("etcd_server_proposals_pending", Gauge, "The current number of pending proposals to commit.", |m| m.proposals_pending.into()),
    ("etcd_server_proposals_failed_total", Counter, "The total number of failed proposals seen.", |m| m.proposals_failed.into()),
    ("etcd_server_heartbeat_send_failures_total", Counter, "The total number of leader heartbeats sent late.", |m| m.heartbeat_send_failures.into()),
    ("etcd_server_slow_apply_total", Counter, "The total number of slow apply requests.", |m| m.slow_apply.into()),
    ("etcd_server_slow_read_indexes_total", Counter, "The total number of pending read indexes that took too long.", |m| m.slow_read_indexes.into()),
    ("etcd_server_read_indexes_failed_total", Counter, "The total number of failed read indexes seen.", |m| m.read_indexes_failed.into()),
    ("etcd_server_quota_backend_bytes", Gauge, "Current backend storage quota size in bytes.", |m| m.quota_backend_bytes.into()),
    ("etcd_mvcc_db_total_size_in_bytes", Gauge, "Total size of the underlying database physically allocated in bytes.", |m| m.db_total_bytes.into()),
    ("etcd_mvcc_db_total_size_in_use_in_bytes", Gauge, "Total size of the underlying database logically in use in bytes.", |m| m.db_in_use_bytes.into()),
    ("etcd_mvcc_db_open_read_transactions", Gauge, "The number of currently open read transactions.", |m| m.db_open_read_transactions.into()),
    ("etcd_mvcc_range_total", Counter, "Total number of ranges seen by this member.", |m| m.range_count.into()),
    ("etcd_mvcc_put_total", Counter, "Total number of puts seen by this member.", |m| m.put_count.into()),
    ("etcd_mvcc_delete_total", Counter, "Total number of deletes seen by this member.", |m| m.delete_count.into()),
    ("etcd_mvcc_txn_total", Counter, "Total number of txns seen by this member.", |m| m.txn_count.into()),
    ("etcd_debugging_mvcc_keys_total", Gauge, "Total number of keys.", |m| m.keys.into()),
    ("etcd_debugging_mvcc_current_revision", Gauge, "The current revision of store.", |m| m.current_revision.into()),
    ("etcd_debugging_mvcc_compact_revision", Gauge, "The revision of the last compaction in store.", |m| m.compact_revision.into()),
    ("etcd_debugging_mvcc_total_put_size_in_bytes", Gauge, "The total size of put kv pairs seen by this member.", |m| m.put_bytes.into()),
    ("etcd_disk_wal_write_bytes_total", Gauge, "Total number of bytes written in WAL.", |m| m.wal_write_bytes.into()),
    ("etcd_debugging_mvcc_watch_stream_total", Gauge, "Total number of watch streams.", |m| m.watch_streams.into()),
    ("etcd_debugging_mvcc_watcher_total", Gauge, "Total number of watchers.", |m| m.watchers.into()),
    ("etcd_debugging_mvcc_slow_watcher_total", Gauge, "Total number of unsynced slow watchers.", |m| m.slow_watchers.into()),
    ("etcd_debugging_mvcc_events_total", Counter, "Total number of events sent by this member.", |m| m.watch_events.into()),
    ("etcd_debugging_mvcc_pending_events_total", Gauge, "Total number of pending events to be sent.", |m| m.pending_events.into()),
    ("etcd_debugging_mvcc_db_compaction_keys_total", Counter, "Total number of db keys compacted.", |m| m.compacted_changes.into()),
    ("etcd_debugging_mvcc_db_compaction_last", Gauge, "The unix time of the last db compaction. Resets to 0 on start.", |m| m.last_compaction.into()),
    ("etcd_debugging_lease_granted_total", Counter, "The total number of granted leases.", |m| m.leases_granted.into()),
    ("etcd_debugging_lease_revoked_total", Counter, "The total number of revoked leases.", |m| m.leases_revoked.into()),
    ("etcd_debugging_lease_renewed_total", Counter, "The number of renewed leases seen by the leader.", |m| m.leases_renewed.into()),
    ("etcd_debugging_server_lease_expired_total", Counter, "The total number of expired leases.", |m| m.leases_expired.into()),
    // plinth's own.
    ("plinth_wal_stalled", Gauge, "1 while a write of the log takes longer than --wal-stall-soft and new proposals wait, 2 while it takes longer than --wal-stall-hard.", |m| m.wal_stalled.into()),
    ("plinth_scrub_progress_ratio", Gauge, "How much of the pass of the scrub that is under way, or was the last one, is done.", |m| (m.scrub_progress_ppm as f64 / 1e6).into()),
    ("plinth_scrub_pages_total", Counter, "Pages of the tree file that the scrub has read.", |m| m.scrub_pages.into()),
    ("plinth_scrub_passes_total", Counter, "The number of times that the scrub has gone through the tree file.", |m| m.scrub_passes.into()),
    ("plinth_scrub_corruptions_total", Counter, "Rotten pages that the scrub has found, each as often as it was found.", |m| m.scrub_corruptions.into()),
    ("plinth_scrub_last_pass_timestamp_seconds", Gauge, "When the scrub's last pass ended, in seconds since the Unix epoch; 0 before.", |m| m.last_scrub_pass.into()),
    ("plinth_wal_stalls_total", Counter, "The number of times that a write of the log took longer than --wal-stall-soft.", |m| m.wal_stalls.into()),
    ("plinth_wal_hard_stalls_total", Counter, "The number of times that a write of the log took longer than --wal-stall-hard.", |m| m.wal_hard_stalls.into()),
    ("plinth_background_budget_bytes_per_second", Gauge, "What background work may read and write while the log is busy, all of it together; a checkpoint in a hurry takes more.", |m| m.background_rate.into()),
    ("plinth_proposals_held_total", Counter, "The number of proposals that waited for the log's device or for memory for changed pages.", |m| m.proposals_held.into()),
    ("plinth_tree_changed_page_bytes", Gauge, "Bytes of changed tree pages in memory.", |m| m.changed_page_bytes.into()),
    ("plinth_tree_branch_bytes", Gauge, "About the bytes of decoded tree branches in memory.", |m| m.branch_bytes.into()),
];

/// Writes all of the node's families.
pub fn render(node: &MetricsSnapshot, out: &mut Exposition) {
    for (name, kind, help, value) in SCALARS {
        out.single(name, *kind, help, value(node));
    }
    render_identity(node, out);
    render_histograms(node, out);
    if !node.handovers.is_empty() {
        render_uses(node, out);
    }
}

/// What a shard counts by reason or use.
fn render_uses(node: &MetricsSnapshot, out: &mut Exposition) {
    out.family(
        "plinth_leader_handovers_total",
        Counter,
        "The number of times that this member gave its leadership away.",
    );
    node.handovers.iter().for_each(|(reason, count)| out.sample(&[("reason", reason)], *count));
    out.family("plinth_background_bytes_total", Counter, "Bytes that background work read and wrote beside the log.");
    node.background.iter().for_each(|taken| out.sample(&[("use", taken.name)], taken.bytes));
    out.family("plinth_background_wait_seconds_total", Counter, "How long background work waited for the log.");
    let seconds = |taken: &Taken| taken.waited_ns as f64 / NS_PER_SECOND;
    node.background.iter().for_each(|taken| out.sample(&[("use", taken.name)], seconds(taken)));
}

fn render_identity(node: &MetricsSnapshot, out: &mut Exposition) {
    let id = format!("{:x}", node.member_id.0);
    let facts = [
        (
            "etcd_server_id",
            "Server or member ID in hexadecimal format. 1 for 'server_id' label with current ID.",
            "server_id",
            id.as_str(),
        ),
        (
            "etcd_server_version",
            "Which version is running. 1 for 'server_version' label with current version.",
            "server_version",
            ETCD_VERSION,
        ),
        (
            "etcd_cluster_version",
            "Which version is running. 1 for 'cluster_version' label with current cluster version",
            "cluster_version",
            ETCD_CLUSTER_VERSION_SHORT,
        ),
        (
            "plinth_wal_sync_method",
            "How the log reaches the device. 1 for 'method' label with the method in use.",
            "method",
            node.wal_sync_method,
        ),
    ];
    for (name, help, label, value) in facts {
        out.family(name, Gauge, help);
        out.sample(&[(label, value)], 1_u64);
    }
}

fn render_histograms(node: &MetricsSnapshot, out: &mut Exposition) {
    let flushes = [
        ("etcd_disk_wal_fsync_duration_seconds", "The latency distributions of fsync called by WAL.", &node.wal_fsync),
        (
            "etcd_disk_backend_commit_duration_seconds",
            "The latency distributions of commit called by backend.",
            &node.backend_commit,
        ),
    ];
    for (name, help, histogram) in flushes {
        out.family(name, Histogram, help);
        out.histogram(&[], histogram, NS_PER_SECOND);
    }
    let name = "etcd_debugging_mvcc_db_compaction_total_duration_milliseconds";
    out.family(name, Histogram, "Bucketed histogram of db compaction total duration.");
    out.histogram(&[], &node.compaction, 1.0);
    out.family("etcd_debugging_lease_ttl_total", Histogram, "Bucketed histogram of lease TTLs.");
    out.histogram(&[], &node.lease_ttl, 1.0);
    out.family("etcd_server_range_duration_seconds", Histogram, "The latency distributions of txn.Range");
    for (histogram, success) in node.ranges.iter().zip(["true", "false"]) {
        out.histogram(&[("success", success)], histogram, NS_PER_SECOND);
    }
    if !node.applies.is_empty() {
        out.family(
            "etcd_server_apply_duration_seconds",
            Histogram,
            "The latency distributions of applies by operation and result.",
        );
        for apply in &node.applies {
            let success = if apply.success { "true" } else { "false" };
            out.histogram(&[("version", "v3"), ("op", apply.op), ("success", success)], &apply.took, NS_PER_SECOND);
        }
    }
}
