//! `cargo xtask e2e`: what operators and supervisors see of the server, as a process; with `--cluster`, of
//! several that are members of a cluster; with `--stalls`, of such whose disks stall.

use crate::{
    packages,
    shell::{Outcome, run_package, with_server},
};

pub(crate) fn run(args: &[String]) -> Outcome {
    packages::install_missing()?;
    // Not in release: a failing case must not take the others down, and only the server's speed matters.
    run_package("plinth-e2e", false, &with_server("--binary", args)?)
}
