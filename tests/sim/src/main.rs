//! `plinth-sim`: runs the scenarios over seeds. Exit code 0 only if nothing was violated.

use std::process::ExitCode;

use plinth_base::Mark;
use plinth_sim::{
    cli::{self, Options},
    runner::{self, Report},
    scenarios,
};

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    if args.iter().any(|arg| arg == "--help" || arg == "-h") {
        println!("{}", cli::USAGE);
        return ExitCode::SUCCESS;
    }
    match cli::parse(args).and_then(|options| run(&options)) {
        Ok(report) => conclude(&report),
        Err(message) => {
            eprintln!("{message}\n{}", cli::USAGE);
            ExitCode::from(2)
        }
    }
}

fn run(options: &Options) -> Result<Report, String> {
    runner::name_seeds_in_panics();
    let scenarios = scenarios::all();
    let mut report = Report::default();
    let mut names = Vec::new();
    for scenario in &scenarios {
        names.push(scenario.name());
        if options.scenario.as_deref().is_none_or(|name| name == scenario.name()) {
            report.add(runner::run(scenario.as_ref(), options));
        }
    }
    match &options.scenario {
        Some(name) if !names.contains(&name.as_str()) => {
            Err(format!("no scenario {name:?}; there are: {}", names.join(", ")))
        }
        _ => Ok(report),
    }
}

fn conclude(report: &Report) -> ExitCode {
    println!("faults");
    for (kind, count) in &report.faults {
        println!("  {kind:<28}{count:>12}");
    }
    println!("marks");
    for mark in Mark::ALL {
        println!("  {:<28}{:>12}", mark.name(), mark.count());
    }
    for mark in &report.missed {
        println!("never reached: {}", mark.name());
    }
    println!("{} operations", report.operations);
    println!("{}", report.summary());
    if report.is_good() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
