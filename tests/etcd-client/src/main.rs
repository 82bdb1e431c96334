//! `plinth-etcd-client`: the Rust crate `etcd-client`, as programs use it, against the real binary.
//!
//! The crate is tonic on tokio, so it shares no code with plinth above `h2` and `prost`: what both sides of plinth's own tests get wrong
//! together, it notices. One server for all cases; each case has a prefix of its own in the key space.

mod cases;
mod check;
mod server;

use std::{path::PathBuf, process::ExitCode, time::Instant};

use etcd_client::Client;

use crate::{cases::CASES, check::Outcome, server::Server};

const USAGE: &str = "\
usage: plinth-etcd-client --binary PATH [NAME]
  --binary PATH    the server
  NAME             only the cases whose names contain it";

fn main() -> ExitCode {
    let Some((binary, name)) = arguments() else {
        eprintln!("{USAGE}");
        return ExitCode::from(2);
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let ended = match (runtime, Server::start(&binary)) {
        (Ok(runtime), Ok(mut server)) => runtime.block_on(run(&mut server, &name)),
        (Err(error), _) => Err(error.to_string()),
        (_, Err(error)) => Err(format!("{}: {error}", binary.display())),
    };
    match ended {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("plinth-etcd-client: {error}");
            ExitCode::FAILURE
        }
    }
}

fn arguments() -> Option<(PathBuf, String)> {
    let (mut binary, mut name) = (None, String::new());
    let mut args = std::env::args().skip(1);
    while let Some(arg) = args.next() {
        match arg.as_str() {
            "--binary" => binary = Some(PathBuf::from(args.next()?)),
            _ if arg.starts_with('-') => return None,
            _ => name = arg,
        }
    }
    Some((binary?, name))
}

/// Whether at least one case ran and all passed.
async fn run(server: &mut Server, name: &str) -> Result<bool, String> {
    let client = Client::connect([server.url()], None).await.map_err(|error| error.to_string())?;
    let (mut passed, mut failed) = (0, 0);
    for (case_name, case) in CASES.iter().filter(|(case_name, _)| case_name.contains(name)) {
        let start = Instant::now();
        let outcome: Outcome = case(client.clone()).await;
        let seconds = start.elapsed().as_secs_f32();
        match outcome {
            Ok(()) => {
                println!("ok    {case_name} ({seconds:.1} s)");
                passed += 1;
            }
            Err(failure) => {
                println!("FAIL  {case_name} ({seconds:.1} s)\n{failure}");
                failed += 1;
            }
        }
    }
    if !server.is_alive() {
        return Err(format!("the server ended:\n{}", server.log()));
    }
    println!("{passed} passed, {failed} failed");
    Ok(passed > 0 && failed == 0)
}
