//! `cargo xtask ci`: everything that a change must pass.

use std::time::{SystemTime, UNIX_EPOCH};

use crate::{
    packages,
    shell::{Failure, Outcome, has_program},
    steps::{Need, Step, run_steps},
};

const BEFORE_TESTS: &[Step] = &[
    Step { name: "format", command: &["cargo", "fmt", "--all", "--check"], needs: &[] },
    Step {
        name: "clippy",
        command: &["cargo", "clippy", "--quiet", "--workspace", "--all-targets", "--", "-D", "warnings"],
        needs: &[],
    },
];

const TESTS_NEXTEST: Step =
    Step { name: "tests", command: &["cargo", "nextest", "run", "--workspace", "--no-fail-fast"], needs: &[] };
const TESTS_CARGO: Step =
    Step { name: "tests", command: &["cargo", "test", "--quiet", "--workspace", "--no-fail-fast"], needs: &[] };

const AFTER_TESTS: &[Step] = &[
    Step { name: "simulation", command: &["cargo", "xtask", "sim", "--seeds", "20"], needs: &[] },
    Step { name: "simulated clusters", command: &["cargo", "xtask", "sim", "--cluster", "--seeds", "200"], needs: &[] },
    Step { name: "simulated stalls", command: &["cargo", "xtask", "sim", "--stalls", "--seeds", "100"], needs: &[] },
    Step { name: "peers", command: &["cargo", "xtask", "peers"], needs: &[] },
    Step {
        name: "conformance of etcd",
        command: &["cargo", "xtask", "conformance", "--against", "etcd"],
        needs: &[Need::Peers],
    },
    Step {
        name: "conformance of plinth",
        command: &["cargo", "xtask", "conformance", "--against", "plinth"],
        needs: &[Need::Peers],
    },
    Step {
        name: "fresh start and etcdctl",
        command: &["cargo", "xtask", "fresh-start"],
        needs: &[Need::Peers, Need::Port2379],
    },
    Step { name: "clients of others", command: &["cargo", "xtask", "clients"], needs: &[] },
    Step { name: "end to end", command: &["cargo", "xtask", "e2e"], needs: &[] },
    Step { name: "end to end, clusters", command: &["cargo", "xtask", "e2e", "--cluster"], needs: &[] },
    // Without those that take a minute each: they come with `accept`.
    Step {
        name: "end to end, stalled disks",
        command: &["cargo", "xtask", "e2e", "--stalls"],
        needs: &[Need::Root, Need::Fuse],
    },
    Step { name: "crash", command: &["cargo", "xtask", "crash", "--runs", "4"], needs: &[Need::Fuse] },
    // Whether they run; what they show is for a quiet machine.
    Step {
        name: "benches",
        command: &["cargo", "bench", "--quiet", "--package", "plinth-micro", "--", "--test"],
        needs: &[],
    },
    Step {
        name: "figures",
        command: &["cargo", "xtask", "accept", "2", "put", "single", "--quick"],
        needs: &[Need::Peers],
    },
    Step {
        name: "figures of issue 3",
        command: &["cargo", "xtask", "accept", "3", "watch", "count", "--quick"],
        needs: &[Need::Peers],
    },
    Step {
        name: "figures of issue 4",
        command: &["cargo", "xtask", "accept", "4", "fio", "probe", "--quick"],
        needs: &[Need::Peers],
    },
    Step {
        name: "versus",
        command: &["cargo", "xtask", "accept", "4", "versus", "put-8x64", "--quick"],
        needs: &[Need::Peers],
    },
    // Containers build on overlay file systems, and whether it runs is all that counts here.
    Step {
        name: "fsync",
        command: &[
            "cargo",
            "run",
            "--quiet",
            "--release",
            "--package",
            "plinth-bench",
            "--",
            "fsync",
            "--quick",
            "--anyway",
            "--dir",
            "target",
        ],
        needs: &[],
    },
];

pub(crate) fn run(args: &[String]) -> Outcome {
    if !args.is_empty() {
        return Err(Failure::Text("ci takes no arguments".to_owned()));
    }
    // Without its packages a step is skipped, and says why.
    if let Err(error) = packages::install_missing() {
        println!("{error}");
    }
    let tests = if has_program("cargo-nextest") { TESTS_NEXTEST } else { TESTS_CARGO };
    let mut steps = Vec::from(BEFORE_TESTS);
    steps.push(tests);
    steps.extend_from_slice(AFTER_TESTS);
    steps.push(new_seeds());
    run_steps(&steps)
}

/// Clusters that nobody has simulated before: which ones is told, so that they can be run again.
fn new_seeds() -> Step {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    // Runs that begin in different seconds have no seed in common.
    let from = since.as_secs() * 1_000;
    println!("new seeds begin at {from}");
    let from: &'static str = from.to_string().leak();
    let command = vec!["cargo", "xtask", "sim", "--cluster", "--seeds", "100", "--from", from];
    Step { name: "simulated clusters, new seeds", command: command.leak(), needs: &[] }
}
