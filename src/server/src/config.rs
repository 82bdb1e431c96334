//! The server's configuration: every flag that is honoured, read once into a type that can't hold nonsense.

use std::{path::PathBuf, time::Duration};

use plinth_base::{Url, limits::URLS_MAX, log::Level};
use plinth_env::SyncMethod;
use plinth_node::{Retention, api::WATCH_PROGRESS_INTERVAL_MIN};
use plinth_uring::cores::{CoresError, CoresSpec};

use crate::{
    conn::ConnConfig,
    flags::Settings,
    go_duration,
    log::{Form, LogConfig, Notice, Output},
    start_error::StartError,
};

/// How a node is to run.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Config {
    /// The member's name; never empty.
    pub name: String,
    /// Where the data is kept, as given: relative to the working directory.
    pub data_dir: PathBuf,
    /// Where the log is kept, if not in the data directory.
    pub wal_dir: Option<PathBuf>,
    /// Where clients are served; at least one, all plaintext.
    pub listen_client_urls: Vec<Url>,
    /// Where only metrics and health are served.
    pub listen_metrics_urls: Vec<Url>,
    /// How clients reach this member; at least one.
    pub advertise_client_urls: Vec<Url>,
    /// Where other members are served; at least one, all plaintext.
    pub listen_peer_urls: Vec<Url>,
    /// They were asked for: they are served even if there are no others yet.
    pub serves_peers: bool,
    /// Changes of the members that could cost the quorum are refused.
    pub strict_reconfig_check: bool,
    /// Learners that the cluster may have.
    pub learners_max: usize,
    /// The members are gone for ever: this one is the cluster from now on.
    pub force_new_cluster: bool,
    /// What only the first start looks at.
    pub bootstrap: Bootstrap,
    /// The size of the data at which writes stop. None: never.
    pub quota_backend_bytes: Option<u64>,
    /// The limits on one client.
    pub limits: ClientLimits,
    /// How much history is kept; None keeps all.
    pub retention: Option<Retention>,
    /// Pings on client connections.
    pub keepalive: Keepalive,
    /// The time between heartbeats.
    pub heartbeat_interval: Duration,
    /// The time without a heartbeat until an election; at least [`ELECTION_HEARTBEATS_MIN`] heartbeats.
    pub election_timeout: Duration,
    /// How often a quiet watch is told the revision.
    pub watch_progress_interval: Duration,
    /// The log.
    pub log: LogConfig,
    /// The cores to run on.
    pub cores: Option<CoresSpec>,
    /// How many shards; None leaves it to the data directory, and to 1 at the first start.
    pub shards: Option<u16>,
    /// How the log reaches the device; None measures at the first start.
    pub wal_sync_method: Option<SyncMethod>,
    /// A write of the log that takes so long is a stall; at least [`WAL_STALL_MIN`].
    pub wal_stall_soft: Duration,
    /// One that takes so long makes a leader hand over; at least `wal_stall_soft`.
    pub wal_stall_hard: Duration,
    /// A checkpoint starts when the log has grown by so many bytes.
    pub checkpoint_log_bytes: u64,
    /// What a leader keeps of the log for members that are behind, in bytes.
    pub catch_up_log_bytes: u64,
    /// All pages of the tree file are read and proven once in so long; zero: never.
    pub scrub_interval: Duration,
}

/// What one client may do.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ClientLimits {
    /// The largest request, in bytes.
    pub request_bytes_max: usize,
    /// The most operations in a transaction.
    pub txn_ops_max: usize,
    /// The most streams on one connection at a time.
    pub concurrent_streams_max: u32,
}

/// Pings on client connections.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Keepalive {
    /// A client that pings more often than this is sent away.
    pub client_interval_min: Duration,
    /// An idle client is pinged this often.
    pub interval: Duration,
    /// A client that doesn't answer a ping for this long is gone.
    pub timeout: Duration,
}

/// What `--initial-cluster-state` says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ClusterState {
    /// The first start makes a cluster.
    New,
    /// The first start joins one.
    Existing,
}

