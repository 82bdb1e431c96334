//! `cargo xtask clients`: client libraries of others against the server. So far one, the Rust crate `etcd-client`.
//!
//! Its package is a workspace of its own, because it needs protoc to build: so it is held to format and lints here.

use crate::{
    packages,
    shell::{self, Outcome, command, run_to_its_end, target_dir, with_server},
};

const MANIFEST: &str = "tests/etcd-client/Cargo.toml";

pub(crate) fn run(args: &[String]) -> Outcome {
    packages::install_missing()?;
    let args = with_server("--binary", args)?;
    let of_package = |subcommand: &str| {
        let mut cargo = command("cargo", &[subcommand, "--quiet", "--manifest-path", MANIFEST]);
        // Beside the main workspace's output, where a clean build finds and removes it.
        cargo.env("CARGO_TARGET_DIR", target_dir().join("clients"));
        cargo
    };
    let mut format = of_package("fmt");
    format.arg("--check");
    shell::run(format)?;
    let mut lints = of_package("clippy");
    lints.args(["--locked", "--all-targets", "--", "-D", "warnings"]);
    shell::run(lints)?;
    let mut cases = of_package("run");
    cases.args(["--locked", "--"]).args(&args);
    run_to_its_end(cases)
}
