//! `cargo xtask accept N`: the commands whose results issue N asks for, as far as they exist.

use crate::{
    peers,
    shell::{Failure, Outcome, run_package, target_dir, with_server},
    steps::{Need, Step, run_steps},
};

/// Issue 2: log, tree and KV. What passes or fails.
const ISSUE_2: &[Step] = &[
    Step {
        name: "1 conformance of plinth",
        command: &["cargo", "xtask", "conformance", "--against", "plinth"],
        needs: &[],
    },
    Step {
        name: "1 conformance of etcd",
        command: &["cargo", "xtask", "conformance", "--against", "etcd"],
        needs: &[],
    },
    Step { name: "2 crash", command: &["cargo", "xtask", "crash", "--runs", "20"], needs: &[Need::Fuse] },
    Step { name: "3 simulation", command: &["cargo", "xtask", "sim", "--seeds", "100"], needs: &[] },
];

pub(crate) const USAGE: &str = "\
usage: cargo xtask accept 2 [proofs | figures | PART...] [options of `plinth-bench figures`]
  proofs   conformance, crashes, simulation
  figures  all figures; PART: put, range, single, path, idle, pressure, restart
  without a word: both; about two hours";

pub(crate) fn run(args: &[String]) -> Outcome {
    let Some((issue, rest)) = args.split_first() else { return Err(Failure::Text(USAGE.to_owned())) };
    if issue != "2" {
        return Err(Failure::Text(format!("there are no commands for issue {issue}\n{USAGE}")));
    }
    match rest.first().map(String::as_str) {
        Some("proofs") => run_steps(ISSUE_2),
        Some("figures") => figures(&rest[1..]),
        // Figures are made even if a proof failed: both are wanted.
        None => run_steps(ISSUE_2).and(figures(rest)),
        Some(_) => figures(rest),
    }
}

/// `plinth-bench figures` with `args`. The results lie below the target directory, unless this is only a look whether all works.
fn figures(args: &[String]) -> Outcome {
    peers::run()?;
    let mut all = vec!["figures".to_owned()];
    all.extend(with_server("--plinth", args)?);
    if !args.iter().any(|arg| arg == "--json" || arg == "--quick") {
        all.extend(["--json".to_owned(), target_dir().join("figures.json").display().to_string()]);
    }
    run_package("plinth-bench", true, &all)
}
