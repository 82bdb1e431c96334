//! From a configuration to a running node, and back to an exit code.
//!
//! The main thread owns the directories, the listeners and the signals; each executor runs [`executor::run`]. Executor 0 carries the shard: it
//! opens the files, hands the shard's handle to the others, publishes the member, and leads the stop: first every executor lets its connections end, then
//! the shard writes its last checkpoint.
//!
//! Invariant: nothing is served before the member is published and a linearizable read went through; a failure of the log or of a tree ends the process
//! at once.

mod executor;
mod figures;
mod peers;
mod service;
mod sync_method;
mod verify;

use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use plinth_base::{
    GroupId,
    limits::MAILBOX_MESSAGES_MAX,
    mailbox::{Receiver, Sender, mailbox},
    url::{BindAddress, Url},
};
use plinth_node::{Answer, MemberRecord, Message, ShardHandle, ShardOptions, WatchLimits, api};
use plinth_uring::{
    ExecutorCounters, UringEnv,
    cores::{self, Available},
    net::{ListenAddr, Listeners},
    signals::{SignalThread, StopSignal},
};

use crate::{
    config::Config,
    conn::GrpcMetrics,
    data_dir::DataDir,
    first_start::FirstStart,
    log::{self, Form, Notice},
    marker::Marker,
    peers::AllCounts,
    routes::HttpTotals,
    start_error::StartError,
    version::ETCD_VERSION,
};

/// What an executor is told by executor 0.
pub(crate) enum Control {
    /// Serve, through this shard.
    Serve(Box<ShardHandle<UringEnv>>),
    /// Let the connections end.
    Stop,
    /// The shard is down, or never came up: end.
    End,
}

/// What one executor takes out at its start.
pub(crate) struct Seat {
    pub(crate) control: Receiver<Control>,
    pub(crate) answers: Receiver<Answer>,
    /// Of executor 0 alone.
    pub(crate) first: Option<FirstSeat>,
}

/// What executor 0 takes out beside it.
pub(crate) struct FirstSeat {
    pub(crate) inbox: Receiver<Message>,
    pub(crate) signals: Receiver<StopSignal>,
    pub(crate) done: Receiver<()>,
}

/// What all executors share.
pub(crate) struct Boot {
    pub(crate) config: Config,
    pub(crate) form: Form,
    pub(crate) data_path: std::path::PathBuf,
    pub(crate) identity: plinth_node::Identity,
    pub(crate) shard_options: ShardOptions,
    pub(crate) api_options: Arc<api::ApiOptions>,
    pub(crate) listeners: Vec<Listeners>,
    /// Where other members connect, if there are any.
    pub(crate) peer_listeners: Vec<Listeners>,
    /// What is counted of the other members.
    pub(crate) peers: AllCounts,
    pub(crate) grpc: Vec<Arc<GrpcMetrics>>,
    pub(crate) http: HttpTotals,
    /// Of all executors, once they run.
    pub(crate) counters: OnceLock<Arc<[Arc<ExecutorCounters>]>>,
    pub(crate) inbox: Sender<Message>,
    pub(crate) answers: Vec<Sender<Answer>>,
    pub(crate) control: Vec<Sender<Control>>,
    pub(crate) done: Sender<()>,
    seats: Mutex<Vec<Option<Seat>>>,
    failure: Mutex<Option<StartError>>,
    stopped_by: OnceLock<StopSignal>,
}

impl Boot {
    pub(crate) fn take_seat(&self, index: usize) -> Seat {
        let mut seats = self.seats.lock().unwrap_or_else(PoisonError::into_inner);
        seats[index].take().expect("each executor sits down once")
    }

    pub(crate) fn fail(&self, error: StartError) {
        *self.failure.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
    }

    pub(crate) fn stopped_by(&self, signal: StopSignal) {
        // Only executor 0 says so, once.
        let _ = self.stopped_by.set(signal);
    }

