//! Each route against a node that is well, and against nodes that aren't.

use std::{
    future::{Ready, ready},
    pin::pin,
    task::{Context, Poll, Waker},
};

use super::*;
use crate::conn::GrpcMetrics;

#[derive(Default)]
struct Node {
    alarms: Vec<Alarm>,
    no_leader: bool,
    learner: bool,
    linearizable_error: Option<&'static str>,
    serializable_error: Option<&'static str>,
    undecided: bool,
    wal_stall: Option<&'static str>,
}

fn result(error: Option<&str>) -> Ready<Result<(), String>> {
    ready(error.map_or(Ok(()), |error| Err(error.to_owned())))
}

impl Backend for Node {
    fn linearizable_read(&self) -> impl Future<Output = Result<(), String>> {
        result(self.linearizable_error)
    }
    fn serializable_read(&self) -> impl Future<Output = Result<(), String>> {
        result(self.serializable_error)
    }
    fn alarms(&self) -> Vec<Alarm> {
        self.alarms.clone()
    }
    fn has_leader(&self) -> bool {
        !self.no_leader
    }
    fn is_learner(&self) -> bool {
        self.learner
    }
    fn wal_stall(&self) -> Option<String> {
        self.wal_stall.map(str::to_owned)
    }
    fn is_cluster_version_decided(&self) -> bool {
        !self.undecided
    }
    fn metrics(&self) -> MetricsSnapshot {
        MetricsSnapshot { has_leader: !self.no_leader, ..MetricsSnapshot::default() }
    }
    fn grpc_totals(&self) -> GrpcTotals {
        GrpcTotals::sum([&GrpcMetrics::default()])
    }
}

struct Answer {
    status: u16,
    content_type: String,
    allow: Option<String>,
    body: String,
}

fn ask_with(node: &Node, totals: &HttpTotals, method: Method, uri: &str) -> Answer {
    let request = Request::builder().method(method).uri(uri).body(()).expect("a good request");
    let mut future = pin!(respond(node, totals, &request));
    let Poll::Ready(response) = future.as_mut().poll(&mut Context::from_waker(Waker::noop())) else {
        panic!("the node's answers are ready at once");
    };
    let header = |name| response.headers().get(name).map(|v: &HeaderValue| v.to_str().expect("ASCII").to_owned());
    Answer {
        status: response.status().as_u16(),
        content_type: header(header::CONTENT_TYPE).unwrap_or_default(),
        allow: header(header::ALLOW),
        body: String::from_utf8(response.body().to_vec()).expect("text"),
    }
}

fn get(node: &Node, uri: &str) -> (u16, String) {
    let answer = ask_with(node, &HttpTotals::default(), Method::GET, uri);
    (answer.status, answer.body)
}

#[test]
fn a_healthy_node_says_so() {
    let answer = ask_with(&Node::default(), &HttpTotals::default(), Method::GET, "/health");
    assert_eq!((answer.status, answer.content_type.as_str()), (200, "text/plain; charset=utf-8"));
    assert_eq!(answer.body, "{\"health\":\"true\",\"reason\":\"\"}");
}

#[test]
fn health_names_the_first_reason_in_etcds_order() {
    let node = Node {
        alarms: vec![Alarm::NoSpace, Alarm::Corrupt],
        no_leader: true,
        linearizable_error: Some("etcdserver: request timed out"),
        serializable_error: Some("broken"),
        ..Node::default()
    };
    let reason = |text: &str| (503, format!("{{\"health\":\"false\",\"reason\":\"{text}\"}}\n"));
    assert_eq!(get(&node, "/health"), reason("ALARM NOSPACE"));
    assert_eq!(get(&node, "/health?exclude=NOSPACE"), reason("ALARM CORRUPT"));
    assert_eq!(get(&node, "/health?exclude=NOSPACE&exclude=CORRUPT"), reason("RAFT NO LEADER"));
    assert_eq!(get(&node, "/health?exclude=NOSPACE&exclude=CORRUPT&serializable=true"), reason("RANGE ERROR:broken"));
    let led = Node { alarms: Vec::new(), no_leader: false, ..node };
    assert_eq!(get(&led, "/health?serializable=false"), reason("RANGE ERROR:etcdserver: request timed out"));
}

