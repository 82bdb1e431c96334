//! `cargo xtask e2e`: what operators and supervisors see of the server, as a process.

use crate::{
    packages,
    shell::{Outcome, build_server, run_package},
};

pub(crate) fn run(args: &[String]) -> Outcome {
    packages::install_missing()?;
    let mut args = args.to_vec();
    if !args.iter().any(|arg| arg == "--binary") {
        args.extend(["--binary".to_owned(), build_server()?.display().to_string()]);
    }
    // Not in release: a failing case must not take the others down, and only the server's speed matters.
    run_package("plinth-e2e", false, &args)
}
