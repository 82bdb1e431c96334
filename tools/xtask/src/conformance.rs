//! `cargo xtask conformance`: builds the server, fetches the peers, plays the cases.

use crate::{
    peers,
    shell::{Outcome, run_package, with_server},
};

pub(crate) fn run(args: &[String]) -> Outcome {
    peers::run(&[])?;
    let mut args = args.to_vec();
    // The default, spelled out.
    if let Some(at) = args.windows(2).position(|pair| pair == ["--against", "plinth"]) {
        args.drain(at..at + 2);
    }
    run_package("plinth-conformance", false, &with_server("--against", &args)?)
}
