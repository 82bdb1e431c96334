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

/// An issue that is shown by steps and by figures. Every step's name and every part's is a word of the command line.
struct Issue {
    number: &'static str,
    steps: &'static [Step],
    /// Of `plinth-bench figures`.
    parts: &'static [&'static str],
    /// Where their results go.
    results: &'static str,
}

/// Issue 5: clusters.
const ISSUE_5: Issue = Issue {
    number: "5",
    steps: &[
        Step { name: "sim", command: &["cargo", "xtask", "sim", "--cluster", "--seeds", "2000"], needs: &[] },
        Step { name: "known-bugs", command: &["cargo", "xtask", "sim", "--known-bugs"], needs: &[] },
        Step { name: "e2e", command: &["cargo", "xtask", "e2e", "--cluster"], needs: &[] },
    ],
    parts: &["cluster-put", "cluster-range"],
    results: "figures-5.json",
};

/// Issue 6: slow disks and large snapshots.
const ISSUE_6: Issue = Issue {
    number: "6",
    steps: &[
        Step { name: "sim", command: &["cargo", "xtask", "sim", "--stalls", "--seeds", "1000"], needs: &[] },
        Step {
            name: "stalls",
            command: &["cargo", "xtask", "e2e", "--stalls", "--long"],
            needs: &[Need::Root, Need::Fuse],
        },
    ],
    parts: &["catch-up", "slow-follower", "background"],
    results: "figures-6.json",
};
const FIGURES: &str = "figures";

/// Parts of `plinth-bench figures`, by issue.
const FIGURES_2: [&str; 7] = ["put", "range", "single", "path", "idle", "pressure", "restart"];
const FIGURES_3: [&str; 6] = ["watch", "list", "count", "compaction", "snapshot", "size"];
const FIGURES_4: [&str; 4] = ["fio", "load", "same", "probe"];

pub(crate) const USAGE: &str = "\
usage: cargo xtask accept 2 [proofs | figures | PART...] [options of `plinth-bench figures`]
       cargo xtask accept 3 [figures | PART...] [options of `plinth-bench figures`]
       cargo xtask accept 4 [figures | PART...] [options of `plinth-bench figures`]
       cargo xtask accept 4 versus [SCENARIO...] [options of `plinth-bench versus`]
       cargo xtask accept 5 [sim] [known-bugs] [e2e] [figures | PART...] [options of `plinth-bench figures`]
       cargo xtask accept 6 [sim] [stalls] [figures | PART...] [options of `plinth-bench figures`]
  proofs   conformance, crashes, simulation
  figures  all figures of the issue; PART: put, range, single, path, idle, pressure, restart (2);
           watch, list, count, compaction, snapshot, size (3); fio, load, same, probe (4);
           cluster-put, cluster-range (5); catch-up, slow-follower, background (6)
  sim, known-bugs, e2e
           simulated clusters (6: such whose disks stall), known bugs that the simulation must find, clusters of processes
  stalls   clusters of processes whose disks stall
  2, 5 and 6 without a word: all; figures come last";

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
        ("5", _) => accept(&ISSUE_5, rest),
        ("6", _) => accept(&ISSUE_6, rest),
        _ => Err(Failure::Text(format!("there are no commands for issue {issue}\n{USAGE}"))),
    }
}

/// What `args` name of an issue, all of it if they name nothing, in its own order. Figures are made even if a proof failed: both are wanted.
fn accept(issue: &Issue, args: &[String]) -> Outcome {
    let chosen = Chosen::of(issue, args)?;
    let proofs = if chosen.steps.is_empty() { Ok(()) } else { run_steps(&chosen.steps) };
    let figures = chosen.figures.map_or(Ok(()), |args| figures(issue.results, issue.parts, &args));
    proofs.and(figures)
}

/// What arguments ask for.
struct Chosen {
    steps: Vec<Step>,
    /// Parts, all if none is named, and options; nothing if no figures are wanted.
    figures: Option<Vec<String>>,
}

impl Chosen {
    fn of(issue: &Issue, args: &[String]) -> Result<Self, Failure> {
        // Options come behind the words; what follows one may be its value.
        let count = args.iter().take_while(|arg| !arg.starts_with('-')).count();
        let (words, options) = args.split_at(count);
        let is_part = |word: &str| issue.parts.contains(&word);
        let is_step = |word: &str| issue.steps.iter().any(|step| step.name == word);
        let is_known = |word: &String| word == FIGURES || is_part(word) || is_step(word);
        if let Some(unknown) = words.iter().find(|word| !is_known(word)) {
            return Err(Failure::Text(format!("issue {} has no part {unknown:?}\n{USAGE}", issue.number)));
        }
        let wants = |name: &str| words.is_empty() || words.iter().any(|word| word == name);
        let steps = issue.steps.iter().filter(|step| wants(step.name)).copied().collect();
        let parts = words.iter().filter(|word| is_part(word));
        let wants_figures = wants(FIGURES) || words.iter().any(|word| is_part(word));
        Ok(Self { steps, figures: wants_figures.then(|| parts.chain(options).cloned().collect()) })
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

#[cfg(test)]
mod tests {
    use super::*;

    fn chosen(issue: &Issue, words: &str) -> (Vec<&'static str>, Option<String>) {
        let args: Vec<String> = words.split_whitespace().map(str::to_owned).collect();
        let Ok(chosen) = Chosen::of(issue, &args) else { panic!("{words} are known") };
        (chosen.steps.iter().map(|step| step.name).collect(), chosen.figures.map(|args| args.join(" ")))
    }

    #[test]
    fn parts_of_an_issue_run_in_its_order_and_options_are_for_the_figures() {
        let figures = |args: &str| Some(args.to_owned());
        let all = vec!["sim", "known-bugs", "e2e"];
        assert_eq!(chosen(&ISSUE_5, ""), (all.clone(), figures("")));
        assert_eq!(chosen(&ISSUE_5, "--quick"), (all, figures("--quick")));
        assert_eq!(chosen(&ISSUE_5, "figures --turns 2"), (vec![], figures("--turns 2")));
        assert_eq!(chosen(&ISSUE_5, "cluster-put --turns 2"), (vec![], figures("cluster-put --turns 2")));
        assert_eq!(chosen(&ISSUE_5, "e2e sim"), (vec!["sim", "e2e"], None));
        assert_eq!(chosen(&ISSUE_6, "stalls"), (vec!["stalls"], None));
        assert_eq!(chosen(&ISSUE_6, "background"), (vec![], figures("background")));
        assert!(Chosen::of(&ISSUE_6, &["known-bugs".to_owned()]).is_err());
    }
}
