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

/// Parts of `plinth-bench figures`, by issue.
const FIGURES_2: [&str; 7] = ["put", "range", "single", "path", "idle", "pressure", "restart"];
const FIGURES_3: [&str; 6] = ["watch", "list", "count", "compaction", "snapshot", "size"];
const FIGURES_4: [&str; 4] = ["fio", "load", "same", "probe"];

pub(crate) const USAGE: &str = "\
usage: cargo xtask accept 2 [proofs | figures | PART...] [options of `plinth-bench figures`]
       cargo xtask accept 3 [figures | PART...] [options of `plinth-bench figures`]
       cargo xtask accept 4 [figures | PART...] [options of `plinth-bench figures`]
       cargo xtask accept 4 versus [SCENARIO...] [options of `plinth-bench versus`]
  proofs   conformance, crashes, simulation
  figures  all figures of the issue; PART: put, range, single, path, idle, pressure, restart (2);
           watch, list, count, compaction, snapshot, size (3); fio, load, same, probe (4)
  2 without a word: both; about two hours";

pub(crate) fn run(args: &[String]) -> Outcome {
    let Some((issue, rest)) = args.split_first() else { return Err(Failure::Text(USAGE.to_owned())) };
    match (issue.as_str(), rest.first().map(String::as_str)) {
        ("2", Some("proofs")) => run_steps(ISSUE_2),
        ("2", Some("figures")) => figures("figures.json", &FIGURES_2, &rest[1..]),
        // Figures are made even if a proof failed: both are wanted.
        ("2", None) => run_steps(ISSUE_2).and(figures("figures.json", &FIGURES_2, rest)),
        ("2", Some(_)) => figures("figures.json", &FIGURES_2, rest),
        ("3", Some("figures")) => figures("figures-3.json", &FIGURES_3, &rest[1..]),
        ("3", _) => figures("figures-3.json", &FIGURES_3, rest),
        ("4", Some("figures")) => figures("figures-4.json", &FIGURES_4, &rest[1..]),
        ("4", Some("versus")) => versus(&rest[1..]),
        ("4", _) => figures("figures-4.json", &FIGURES_4, rest),
        _ => Err(Failure::Text(format!("there are no commands for issue {issue}\n{USAGE}"))),
    }
}

/// `plinth-bench versus` with `args`, all scenarios if they name none.
fn versus(args: &[String]) -> Outcome {
    let mut all = vec!["versus".to_owned()];
    if args.first().is_none_or(|arg| arg.starts_with('-')) {
        all.push("--all".to_owned());
    }
    all.extend(with_server("--plinth", args)?);
    bench("versus.json", args, all)
}

/// `plinth-bench figures` with `args`, all of `parts` if they name none.
fn figures(results: &str, parts: &[&str], args: &[String]) -> Outcome {
    peers::run(&[])?;
    let mut all = vec!["figures".to_owned()];
    if !args.iter().any(|arg| parts.contains(&arg.as_str())) {
        all.extend(parts.iter().map(|part| (*part).to_owned()));
    }
    all.extend(with_server("--plinth", args)?);
    bench(results, args, all)
}

/// `plinth-bench` with `all`. Its results lie below the target directory, unless `args` say where, or that this is only a look.
fn bench(results: &str, args: &[String], mut all: Vec<String>) -> Outcome {
    if !args.iter().any(|arg| arg == "--json" || arg == "--quick") {
        all.extend(["--json".to_owned(), target_dir().join(results).display().to_string()]);
    }
    run_package("plinth-bench", true, &all)
}