    /// Tells every executor, itself included.
    pub(crate) fn tell_all(&self, control: impl Fn() -> Control) {
        for executor in &self.control {
            assert!(executor.send(control()).is_ok(), "an executor is told three things in its life");
        }
    }
}

/// Runs a node until it is told to stop; gives the exit code.
///
/// # Errors
/// Whatever keeps it from starting, as one line that says what to do.
pub fn run(config: Config, notices: &[Notice]) -> Result<u8, StartError> {
    let form = log::install(&config.log)?;
    notices.iter().for_each(Notice::log);
    let cores = Available::of_this_process().and_then(|available| cores::choose(config.cores.as_ref(), &available));
    let cores = cores.map_err(|error| StartError::failed(error.to_string()))?;
    let verify_all = verify::wants_all()?;
    let (mut dir, notices) = DataDir::open(&config)?;
    notices.iter().for_each(Notice::log);
    let mut boot = prepare(config, form, &mut dir, &cores)?;
    boot.shard_options.verify_all = verify_all;
    // Without it some requests would wait for a page of code; nothing else depends on it.
    let _ = plinth_uring::hold_program();
    let boot = Arc::new(boot);
    let shared = Arc::clone(&boot);
    plinth_uring::run(&cores, move |context| executor::run(context, Arc::clone(&shared)))
        .map_err(|error| StartError::failed(error.to_string()))?;
    if let Some(error) = boot.failure.lock().unwrap_or_else(PoisonError::into_inner).take() {
        return Err(error);
    }
    Ok(boot.stopped_by.get().map_or(0, |signal| signal.exit_code()))
}

fn prepare(config: Config, form: Form, dir: &mut DataDir, cores: &[usize]) -> Result<Boot, StartError> {
    let executors = cores.len();
    let (marker, first_start) = begin(&config, dir, cores)?;
    let listeners = bind(config.listen_client_urls.iter().chain(&config.listen_metrics_urls), executors)?;
    let (initial_members, joins) = first_start.map_or_else(Default::default, |first| (first.members, first.joins));
    // The shard's executor alone talks to them.
    let peer_listeners = if config.serves_peers || initial_members.len() > 1 {
        bind(config.listen_peer_urls.iter(), 1)?
    } else {
        Vec::new()
    };
    let signals = signals()?;
    let (inbox, inbox_end) = mailbox(MAILBOX_MESSAGES_MAX);
    let (done, done_end) = mailbox(executors);
    let mut first = Some(FirstSeat { inbox: inbox_end, signals, done: done_end });
    let (mut seats, mut answers, mut control) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..executors {
        let (answer, answer_end) = mailbox(4 * MAILBOX_MESSAGES_MAX);
        let (order, order_end) = mailbox(4);
        seats.push(Some(Seat { control: order_end, answers: answer_end, first: first.take() }));
        answers.push(answer);
        control.push(order);
    }
    let member = MemberRecord {
        id: marker.member_id,
        name: config.name.clone(),
        peer_urls: config.bootstrap.advertise_peer_urls.iter().map(ToString::to_string).collect(),
        client_urls: config.advertise_client_urls.iter().map(ToString::to_string).collect(),
        ..MemberRecord::default()
    };
    let mut shard_options = ShardOptions::new(dir.tree_path(), dir.wal_path());
    shard_options.fit_memory(plinth_uring::memory_bytes());
    shard_options.groups = vec![GroupId(0)];
    shard_options.sync_method = config.wal_sync_method.unwrap_or(marker.wal_sync_method);
    shard_options.checkpoint_log_bytes = config.checkpoint_log_bytes;
    shard_options.catch_up_log_bytes = config.catch_up_log_bytes;
    shard_options.scrub_interval = config.scrub_interval;
    shard_options.stall_soft = config.wal_stall_soft;
    shard_options.stall_hard = config.wal_stall_hard;
    shard_options.election_timeout = config.election_timeout;
    shard_options.heartbeat_interval = config.heartbeat_interval;
    shard_options.force_new_cluster = config.force_new_cluster;
    shard_options.learners_max = config.learners_max;
    shard_options.lease_grace = config.election_timeout;
    shard_options.request_timeout = api::request_timeout(config.election_timeout);
    Ok(Boot {
        form,
        data_path: dir.path().to_path_buf(),
        identity: plinth_node::Identity { cluster_id: marker.cluster_id, member, initial_members, joins },
        shard_options,
        api_options: Arc::new(api::ApiOptions {
            cluster_id: marker.cluster_id,
            member_id: marker.member_id.0,
            version: ETCD_VERSION,
            request_bytes_max: config.limits.request_bytes_max,
            txn_ops_max: config.limits.txn_ops_max,
            lease_ttl_min: api::lease_ttl_min(config.election_timeout),
            strict_reconfig_check: config.strict_reconfig_check,
            quota_bytes: config.quota_backend_bytes,
            watch_limits: WatchLimits::default(),
            watch_progress_interval: config.watch_progress_interval,
            leader_loss_timeout: 3 * config.election_timeout,
            reply_buffer_bytes: api::REPLY_BUFFER_BYTES,
        }),
        listeners,
        peer_listeners,
        peers: AllCounts::default(),
        grpc: (0..executors).map(|_| Arc::default()).collect(),
        http: HttpTotals::default(),
        counters: OnceLock::new(),
        inbox,
        answers,
        control,
        done,
        seats: Mutex::new(seats),
        failure: Mutex::new(None),
        stopped_by: OnceLock::new(),
        config,
    })
}

