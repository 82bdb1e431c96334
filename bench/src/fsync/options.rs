//! The command line of `fsync`.

use std::{path::PathBuf, time::Duration};

use super::files::Sizes;
use crate::{args::Args, failure::Failure, load::seconds};

/// What `fsync --help` prints.
pub const USAGE: &str = "\
usage: plinth-bench fsync --dir DIR [options]
  how fast writes become durable in DIR, by which method, and what that means for a log; about a minute
  --dir DIR       on the disk to measure; what is made there is removed
  --seconds S     for each cell; default 4, with --full 2
  --full          every method in every situation; says beforehand how long that takes
  --quick         a look whether all works: short cells, small files
  --core N        pin the threads that write to a core
  --anyway        measure memory and overlay file systems too
  --json FILE     where the results go";

const MIB: u64 = 1 << 20;
/// A stretch must have room for a few writes of a slow disk.
const SECONDS_MIN: f64 = 0.01;

/// What the command line says.
#[derive(Debug)]
pub struct Options {
    /// Where.
    pub dir: PathBuf,
    /// Each cell's time.
    pub duration: Duration,
    /// Rounds of the comparison of methods, and of the other groups.
    pub rounds: (u32, u32),
    /// How long files are.
    pub sizes: Sizes,
    /// Whether everything is measured.
    pub is_full: bool,
    /// Whether this is only a look.
    pub is_quick: bool,
    /// The core of the threads that write.
    pub core: Option<usize>,
    /// Whether file systems are measured whose flushes mean nothing.
    pub anyway: bool,
    /// Where the results go.
    pub json: Option<PathBuf>,
}

/// Parses the arguments behind `fsync`.
pub fn parse(mut args: Args) -> Result<Options, Failure> {
    let (is_full, is_quick) = (args.switch("--full"), args.switch("--quick"));
    let usual = match (is_full, is_quick) {
        (true, true) => return Err(Failure::Usage("--full and --quick don't go together".to_owned())),
        (true, false) => 2.0,
        (false, true) => 0.2,
        (false, false) => 4.0,
    };
    let given: f64 = args.value("--seconds", usual)?;
    if given < SECONDS_MIN {
        return Err(Failure::Usage(format!("--seconds is at least {SECONDS_MIN}, not {given}")));
    }
    let (file, neighbour) = if is_quick { (8 * MIB, 16 * MIB) } else { (64 * MIB, 256 * MIB) };
    let options = Options {
        dir: args.required("--dir")?,
        duration: seconds("--seconds", given)?,
        rounds: if is_quick { (2, 1) } else { (8, 4) },
        sizes: Sizes { file, neighbour, own_files: if is_full { 6 } else { 2 } },
        is_full,
        is_quick,
        core: args.optional("--core")?,
        anyway: args.switch("--anyway"),
        json: args.optional("--json")?,
    };
    args.finish()?;
    Ok(options)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse_line(line: &str) -> Result<Options, Failure> {
        parse(Args::new(line.split_whitespace().map(str::to_owned)))
    }

    #[test]
    fn a_dozen_cells_take_about_a_minute() {
        let options = parse_line("--dir /x").expect("enough");
        assert_eq!((options.duration.as_secs(), options.sizes.file), (4, 64 << 20));
        assert_eq!(parse_line("--dir /x --full").expect("enough").duration.as_secs(), 2);
        assert_eq!(parse_line("--dir /x --quick --seconds 1").expect("enough").duration.as_secs(), 1);
    }

    #[test]
    fn nonsense_is_refused_with_a_reason() {
        let refused = |line: &str| parse_line(line).expect_err("nonsense").to_string();
        assert_eq!(refused("--quick"), "--dir is missing");
        assert_eq!(refused("--dir /x --full --quick"), "--full and --quick don't go together");
        assert_eq!(refused("--dir /x --seconds 0"), "--seconds is at least 0.01, not 0");
        assert_eq!(refused("--dir /x --seconds -1"), "--seconds is at least 0.01, not -1");
        assert!(refused("--dir /x --seconds NaN").contains("--seconds"));
        assert_eq!(refused("--dir /x /y"), "unknown argument \"/y\"");
    }
}
