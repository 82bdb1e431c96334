//! `cargo xtask sim`: the simulator, with optimisation, for seeds are many. Before that it has to find some known bugs.

use crate::shell::{self, Outcome, command, run_to_its_end, target_dir};

/// As a release, but a seed that panics doesn't end the others.
const PROFILE: &str = "sim";

pub(crate) fn run(args: &[String]) -> Outcome {
    if args.iter().any(|arg| arg == "--known-bugs") {
        return find_known_bugs(args);
    }
    // Runs of one scenario, replays and experiments are about something else.
    if !args.iter().any(|arg| ["--cluster", "--stalls", "--scenario", "--seed"].contains(&arg.as_str())) {
        test_known_bugs()?;
    }
    let args = args.iter().flat_map(|arg| match arg.as_str() {
        "--cluster" => vec!["--scenario", "cluster"],
        "--stalls" => vec!["--scenario", "stalls"],
        arg => vec![arg],
    });
    let mut cargo = command("cargo", &["run", "--quiet", "--package", "plinth-sim", "--profile", PROFILE, "--"]);
    cargo.args(args);
    run_to_its_end(cargo)
}

/// With bugs that few seeds find: what is found has to say the right thing.
fn test_known_bugs() -> Outcome {
    let mut cargo = command("cargo", &["test", "--quiet", "--package", "plinth-sim", "--features", "known-bugs"]);
    cargo.args(["--test", "known_bugs", "--target-dir"]).arg(target_dir().join("known-bugs"));
    Ok(shell::run(cargo)?)
}

/// All known bugs, by the simulator built with them in a place of its own, as the server for the crash runs is.
fn find_known_bugs(args: &[String]) -> Outcome {
    let mut cargo = command("cargo", &["run", "--quiet", "--package", "plinth-sim", "--features", "known-bugs"]);
    cargo.args(["--profile", PROFILE, "--target-dir"]).arg(target_dir().join("known-bugs")).arg("--").args(args);
    run_to_its_end(cargo)
}
