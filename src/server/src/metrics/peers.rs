//! What is counted of the other members, with etcd's names. Families without a sample are left out.

use plinth_node::{CatchUp, CatchUpState, PromotionFigures, TransferFigures};

use super::{
    MetricsSnapshot,
    exposition::{
        Exposition,
        FamilyKind::{Counter, Gauge, Histogram},
    },
    families::NS_PER_SECOND,
};
use crate::peers::PeerFigures;

type Count = fn(&PeerFigures) -> u64;

/// By the label that names the peer.
#[rustfmt::skip]
const COUNTERS: &[(&str, &str, &str, Count)] = &[
    ("etcd_network_peer_sent_bytes_total", "To", "The total number of bytes sent to peers.", |peer| peer.sent_bytes),
    ("etcd_network_peer_sent_failures_total", "To", "The total number of send failures from peers.", |peer| peer.sent_failures),
    ("etcd_network_peer_received_bytes_total", "From", "The total number of bytes received from peers.", |peer| peer.received_bytes),
    ("etcd_network_peer_received_failures_total", "From", "The total number of receive failures from peers.", |peer| peer.received_failures),
];

/// Writes the families `etcd_network_snapshot_*`.
fn render_snapshots(way: &str, label: &str, verb: &str, transfers: &[TransferFigures], out: &mut Exposition) {
    let ids: Vec<String> = transfers.iter().map(|transfer| format!("{:x}", transfer.peer.0)).collect();
    let all = || transfers.iter().zip(&ids);
    let name = |what: &str| format!("etcd_network_snapshot_{way}_{what}");
    out.family(&name("success"), Counter, &format!("Total number of successful snapshot {verb}"));
    all().for_each(|(transfer, id)| out.sample(&[(label, id)], transfer.succeeded));
    out.family(&name("failures"), Counter, &format!("Total number of snapshot {way} failures"));
    all().for_each(|(transfer, id)| out.sample(&[(label, id)], transfer.failed));
    out.family(&name("inflights_total"), Gauge, &format!("Total number of inflight snapshot {verb}"));
    all().for_each(|(transfer, id)| out.sample(&[(label, id)], transfer.under_way));
    let progress = "How much of the snapshot under way, or of the last one, the receiver has.";
    out.family(&format!("plinth_snapshot_{way}_progress_ratio"), Gauge, progress);
    all().for_each(|(transfer, id)| out.sample(&[(label, id)], f64::from(transfer.done_ppm) / 1e6));
    let help = format!("Total latency distributions of v3 snapshot {verb}");
    out.family(&name("total_duration_seconds"), Histogram, &help);
    all().for_each(|(transfer, id)| out.histogram(&[(label, id)], &transfer.took, NS_PER_SECOND));
}

/// Writes the families `etcd_server_learner_promote_*`, those of which there is something to say.
fn render_promotions(promotions: &PromotionFigures, out: &mut Exposition) {
    if !promotions.failed.is_empty() {
        let help =
            "The total number of failed learner promotions (likely learner not ready) that this member was asked for.";
        out.family("etcd_server_learner_promote_failures", Counter, help);
        promotions.failed.iter().for_each(|(reason, count)| out.sample(&[("Reason", reason)], *count));
    }
    if promotions.succeeded > 0 {
        let help = "The total number of successful learner promotions that this member was asked for.";
        out.family("etcd_server_learner_promote_successes", Counter, help);
        out.sample(&[], promotions.succeeded);
    }
}

/// Writes how far the peers of a leader are behind it.
fn render_catch_ups(peers: &[CatchUp], out: &mut Exposition) {
    let ids: Vec<String> = peers.iter().map(|one| format!("{:x}", one.peer.0)).collect();
    let help = "What a leader's peer does to have what the leader has: 1 for the one state that it is in.";
    out.family("plinth_peer_catch_up_state", Gauge, help);
    for (one, id) in peers.iter().zip(&ids) {
        for state in CatchUpState::ALL {
            out.sample(&[("To", id), ("state", state.name())], u64::from(state == one.state));
        }
    }
    out.family("plinth_peer_behind_entries", Gauge, "Entries of a leader's log that its peer doesn't have durably.");
    peers.iter().zip(&ids).for_each(|(one, id)| out.sample(&[("To", id)], one.behind));
}

