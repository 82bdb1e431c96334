//! The command line of `load`.

use std::{
    io::{IsTerminal, stderr},
    net::{SocketAddr, ToSocketAddrs},
    path::PathBuf,
    str::FromStr,
    time::Duration,
};

use super::{Clients, Distribution, Op, Pace, Plan, Shape, Watched, Watchers, keys::DISTRIBUTIONS, work::STAMP_BYTES};
use crate::{args::Args, failure::Failure, procfs::written_directory};

/// What it takes.
pub const USAGE: &str = "\
usage: plinth-bench load --endpoint HOST:PORT[,HOST:PORT...] [options]
  --op OP             what is asked; default put
                        put, range (one key), prefix (all keys that share all but the last digits),
                        list (all keys), count (the same, count_only), create (a transaction that makes a
                        new key), swap (a transaction that replaces a key if it is as it was), keepalive (of leases,
                        on streams), kubernetes (what kube-apiservers ask, with --keys pods),
                        empty (MemberList: both servers answer it from memory)
  --mix OP=W,OP=W...  several ops in proportion to their weights
  --serializable      ranges and prefixes don't ask the leader
  --digits N          keys that share a prefix differ in so many digits; default 2: 100 keys
  --limit N           of prefixes and lists; default 0: all
  --leases N          of keepalive and kubernetes; default 100
  --rate R            an open loop: R requests per second begin, evenly, whatever the server does, and
                      latencies count from when each was due; default: a closed loop
  --watchers N        puts beside N watchers, each on a key of its own; each must see each put once
  --all-keys          each of them watches all keys
  --connections N     default 8
  --streams M         on each connection, each with one request under way; default 64
  --warmup S          seconds before anything is counted; default 10
  --seconds S         seconds that are counted; default 30; 0: only --fill
  --total N           ends when N calls were counted; --seconds only if it is given
  --fill              first write all keys once
  --keys N            choose among keys 0..N; default 100000
  --distribution D    uniform, zipf (some keys far more often) or sequential; default uniform
  --key-bytes N       default 32
  --value-bytes N     default 256
  --seed N            of the choice of keys; default 1
  --core N            pin the load to a core
  --executor N        only connections to executor N of a plinth; 0 is the shard's
  --pid PID           also tell what the server uses: CPU, memory, context switches, and what goes to the
                      block device below the files that it writes
  --data-dir DIR      with --pid: the block device below DIR
  --json FILE         where the results go";

/// The key `k` and 19 digits.
const KEY_BYTES_MIN: usize = 20;
/// What is counted unless somebody says otherwise.
const SECONDS: f64 = 30.0;
/// A run that ends by a number of calls ends after a day, too.
const TOTAL_SECONDS_MAX: f64 = 86_400.0;
/// Digits that a prefix may leave out: more are all keys.
const DIGITS_MAX: u32 = 18;

/// What the command line says.
#[derive(Debug)]
pub struct LoadOptions {
    /// The run.
    pub plan: Plan,
    /// Whether the keys are written first.
    pub fill: bool,
    /// Where the results go.
    pub json: Option<PathBuf>,
}

/// Parses the arguments behind `load`.
pub fn parse(mut args: Args) -> Result<LoadOptions, Failure> {
    let (fill, json) = (args.switch("--fill"), args.optional("--json")?);
    let endpoints = endpoints(&args.required::<String>("--endpoint")?)?;
    let watched = watched(&mut args)?;
    let live = stderr().is_terminal();
    let plan = Plan { endpoints, watched, live, ..plan_of(&mut args)? };
    args.finish()?;
    Ok(LoadOptions { plan, fill, json })
}

/// The plan that options describe, without its endpoints.
pub fn plan_of(args: &mut Args) -> Result<Plan, Failure> {
    let ops = Ops { serializable: args.switch("--serializable"), digits: args.value("--digits", 2)? };
    let pace = args.optional("--rate")?.map_or(Pace::Closed, |rate| Pace::Open { rate });
    let total = args.optional("--total")?;
    let seconds_default = if total.is_some() { TOTAL_SECONDS_MAX } else { SECONDS };
    let plan = Plan {
        endpoints: Vec::new(),
        op: ops.parse("--op", &args.value("--op", "put".to_owned())?)?,
        mix: ops.parse_mix(args.optional::<String>("--mix")?.as_deref().unwrap_or_default())?,
        clients: Clients { connections: args.value("--connections", 8)?, streams: args.value("--streams", 64)? },
        pace,
        warmup: seconds("--warmup", args.value("--warmup", 10.0)?)?,
        measured: seconds("--seconds", args.value("--seconds", seconds_default)?)?,
        total,
        requests_max: None,
        shape: Shape {
            keys: args.value("--keys", 100_000)?,
            key_bytes: args.value("--key-bytes", 32)?,
            value_bytes: args.value("--value-bytes", 256)?,
        },
        distribution: distribution(&args.value("--distribution", "uniform".to_owned())?)?,
        limit: args.value("--limit", 0)?,
        leases: args.value("--leases", 100)?,
        watchers: watchers(args)?,
        seed: args.value("--seed", 1)?,
        core: args.optional("--core")?,
        executor: args.optional("--executor")?,
        watched: Vec::new(),
        live: false,
    };
    plan.check()?;
    Ok(plan)
}

