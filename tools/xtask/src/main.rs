//! `cargo xtask`: everything that is done to the project and is not the project. Each subcommand is a file.

mod accept;
mod ci;
mod clients;
mod conformance;
mod crash;
mod e2e;
mod fresh_start;
mod packages;
mod peers;
mod shell;
mod sim;
mod steps;

use std::process::ExitCode;

use crate::shell::Failure;

const USAGE: &str = "\
usage: cargo xtask COMMAND

  ci                                       everything that a change must pass
  clients [NAME]                           client libraries of others against the server
  conformance [--against plinth|etcd|PROGRAM] [NAME]
                                           play the cases under tests/conformance to a server
  crash [--runs N] ...                     crash a server under load, look for lost writes
  e2e [--cluster | --stalls [--long]] [NAME]
                                           what operators see of the real binary, of clusters of it, and of those whose disks stall
  sim [--cluster | --stalls] [--seeds N] [--from S] ...
                                           run the simulator: all scenarios, or that of whole clusters, or that of clusters whose disks stall
  sim --known-bugs                         how many seeds each known bug takes until it is found
  fresh-start                              start a server as the README says, use it, stop it, start it again
  peers [3.5|3.4]                          put etcd 3.5.1 and Debian's etcd 3.4 under target/peers
  accept N [PART...] [options]              run the commands whose results issue N asks for";

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let rest = args.get(1..).unwrap_or_default();
    let outcome = match args.first().map(String::as_str) {
        Some("ci") => ci::run(rest),
        Some("clients") => clients::run(rest),
        Some("conformance") => conformance::run(rest),
        Some("crash") => crash::run(rest),
        Some("e2e") => e2e::run(rest),
        Some("sim") => sim::run(rest),
        Some("fresh-start") => fresh_start::run(),
        Some("peers") => peers::run(rest),
        Some("accept") => accept::run(rest),
        _ => Err(Failure::Text(USAGE.to_owned())),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(Failure::Text(error)) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
        Err(Failure::Exit(code)) => ExitCode::from(code),
    }
}