impl Config {
    /// What these flags mean for each client connection.
    #[must_use]
    pub fn connections(&self) -> ConnConfig {
        ConnConfig {
            message_bytes_max: self.limits.request_bytes_max + MESSAGE_OVERHEAD_BYTES,
            streams_max: self.limits.concurrent_streams_max,
            keepalive_interval: self.keepalive.interval,
            keepalive_timeout: self.keepalive.timeout,
            keepalive_min_time: self.keepalive.client_interval_min,
            ..ConnConfig::default()
        }
    }
}

/// What only the first start looks at; a member that has data ignores it, as etcd does.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Bootstrap {
    /// How other members reach this one; at least one, sorted.
    pub advertise_peer_urls: Vec<Url>,
    /// `--initial-cluster`, if given: the members by name, each with its URLs in sorted order.
    pub initial_cluster: Option<Vec<(String, Vec<String>)>>,
    /// Whether to make a cluster or join one.
    pub cluster_state: ClusterState,
    /// Keeps clusters with the same URLs apart.
    pub cluster_token: String,
}

/// By how much a gRPC message may exceed the largest request, in bytes: up to there etcd's own error answers, above it gRPC's.
const MESSAGE_OVERHEAD_BYTES: usize = 512 << 10;
/// `--election-timeout` is at least this many heartbeats.
pub const ELECTION_HEARTBEATS_MIN: u32 = 5;
/// The longest `--election-timeout`, in milliseconds.
const ELECTION_MS_MAX: u64 = 50_000;
/// What `--quota-backend-bytes=0` means, in bytes.
pub const QUOTA_BYTES_DEFAULT: u64 = 2 << 30;
/// The shortest time for which history is kept, if not for ever.
const RETENTION_MIN: Duration = Duration::from_secs(1);
/// Above this quota etcd warns, in bytes.
const QUOTA_BYTES_ADVISED_MAX: u64 = 8 << 30;
/// Above this request size etcd warns, in bytes.
const REQUEST_BYTES_ADVISED_MAX: u64 = 10 << 20;
/// The largest `--max-request-bytes`: a request must fit the length field of a gRPC message, with room for its frame.
const REQUEST_BYTES_MAX: u64 = (1 << 31) - (1 << 20);
/// The most operations that can be asked for in one transaction: each has its own number within a revision.
const TXN_OPS_MAX: u64 = 1 << 20;
/// The most shards a node can have.
const SHARDS_MAX: u32 = 64;
/// The range of `--checkpoint-log-bytes`: below it there would be a checkpoint every few batches, above it a start after a crash
/// would take minutes.
const CHECKPOINT_LOG_BYTES_MIN: u64 = 64 << 10;
const CHECKPOINT_LOG_BYTES_MAX: u64 = 16 << 30;
/// The shortest `--wal-stall-soft`: sound devices take some milliseconds now and then.
pub const WAL_STALL_MIN: Duration = Duration::from_millis(10);
/// Without flags these are the parts of the election timeout, in quarters: between the two a leader finds out how the others do, and by the end of
/// the timeout one of them leads.
const WAL_STALL_SOFT_QUARTERS: u32 = 2;
const WAL_STALL_HARD_QUARTERS: u32 = 3;
/// What gRPC takes where `--grpc-keepalive-min-time` is 0.
const GRPC_PING_INTERVAL_MIN_DEFAULT: Duration = Duration::from_secs(300);
/// What gRPC takes where `--grpc-keepalive-interval` or `-timeout` is 0.
const GRPC_PING_DEFAULT: (Duration, Duration) = (Duration::from_secs(7200), Duration::from_secs(20));

/// `--cores`; none is the default.
fn cores(settings: &Settings) -> Result<Option<CoresSpec>, StartError> {
    let text = settings.get("cores");
    if text.is_empty() {
        return Ok(None);
    }
    text.parse().map(Some).map_err(|error: CoresError| StartError::usage(error.to_string()))
}

