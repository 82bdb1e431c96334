//! `plinth-e2e`: what operators and supervisors see of the real binary, as a process: its exit codes, its one-line refusals, how it
//! lives through signals, a full disk and damaged files; with `--cluster`, how clusters of them live through what happens to members and networks;
//! with `--stalls`, through disks that stall.
//!
//! Each case is a function with directories and ports of its own; none uses port 2379. What a machine can't do (no root, no loop devices)
//! is skipped with the reason, and with `CI=true` that is a failure.

/// Makes `CASES` of functions, by modules.
macro_rules! cases {
    ($($module:ident: $($case:ident,)*;)*) => {
        /// All of them.
        pub(crate) const CASES: &[Case] = &[$($((stringify!($case), |bench| $module::$case(bench).map(crate::outcome::Note::into_note)),)*)*];
    };
}

mod bbolt;
mod cases;
mod cluster;
mod kv;
mod machine;
mod node;
mod outcome;

use std::{path::PathBuf, process::ExitCode, time::Instant};

use crate::{cases::Case, node::Bench, outcome::Ended};

const USAGE: &str = "\
usage: plinth-e2e [--cluster | --stalls [--long]] [--binary PATH] [--checker PATH] [NAME]
  --cluster        the cases about clusters, not those about one server
  --stalls         the cases about clusters whose disks stall
  --long           and those that take a minute
  --binary PATH    the server (default target/release/plinth)
  --checker PATH   plinthutl (default: beside the server)
  NAME             only the cases whose names contain it";

/// What test drivers take for "skipped".
const SKIPPED: u8 = 77;

/// What the cases are about.
#[derive(Clone, Copy)]
enum Suite {
    /// One server.
    Server,
    /// Clusters of them.
    Clusters,
    /// Clusters whose disks stall.
    Stalls,
}

impl Suite {
    /// Its cases; some take long, and come only if wanted.
    fn cases(self, long: bool) -> Vec<&'static Case> {
        match self {
            Self::Server => cases::CASES.iter().collect(),
            Self::Clusters => cluster::cases::CASES.iter().collect(),
            Self::Stalls => {
                let long_cases = if long { cluster::stalls::LONG_CASES } else { &[] };
                cluster::stalls::CASES.iter().chain(long_cases).collect()
            }
        }
    }
}

struct Options {
    binary: PathBuf,
    checker: Option<PathBuf>,
    suite: Suite,
    long: bool,
    name: String,
}

fn options() -> Option<Options> {
    let mut options = Options {
        binary: PathBuf::from("target/release/plinth"),
        checker: None,
        suite: Suite::Server,
        long: false,
        name: String::new(),
    };
    let mut args = std::env::args().skip(1);
    while let Some(arg) = args.next() {
        match arg.as_str() {
            "--binary" => options.binary = args.next()?.into(),
            "--cluster" => options.suite = Suite::Clusters,
            "--stalls" => options.suite = Suite::Stalls,
            "--long" => options.long = true,
            "--checker" => options.checker = Some(args.next()?.into()),
            _ if arg.starts_with('-') => return None,
            _ => options.name = arg,
        }
    }
    Some(options)
}

fn main() -> ExitCode {
    let Some(options) = options() else {
        eprintln!("{USAGE}");
        return ExitCode::from(2);
    };
    let bench = match Bench::new(&options.binary, options.checker.as_deref()) {
        Ok(bench) => bench,
        Err(error) => {
            eprintln!("plinth-e2e: {error}");
            return ExitCode::FAILURE;
        }
    };
    let strict = std::env::var("CI").is_ok_and(|value| value == "true");
    let (mut passed, mut failed, mut skipped) = (0, 0, 0);
    let cases = options.suite.cases(options.long);
    for (name, case) in cases.into_iter().filter(|(name, _)| name.contains(&options.name)) {
        let start = Instant::now();
        let outcome = case(&bench);
        let seconds = start.elapsed().as_secs_f32();
        match outcome {
            Ok(note) => {
                let note = if note.is_empty() { note } else { format!(": {note}") };
                println!("ok    {name} ({seconds:.1} s){note}");
                passed += 1;
            }
            Err(Ended::Skipped(reason)) if !strict => {
                println!("skipped: {name}: {reason}");
                skipped += 1;
            }
            Err(Ended::Skipped(reason) | Ended::Failed(reason)) => {
                println!("FAIL  {name} ({seconds:.1} s)\n{reason}");
                failed += 1;
            }
        }
    }
    let tail = if skipped == 0 { String::new() } else { format!(", {skipped} skipped") };
    println!("{passed} passed, {failed} failed{tail}");
    match (passed, failed, skipped) {
        (1.., 0, _) => ExitCode::SUCCESS,
        (0, 0, 1..) => ExitCode::from(SKIPPED),
        // Something failed, or no case has such a name.
        _ => ExitCode::FAILURE,
    }
}
