//! The node's counters as one scrape shows them.

use plinth_base::{MemberId, metrics::Gauge};
use plinth_node::{ApplyTimes, Times, api::Api};
use plinth_rpc::Method;
use plinth_uring::UringEnv;

use super::Boot;
use crate::{
    config::sync_method_name,
    conn::GrpcTotals,
    metrics::{Apply, MetricsSnapshot},
};

pub(super) fn snapshot(api: &Api<UringEnv>, boot: &Boot) -> MetricsSnapshot {
    let (shard, root) = (api.shard(), api.published().root());
    let (metrics, status) = (&shard.metrics, &api.published().status);
    let watches = &api.published().watches;
    let has_leader = status.leader() != 0;
    let totals = GrpcTotals::sum(boot.grpc.iter().map(|metrics| &**metrics));
    let peers = boot.peers.figures();
    MetricsSnapshot {
        member_id: MemberId(api.options().member_id),
        has_leader,
        is_leader: has_leader && status.leader() == api.options().member_id,
        heartbeat_send_failures: peers.iter().map(|peer| peer.late_heartbeats).sum(),
        peers,
        promotions: metrics.promotions.figures(),
        snapshots_sent: metrics.snapshots_sent.figures(),
        snapshots_received: metrics.snapshots_received.figures(),
        catch_ups: metrics.catch_ups.figures(),
        is_learner: status.is_learner(),
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
        applies: applies(&metrics.applies),
        ranges: api.published().ranges.snapshot(),
        put_bytes: root.state.put_bytes,
        wal_fsync: metrics.wal_flush.snapshot(),
        wal_write_bytes: metrics.wal_write_bytes.get(),
        wal_sync_method: sync_method_name(boot.shard_options.sync_method),
        wal_stalled: gauge(&metrics.wal_stalled),
        wal_stalls: metrics.wal_stalls.get(),
        wal_hard_stalls: metrics.wal_hard_stalls.get(),
        background_rate: shard.budget.rate(),
        background: shard.budget.taken().collect(),
        handovers: metrics.handovers.by_name().collect(),
        watch_streams: gauge(&watches.streams),
        watchers: gauge(&watches.watchers),
        slow_watchers: gauge(&watches.behind),
        pending_events: gauge(&watches.pending),
        watch_events: watches.events.get(),
        compacted_changes: metrics.swept_changes.get(),
        last_compaction: gauge(&metrics.last_sweep),
        compaction: metrics.sweep.snapshot(),
        scrub_progress_ppm: gauge(&metrics.scrub_progress_ppm),
        scrub_pages: metrics.scrub_pages.get(),
        scrub_passes: metrics.scrub_passes.get(),
        scrub_corruptions: metrics.scrub_corruptions.get(),
        last_scrub_pass: gauge(&metrics.last_scrub_pass),
        leases_granted: metrics.leases_granted.get(),
        leases_revoked: metrics.leases_revoked.get(),
        leases_renewed: metrics.leases_renewed.get(),
        leases_expired: metrics.leases_expired.get(),
        lease_ttl: metrics.lease_ttl.snapshot(),
        proposals_held: metrics.throttled.get(),
        changed_page_bytes: gauge(&metrics.changed_page_bytes),
        branch_bytes: gauge(&metrics.branch_bytes),
        backend_commit: metrics.checkpoint.snapshot(),
        turn: metrics.turn.snapshot(),
        wal_flushes: metrics.wal_flushes.get(),
        wal_entries: metrics.wal_entries.get(),
        apply_page_loads: metrics.apply_page_loads.get(),
        executors: boot.counters.get().map_or_else(Vec::new, |all| all.iter().map(|one| one.snapshot()).collect()),
        ..MetricsSnapshot::default()
    }
}

/// Of every kind of command that there were some of.
fn applies(times: &ApplyTimes) -> Vec<Apply> {
    let of_kind = |(op, times): (_, &Times)| {
        let [succeeded, failed] = times.snapshot();
        [(true, succeeded), (false, failed)].map(|(success, took)| Apply { op, success, took })
    };
    times.by_name().flat_map(of_kind).filter(|apply| apply.took.count() > 0).collect()
}

fn gauge(gauge: &Gauge) -> u64 {
    u64::try_from(gauge.get()).unwrap_or(0)
}
