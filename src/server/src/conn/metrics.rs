//! gRPC counters, one set per executor, summed when somebody asks.
//!
//! Invariant: only the executor that owns a set adds to it, so that no cache line is written by two cores.

use plinth_base::metrics::Counter;
use plinth_rpc::{CODE_COUNT, Code, METHOD_COUNT, Method};

#[derive(Default)]
struct MethodCounters {
    started: Counter,
    received: Counter,
    sent: Counter,
    handled: [Counter; CODE_COUNT],
}

/// The counters of one executor.
pub struct GrpcMetrics {
    methods: Box<[MethodCounters]>,
    received_bytes: Counter,
    sent_bytes: Counter,
}

impl Default for GrpcMetrics {
    fn default() -> Self {
        Self {
            methods: (0..METHOD_COUNT).map(|_| MethodCounters::default()).collect(),
            received_bytes: Counter::new(),
            sent_bytes: Counter::new(),
        }
    }
}

impl GrpcMetrics {
    /// A call's handler starts: of a unary call when its message is complete.
    pub(super) fn note_started(&self, method: Method) {
        self.methods[method as usize].started.inc();
    }

    /// A message of `bytes` came.
    pub(super) fn note_received(&self, method: Method, bytes: usize) {
        self.methods[method as usize].received.inc();
        self.received_bytes.add(bytes as u64);
    }

    /// A started call ended.
    pub(super) fn note_handled(&self, method: Method, code: Code) {
        self.methods[method as usize].handled[usize::from(code.number())].inc();
    }

    /// A message of `bytes` goes to the client.
    pub(super) fn note_sent(&self, method: Method, bytes: u64) {
        self.methods[method as usize].sent.inc();
        self.sent_bytes.add(bytes);
    }
}

/// What one method has seen.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct MethodTotals {
    /// Which one; it gives the labels.
    pub method: Method,
    /// `grpc_server_started_total`.
    pub started: u64,
    /// `grpc_server_msg_received_total`.
    pub received: u64,
    /// `grpc_server_msg_sent_total`.
    pub sent: u64,
    /// `grpc_server_handled_total`, at the index of each code's number ([`Code::ALL`]).
    pub handled: [u64; CODE_COUNT],
}

/// The sums over all executors at one moment.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct GrpcTotals {
    /// Every method, those never called too: etcd shows them as 0.
    pub methods: Vec<MethodTotals>,
    /// `etcd_network_client_grpc_received_bytes_total`: messages without framing.
    pub received_bytes: u64,
    /// `etcd_network_client_grpc_sent_bytes_total`: messages without framing.
    pub sent_bytes: u64,
}

impl GrpcTotals {
    /// Adds up the sets of all executors.
    pub fn sum<'a>(sets: impl IntoIterator<Item = &'a GrpcMetrics>) -> Self {
        let zero = |method| MethodTotals { method, started: 0, received: 0, sent: 0, handled: [0; CODE_COUNT] };
        let mut totals =
            Self { methods: Method::ALL.into_iter().map(zero).collect(), received_bytes: 0, sent_bytes: 0 };
        for set in sets {
            totals.received_bytes += set.received_bytes.get();
            totals.sent_bytes += set.sent_bytes.get();
            for (total, counters) in totals.methods.iter_mut().zip(&set.methods) {
                // Handled before started: a scrape between the two must not see more ends than beginnings.
                for (sum, counter) in total.handled.iter_mut().zip(&counters.handled) {
                    *sum += counter.get();
                }
                total.started += counters.started.get();
                total.received += counters.received.get();
                total.sent += counters.sent.get();
            }
        }
        totals
    }

    /// The totals of `method`.
    #[must_use]
    pub fn method(&self, method: Method) -> &MethodTotals {
        &self.methods[method as usize]
    }
}

impl MethodTotals {
    /// How many calls ended with `code`.
    #[must_use]
    pub fn handled_with(&self, code: Code) -> u64 {
        self.handled[usize::from(code.number())]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sets_of_all_executors_are_added_up_and_uncalled_methods_show_zero() {
        let sets = [GrpcMetrics::default(), GrpcMetrics::default()];
        for set in &sets {
            set.note_started(Method::Put);
            set.note_received(Method::Put, 10);
            set.note_handled(Method::Put, Code::Ok);
            set.note_sent(Method::Put, 3);
        }
        sets[1].note_started(Method::Put);
        sets[1].note_received(Method::Put, 5);
        sets[1].note_handled(Method::Put, Code::Canceled);
        let totals = GrpcTotals::sum(&sets);
        let put = totals.method(Method::Put);
        assert_eq!((put.started, put.received, put.sent), (3, 3, 2));
        assert_eq!((put.handled_with(Code::Ok), put.handled_with(Code::Canceled)), (2, 1));
        assert_eq!((totals.received_bytes, totals.sent_bytes), (25, 6));
        assert_eq!(totals.methods.len(), METHOD_COUNT);
        assert_eq!(totals.method(Method::Watch).started, 0);
    }
}