#[test]
fn a_serializable_check_needs_no_leader() {
    let node = Node { no_leader: true, linearizable_error: Some("x"), ..Node::default() };
    assert_eq!(get(&node, "/health?serializable=true").0, 200);
    assert_eq!(get(&node, "/livez"), (200, "ok\n".to_owned()));
    assert_eq!(get(&node, "/readyz").0, 503);
}

#[test]
fn ready_and_live_list_their_checks() {
    let node = Node::default();
    assert_eq!(get(&node, "/readyz"), (200, "ok\n".to_owned()));
    assert_eq!(get(&node, "/livez?verbose"), (200, "[+]serializable_read ok\nok\n".to_owned()));
    let (status, body) = get(&node, "/readyz?verbose");
    let mut lines: Vec<_> = body.lines().collect();
    assert_eq!((status, lines.pop()), (200, Some("ok")));
    lines.sort_unstable();
    assert_eq!(
        lines,
        ["[+]data_corruption ok", "[+]linearizable_read ok", "[+]non_learner ok", "[+]serializable_read ok",]
    );
}

#[test]
fn a_stalled_log_makes_the_member_not_ready_and_says_why_but_it_lives() {
    let node = Node { wal_stall: Some("the disk is slow"), ..Node::default() };
    let (status, body) = get(&node, "/readyz");
    assert!(status == 503 && body.contains("[-]wal_stall failed: the disk is slow\n"), "{body}");
    assert_eq!(get(&node, "/readyz/wal_stall").0, 503);
    assert_eq!(get(&node, "/readyz?exclude=wal_stall").0, 200);
    assert_eq!(
        (get(&node, "/livez").0, get(&node, "/health").0),
        (200, 200),
        "a restart or another client helps nobody"
    );
    assert_eq!(get(&Node::default(), "/readyz/wal_stall?verbose"), (200, "[+]wal_stall ok\nok\n".to_owned()));
}

#[test]
fn failed_checks_are_listed_unless_excluded() {
    let node =
        Node { alarms: vec![Alarm::Corrupt], learner: true, linearizable_error: Some("late"), ..Node::default() };
    let (status, body) = get(&node, "/readyz");
    assert_eq!(status, 503);
    for line in [
        "[-]data_corruption failed: alarm activated: CORRUPT\n",
        "[+]serializable_read ok\n",
        "[-]linearizable_read failed: range error: late\n",
        "[-]non_learner failed: not supported for learner\n",
    ] {
        assert!(body.contains(line), "{body}");
    }
    let excluded = "/readyz?exclude=data_corruption&exclude=linearizable_read&exclude=non_learner&exclude=unknown";
    assert_eq!(get(&node, excluded), (200, "ok\n".to_owned()));
    assert_eq!(get(&node, "/readyz/serializable_read"), (200, "ok\n".to_owned()));
    assert_eq!(get(&node, "/readyz/non_learner").0, 503);
}

#[test]
fn lack_of_space_does_not_make_a_node_unready() {
    assert_eq!(get(&Node { alarms: vec![Alarm::NoSpace], ..Node::default() }, "/readyz").0, 200);
}

#[test]
fn unknown_paths_and_checks_are_not_found() {
    for path in
        ["/", "/nothing", "/livez/", "/livez/linearizable_read", "/readyz/x", "/readyz/serializable_read/x", "/healthz"]
    {
        let answer = ask_with(&Node::default(), &HttpTotals::default(), Method::GET, path);
        assert_eq!((answer.status, answer.body.as_str()), (404, "404 page not found\n"), "{path}");
        assert_eq!(answer.content_type, "text/plain; charset=utf-8");
    }
}

#[test]
fn other_methods_than_get_are_not_allowed() {
    for path in ["/health", "/livez", "/readyz/non_learner", "/version"] {
        let answer = ask_with(&Node::default(), &HttpTotals::default(), Method::POST, path);
        assert_eq!((answer.status, answer.body.as_str()), (405, "Method Not Allowed\n"), "{path}");
        assert_eq!(answer.allow.as_deref(), Some("GET"), "{path}");
    }
}