impl Plan {
    /// Refuses what can't be run, with the reason.
    pub fn check(&self) -> Result<(), Failure> {
        let refuse = |text: &str| Err(Failure::Usage(text.to_owned()));
        let ops: Vec<Op> =
            if self.mix.is_empty() { vec![self.op] } else { self.mix.iter().map(|(op, _)| *op).collect() };
        let in_mix = |op| !self.mix.is_empty() && ops.contains(&op);
        if self.clients.count() == 0 || self.shape.keys == 0 || self.leases == 0 {
            return refuse("--connections, --streams, --keys and --leases are at least 1");
        }
        if self.shape.key_bytes < KEY_BYTES_MIN {
            return Err(Failure::Usage(format!("--key-bytes is at least {KEY_BYTES_MIN}")));
        }
        if matches!(self.pace, Pace::Open { rate } if !(rate.is_finite() && rate > 0.0)) {
            return refuse("--rate is a number of requests per second above 0");
        }
        if in_mix(Op::KeepAlive) || in_mix(Op::Kubernetes) {
            return refuse("keepalive and kubernetes are no part of a --mix");
        }
        let Some(watchers) = self.watchers else { return Ok(()) };
        if !ops.contains(&Op::Put) {
            return refuse("--watchers see puts, and there are none");
        }
        if self.shape.value_bytes < STAMP_BYTES {
            return Err(Failure::Usage(format!("with --watchers, --value-bytes is at least {STAMP_BYTES}")));
        }
        if watchers.count > self.shape.keys && !watchers.all_keys {
            return refuse("there are more --watchers than --keys");
        }
        if watchers.count == 0 && watchers.puts_hit_always {
            return refuse("puts of watched keys alone need --watchers");
        }
        Ok(())
    }
}

fn watchers(args: &mut Args) -> Result<Option<Watchers>, Failure> {
    let (count, all_keys) = (args.optional("--watchers")?, args.switch("--all-keys"));
    match count {
        None if all_keys => Err(Failure::Usage("--all-keys says nothing without --watchers".to_owned())),
        count => Ok(count.map(|count| Watchers { count, puts_hit_always: false, all_keys })),
    }
}

fn watched(args: &mut Args) -> Result<Vec<Watched>, Failure> {
    let (pid, data_dir) = (args.optional("--pid")?, args.optional::<PathBuf>("--data-dir")?);
    match (pid, data_dir) {
        (None, Some(_)) => Err(Failure::Usage("--data-dir says nothing without --pid".to_owned())),
        (None, None) => Ok(Vec::new()),
        (Some(pid), given) => Ok(vec![Watched { pid, data_dir: given.or_else(|| written_directory(pid)) }]),
    }
}

fn distribution(name: &str) -> Result<Distribution, Failure> {
    let found = DISTRIBUTIONS.iter().find(|(known, _)| *known == name);
    let names = DISTRIBUTIONS.map(|(name, _)| name).join(", ");
    found
        .map(|(_, distribution)| *distribution)
        .ok_or_else(|| Failure::Usage(format!("--distribution is one of {names}, not {name:?}")))
}

/// What makes ops of their names.
#[derive(Clone, Copy, Debug)]
struct Ops {
    serializable: bool,
    digits: u32,
}

impl Ops {
    fn parse(self, option: &str, name: &str) -> Result<Op, Failure> {
        let Self { serializable, digits } = self;
        if digits > DIGITS_MAX {
            return Err(Failure::Usage(format!("--digits is at most {DIGITS_MAX}")));
        }
        Ok(match name {
            "put" => Op::Put,
            "range" => Op::Range { serializable },
            "prefix" => Op::Prefix { digits, serializable },
            "list" => Op::List { count_only: false },
            "count" => Op::List { count_only: true },
            "create" => Op::Create,
            "swap" => Op::Swap,
            "keepalive" => Op::KeepAlive,
            "kubernetes" => Op::Kubernetes,
            "empty" => Op::Empty,
            _ => {
                let names = "put, range, prefix, list, count, create, swap, keepalive, kubernetes or empty";
                return Err(Failure::Usage(format!("{option} takes {names}, not {name:?}")));
            }
        })
    }

