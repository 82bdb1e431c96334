//! `plinth-sim`: runs the scenarios over seeds. Exit code 0 only if nothing was violated.

use std::process::ExitCode;

use plinth_base::Mark;
use plinth_sim::{
    cli::{self, Options},
    known_bugs,
    runner::{self, Report},
    scenarios,
};

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    if args.iter().any(|arg| arg == "--help" || arg == "-h") {
        println!("{}", cli::USAGE);
        return ExitCode::SUCCESS;
    }
    let ended =
        cli::parse(args).and_then(|options| if options.known_bugs { find_known_bugs(&options) } else { run(&options) });
    match ended {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(message) => {
            eprintln!("{message}\n{}", cli::USAGE);
            ExitCode::from(2)
        }
    }
}

fn find_known_bugs(options: &Options) -> Result<bool, String> {
    if !cfg!(feature = "known-bugs") {
        return Err("this build has no known bugs: `cargo xtask sim --known-bugs` makes one that has".to_owned());
    }
    known_bugs::find_all(options.threads).map_err(|error| format!("the simulator doesn't start: {error}"))
}

fn run(options: &Options) -> Result<bool, String> {
    runner::name_seeds_in_panics();
    let scenarios = scenarios::all();
    let mut report = Report::default();
    let (mut names, mut tells_faults) = (Vec::new(), true);
    for scenario in &scenarios {
        names.push(scenario.name());
        if options.scenario.as_deref().is_none_or(|name| name == scenario.name()) {
            tells_faults &= !scenario.faults().is_empty();
            report.add(runner::run(scenario.as_ref(), options));
        }
    }
    match &options.scenario {
        Some(name) if !names.contains(&name.as_str()) => {
            Err(format!("no scenario {name:?}; there are: {}", names.join(", ")))
        }
        _ => {
            tell(&report);
            println!("{}", if tells_faults { report.summary_with_faults() } else { report.summary() });
            Ok(report.is_good())
        }
    }
}

fn tell(report: &Report) {
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
    for kind in &report.missed_faults {
        println!("never struck: {kind}");
    }
    println!("{} operations", report.operations);
    if let Some(told) = report.floor_told() {
        println!("{told}");
    }
}
