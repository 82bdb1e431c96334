//! `/health`, `/livez` and `/readyz`.

use bytes::Bytes;
use http::{HeaderValue, Method, Response, StatusCode, header};
use plinth_base::{log_warn, metrics::Counter};

use super::{Alarm, Backend, PLAIN_TEXT, error, method_not_allowed, query, reply};
use crate::metrics::{Exposition, FamilyKind};

/// One question about the member's state.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Check {
    /// No CORRUPT alarm.
    DataCorruption,
    /// A read from own data works.
    SerializableRead,
    /// A read agreed with the quorum works.
    LinearizableRead,
    /// The member may vote.
    NonLearner,
    /// The log's device answers in time. plinth's own: listed only where it fails, so that a member that is well lists what etcd lists.
    WalStall,
}

/// Which set of checks a path names.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Set {
    Livez,
    Readyz,
}

/// A path below `/livez` or `/readyz`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Route {
    set: Set,
    /// None: all of the set.
    single: Option<Check>,
}

impl Set {
    const ALL: [Self; 2] = [Self::Livez, Self::Readyz];

    fn name(self) -> &'static str {
        match self {
            Self::Livez => "livez",
            Self::Readyz => "readyz",
        }
    }

    fn checks(self) -> &'static [Check] {
        match self {
            Self::Livez => &[Check::SerializableRead],
            Self::Readyz => &[
                Check::DataCorruption,
                Check::SerializableRead,
                Check::LinearizableRead,
                Check::NonLearner,
                Check::WalStall,
            ],
        }
    }
}

impl Check {
    const COUNT: usize = 5;

    fn name(self) -> &'static str {
        match self {
            Self::DataCorruption => "data_corruption",
            Self::SerializableRead => "serializable_read",
            Self::LinearizableRead => "linearizable_read",
            Self::NonLearner => "non_learner",
            Self::WalStall => "wal_stall",
        }
    }

    /// What `path` asks for, if it lies below `/livez` or `/readyz` and its check exists.
    pub fn route(path: &str) -> Option<Route> {
        let mut parts = path.strip_prefix('/')?.splitn(2, '/');
        let set_name = parts.next()?;
        let set = Set::ALL.into_iter().find(|set| set.name() == set_name)?;
        let single = match parts.next() {
            None => None,
            Some(name) => Some(*set.checks().iter().find(|check| check.name() == name)?),
        };
        Some(Route { set, single })
    }

    async fn run<B: Backend>(self, backend: &B) -> Result<(), String> {
        match self {
            Self::DataCorruption if backend.alarms().contains(&Alarm::Corrupt) => {
                Err("alarm activated: CORRUPT".to_owned())
            }
            Self::SerializableRead => {
                backend.serializable_read().await.map_err(|error| format!("range error: {error}"))
            }
            Self::LinearizableRead => {
                backend.linearizable_read().await.map_err(|error| format!("range error: {error}"))
            }
            Self::NonLearner if backend.is_learner() => Err("not supported for learner".to_owned()),
            Self::WalStall => backend.wal_stall().map_or(Ok(()), Err),
            Self::DataCorruption | Self::NonLearner => Ok(()),
        }
    }
}

/// Runs the checks of a route and lists them where one failed or the query says `verbose`.
pub async fn checks<B: Backend>(
    backend: &B,
    totals: &HttpTotals,
    route: Route,
    method: &Method,
    query: &str,
) -> Response<Bytes> {
    if method != Method::GET {
        return method_not_allowed();
    }
    let excluded: Vec<_> = query::pairs(query).filter(|(name, _)| name == "exclude").map(|(_, check)| check).collect();
    let (mut listing, mut failed) = (String::new(), false);
    for check in route.set.checks() {
        match route.single {
            Some(single) if single != *check => continue,
            None if excluded.iter().any(|name| name == check.name()) => continue,
            _ => {}
        }
        let result = check.run(backend).await;
        totals.note_check(route.set, *check, result.is_ok());
        match result {
            Ok(()) if *check == Check::WalStall && route.single.is_none() => {}
            Ok(()) => listing.push_str(&format!("[+]{} ok\n", check.name())),
            Err(error) => {
                failed = true;
                log_warn!("health check failed", "set" => route.set.name(), "check" => check.name(), "error" => &error);
                listing.push_str(&format!("[-]{} failed: {error}\n", check.name()));
            }
        }
    }
    if failed {
        return error(StatusCode::SERVICE_UNAVAILABLE, &listing);
    }
    if !query::pairs(query).any(|(name, _)| name == "verbose") {
        listing.clear();
    }
    let mut response = reply(StatusCode::OK, PLAIN_TEXT, listing + "ok\n");
    response.headers_mut().insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}