    /// `put=1,range=9`.
    fn parse_mix(self, text: &str) -> Result<Vec<(Op, u64)>, Failure> {
        let parts = text.split(',').filter(|part| !part.is_empty());
        parts
            .map(|part| {
                let (name, weight) = part.split_once('=').unwrap_or((part, ""));
                let weight = weight.parse().ok().filter(|weight| *weight > 0);
                let weight = weight.ok_or_else(|| {
                    Failure::Usage(format!("--mix is like put=1,range=9, and {part:?} has no weight above 0"))
                })?;
                Ok((self.parse("--mix", name)?, weight))
            })
            .collect()
    }
}

/// `8x64`: connections x streams.
impl FromStr for Clients {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let (connections, streams) = text.split_once('x').ok_or(())?;
        let number = |text: &str| text.parse().ok().filter(|number| *number > 0).ok_or(());
        Ok(Self { connections: number(connections)?, streams: number(streams)? })
    }
}

fn endpoints(text: &str) -> Result<Vec<SocketAddr>, Failure> {
    text.split(',').map(endpoint).collect()
}

fn endpoint(text: &str) -> Result<SocketAddr, Failure> {
    if text.starts_with("https://") {
        return Err(Failure::Usage(format!("{text}: the load speaks no TLS")));
    }
    let bare = text.strip_prefix("http://").unwrap_or(text);
    let found = bare.to_socket_addrs().ok().and_then(|mut addresses| addresses.next());
    found.ok_or_else(|| Failure::Usage(format!("--endpoint is HOST:PORT, and {text:?} leads nowhere")))
}

/// A duration from a number of seconds.
pub fn seconds(name: &str, value: f64) -> Result<Duration, Failure> {
    Duration::try_from_secs_f64(value)
        .map_err(|_| Failure::Usage(format!("{name} is a number of seconds, not {value}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse_line(line: &str) -> Result<LoadOptions, Failure> {
        parse(Args::new(line.split_whitespace().map(str::to_owned)))
    }

    #[test]
    fn defaults_are_the_method_of_the_figures() {
        let plan = parse_line("--endpoint 127.0.0.1:5").expect("enough").plan;
        assert_eq!(plan.clients, Clients { connections: 8, streams: 64 });
        assert_eq!((plan.warmup, plan.measured), (Duration::from_secs(10), Duration::from_secs(30)));
        assert_eq!(plan.shape, Shape { keys: 100_000, key_bytes: 32, value_bytes: 256 });
        assert_eq!(plan.op, Op::Put);
    }

    #[test]
    fn a_number_of_calls_ends_a_run_whatever_time_it_takes() {
        let plan = |line: &str| parse_line(line).expect("enough").plan;
        let counted = plan("--endpoint 127.0.0.1:5 --total 9");
        assert!(counted.total == Some(9) && counted.measured > Duration::from_secs(3600));
        assert_eq!(plan("--endpoint 127.0.0.1:5 --total 9 --seconds 2").measured, Duration::from_secs(2));
    }

    #[test]
    fn clients_are_connections_x_streams() {
        assert_eq!("8x64".parse(), Ok(Clients { connections: 8, streams: 64 }));
        assert!(["8", "0x1", "1x0", "x"].iter().all(|text| text.parse::<Clients>().is_err()));
    }

    #[test]
    fn nonsense_is_refused_with_a_reason() {
        let refused = |line: &str| parse_line(line).expect_err("nonsense").to_string();
        assert_eq!(refused("--op put"), "--endpoint is missing");
        assert_eq!(refused("--endpoint nowhere"), "--endpoint is HOST:PORT, and \"nowhere\" leads nowhere");
        assert!(refused("--endpoint 127.0.0.1:5 --op x").starts_with("--op takes put, range, "));
        assert_eq!(
            refused("--endpoint 127.0.0.1:5 --mix put=1,range"),
            "--mix is like put=1,range=9, and \"range\" has no weight above 0"
        );
        assert!(refused("--endpoint 127.0.0.1:5 --mix put=1,keepalive=1").starts_with("keepalive and kubernetes"));
        assert!(refused("--endpoint 127.0.0.1:5 --rate 0").starts_with("--rate is a number"));
        assert!(refused("--endpoint 127.0.0.1:5 --op range --watchers 5").starts_with("--watchers see puts"));
        assert!(refused("--endpoint 127.0.0.1:5 --distribution x").starts_with("--distribution is one of uniform"));
        assert_eq!(refused("--endpoint https://127.0.0.1:5"), "https://127.0.0.1:5: the load speaks no TLS");
        assert_eq!(refused("--endpoint 127.0.0.1:5 --seconds -1"), "--seconds is a number of seconds, not -1");
        assert_eq!(refused("--endpoint 127.0.0.1:5 --data-dir /"), "--data-dir says nothing without --pid");
        assert_eq!(refused("--endpoint 127.0.0.1:5 --key-bytes 3"), "--key-bytes is at least 20");
    }
}
