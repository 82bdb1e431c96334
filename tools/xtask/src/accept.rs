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

/// Issue 5: clusters. A name is also a word of the command line.
const ISSUE_5: &[Step] = &[
    Step { name: "sim", command: &["cargo", "xtask", "sim", "--cluster", "--seeds", "2000"], needs: &[] },
    Step { name: "known-bugs", command: &["cargo", "xtask", "sim", "--known-bugs"], needs: &[] },
    Step { name: "e2e", command: &["cargo", "xtask", "e2e", "--cluster"], needs: &[] },
    Step {
        name: "stalls",
        command: &["cargo", "xtask", "e2e", "--stalls", "--long"],
        needs: &[Need::Root, Need::Fuse],
    },
];
const FIGURES: &str = "figures";

/// Parts of `plinth-bench figures`, by issue.
const FIGURES_2: [&str; 7] = ["put", "range", "single", "path", "idle", "pressure", "restart"];
const FIGURES_3: [&str; 6] = ["watch", "list", "count", "compaction", "snapshot", "size"];
const FIGURES_4: [&str; 4] = ["fio", "load", "same", "probe"];
const FIGURES_5: [&str; 2] = ["cluster-put", "cluster-range"];

pub(crate) const USAGE: &str = "\
usage: cargo xtask accept 2 [proofs | figures | PART...] [options of `plinth-bench figures`]
       cargo xtask accept 3 [figures | PART...] [options of `plinth-bench figures`]
       cargo xtask accept 4 [figures | PART...] [options of `plinth-bench figures`]
       cargo xtask accept 4 versus [SCENARIO...] [options of `plinth-bench versus`]
       cargo xtask accept 5 [sim] [known-bugs] [e2e] [stalls] [figures | PART...] [options of `plinth-bench figures`]
  proofs   conformance, crashes, simulation
  figures  all figures of the issue; PART: put, range, single, path, idle, pressure, restart (2);
           watch, list, count, compaction, snapshot, size (3); fio, load, same, probe (4);
           cluster-put, cluster-range (5)
  sim, known-bugs, e2e, stalls
           simulated clusters, known bugs that the simulation must find, clusters of processes, such whose disks stall
  2 and 5 without a word: all; figures come last";

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
        ("5", _) => clusters(rest),
        _ => Err(Failure::Text(format!("there are no commands for issue {issue}\n{USAGE}"))),
    }
}

/// What `args` name of issue 5, all of it if they name nothing, in its own order. Figures are made even if a proof failed: both are wanted.
fn clusters(args: &[String]) -> Outcome {
    let chosen = Chosen::of(args)?;
    let proofs = if chosen.steps.is_empty() { Ok(()) } else { run_steps(&chosen.steps) };
    let figures = chosen.figures.map_or(Ok(()), |args| figures("figures-5.json", &FIGURES_5, &args));
    proofs.and(figures)
}

/// What the arguments of `accept 5` ask for.
struct Chosen {
    steps: Vec<Step>,
    /// Parts, all if none is named, and options; nothing if no figures are wanted.
    figures: Option<Vec<String>>,
}

impl Chosen {
    fn of(args: &[String]) -> Result<Self, Failure> {
        // Options come behind the words; what follows one may be its value.
        let count = args.iter().take_while(|arg| !arg.starts_with('-')).count();
        let (words, options) = args.split_at(count);
        let is_part = |word: &str| FIGURES_5.contains(&word);
        let is_known = |word: &String| word == FIGURES || is_part(word) || ISSUE_5.iter().any(|step| step.name == word);
        if let Some(unknown) = words.iter().find(|word| !is_known(word)) {
            return Err(Failure::Text(format!("issue 5 has no part {unknown:?}\n{USAGE}")));
        }
        let wants = |name: &str| words.is_empty() || words.iter().any(|word| word == name);
        let steps = ISSUE_5.iter().filter(|step| wants(step.name)).copied().collect();
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

    fn chosen(words: &str) -> (Vec<&'static str>, Option<String>) {
        let args: Vec<String> = words.split_whitespace().map(str::to_owned).collect();
        let Ok(chosen) = Chosen::of(&args) else { panic!("{words} are known") };
        (chosen.steps.iter().map(|step| step.name).collect(), chosen.figures.map(|args| args.join(" ")))
    }

    #[test]
    fn parts_of_issue_5_run_in_its_order_and_options_are_for_the_figures() {
        let figures = |args: &str| Some(args.to_owned());
        assert_eq!(chosen(""), (vec!["sim", "known-bugs", "e2e", "stalls"], figures("")));
        assert_eq!(chosen("--quick"), (vec!["sim", "known-bugs", "e2e", "stalls"], figures("--quick")));
        assert_eq!(chosen("figures --turns 2"), (vec![], figures("--turns 2")));
        assert_eq!(chosen("cluster-put --turns 2"), (vec![], figures("cluster-put --turns 2")));
        assert_eq!(chosen("e2e sim"), (vec!["sim", "e2e"], None));
        assert!(Chosen::of(&["nothing".to_owned()]).is_err());
    }
}
