//! `cargo xtask crash`: the server dies by SIGKILL or loses power under load; nothing acknowledged may be lost.

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
    run_package("plinth-crash", true, &args)
}
