//! `cargo xtask sim`: the simulator, with optimisation, for seeds are many.

use crate::shell::{Outcome, run_package};

pub(crate) fn run(args: &[String]) -> Outcome {
    run_package("plinth-sim", true, args)
}
