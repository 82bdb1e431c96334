//! A process that uses a file system the way the server does, for the tests of `powerfs`: a process of its own, because
//! one that maps a file it serves itself can wait for itself for ever.
//!
//! `powerfs_probe append DIR [--no-flush]` appends records for ever and prints each one that is durable;
//! `powerfs_probe check DIR` prints the records that are there; `powerfs_probe path NAME DIR` walks one kernel path.
#![allow(unsafe_code)]

mod append;
mod paths;

use std::{io, path::Path, process::ExitCode};

fn run(args: &[&str]) -> io::Result<()> {
    match args {
        ["append", dir] => append::append(Path::new(dir), true),
        ["append", dir, "--no-flush"] => append::append(Path::new(dir), false),
        ["check", dir] => append::check(Path::new(dir)),
        ["path", name, dir] => paths::walk(name, Path::new(dir)),
        _ => Err(io::Error::new(io::ErrorKind::InvalidInput, "see the head of the program's source for its arguments")),
    }
}

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    match run(&args.iter().map(String::as_str).collect::<Vec<_>>()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("powerfs_probe: {error}");
            ExitCode::FAILURE
        }
    }
}