/// Reads and checks all settings. Also gives what is to be logged once there is a log: remarks on flags and values.
pub fn from_settings(settings: &Settings) -> Result<(Config, Vec<Notice>), StartError> {
    let mut notices = settings.notices.clone();
    let name = settings.get("name").to_owned();
    if name.is_empty() {
        return Err(StartError::failed("--name is empty: give the member a name"));
    }
    let (heartbeat_interval, election_timeout) = heartbeat_and_election(settings)?;
    let (wal_stall_soft, wal_stall_hard) = wal_stalls(settings, election_timeout)?;
    let config = Config {
        data_dir: data_dir(settings, &name)?,
        wal_dir: Some(settings.get("wal-dir")).filter(|dir| !dir.is_empty()).map(PathBuf::from),
        listen_client_urls: listen_urls(settings, "listen-client-urls")?,
        listen_metrics_urls: metrics_urls(settings)?,
        advertise_client_urls: advertise_client_urls(settings)?,
        listen_peer_urls: listen_urls(settings, "listen-peer-urls")?,
        serves_peers: settings.is_given("listen-peer-urls"),
        strict_reconfig_check: settings.is_on("strict-reconfig-check"),
        learners_max: usize::try_from(number::<i64>(settings, "max-learners")).unwrap_or(0),
        force_new_cluster: settings.is_on("force-new-cluster"),
        bootstrap: bootstrap(settings)?,
        quota_backend_bytes: quota_bytes(settings, &mut notices),
        limits: client_limits(settings, &mut notices)?,
        retention: retention(settings)?,
        keepalive: keepalive(settings),
        wal_stall_soft,
        wal_stall_hard,
        heartbeat_interval,
        election_timeout,
        watch_progress_interval: duration(settings, "watch-progress-notify-interval").max(WATCH_PROGRESS_INTERVAL_MIN),
        log: log_config(settings),
        cores: cores(settings)?,
        shards: shards(settings)?,
        wal_sync_method: sync_method(settings.get("wal-sync-method")),
        checkpoint_log_bytes: checkpoint_log_bytes(settings)?,
        catch_up_log_bytes: number(settings, "catch-up-log-bytes"),
        scrub_interval: duration(settings, "scrub-interval"),
        name,
    };
    Ok((config, notices))
}

impl Bootstrap {
    /// Reads `name=url,name=url`; a name that comes again adds a URL.
    pub fn parse_cluster(text: &str) -> Result<Vec<(String, Vec<String>)>, String> {
        let mut members: Vec<(String, Vec<String>)> = Vec::new();
        for part in text.split(',') {
            let (name, url) =
                part.split_once('=').ok_or_else(|| format!("\"{part}\" has no name: write name=http://host:port"))?;
            let (name, url) = (name.trim(), Url::parse(url)?.to_string());
            match members.iter_mut().find(|(member, _)| member == name) {
                Some((_, urls)) => urls.push(url),
                None => members.push((name.to_owned(), vec![url])),
            }
        }
        for (name, urls) in &mut members {
            urls.sort();
            if urls.len() > URLS_MAX {
                return Err(format!("\"{name}\" has {} URLs: {URLS_MAX} are the most", urls.len()));
            }
        }
        Ok(members)
    }

    /// The members of the new cluster. Without `--initial-cluster` that is `name` alone, at its advertised URLs.
    #[must_use]
    pub fn initial_members(&self, name: &str) -> Vec<(String, Vec<String>)> {
        self.initial_cluster.clone().unwrap_or_else(|| {
            vec![(name.to_owned(), self.advertise_peer_urls.iter().map(ToString::to_string).collect())]
        })
    }
}

fn data_dir(settings: &Settings, name: &str) -> Result<PathBuf, StartError> {
    if settings.is_given("data-dir") && !settings.get("data-dir").is_empty() {
        return Ok(PathBuf::from(settings.get("data-dir")));
    }
    if name.contains('/') {
        return Err(StartError::failed(format!(
            "the name \"{name}\" can't name a directory: give --data-dir, or a --name without /"
        )));
    }
    Ok(PathBuf::from(format!("{name}.etcd")))
}

