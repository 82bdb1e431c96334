//! `plinth-bench`: what a disk can do for a log, what a server does under load, and two servers side by side. Each subcommand is a module.

mod args;
mod cleanup;
mod disk_write;
mod facts;
mod failure;
mod figures;
mod fsync;
mod histogram;
mod lab;
mod load;
mod memory;
mod metrics;
mod peer;
mod probe;
mod procfs;
mod results;
mod round_trip;
mod server;
mod show;
mod stats;
mod versus;

use std::process::ExitCode;

use crate::{args::Args, failure::Failure};

/// A request allocates a dozen times on its way through h2: this takes a fifth off what the load costs.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const USAGE: &str = "\
usage: plinth-bench COMMAND [options]

  fsync    what a disk can do for a log; `fsync --help` lists the options
  load     requests to any etcd v3 endpoint, in a closed loop or at a rate; `load --help` lists the options
  versus   two servers in turns on the same disk: plinth and etcd, or two builds; `versus --list` lists the scenarios
  figures  the figures of docs/benchmarks.md and their aims; `figures --help` lists the parts
  probe    a running endpoint: round trips, and what a put's time goes into
  show     print a results file again";

fn main() -> ExitCode {
    let mut args: Vec<String> = std::env::args().skip(1).collect();
    let command = if args.is_empty() { String::new() } else { args.remove(0) };
    let args = Args::new(args);
    let outcome = match command.as_str() {
        "fsync" => cleanup::install().and_then(|()| fsync::command(args)),
        "load" => load::command(args),
        "probe" => probe::command(args),
        "show" => show::command(args),
        "figures" => cleanup::install().and_then(|()| figures::command(args)),
        "versus" => cleanup::install().and_then(|()| versus::command(args)),
        "" => Err(Failure::Usage(USAGE.to_owned())),
        "--help" | "help" => {
            println!("{USAGE}");
            Ok(())
        }
        _ => Err(Failure::Usage(format!("unknown command {command:?}\n{USAGE}"))),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("{failure}");
            ExitCode::from(failure.exit_code())
        }
    }
}
