//! A closed loop against an etcd v3 endpoint: each stream sends its next request when the last one is answered.
//!
//! One thread, pinned, does all of it, so that what it costs per request is known and small. It looks at statuses and never at the messages of
//! answers.
//!
//! | module | job |
//! |---|---|
//! | `options` | the command line |
//! | `request` | requests as bytes, made once and copied with another key each time |
//! | `keys` | which key comes next, and when |
//! | `connection` | HTTP/2: connections, streams, one call |
//! | `placement` | connections to one of plinth's executors |
//! | `tally` | what came of the calls |
//! | `look` | what the kernel counts meanwhile |
//! | `session` | connections, their streams, and the time in which they count |
//! | `thread` | the load's thread |
//! | `drive` | a run from connecting to its end, or the filling of a server |
//! | `watch` | a run of puts with watchers, each of which must see each put of its key once |
//! | `report` | a run as text and as JSON |

mod connection;
mod drive;
mod keys;
mod look;
mod options;
mod placement;
mod report;
mod request;
mod session;
mod tally;
mod thread;
mod watch;

use std::{net::SocketAddr, path::PathBuf, time::Duration};

pub use connection::call_once;
pub use drive::{call_timed, fill, run, run_during};
pub use options::{USAGE, seconds};
pub use report::{to_json, to_text};
pub use thread::pin;
pub use watch::{WatchOutcome, Watchers, run_watched};

use crate::{args::Args, failure::Failure, histogram::Latencies, procfs::Disturbance};

/// What is asked of the server.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Op {
    /// One key gets the same value again.
    Put,
    /// One key is read.
    Range {
        /// From the member's own data, without asking the leader.
        serializable: bool,
    },
    /// All keys are read at once.
    List {
        /// Only their number.
        count_only: bool,
    },
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
            Self::List { count_only: false } => "list",
            Self::List { count_only: true } => "count",
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
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Plan {
    /// Where the server listens.
    pub endpoint: SocketAddr,
    /// What is asked.
    pub op: Op,
    /// By how many.
    pub clients: Clients,
    /// Before anything is counted.
    pub warmup: Duration,
    /// While everything is.
    pub measured: Duration,
    /// From one request of a stream to its next, if that is not as soon as the first is answered.
    pub pause: Option<Duration>,
    /// Of what.
    pub shape: Shape,
    /// Of the choice of keys.
    pub seed: u64,
    /// The core of the thread that makes the load.
    pub core: Option<usize>,
    /// The one of plinth's executors that all connections go to; `None`: as the kernel spreads them.
    pub executor: Option<usize>,
    /// The server's process.
    pub watched: Option<Watched>,
    /// Whether a line on stderr tells how it goes.
    pub live: bool,
}

/// What the server's process used in the measured time.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct ServerUse {
    /// User and system time.
    pub cpu: Duration,
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
    /// Latencies of the calls that succeeded.
    pub latencies: Latencies,
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

/// `plinth-bench load`.
pub fn command(mut args: Args) -> Result<(), Failure> {
    if args.switch("--help") {
        println!("{USAGE}");
        return Ok(());
    }
    let options = options::parse(args)?;
    if options.fill {
        let took = fill(&options.plan)?;
        if !options.json {
            println!("filled {} keys in {:.1} s", options.plan.shape.keys, took.as_secs_f64());
        }
    }
    if options.plan.measured.is_zero() {
        return Ok(());
    }
    let outcome = run(&options.plan)?;
    if options.json {
        println!("{}", to_json(&outcome));
    } else {
        print!("{}", to_text(&outcome));
    }
    Ok(())
}

#[cfg(test)]
mod tests;
