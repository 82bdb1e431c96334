//! `cargo xtask crash`: the server dies by SIGKILL or loses power under load; nothing acknowledged may be lost.
//!
//! Before that, the same test has to notice a server that leaves out its flush: for each power run one with the known bug `SkipFlush`.

use std::path::PathBuf;

use crate::{
    packages,
    shell::{self, Outcome, command, run_package, run_package_in, target_dir, with_server},
};

/// More runs without the flush show nothing more.
const RUNS_WITHOUT_FLUSH_MAX: u64 = 10;

pub(crate) fn run(args: &[String]) -> Outcome {
    packages::install_missing()?;
    let runs = runs_without_flush(args);
    if runs > 0 {
        let binary = build_with_known_bugs()?.display().to_string();
        let args = ["--expect-loss", "--binary", &binary, "--runs", &runs.to_string()].map(str::to_owned);
        run_package_in("plinth-crash", true, &[("PLINTH_BUGS", "SkipFlush")], &args)?;
    }
    run_package("plinth-crash", true, &with_server("--binary", args)?)
}

/// As many as power runs; none for a server or a mode of the caller's choice, which is a replay or an experiment.
fn runs_without_flush(args: &[String]) -> u64 {
    if args.iter().any(|arg| arg == "--binary" || arg == "--mode" || arg == "--seed") {
        return 0;
    }
    let runs = args.iter().position(|arg| arg == "--runs").and_then(|at| args.get(at + 1)?.parse().ok());
    // The program's own default is 10 runs; every second one is a power run.
    (runs.unwrap_or(10) / 2_u64).min(RUNS_WITHOUT_FLUSH_MAX)
}

/// Builds the server so that bugs can be switched on, in a place of its own: nobody must ever take it for the server.
fn build_with_known_bugs() -> Result<PathBuf, String> {
    let target = target_dir().join("known-bugs");
    let mut cargo = command("cargo", &["build", "--quiet", "--package", "plinth-server", "--features", "known-bugs"]);
    cargo.arg("--target-dir").arg(&target);
    shell::run(cargo)?;
    Ok(target.join("debug/plinth"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_is_a_run_without_flush_for_each_power_run_up_to_ten() {
        let runs = |line: &str| runs_without_flush(&line.split_whitespace().map(str::to_owned).collect::<Vec<_>>());
        assert_eq!([runs(""), runs("--runs 4"), runs("--runs 1"), runs("--runs 1000")], [5, 2, 0, 10]);
        assert_eq!([runs("--runs 4 --binary x"), runs("--mode kill --runs 4"), runs("--seed 7 --runs 4")], [0; 3]);
    }
}
