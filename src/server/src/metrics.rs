//! `/metrics`: what plinth counts, in Prometheus's text format under etcd's names.
//!
//! Own rendering, not the `prometheus` crate: its registry counts in cells that all threads share, while here every
//! executor has cells of its own ([`plinth_base::metrics`]) that are added up per scrape. What is left of a registry is
//! a table of names.
//!
//! | module | job |
//! |---|---|
//! | `exposition` | the text format |
//! | `snapshot` | the node's numbers at one moment |
//! | `families` | names, types and help of the node's metrics |
//! | `own` | what etcd has no name for: executors, turns |
//! | `peers` | what is counted of the other members |
//! | `process` | what the kernel counts for the process |

mod exposition;
mod families;
mod grpc;
mod own;
mod peers;
mod process;
mod snapshot;

pub use exposition::{Exposition, FamilyKind, Number};
pub use process::ProcessStats;
pub use snapshot::{Apply, MetricsSnapshot};

use crate::{conn::GrpcTotals, routes::HttpTotals};

/// The content type of the text.
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// The whole text of one scrape, families sorted by name.
#[must_use]
pub fn render(node: &MetricsSnapshot, grpc: &GrpcTotals, http: &HttpTotals, process: &ProcessStats) -> String {
    let mut out = Exposition::default();
    families::render(node, &mut out);
    own::render(node, &mut out);
    peers::render(node, &mut out);
    grpc::render(grpc, &mut out);
    http.render(&mut out);
    process.render(&mut out);
    out.finish()
}