#[test]
fn versions_are_unknown_until_the_cluster_decides() {
    let answer = ask_with(&Node::default(), &HttpTotals::default(), Method::GET, "/version");
    assert_eq!(answer.content_type, "application/json");
    let want = format!(
        "{{\"etcdserver\":\"{ETCD_VERSION}\",\"etcdcluster\":\"{ETCD_CLUSTER_VERSION}\",\"storage\":\"{ETCD_CLUSTER_VERSION}\"}}"
    );
    assert_eq!(answer.body, want);
    let (_, body) = get(&Node { undecided: true, ..Node::default() }, "/version");
    assert!(body.ends_with("\"etcdcluster\":\"not_decided\",\"storage\":\"unknown\"}"), "{body}");
}

#[test]
fn metrics_have_every_family_that_dashboards_and_alerts_use() {
    let totals = HttpTotals::default();
    ask_with(&Node::default(), &totals, Method::GET, "/health");
    ask_with(&Node::default(), &totals, Method::GET, "/livez");
    let answer = ask_with(&Node::default(), &totals, Method::GET, "/metrics");
    assert_eq!((answer.status, answer.content_type.as_str()), (200, "text/plain; version=0.0.4; charset=utf-8"));
    let lines: Vec<_> = answer.body.lines().collect();
    for line in [
        "# TYPE etcd_server_has_leader gauge",
        "etcd_server_has_leader 1",
        "etcd_server_leader_changes_seen_total 0",
        "# TYPE etcd_server_proposals_committed_total gauge",
        "etcd_server_proposals_applied_total 0",
        "etcd_server_proposals_pending 0",
        "# TYPE etcd_server_proposals_failed_total counter",
        "etcd_server_quota_backend_bytes 0",
        "etcd_mvcc_db_total_size_in_bytes 0",
        "etcd_mvcc_db_total_size_in_use_in_bytes 0",
        "etcd_disk_wal_fsync_duration_seconds_bucket{le=\"8.192\"} 0",
        "etcd_disk_backend_commit_duration_seconds_count 0",
        "etcd_network_client_grpc_received_bytes_total 0",
        "etcd_network_client_grpc_sent_bytes_total 0",
        "grpc_server_started_total{grpc_method=\"Range\",grpc_service=\"etcdserverpb.KV\",grpc_type=\"unary\"} 0",
        "grpc_server_handled_total{grpc_code=\"DataLoss\",grpc_method=\"Watch\",grpc_service=\"etcdserverpb.Watch\",grpc_type=\"bidi_stream\"} 0",
        "etcd_debugging_mvcc_compact_revision -1",
        "etcd_cluster_version{cluster_version=\"3.5\"} 1",
        "etcd_server_health_success 1",
        "etcd_server_healthcheck{type=\"livez\",name=\"serializable_read\"} 1",
        "etcd_server_healthchecks_total{type=\"livez\",name=\"serializable_read\",status=\"success\"} 1",
        "etcd_server_range_duration_seconds_bucket{success=\"true\",le=\"0.0001\"} 0",
    ] {
        assert!(lines.contains(&line), "{line} is missing");
    }
    for name in ["process_resident_memory_bytes ", "process_open_fds ", "os_fd_limit ", "process_cpu_seconds_total "] {
        assert!(lines.iter().any(|line| line.starts_with(name)), "{name}");
    }
}

#[test]
fn each_family_is_announced_once_and_before_its_samples() {
    let (_, body) = get(&Node::default(), "/metrics");
    let mut announced = std::collections::BTreeSet::new();
    let mut current = String::new();
    for line in body.lines() {
        if let Some(rest) = line.strip_prefix("# TYPE ") {
            current = rest.split(' ').next().expect("a name").to_owned();
            assert!(announced.insert(current.clone()), "{current} twice");
        } else if !line.starts_with('#') {
            assert!(line.starts_with(&current), "{line} is not of {current}");
        }
    }
}

#[test]
fn debug_vars_are_json() {
    let text = debug_vars(["plinth".to_owned(), "--name=\"x\"".to_owned()].into_iter());
    let value: serde_json::Value = serde_json::from_str(&text).expect("JSON");
    assert_eq!(value["cmdline"][1], "--name=\"x\"");
    assert_eq!(get(&Node::default(), "/debug/vars").0, 200);
}
