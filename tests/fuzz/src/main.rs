//! `plinth-fuzz`: fuzzes decoders. See [`plinth_fuzz`].

use std::{path::PathBuf, process::ExitCode, time::Duration};

use plinth_fuzz::{
    runner::{Until, fuzz},
    targets::{Entry, TARGETS},
};

const USAGE: &str = "\
usage: plinth-fuzz [--target NAME] [--seconds N | --iterations N] [--seed S]
       plinth-fuzz --target NAME --input FILE
  --target NAME     one target (default: all in turn): frames, conn, log, tree, commands, marker
  --seconds N       how long for each target (default 10)
  --iterations N    how many inputs for each target
  --seed S          determines all inputs (default 0)
  --input FILE      try this one input, as a failure left it";

struct Options {
    targets: Vec<&'static Entry>,
    until: Until,
    seed: u64,
    input: Option<PathBuf>,
}

fn options() -> Option<Options> {
    let mut options = Options {
        targets: TARGETS.iter().collect(),
        until: Until::Elapsed(Duration::from_secs(10)),
        seed: 0,
        input: None,
    };
    let mut args = std::env::args().skip(1);
    while let Some(arg) = args.next() {
        let value = args.next()?;
        match arg.as_str() {
            "--target" => options.targets.retain(|(name, ..)| *name == value),
            "--seconds" => options.until = Until::Elapsed(Duration::from_secs(value.parse().ok()?)),
            "--iterations" => options.until = Until::Iterations(value.parse().ok()?),
            "--seed" => options.seed = value.parse().ok()?,
            "--input" => options.input = Some(value.into()),
            _ => return None,
        }
    }
    let is_clear = options.targets.len() == 1 || (options.input.is_none() && !options.targets.is_empty());
    is_clear.then_some(options)
}

/// Beside what cargo builds.
fn folder() -> PathBuf {
    let target = std::env::var_os("CARGO_TARGET_DIR").map(PathBuf::from);
    target.unwrap_or_else(|| PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../target"))).join("fuzz")
}

fn main() -> ExitCode {
    let Some(options) = options() else {
        eprintln!("{USAGE}");
        return ExitCode::from(2);
    };
    for &&(name, _, make) in &options.targets {
        let mut target = make();
        let done = match &options.input {
            Some(path) => std::fs::read(path).map(|input| {
                let verdict = if target.run(&input) { "accepted" } else { "refused" };
                format!("{name}: the input is {verdict}")
            }),
            None => fuzz(name, &mut *target, options.seed, options.until, &folder()).map(|report| {
                format!("{name}: {} inputs, {} of them accepted, no failure", report.iterations, report.accepted)
            }),
        };
        match done {
            Ok(line) => println!("{line}"),
            Err(error) => {
                eprintln!("plinth-fuzz: {name}: {error}");
                return ExitCode::FAILURE;
            }
        }
    }
    ExitCode::SUCCESS
}