fn url_list(settings: &Settings, flag: &str) -> Result<Vec<Url>, StartError> {
    Url::parse_list(settings.get(flag)).map_err(|error| StartError::failed(format!("invalid --{flag}: {error}")))
}

fn listen_urls(settings: &Settings, flag: &str) -> Result<Vec<Url>, StartError> {
    let urls = url_list(settings, flag)?;
    for url in &urls {
        if url.scheme().is_tls() {
            return Err(StartError::failed(format!(
                "--{flag} has {url}, but this release doesn't have TLS: write http:// (or unix://) and keep the node behind a \
                 trusted network"
            )));
        }
        url.bind_address().map_err(|error| StartError::failed(format!("invalid --{flag}: {error}")))?;
    }
    Ok(urls)
}

fn metrics_urls(settings: &Settings) -> Result<Vec<Url>, StartError> {
    if settings.get("listen-metrics-urls").is_empty() {
        return Ok(Vec::new());
    }
    listen_urls(settings, "listen-metrics-urls")
}

fn advertise_client_urls(settings: &Settings) -> Result<Vec<Url>, StartError> {
    const FLAG: &str = "advertise-client-urls";
    let advertised = settings.is_given(FLAG) && !settings.get(FLAG).is_empty();
    if settings.is_given("listen-client-urls") && !advertised {
        return Err(StartError::failed(
            "--advertise-client-urls is required when --listen-client-urls is set explicitly",
        ));
    }
    let urls = url_list(settings, FLAG)?;
    refuse_empty_hosts(FLAG, &urls)?;
    Ok(urls)
}

fn refuse_empty_hosts(flag: &str, urls: &[Url]) -> Result<(), StartError> {
    match urls.iter().find(|url| url.host_port().is_some_and(|(host, _)| host.is_empty())) {
        Some(url) => Err(StartError::failed(format!(
            "invalid --{flag}: unexpected empty host ({url}): write the host others reach this member by"
        ))),
        None => Ok(()),
    }
}

fn bootstrap(settings: &Settings) -> Result<Bootstrap, StartError> {
    let advertise_peer_urls = url_list(settings, "initial-advertise-peer-urls")?;
    refuse_empty_hosts("initial-advertise-peer-urls", &advertise_peer_urls)?;
    let cluster = settings.is_given("initial-cluster").then(|| settings.get("initial-cluster"));
    let initial_cluster = cluster.filter(|text| !text.is_empty()).map(Bootstrap::parse_cluster).transpose();
    Ok(Bootstrap {
        advertise_peer_urls,
        initial_cluster: initial_cluster
            .map_err(|error| StartError::failed(format!("invalid --initial-cluster: {error}")))?,
        cluster_state: match settings.get("initial-cluster-state") {
            "existing" => ClusterState::Existing,
            _ => ClusterState::New,
        },
        cluster_token: settings.get("initial-cluster-token").to_owned(),
    })
}

/// A number that parsing has checked against the flag's kind.
fn number<T: std::str::FromStr>(settings: &Settings, flag: &str) -> T {
    settings.get(flag).parse().ok().expect("checked against the flag's kind when it was read")
}

fn duration(settings: &Settings, flag: &str) -> Duration {
    go_duration::parse(settings.get(flag)).expect("checked against the flag's kind when it was read")
}

fn in_range(flag: &str, value: u64, min: u64, max: u64) -> Result<usize, StartError> {
    match usize::try_from(value) {
        Ok(value) if (min..=max).contains(&(value as u64)) => Ok(value),
        _ => Err(StartError::failed(format!("--{flag}={value} is out of range: give {min} to {max}"))),
    }
}

fn quota_bytes(settings: &Settings, notices: &mut Vec<Notice>) -> Option<u64> {
    let given: i64 = number(settings, "quota-backend-bytes");
    let quota = match u64::try_from(given) {
        Err(_) => None,
        Ok(0) => Some(QUOTA_BYTES_DEFAULT),
        Ok(bytes) => Some(bytes),
    };
    if quota.is_some_and(|bytes| bytes > QUOTA_BYTES_ADVISED_MAX) {
        notices.push(Notice::new(
            Level::Warn,
            "quota exceeds the maximum recommended value",
            vec![("quota-bytes", given.to_string()), ("max-recommended-bytes", QUOTA_BYTES_ADVISED_MAX.to_string())],
        ));
    }
    quota
}

