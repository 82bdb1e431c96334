//! The plain HTTP routes: health, readiness, version, metrics. Bodies, statuses and content types are etcd's to the
//! byte.
//!
//! Invariant: no route needs credentials, none changes anything, and none waits longer than the [`Backend`] takes to
//! answer one read.

mod health;
mod query;

use std::future::Future;

use bytes::Bytes;
use http::{HeaderValue, Method, Request, Response, StatusCode, header};

pub use health::HttpTotals;

use crate::{
    conn::GrpcTotals,
    log,
    metrics::{self, MetricsSnapshot, ProcessStats},
    version::{ETCD_CLUSTER_VERSION, ETCD_VERSION, PLINTH_VERSION},
};

/// The kinds of alarms.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Alarm {
    /// The quota is used up.
    NoSpace,
    /// Members disagree about the data.
    Corrupt,
}

impl Alarm {
    /// etcd's name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::NoSpace => "NOSPACE",
            Self::Corrupt => "CORRUPT",
        }
    }
}

/// What the routes ask of the node. The reads end by themselves: after the request timeout (5 s and two election
/// timeouts) with an error.
pub trait Backend {
    /// A range of limit 1 over no key, agreed with the quorum. The error is etcd's text.
    fn linearizable_read(&self) -> impl Future<Output = Result<(), String>>;
    /// The same from this member's data alone.
    fn serializable_read(&self) -> impl Future<Output = Result<(), String>>;
    /// The alarms that are active.
    fn alarms(&self) -> Vec<Alarm>;
    /// Whether a leader is known.
    fn has_leader(&self) -> bool;
    /// Whether this member is a learner.
    fn is_learner(&self) -> bool;
    /// Why new proposals wait for the log's device, if they do.
    fn wal_stall(&self) -> Option<String>;
    /// Whether the cluster has agreed on its version.
    fn is_cluster_version_decided(&self) -> bool;
    /// The node's numbers now.
    fn metrics(&self) -> MetricsSnapshot;
    /// The gRPC counters of all executors now.
    fn grpc_totals(&self) -> GrpcTotals;
}

/// Answers a request by its route. `totals` counts the health checks of the process. An unknown path is 404.
pub async fn respond<B: Backend>(backend: &B, totals: &HttpTotals, request: &Request<()>) -> Response<Bytes> {
    let (method, query) = (request.method(), request.uri().query().unwrap_or_default());
    let path = request.uri().path();
    match path {
        "/health" => health::health(backend, totals, method, query).await,
        "/version" => version(backend, method),
        "/metrics" => {
            let text = metrics::render(&backend.metrics(), &backend.grpc_totals(), totals, &ProcessStats::read());
            reply(StatusCode::OK, metrics::CONTENT_TYPE, text)
        }
        "/debug/vars" => reply(StatusCode::OK, "application/json; charset=utf-8", debug_vars(std::env::args())),
        _ => match health::Check::route(path) {
            Some(route) => health::checks(backend, totals, route, method, query).await,
            None => not_found(),
        },
    }
}

fn version<B: Backend>(backend: &B, method: &Method) -> Response<Bytes> {
    if method != Method::GET {
        return method_not_allowed();
    }
    let (cluster, storage) = if backend.is_cluster_version_decided() {
        (ETCD_CLUSTER_VERSION, ETCD_CLUSTER_VERSION)
    } else {
        ("not_decided", "unknown")
    };
    let body = format!("{{\"etcdserver\":\"{ETCD_VERSION}\",\"etcdcluster\":\"{cluster}\",\"storage\":\"{storage}\"}}");
    reply(StatusCode::OK, "application/json", body)
}

/// Go's expvar, as far as it isn't about the Go runtime.
fn debug_vars(args: impl Iterator<Item = String>) -> String {
    let mut cmdline = String::new();
    for (index, arg) in args.enumerate() {
        cmdline.push_str(if index == 0 { "" } else { "," });
        log::json_string(&arg, &mut cmdline);
    }
    format!("{{\n\"cmdline\": [{cmdline}],\n\"plinth\": {{\"version\": \"{PLINTH_VERSION}\"}}\n}}\n")
}

fn reply(status: StatusCode, content_type: &'static str, body: impl Into<Bytes>) -> Response<Bytes> {
    let mut response = Response::new(body.into());
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}

const PLAIN_TEXT: &str = "text/plain; charset=utf-8";

/// An error as Go's net/http writes it: plain text, a newline, and the browser told not to guess.
fn error(status: StatusCode, text: &str) -> Response<Bytes> {
    let mut response = reply(status, PLAIN_TEXT, format!("{text}\n"));
    response.headers_mut().insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}

fn method_not_allowed() -> Response<Bytes> {
    let mut response = error(StatusCode::METHOD_NOT_ALLOWED, "Method Not Allowed");
    response.headers_mut().insert(header::ALLOW, HeaderValue::from_static("GET"));
    response
}

fn not_found() -> Response<Bytes> {
    error(StatusCode::NOT_FOUND, "404 page not found")
}

#[cfg(test)]
mod tests;