/// `/health`: alarms, then the leader, then a read.
pub async fn health<B: Backend>(backend: &B, totals: &HttpTotals, method: &Method, query: &str) -> Response<Bytes> {
    if method != Method::GET {
        return method_not_allowed();
    }
    let reason = unhealthy_reason(backend, query).await;
    match reason {
        None => {
            totals.health_success.inc();
            reply(StatusCode::OK, PLAIN_TEXT, "{\"health\":\"true\",\"reason\":\"\"}")
        }
        Some(reason) => {
            totals.health_failures.inc();
            log_warn!("serving /health false", "reason" => &reason);
            let mut body = "{\"health\":\"false\",\"reason\":".to_owned();
            crate::log::json_string(&reason, &mut body);
            body.push('}');
            error(StatusCode::SERVICE_UNAVAILABLE, &body)
        }
    }
}

async fn unhealthy_reason<B: Backend>(backend: &B, query: &str) -> Option<String> {
    let mut excluded = Vec::new();
    let mut serializable = None;
    for (name, value) in query::pairs(query) {
        match name.as_str() {
            "exclude" => excluded.push(value),
            // Go looks at the first one only.
            "serializable" if serializable.is_none() => serializable = Some(value == "true"),
            _ => {}
        }
    }
    let serializable = serializable.unwrap_or(false);
    if let Some(alarm) = backend.alarms().into_iter().find(|alarm| !excluded.iter().any(|name| name == alarm.name())) {
        return Some(format!("ALARM {}", alarm.name()));
    }
    if serializable {
        return backend.serializable_read().await.err().map(|error| format!("RANGE ERROR:{error}"));
    }
    if !backend.has_leader() {
        return Some("RAFT NO LEADER".to_owned());
    }
    backend.linearizable_read().await.err().map(|error| format!("RANGE ERROR:{error}"))
}

/// How health checks went since the start. One for the process: probes are rare.
#[derive(Default, Debug)]
pub struct HttpTotals {
    health_success: Counter,
    health_failures: Counter,
    checks: [[CheckTotals; Check::COUNT]; Set::ALL.len()],
}

#[derive(Default, Debug)]
struct CheckTotals {
    success: Counter,
    error: Counter,
    last_ok: plinth_base::metrics::Gauge,
}

impl HttpTotals {
    fn note_check(&self, set: Set, check: Check, ok: bool) {
        let totals = &self.checks[set as usize][check as usize];
        if ok { &totals.success } else { &totals.error }.inc();
        totals.last_ok.set(i64::from(ok));
    }

    /// Writes the families of `/health`, `/livez` and `/readyz`.
    pub fn render(&self, out: &mut Exposition) {
        out.single(
            "etcd_server_health_success",
            FamilyKind::Counter,
            "The total number of successful health checks",
            self.health_success.get(),
        );
        out.single(
            "etcd_server_health_failures",
            FamilyKind::Counter,
            "The total number of failed health checks",
            self.health_failures.get(),
        );
        let all = || Set::ALL.into_iter().flat_map(|set| set.checks().iter().map(move |check| (set, *check)));
        out.family("etcd_server_healthcheck", FamilyKind::Gauge, "The result of each kind of healthcheck.");
        for (set, check) in all() {
            let last_ok = self.checks[set as usize][check as usize].last_ok.get();
            out.sample(&[("type", set.name()), ("name", check.name())], last_ok);
        }
        out.family(
            "etcd_server_healthchecks_total",
            FamilyKind::Counter,
            "The total number of each kind of healthcheck.",
        );
        for (set, check) in all() {
            let totals = &self.checks[set as usize][check as usize];
            for (status, counter) in [("success", &totals.success), ("error", &totals.error)] {
                out.sample(&[("type", set.name()), ("name", check.name()), ("status", status)], counter.get());
            }
        }
    }
}
