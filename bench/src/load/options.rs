//! The command line of `load`.

use std::{
    io::{IsTerminal, stderr},
    net::{SocketAddr, ToSocketAddrs},
    path::PathBuf,
    str::FromStr,
    time::Duration,
};

use super::{Clients, Op, Plan, Shape, Watched};
use crate::{args::Args, failure::Failure};

/// What it takes.
pub const USAGE: &str = "\
usage: plinth-bench load --endpoint HOST:PORT [options]
  --op OP             put, range, list (a range over all keys), count (the same, count_only) or
                      empty (MemberList: answered from memory by both servers); default put
  --serializable      ranges don't ask the leader
  --connections N     default 8
  --streams M         on each connection, each with one request under way; default 64
  --warmup S          seconds before anything is counted; default 10
  --seconds S         seconds that are counted; default 30; 0: only --fill
  --fill              first write all keys once
  --keys N            choose among keys 0..N, all alike; default 100000
  --key-bytes N       default 32
  --value-bytes N     default 256
  --seed N            of the choice of keys; default 1
  --core N            pin the load to a core
  --executor N        only connections to executor N of a plinth; 0 is the shard's
  --pid PID           also tell what the server uses: CPU, memory, context switches
  --data-dir DIR      with --pid: and what goes to the block device below DIR
  --json              one JSON document instead of text";

/// The key `k` and 19 digits.
const KEY_BYTES_MIN: usize = 20;

/// What the command line says.
#[derive(Debug)]
pub struct LoadOptions {
    /// The run.
    pub plan: Plan,
    /// Whether the keys are written first.
    pub fill: bool,
    /// Whether the result is JSON.
    pub json: bool,
}

/// Parses the arguments behind `load`.
pub fn parse(mut args: Args) -> Result<LoadOptions, Failure> {
    let (fill, json) = (args.switch("--fill"), args.switch("--json"));
    let serializable = args.switch("--serializable");
    let plan = Plan {
        endpoint: endpoint(&args.required::<String>("--endpoint")?)?,
        op: Op::parse(&args.value("--op", "put".to_owned())?, serializable)?,
        clients: Clients { connections: args.value("--connections", 8)?, streams: args.value("--streams", 64)? },
        warmup: seconds("--warmup", args.value("--warmup", 10.0)?)?,
        measured: seconds("--seconds", args.value("--seconds", 30.0)?)?,
        pause: None,
        shape: Shape {
            keys: args.value("--keys", 100_000)?,
            key_bytes: args.value("--key-bytes", 32)?,
            value_bytes: args.value("--value-bytes", 256)?,
        },
        seed: args.value("--seed", 1)?,
        core: args.optional("--core")?,
        executor: args.optional("--executor")?,
        watched: watched(&mut args)?,
        live: stderr().is_terminal() && !json,
    };
    args.finish()?;
    check(&plan)?;
    Ok(LoadOptions { plan, fill, json })
}

fn check(plan: &Plan) -> Result<(), Failure> {
    let refuse = |text: String| Err(Failure::Usage(text));
    if plan.clients.connections == 0 || plan.clients.streams == 0 || plan.shape.keys == 0 {
        return refuse("--connections, --streams and --keys are at least 1".to_owned());
    }
    if plan.shape.key_bytes < KEY_BYTES_MIN {
        return refuse(format!("--key-bytes is at least {KEY_BYTES_MIN}"));
    }
    Ok(())
}

fn watched(args: &mut Args) -> Result<Option<Watched>, Failure> {
    let (pid, data_dir) = (args.optional("--pid")?, args.optional::<PathBuf>("--data-dir")?);
    match (pid, data_dir) {
        (None, Some(_)) => Err(Failure::Usage("--data-dir says nothing without --pid".to_owned())),
        (pid, data_dir) => Ok(pid.map(|pid| Watched { pid, data_dir })),
    }
}

impl Op {
    /// As the command line names it.
    pub fn parse(name: &str, serializable: bool) -> Result<Self, Failure> {
        match name {
            "put" => Ok(Self::Put),
            "range" => Ok(Self::Range { serializable }),
            "list" => Ok(Self::List { count_only: false }),
            "count" => Ok(Self::List { count_only: true }),
            "empty" => Ok(Self::Empty),
            _ => Err(Failure::Usage(format!("--op is put, range, list, count or empty, not {name:?}"))),
        }
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

fn endpoint(text: &str) -> Result<SocketAddr, Failure> {
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
    fn clients_are_connections_x_streams() {
        assert_eq!("8x64".parse(), Ok(Clients { connections: 8, streams: 64 }));
        assert!(["8", "0x1", "1x0", "x"].iter().all(|text| text.parse::<Clients>().is_err()));
    }

    #[test]
    fn nonsense_is_refused_with_a_reason() {
        let refused = |line: &str| parse_line(line).expect_err("nonsense").to_string();
        assert_eq!(refused("--op put"), "--endpoint is missing");
        assert_eq!(refused("--endpoint nowhere"), "--endpoint is HOST:PORT, and \"nowhere\" leads nowhere");
        assert_eq!(refused("--endpoint 127.0.0.1:5 --op x"), "--op is put, range, list, count or empty, not \"x\"");
        assert_eq!(refused("--endpoint 127.0.0.1:5 --seconds -1"), "--seconds is a number of seconds, not -1");
        assert_eq!(refused("--endpoint 127.0.0.1:5 --data-dir /"), "--data-dir says nothing without --pid");
        assert_eq!(refused("--endpoint 127.0.0.1:5 --key-bytes 3"), "--key-bytes is at least 20");
    }
}
