//! The command line.

use std::{path::PathBuf, str::FromStr};

use crate::powerfs::NameModel;

/// How to call it.
pub const USAGE: &str = "\
usage: plinth-crash [options]
  --runs N             runs to do (default 10)
  --seed S             seed of the first run; run i has seed S + i (default: from the clock)
  --mode MODE          kill, power, or both in turn (default both)
  --binary PATH        the server (default target/release/plinth)
  --server-args ARGS   its arguments besides directory and URLs, separated by blanks
  --checker CMD        command that proves a stopped data directory sound; the directory becomes its last argument
                       (default: `plinthutl check` from beside the server, if it is there)
  --checkpoint-metric NAME   the counter of /metrics that grows with each checkpoint
  --writes N           acknowledged writes before a crash, at least (default 2000)
  --names MODEL        what makes names durable in power mode: strict (a sync of their directory, the default)
                       or journal (a sync of any file too)
  --keep DIR           where the data of a failed run is kept (default target/crash)
  --expect-loss        the server is built without its flush: at least 9 of 10 power runs must lose writes
";

/// What the server is started with besides its directory and URLs: one core, and checkpoints far more often than one
/// would want, so that crashes hit them.
pub const SERVER_ARGS: &str = "--cores 1 --checkpoint-log-bytes 262144";
/// etcd's name for what plinth's checkpoints are to it.
pub const CHECKPOINT_METRIC: &str = "etcd_disk_backend_commit_duration_seconds_count";

/// How a run ends the server.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Mode {
    /// SIGKILL; what the kernel has stays.
    Kill,
    /// The power of its disk is cut, then SIGKILL.
    Power,
}

impl Mode {
    /// As `--mode` takes it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Kill => "kill",
            Self::Power => "power",
        }
    }
}

/// What the command line says.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Options {
    /// Runs to do.
    pub runs: u64,
    /// Seed of the first run.
    pub seed: Option<u64>,
    /// The mode of all runs; `None`: in turn.
    pub mode: Option<Mode>,
    /// The server.
    pub binary: PathBuf,
    /// Its arguments besides directory and URLs.
    pub server_args: Vec<String>,
    /// The command that checks a stopped data directory.
    pub checker: Vec<String>,
    /// The counter of checkpoints.
    pub checkpoint_metric: String,
    /// Acknowledged writes before a crash.
    pub writes: usize,
    /// What makes names durable in power mode.
    pub names: NameModel,
    /// Where failed runs are kept.
    pub keep: PathBuf,
    /// Losing writes is what must happen.
    pub expect_loss: bool,
}

fn words(text: &str) -> Vec<String> {
    text.split_whitespace().map(str::to_owned).collect()
}

fn number<T: FromStr>(name: &str, text: &str) -> Result<T, String> {
    text.parse().map_err(|_| format!("{name} takes a number, not {text:?}"))
}

impl Default for Options {
    fn default() -> Self {
        Self {
            runs: 10,
            seed: None,
            mode: None,
            binary: PathBuf::from("target/release/plinth"),
            server_args: words(SERVER_ARGS),
            checker: Vec::new(),
            checkpoint_metric: CHECKPOINT_METRIC.to_owned(),
            writes: 2000,
            names: NameModel::Strict,
            keep: PathBuf::from("target/crash"),
            expect_loss: false,
        }
    }
}

impl Options {
    /// Parses the arguments behind the program's name; the error is a line for the user.
    pub fn parse(args: impl IntoIterator<Item = String>) -> Result<Self, String> {
        let mut options = Self::default();
        let mut args = args.into_iter();
        while let Some(name) = args.next() {
            if name == "--expect-loss" {
                options.expect_loss = true;
                continue;
            }
            let value = args.next().ok_or_else(|| format!("{name} needs a value, or is no option"))?;
            options.set(&name, &value)?;
        }
        if options.expect_loss {
            options.mode = Some(Mode::Power);
        }
        let plinthutl = options.binary.with_file_name("plinthutl");
        if options.checker.is_empty() && plinthutl.is_file() {
            options.checker = vec![plinthutl.display().to_string(), "check".to_owned()];
        }
        Ok(options)
    }

    fn set(&mut self, name: &str, value: &str) -> Result<(), String> {
        match name {
            "--runs" => self.runs = number(name, value)?,
            "--seed" => self.seed = Some(number(name, value)?),
            "--mode" => {
                self.mode = match value {
                    "kill" => Some(Mode::Kill),
                    "power" => Some(Mode::Power),
                    "both" => None,
                    _ => return Err(format!("--mode is kill, power or both, not {value:?}")),
                };
            }
            "--binary" => self.binary = PathBuf::from(value),
            "--server-args" => self.server_args = words(value),
            "--checker" => self.checker = words(value),
            "--checkpoint-metric" => value.clone_into(&mut self.checkpoint_metric),
            "--writes" => self.writes = number(name, value)?,
            "--names" => {
                self.names = match value {
                    "strict" => NameModel::Strict,
                    "journal" => NameModel::Journal,
                    _ => return Err(format!("--names is strict or journal, not {value:?}")),
                };
            }
            "--keep" => self.keep = PathBuf::from(value),
            _ => return Err(format!("unknown option {name}")),
        }
        Ok(())
    }

    /// The command that repeats one run: the same random choices, though not the same interleaving.
    #[must_use]
    pub fn replay(&self, mode: Mode, seed: u64) -> String {
        let mut command = format!(
            "cargo run --release -p plinth-crash -- --runs 1 --seed {seed} --mode {} --binary {} --writes {}",
            mode.name(),
            self.binary.display(),
            self.writes
        );
        if self.names == NameModel::Journal {
            command.push_str(" --names journal");
        }
        for (name, list) in [("--server-args", &self.server_args), ("--checker", &self.checker)] {
            if !list.is_empty() {
                command.push_str(&format!(" {name} '{}'", list.join(" ")));
            }
        }
        command
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Options, String> {
        Options::parse(words(line))
    }

    #[test]
    fn the_checker_beside_the_server_is_used_unless_another_is_named() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let plinthutl = dir.path().join("plinthutl");
        std::fs::write(&plinthutl, b"").expect("writable");
        let binary = format!("--binary {}", dir.path().join("plinth").display());
        let options = parse(&binary).expect("well formed");
        assert_eq!(options.checker, [plinthutl.display().to_string(), "check".to_owned()]);
        let options = parse(&format!("{binary} --checker true")).expect("well formed");
        assert_eq!(options.checker, ["true"]);
    }

    #[test]
    fn options_are_taken_or_refused_with_a_reason() {
        let options = parse("--runs 3 --mode power --seed 9").expect("well formed");
        assert_eq!((options.runs, options.mode, options.seed), (3, Some(Mode::Power), Some(9)));
        assert!(parse("--binary /nonexistent/plinth").expect("well formed").checker.is_empty());
        assert_eq!(parse("--expect-loss").expect("well formed").mode, Some(Mode::Power));
        assert_eq!(parse("--mode x").expect_err("no such mode"), "--mode is kill, power or both, not \"x\"");
        assert_eq!(parse("--runs").expect_err("incomplete"), "--runs needs a value, or is no option");
        assert_eq!(parse("--foo 1").expect_err("unknown"), "unknown option --foo");
    }
}