fn client_limits(settings: &Settings, notices: &mut Vec<Notice>) -> Result<ClientLimits, StartError> {
    let request_bytes: u64 = number(settings, "max-request-bytes");
    if request_bytes > REQUEST_BYTES_ADVISED_MAX {
        notices.push(Notice::new(
            Level::Warn,
            "exceeded recommended request limit",
            vec![
                ("max-request-bytes", request_bytes.to_string()),
                ("recommended-request-bytes", REQUEST_BYTES_ADVISED_MAX.to_string()),
            ],
        ));
    }
    let streams: u32 = number(settings, "max-concurrent-streams");
    Ok(ClientLimits {
        request_bytes_max: in_range("max-request-bytes", request_bytes, 1, REQUEST_BYTES_MAX)?,
        txn_ops_max: in_range("max-txn-ops", number(settings, "max-txn-ops"), 1, TXN_OPS_MAX)?,
        // Go's gRPC takes 0 for "no limit".
        concurrent_streams_max: if streams == 0 { u32::MAX } else { streams },
    })
}

fn keepalive(settings: &Settings) -> Keepalive {
    let client_interval_min = match duration(settings, "grpc-keepalive-min-time") {
        Duration::ZERO => GRPC_PING_INTERVAL_MIN_DEFAULT,
        given => given,
    };
    let given = (duration(settings, "grpc-keepalive-interval"), duration(settings, "grpc-keepalive-timeout"));
    let (interval, timeout) = if given.0.is_zero() || given.1.is_zero() { GRPC_PING_DEFAULT } else { given };
    Keepalive { client_interval_min, interval, timeout }
}

fn heartbeat_and_election(settings: &Settings) -> Result<(Duration, Duration), StartError> {
    let heartbeat_ms: u64 = number(settings, "heartbeat-interval");
    let election_ms: u64 = number(settings, "election-timeout");
    if heartbeat_ms == 0 {
        return Err(StartError::failed("--heartbeat-interval must be >0 (set to 0ms)"));
    }
    if election_ms == 0 {
        return Err(StartError::failed("--election-timeout must be >0 (set to 0ms)"));
    }
    if heartbeat_ms.saturating_mul(u64::from(ELECTION_HEARTBEATS_MIN)) > election_ms {
        return Err(StartError::failed(format!(
            "--election-timeout[{election_ms}ms] should be at least as {ELECTION_HEARTBEATS_MIN} times as \
             --heartbeat-interval[{heartbeat_ms}ms]"
        )));
    }
    if election_ms > ELECTION_MS_MAX {
        return Err(StartError::failed(format!(
            "--election-timeout[{election_ms}ms] is too long, and should be set less than {ELECTION_MS_MAX}ms"
        )));
    }
    Ok((Duration::from_millis(heartbeat_ms), Duration::from_millis(election_ms)))
}

/// The soft and the hard limit of a write of the log.
fn wal_stalls(settings: &Settings, election_timeout: Duration) -> Result<(Duration, Duration), StartError> {
    let quarters = |quarters: u32| (election_timeout * quarters / 4).max(WAL_STALL_MIN);
    let soft = match duration(settings, "wal-stall-soft") {
        Duration::ZERO => quarters(WAL_STALL_SOFT_QUARTERS),
        given if given < WAL_STALL_MIN => {
            return Err(StartError::failed(format!(
                "--wal-stall-soft={} is too short: give at least {}ms, or 0 for half the election timeout",
                settings.get("wal-stall-soft"),
                WAL_STALL_MIN.as_millis()
            )));
        }
        given => given,
    };
    match duration(settings, "wal-stall-hard") {
        Duration::ZERO => Ok((soft, quarters(WAL_STALL_HARD_QUARTERS).max(soft))),
        given if given < soft => Err(StartError::failed(format!(
            "--wal-stall-hard={} is shorter than --wal-stall-soft, which is {}ms: give at least that, or 0 for three quarters of \
             the election timeout",
            settings.get("wal-stall-hard"),
            soft.as_millis()
        ))),
        given => Ok((soft, given)),
    }
}

