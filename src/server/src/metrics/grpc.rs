//! The metrics of gRPC calls: every method with every code, from the start, so that `rate()` and `absent()` work.

use plinth_rpc::Code;

use super::exposition::{Exposition, FamilyKind::Counter};
use crate::conn::{GrpcTotals, MethodTotals};

type Value = fn(&MethodTotals) -> u64;

/// Families with one sample per method.
const PER_METHOD: [(&str, &str, Value); 3] = [
    ("grpc_server_started_total", "Total number of RPCs started on the server.", |m| m.started),
    ("grpc_server_msg_received_total", "Total number of RPC stream messages received on the server.", |m| m.received),
    ("grpc_server_msg_sent_total", "Total number of gRPC stream messages sent by the server.", |m| m.sent),
];

/// Writes all gRPC families.
pub fn render(totals: &GrpcTotals, out: &mut Exposition) {
    for (name, help, value) in PER_METHOD {
        out.family(name, Counter, help);
        for method in &totals.methods {
            out.sample(&labels(method), value(method));
        }
    }
    out.family(
        "grpc_server_handled_total",
        Counter,
        "Total number of RPCs completed on the server, regardless of success or failure.",
    );
    for method in &totals.methods {
        let [name, service, kind] = labels(method);
        for code in Code::ALL {
            out.sample(&[("grpc_code", code.name()), name, service, kind], method.handled_with(code));
        }
    }
    out.single(
        "etcd_network_client_grpc_received_bytes_total",
        Counter,
        "The total number of bytes received from grpc clients.",
        totals.received_bytes,
    );
    out.single(
        "etcd_network_client_grpc_sent_bytes_total",
        Counter,
        "The total number of bytes sent to grpc clients.",
        totals.sent_bytes,
    );
}

/// Sorted by name, as Prometheus clients write them.
fn labels(totals: &MethodTotals) -> [(&'static str, &'static str); 3] {
    let method = totals.method;
    [("grpc_method", method.name()), ("grpc_service", method.service()), ("grpc_type", method.kind().name())]
}