/// Who this member is; and what its files are to begin with, if they aren't there yet: at the first start, or behind one that was cut off.
fn begin(config: &Config, dir: &mut DataDir, cores: &[usize]) -> Result<(Marker, Option<FirstStart>), StartError> {
    if let Some(marker) = dir.marker().filter(|_| dir.has_trees()) {
        return Ok((*marker, None));
    }
    let first = FirstStart::plan(&config.name, &config.bootstrap).map_err(StartError::failed)?;
    let marker = match dir.marker() {
        Some(marker)
            if marker.member_id == first.identity.member_id && marker.cluster_id == first.identity.cluster_id =>
        {
            *marker
        }
        Some(marker) => {
            return Err(StartError::failed(format!(
                "{} was marked for member {:x} of cluster {:x} and holds no data, but the --initial-* flags say member {:x} of {:x}: choose \
                 another --data-dir, or give the flags of its first start",
                dir.path().display(),
                marker.member_id.0,
                marker.cluster_id,
                first.identity.member_id.0,
                first.identity.cluster_id
            )));
        }
        None => {
            let (method, medians) = sync_method::decide(config.wal_sync_method, dir, cores)?;
            dir.mark(first.identity, config.shards.unwrap_or(1), method, medians)?
        }
    };
    Ok((marker, Some(first)))
}

/// The thread lives as long as the process: a second signal must end it even while the first is being obeyed.
fn signals() -> Result<Receiver<StopSignal>, StartError> {
    let (thread, signals) =
        SignalThread::start().map_err(|error| StartError::failed(format!("cannot catch signals: {error}")))?;
    std::mem::forget(thread);
    Ok(signals)
}

pub(super) fn bind<'a>(urls: impl Iterator<Item = &'a Url>, executors: usize) -> Result<Vec<Listeners>, StartError> {
    urls.map(|url| {
        let addr = match url.bind_address().map_err(StartError::failed)? {
            BindAddress::Tcp(addr) => ListenAddr::Tcp(addr),
            BindAddress::Unix(path) => ListenAddr::Unix(path),
        };
        Listeners::bind(&addr, executors).map_err(|error| StartError::failed(error.to_string()))
    })
    .collect()
}