fn log_config(settings: &Settings) -> LogConfig {
    let level = match settings.get("log-level") {
        "debug" => Level::Debug,
        "info" => Level::Info,
        "warn" => Level::Warn,
        "error" => Level::Error,
        _ => Level::Fatal,
    };
    let form = match settings.get("log-format") {
        "json" => Some(Form::Json),
        "console" => Some(Form::Console),
        _ => None,
    };
    let mut outputs: Vec<_> = settings.get("log-outputs").split(',').map(str::trim).map(output).collect();
    outputs.dedup();
    LogConfig { level: settings.is_given("log-level").then_some(level), form, outputs }
}

fn output(text: &str) -> Output {
    match text {
        "" | "default" | "stderr" => Output::Stderr,
        "stdout" => Output::Stdout,
        path => Output::File(PathBuf::from(path)),
    }
}

fn shards(settings: &Settings) -> Result<Option<u16>, StartError> {
    if !settings.is_given("shards") {
        return Ok(None);
    }
    let shards: u32 = number(settings, "shards");
    match u16::try_from(shards) {
        Ok(count) if (1..=SHARDS_MAX).contains(&shards) => Ok(Some(count)),
        _ => Err(StartError::failed(format!("--shards={shards} is out of range: give 1 to {SHARDS_MAX}"))),
    }
}

fn retention(settings: &Settings) -> Result<Option<Retention>, StartError> {
    const FLAG: &str = "auto-compaction-retention";
    let text = settings.get(FLAG);
    let number: Option<u64> = text.parse().ok();
    if number == Some(0) || text.is_empty() {
        return Ok(None);
    }
    if settings.get("auto-compaction-mode") == "revision" {
        let revisions = number.and_then(|number| i64::try_from(number).ok());
        return revisions.map(|revisions| Some(Retention::Revisions(revisions))).ok_or_else(|| {
            StartError::failed(format!(
                "--{FLAG}={text}: with --auto-compaction-mode=revision give a number of revisions"
            ))
        });
    }
    let hours = |hours: u64| hours.checked_mul(3600).map(Duration::from_secs);
    let time = number.map_or_else(|| go_duration::parse(text), hours);
    match time {
        Some(Duration::ZERO) => Ok(None),
        Some(time) if time >= RETENTION_MIN => Ok(Some(Retention::Time(time))),
        _ => Err(StartError::failed(format!(
            "--{FLAG}={text}: give a time like 30m or 24h, at least 1s, or a number of hours"
        ))),
    }
}

fn checkpoint_log_bytes(settings: &Settings) -> Result<u64, StartError> {
    const FLAG: &str = "checkpoint-log-bytes";
    let bytes = in_range(FLAG, number(settings, FLAG), CHECKPOINT_LOG_BYTES_MIN, CHECKPOINT_LOG_BYTES_MAX)?;
    Ok(bytes as u64)
}

/// The method of this name; none for `auto`.
#[must_use]
pub fn sync_method(name: &str) -> Option<SyncMethod> {
    match name {
        "write-dsync" => Some(SyncMethod::WriteDsync),
        "linked-sync" => Some(SyncMethod::LinkedSync),
        "thread-dsync" => Some(SyncMethod::ThreadDsync),
        _ => None,
    }
}

/// The name of a method, as flags and the data directory's marker write it.
#[must_use]
pub fn sync_method_name(method: SyncMethod) -> &'static str {
    match method {
        SyncMethod::WriteDsync => "write-dsync",
        SyncMethod::LinkedSync => "linked-sync",
        SyncMethod::ThreadDsync => "thread-dsync",
    }
}

#[cfg(test)]
mod tests;