/// Writes the families `etcd_network_*peer*`, `etcd_network_snapshot_*` and `etcd_server_learner_promote_*`.
pub fn render(node: &MetricsSnapshot, out: &mut Exposition) {
    render_promotions(&node.promotions, out);
    for (way, label, verb, transfers) in
        [("send", "To", "sends", &node.snapshots_sent), ("receive", "From", "receives", &node.snapshots_received)]
    {
        if !transfers.is_empty() {
            render_snapshots(way, label, verb, transfers, out);
        }
    }
    if !node.catch_ups.is_empty() {
        render_catch_ups(&node.catch_ups, out);
    }
    if node.peers.is_empty() {
        return;
    }
    let ids: Vec<String> = node.peers.iter().map(|peer| format!("{:x}", peer.id.0)).collect();
    let peers = || node.peers.iter().zip(&ids);
    for (name, label, help, count) in COUNTERS {
        out.family(name, Counter, help);
        peers().for_each(|(peer, id)| out.sample(&[(label, id)], count(peer)));
    }
    out.family("etcd_network_peer_round_trip_time_seconds", Histogram, "Round-Trip-Time histogram between peers");
    peers().for_each(|(peer, id)| out.histogram(&[("To", id)], &peer.round_trip, NS_PER_SECOND));
    out.family(
        "plinth_heartbeat_lateness_seconds",
        Histogram,
        "From when a leader's heartbeat was due until it was written.",
    );
    peers().for_each(|(peer, id)| out.histogram(&[("To", id)], &peer.heartbeat_lateness, NS_PER_SECOND));
    let own = format!("{:x}", node.member_id.0);
    let between = |id| [("Local", own.as_str()), ("Remote", id)];
    out.family("etcd_network_known_peers", Gauge, "The current number of known peers.");
    peers().for_each(|(_, id)| out.sample(&between(id), 1_u64));
    out.family("etcd_network_active_peers", Gauge, "The current number of active peer connections.");
    peers().for_each(|(peer, id)| out.sample(&between(id), u64::from(peer.is_active)));
    out.family("etcd_network_disconnected_peers_total", Counter, "The total number of disconnected peers.");
    peers().for_each(|(peer, id)| out.sample(&between(id), peer.disconnected));
}

#[cfg(test)]
mod tests {
    use plinth_base::{
        MemberId,
        metrics::{HistogramSnapshot, LATENESS_NS, ROUND_TRIP_NS, TRANSFER_NS},
    };

    use super::*;

    #[test]
    fn each_peer_has_its_samples_and_a_single_member_none() {
        let peer = PeerFigures {
            id: MemberId(0xab),
            sent_bytes: 5,
            received_bytes: 6,
            sent_failures: 7,
            received_failures: 8,
            disconnected: 9,
            is_active: true,
            round_trip: HistogramSnapshot::empty(ROUND_TRIP_NS),
            heartbeat_lateness: HistogramSnapshot::empty(LATENESS_NS),
            late_heartbeats: 0,
        };
        let text = |peers| {
            let mut out = Exposition::default();
            render(&MetricsSnapshot { member_id: MemberId(0xcd), peers, ..Default::default() }, &mut out);
            out.finish()
        };
        assert_eq!(text(Vec::new()), "");
        let took = HistogramSnapshot::empty(TRANSFER_NS);
        let sent =
            TransferFigures { peer: MemberId(0xab), succeeded: 1, failed: 2, under_way: 3, done_ppm: 250_000, took };
        let mut out = Exposition::default();
        render(&MetricsSnapshot { snapshots_sent: vec![sent], ..Default::default() }, &mut out);
        let promotions = PromotionFigures { succeeded: 4, failed: [("not ready".to_owned(), 5)].into() };
        render_promotions(&promotions, &mut out);
        let snapshots = out.finish();
        for line in [
            "etcd_server_learner_promote_failures{Reason=\"not ready\"} 5\n",
            "etcd_server_learner_promote_successes 4\n",
            "etcd_network_snapshot_send_success{To=\"ab\"} 1\n",
            "etcd_network_snapshot_send_failures{To=\"ab\"} 2\n",
            "etcd_network_snapshot_send_inflights_total{To=\"ab\"} 3\n",
            "etcd_network_snapshot_send_total_duration_seconds_bucket{To=\"ab\",le=\"51.2\"} 0\n",
        ] {
            assert!(snapshots.contains(line), "{line} is missing:\n{snapshots}");
        }
        let text = text(vec![peer]);
        for line in [
            "etcd_network_peer_sent_bytes_total{To=\"ab\"} 5\n",
            "etcd_network_peer_received_failures_total{From=\"ab\"} 8\n",
            "etcd_network_active_peers{Local=\"cd\",Remote=\"ab\"} 1\n",
            "etcd_network_disconnected_peers_total{Local=\"cd\",Remote=\"ab\"} 9\n",
            "plinth_heartbeat_lateness_seconds_bucket{To=\"ab\",le=\"0.02\"} 0\n",
            "etcd_network_peer_round_trip_time_seconds_bucket{To=\"ab\",le=\"3.2768\"} 0\n",
        ] {
            assert!(text.contains(line), "{line} is missing:\n{text}");
        }
    }
}
