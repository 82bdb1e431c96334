//! What executors and the shard count about themselves: families that etcd doesn't have.

use super::{
    MetricsSnapshot,
    exposition::{
        Exposition,
        FamilyKind::{Counter, Histogram},
    },
    families::NS_PER_SECOND,
};

/// Writes the families `plinth_executor_*`, one sample per executor, and `plinth_shard_*`.
pub fn render(node: &MetricsSnapshot, out: &mut Exposition) {
    render_executors(&node.executors, out);
    out.family("plinth_shard_turn_duration_seconds", Histogram, "How long a turn of the shard held its executor.");
    out.histogram(&[], &node.turn, NS_PER_SECOND);
    let counts = [
        ("plinth_wal_flushes_total", "Batches of the log that became durable.", node.wal_flushes),
        ("plinth_wal_entries_total", "Entries handed to the log.", node.wal_entries),
        ("plinth_apply_page_loads_total", "Commands that waited for a page.", node.apply_page_loads),
    ];
    for (name, help, value) in counts {
        out.single(name, Counter, help, value);
    }
}

/// Every executor counts the same things, in the same order.
fn render_executors(executors: &[Vec<(&'static str, u64)>], out: &mut Exposition) {
    for (at, (name, _)) in executors.first().into_iter().flatten().enumerate() {
        let help = "See ExecutorCounters in the source.";
        out.family(&format!("plinth_executor_{name}_total"), Counter, help);
        for (executor, counters) in executors.iter().enumerate() {
            out.sample(&[("executor", &executor.to_string())], counters[at].1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_executor_has_a_sample_in_each_family() {
        let executors = vec![vec![("requests", 1), ("accepts", 2)], vec![("requests", 3), ("accepts", 4)]];
        let mut out = Exposition::default();
        render(&MetricsSnapshot { executors, ..Default::default() }, &mut out);
        let text = out.finish();
        assert!(text.contains("plinth_executor_requests_total{executor=\"1\"} 3\n"), "{text}");
        assert!(text.contains("plinth_executor_accepts_total{executor=\"0\"} 2\n"), "{text}");
        assert!(text.contains("plinth_shard_turn_duration_seconds_count 0\n"), "{text}");
    }
}
