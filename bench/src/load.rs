//! A load on any etcd v3 endpoint, in a closed loop, in which each client sends its next request when the last one is answered, or in an open one
//! at a rate.
//!
//! One thread, pinned, does all of it, so that what it costs per request is known and small.
//!
//! | module | job |
//! |---|---|
//! | `command`, `options` | the command line |
//! | `work` | requests: which, and what their answers say |
//! | `keys`, `pace` | which key comes next, and when |
//! | `engine` | the loop: clients on connections, and the time in which calls count |
//! | `wire` | HTTP/2 and gRPC |
//! | `client` | one call after the other, beside a load |
//! | `placement` | connections to one of plinth's executors |
//! | `tally` | what came of the calls |
//! | `look` | what the kernel counts meanwhile |
//! | `thread` | the load's thread |
//! | `drive` | a run from connecting to its end, or the filling of a server |
//! | `watch` | watchers, each of which must see each put of its key once |
//! | `report` | a run as text and as JSON |

mod client;
mod command;
mod drive;
mod engine;
mod keys;
mod look;
mod options;
mod pace;
mod placement;
mod report;
mod tally;
mod thread;
mod watch;
mod wire;
mod work;

use std::{net::SocketAddr, path::PathBuf, time::Duration};

pub use client::call_once;
pub use command::command;
pub use drive::{call_timed, fill, give_way, run, run_during};
pub use keys::Distribution;
pub use options::{plan_of, seconds};
pub use pace::Pace;
pub use report::{Told, text_of};
pub use tally::Kind;
pub use thread::{pin, pin_to};
pub use watch::Watchers;

use crate::{failure::Failure, histogram::Latencies, procfs::Disturbance};

/// What is asked of the server.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Op {
    /// One key gets a value.
    Put,
    /// One key is read.
    Range {
        /// From the member's own data, without asking the leader.
        serializable: bool,
    },
    /// All keys are read that share all but their last digits.
    Prefix {
        /// How many digits: of 2, up to 100 keys.
        digits: u32,
        /// As of [`Op::Range`].
        serializable: bool,
    },
    /// All keys are read at once.
    List {
        /// Only their number.
        count_only: bool,
    },
    /// A new key is created by a transaction that compares that it isn't there.
    Create,
    /// A key is replaced by a transaction that compares its revision.
    Swap,
    /// A lease is kept alive, on a stream that each client keeps.
    KeepAlive,
    /// What kube-apiservers ask.
    Kubernetes,
    /// Cluster/MemberList, not linearizable: both servers answer it from memory, without log, quorum or disk. (Maintenance/Alarm goes through etcd's
    /// log even to list, and Maintenance/Status asks the storage for its size.)
    Empty,
}

impl Op {
    /// As in tables.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Put => "put",
            Self::Range { serializable: false } => "range",
            Self::Range { serializable: true } => "serializable range",
            Self::Prefix { .. } => "prefix",
            Self::List { count_only: false } => "list",
            Self::List { count_only: true } => "count",
            Self::Create => "create",
            Self::Swap => "compare and swap",
            Self::KeepAlive => "keepalive",
            Self::Kubernetes => "kubernetes",
            Self::Empty => "empty call",
        }
    }
}

/// The keys and values of a run.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Shape {
    /// How many keys there are.
    pub keys: u64,
    /// Length of each.
    pub key_bytes: usize,
    /// Length of each value.
    pub value_bytes: usize,
}

/// How many requests are under way.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Clients {
    /// Connections.
    pub connections: usize,
    /// Streams on each; each has one request under way at any time.
    pub streams: usize,
}

impl Clients {
    /// All of them.
    #[must_use]
    pub fn count(self) -> usize {
        self.connections * self.streams
    }
}

impl std::fmt::Display for Clients {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} x {}", self.connections, self.streams)
    }
}

/// The server's process, to be looked at from outside.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Watched {
    /// Its id.
    pub pid: u32,
    /// Where its data lies, to find the block device.
    pub data_dir: Option<PathBuf>,
}

