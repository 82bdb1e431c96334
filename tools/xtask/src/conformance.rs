//! `cargo xtask conformance`: builds the server, fetches the peers, plays the cases.

use crate::{
    peers,
    shell::{Outcome, build_server, run_package},
};

pub(crate) fn run(args: &[String]) -> Outcome {
    peers::run()?;
    let mut args = args.to_vec();
    let against = args.iter().position(|arg| arg == "--against").map(|at| at + 1);
    match against.and_then(|at| args.get(at)).map(String::as_str) {
        Some("plinth") => {
            let at = against.expect("there is a value");
            args[at] = build_server()?.display().to_string();
        }
        Some(_) => {}
        None => args.extend(["--against".to_owned(), build_server()?.display().to_string()]),
    }
    run_package("plinth-conformance", false, &args)
}
