//! Running programs, in the root of the workspace.

use std::{
    ffi::OsStr,
    path::{Path, PathBuf},
    process::Command,
};

/// What a subcommand ends with.
pub(crate) type Outcome = Result<(), Failure>;

/// Exit code of a program that can't do its work on this machine, as test drivers know it.
pub(crate) const EXIT_SKIPPED: u8 = 77;

/// Why a subcommand failed.
#[derive(Debug)]
pub(crate) enum Failure {
    /// This has to be said.
    Text(String),
    /// All is said; what is left is an exit code.
    Exit(u8),
}

impl From<String> for Failure {
    fn from(text: String) -> Self {
        Self::Text(text)
    }
}

/// The root of the workspace.
pub(crate) fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).expect("this crate lies two folders below the root")
}

/// Where cargo puts what it builds.
pub(crate) fn target_dir() -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), PathBuf::from)
}

/// `program` with `args`, to be run in the root.
pub(crate) fn command(program: impl AsRef<OsStr>, args: &[impl AsRef<OsStr>]) -> Command {
    let mut command = Command::new(program);
    command.args(args).current_dir(root());
    command
}

/// Runs a command to its end; its output goes where ours goes.
pub(crate) fn run(mut command: Command) -> Result<(), String> {
    let status = command.status().map_err(|error| format!("{command:?}: {error}"))?;
    if status.success() { Ok(()) } else { Err(format!("{command:?}: {status}")) }
}

/// Runs a command to its end and gives its standard output.
pub(crate) fn output(mut command: Command) -> Result<String, String> {
    let output = command.output().map_err(|error| format!("{command:?}: {error}"))?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    Err(format!("{command:?}: {}\n{}", output.status, String::from_utf8_lossy(&output.stderr)))
}

/// Runs the binary of a package of this workspace with `args`.
pub(crate) fn run_package(package: &str, release: bool, args: &[String]) -> Outcome {
    run_package_in(package, release, &[], args)
}

/// The same with some environment variables.
pub(crate) fn run_package_in(package: &str, release: bool, env: &[(&str, &str)], args: &[String]) -> Outcome {
    let mut cargo = command("cargo", &["run", "--quiet", "--package", package]);
    if release {
        cargo.arg("--release");
    }
    cargo.envs(env.iter().copied()).arg("--").args(args);
    run_to_its_end(cargo)
}

/// Runs a program that says itself what went wrong; its exit code becomes ours.
pub(crate) fn run_to_its_end(mut cargo: Command) -> Outcome {
    let status = cargo.status().map_err(|error| format!("{cargo:?}: {error}"))?;
    match status.code() {
        Some(0) => Ok(()),
        // What went wrong, the program has said.
        Some(code) => Err(Failure::Exit(u8::try_from(code).unwrap_or(1))),
        None => Err(Failure::Text(format!("{cargo:?}: {status}"))),
    }
}

/// Builds the server and the offline tool beside it as users get them, and says where the server is.
pub(crate) fn build_server() -> Result<PathBuf, String> {
    let packages = ["--package", "plinth-server", "--package", "plinth-plinthutl"];
    run(command("cargo", &[&["build", "--quiet", "--release"][..], &packages].concat()))?;
    Ok(target_dir().join("release/plinth"))
}

/// `args` with the server that users get behind `flag`, unless they name one themselves.
pub(crate) fn with_server(flag: &str, args: &[String]) -> Result<Vec<String>, String> {
    let mut args = args.to_vec();
    if !args.iter().any(|arg| arg == flag) {
        args.extend([flag.to_owned(), build_server()?.display().to_string()]);
    }
    Ok(args)
}

/// Whether a program is on the PATH.
pub(crate) fn has_program(name: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|folder| folder.join(name).is_file())
}
