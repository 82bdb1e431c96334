//! `cargo xtask accept N`: the commands whose results issue N asks for, as far as they exist.

use crate::{
    shell::{Failure, Outcome},
    steps::{Need, Step, run_steps},
};

/// Issue 2: log, tree and KV.
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

pub(crate) fn run(args: &[String]) -> Outcome {
    match args {
        [issue] if issue == "2" => run_steps(ISSUE_2),
        [issue] => Err(Failure::Text(format!("there are no commands for issue {issue}"))),
        _ => Err(Failure::Text("usage: cargo xtask accept N".to_owned())),
    }
}
