//! `plinthutl`: works on the data directory of a node that is stopped.
//!
//! Invariant: it holds the directory's lock while it works, and `check` opens nothing for writing.

mod check;

use std::{path::Path, process::ExitCode};

const USAGE: &str = "\
usage: plinthutl check DATA-DIR [--wal-dir DIR]

  check   proves the files of a stopped node and changes nothing. Trees: in each generation that a start could use, every
          page is reached exactly once or free, and checksums, counts, sizes and the order of keys are right. Log: every
          batch of every segment is whole and in sequence, and the trees go with it; a torn tail is named, and is sound.
          --wal-dir is needed if the node has it.

exit code: 0 sound; 1 unsound, unreadable or in use, and a line says which file and offset; 2 wrong usage";

/// Exit code for a command line that can't be read.
const EXIT_USAGE: u8 = 2;

fn main() -> ExitCode {
    let args: Vec<_> = std::env::args_os().skip(1).collect();
    let words: Vec<_> = args.iter().map(|arg| arg.to_string_lossy()).collect();
    match words.iter().map(AsRef::as_ref).collect::<Vec<&str>>()[..] {
        ["-h" | "--help" | "help"] => {
            println!("{USAGE}");
            ExitCode::SUCCESS
        }
        ["check", dir] if !dir.starts_with('-') => check(Path::new(&args[1]), None),
        ["check", dir, "--wal-dir", _] if !dir.starts_with('-') => {
            check(Path::new(&args[1]), Some(Path::new(&args[3])))
        }
        _ => {
            eprintln!("{USAGE}");
            ExitCode::from(EXIT_USAGE)
        }
    }
}

fn check(dir: &Path, wal_dir: Option<&Path>) -> ExitCode {
    match check::run(dir, wal_dir) {
        Ok(()) => {
            println!("ok");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("plinthutl: {error}");
            ExitCode::FAILURE
        }
    }
}
