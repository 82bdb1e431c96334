//! What is counted of the other members, with etcd's names. Families without a sample are left out.

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

/// Writes the families `etcd_network_*peer*`.
pub fn render(node: &MetricsSnapshot, out: &mut Exposition) {
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
        metrics::{HistogramSnapshot, ROUND_TRIP_NS},
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
        };
        let text = |peers| {
            let mut out = Exposition::default();
            render(&MetricsSnapshot { member_id: MemberId(0xcd), peers, ..Default::default() }, &mut out);
            out.finish()
        };
        assert_eq!(text(Vec::new()), "");
        let text = text(vec![peer]);
        for line in [
            "etcd_network_peer_sent_bytes_total{To=\"ab\"} 5\n",
            "etcd_network_peer_received_failures_total{From=\"ab\"} 8\n",
            "etcd_network_active_peers{Local=\"cd\",Remote=\"ab\"} 1\n",
            "etcd_network_disconnected_peers_total{Local=\"cd\",Remote=\"ab\"} 9\n",
            "etcd_network_peer_round_trip_time_seconds_bucket{To=\"ab\",le=\"3.2768\"} 0\n",
        ] {
            assert!(text.contains(line), "{line} is missing:\n{text}");
        }
    }
}
