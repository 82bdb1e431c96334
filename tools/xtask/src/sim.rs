//! `cargo xtask sim`: the simulator, with optimisation, for seeds are many. Before that it has to find the known bugs.

use crate::shell::{self, Outcome, command, run_package, target_dir};

pub(crate) fn run(args: &[String]) -> Outcome {
    // A replay or an experiment is about something else.
    if !args.iter().any(|arg| arg == "--scenario" || arg == "--seed") {
        find_known_bugs()?;
    }
    run_package("plinth-sim", true, args)
}

/// The simulator with bugs that can be switched on, built in a place of its own, as the server for the crash runs is.
fn find_known_bugs() -> Outcome {
    let mut cargo = command("cargo", &["test", "--quiet", "--package", "plinth-sim", "--features", "known-bugs"]);
    cargo.args(["--test", "known_bugs", "--target-dir"]).arg(target_dir().join("known-bugs"));
    Ok(shell::run(cargo)?)
}