/// One run.
#[derive(Clone, PartialEq, Debug)]
pub struct Plan {
    /// Where the server's members listen; connections are spread over them.
    pub endpoints: Vec<SocketAddr>,
    /// What is asked.
    pub op: Op,
    /// Several of them and their weights, in place of `op`.
    pub mix: Vec<(Op, u64)>,
    /// By how many.
    pub clients: Clients,
    /// How requests follow each other.
    pub pace: Pace,
    /// Before anything is counted.
    pub warmup: Duration,
    /// While everything is.
    pub measured: Duration,
    /// The measured time ends when so many calls were counted.
    pub total: Option<u64>,
    /// So many requests are made, and no more.
    pub requests_max: Option<u64>,
    /// Of what.
    pub shape: Shape,
    /// How keys are chosen.
    pub distribution: Distribution,
    /// Of prefixes and lists; 0: all.
    pub limit: i64,
    /// Leases that are kept alive, or that keys are attached to.
    pub leases: u64,
    /// Who watches meanwhile.
    pub watchers: Option<Watchers>,
    /// Of the choice of keys.
    pub seed: u64,
    /// The core of the thread that makes the load.
    pub core: Option<usize>,
    /// The one of plinth's executors that all connections go to; `None`: as the kernel spreads them.
    pub executor: Option<usize>,
    /// The processes of the server's members.
    pub watched: Vec<Watched>,
    /// Whether a line on stderr tells how it goes.
    pub live: bool,
}

impl Plan {
    /// The choice is among so many keys, so far apart.
    fn keys_and_stride(&self) -> (u64, u64) {
        match self.watchers {
            Some(watchers) if watchers.puts_hit_always => (watchers.count, watchers.stride(self.shape.keys)),
            _ => (self.shape.keys, 1),
        }
    }

    /// As reports name it.
    #[must_use]
    pub fn name(&self) -> String {
        if self.mix.is_empty() {
            return self.op.name().to_owned();
        }
        let parts: Vec<String> = self.mix.iter().map(|(op, weight)| format!("{weight} {}", op.name())).collect();
        parts.join(" : ")
    }
}

/// What the server's processes used in the measured time.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct ServerUse {
    /// User and system time.
    pub cpu: Duration,
    /// That of the process that was named first: of a cluster, the leader.
    pub first_cpu: Duration,
    /// RssAnon + RssShmem at the end.
    pub memory_bytes: u64,
    /// Context switches of its threads.
    pub switches: u64,
    /// What went to its device, from whomever: flushes and bytes.
    pub disk: Option<DiskUse>,
}

/// What went to a block device.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct DiskUse {
    /// Flush requests.
    pub flushes: u64,
    /// Write requests.
    pub writes: u64,
    /// Bytes in them.
    pub written_bytes: u64,
}

/// Calls that failed with one code.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Errors {
    /// gRPC's number.
    pub code: u32,
    /// How many.
    pub count: u64,
    /// The first one's message.
    pub message: String,
}

/// What a run gave.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// What was run.
    pub plan: Plan,
    /// How long was measured.
    pub elapsed: Duration,
    /// Latencies of the calls that succeeded. In an open loop from when they were due.
    pub latencies: Latencies,
    /// The same by kind.
    pub kinds: Vec<Kind>,
    /// From sending a put, or when it was due, to having read its event; of events that came in the measured time.
    pub events: Latencies,
    /// In an open loop: requests that were due when no client was free.
    pub delayed: u64,
    /// In an open loop: calls that counted and had no answer long after; their latencies are what they had waited.
    pub unanswered: u64,
    /// Calls that succeeded, per second of the run.
    pub series: Vec<u64>,
    /// Calls that failed.
    pub errors: Vec<Errors>,
    /// Bytes of the answers of calls that succeeded, gRPC's prefixes included.
    pub answer_bytes: u64,
    /// CPU time of the thread that made the load.
    pub own_cpu: Duration,
    /// What the server used.
    pub server: Option<ServerUse>,
    /// What others did meanwhile.
    pub disturbance: Disturbance,
}

impl Outcome {
    /// Calls that succeeded.
    #[must_use]
    pub fn requests(&self) -> u64 {
        self.latencies.count()
    }

    /// The same per second.
    #[must_use]
    pub fn per_second(&self) -> f64 {
        self.requests() as f64 / self.elapsed.as_secs_f64()
    }

    /// A time in µs per call that succeeded.
    #[must_use]
    pub fn us_per_request(&self, time: Duration) -> f64 {
        time.as_secs_f64() * 1e6 / self.requests().max(1) as f64
    }

    /// The server's CPU time in µs per call, if it was watched.
    #[must_use]
    pub fn server_us_per_request(&self) -> Option<f64> {
        self.server.map(|server| self.us_per_request(server.cpu))
    }

    /// Fails if calls did.
    pub fn expect_no_errors(&self) -> Result<(), Failure> {
        match self.errors.first() {
            None => Ok(()),
            Some(errors) => {
                let text = format!("{} calls failed, the first with {:?}", errors.count, errors.message);
                Err(Failure::Trouble(text))
            }
        }
    }
}

#[cfg(test)]
mod tests;
