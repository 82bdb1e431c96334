//! The command line: `--name value` pairs, `--name` switches, and words.
//!
//! A subcommand takes what it knows; [`Args::finish`] refuses the rest, so that nothing misspelt is ignored.

use std::str::FromStr;

use crate::failure::Failure;

/// What has not been taken yet.
#[derive(Debug)]
pub struct Args(Vec<String>);

impl Args {
    /// The arguments behind the subcommand.
    pub fn new(args: impl IntoIterator<Item = String>) -> Self {
        Self(args.into_iter().collect())
    }

    /// Whether the switch is there.
    pub fn switch(&mut self, name: &str) -> bool {
        let before = self.0.len();
        self.0.retain(|arg| arg != name);
        self.0.len() < before
    }

    /// The value behind `name`, if it is there. The last one counts.
    pub fn optional<T: FromStr>(&mut self, name: &str) -> Result<Option<T>, Failure> {
        let mut found = None;
        while let Some(at) = self.0.iter().position(|arg| arg == name) {
            if at + 1 == self.0.len() {
                return Err(Failure::Usage(format!("{name} needs a value")));
            }
            let value = self.0.remove(at + 1);
            self.0.remove(at);
            let parsed = value.parse().map_err(|_| Failure::Usage(format!("{name} does not take {value:?}")))?;
            found = Some(parsed);
        }
        Ok(found)
    }

    /// The value behind `name`, or `default`.
    pub fn value<T: FromStr>(&mut self, name: &str, default: T) -> Result<T, Failure> {
        Ok(self.optional(name)?.unwrap_or(default))
    }

    /// The value behind `name`, which must be there.
    pub fn required<T: FromStr>(&mut self, name: &str) -> Result<T, Failure> {
        self.optional(name)?.ok_or_else(|| Failure::Usage(format!("{name} is missing")))
    }

    /// What is left and is no option.
    pub fn words(&mut self) -> Vec<String> {
        let (options, words) = std::mem::take(&mut self.0).into_iter().partition(|arg| arg.starts_with("--"));
        self.0 = options;
        words
    }

    /// Fails if anything is left.
    pub fn finish(self) -> Result<(), Failure> {
        match self.0.first() {
            None => Ok(()),
            Some(arg) => Err(Failure::Usage(format!("unknown argument {arg:?}"))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn args(line: &str) -> Args {
        Args::new(line.split_whitespace().map(str::to_owned))
    }

    #[test]
    fn values_switches_and_words_are_taken_and_the_rest_is_refused() {
        let mut args = args("one --keys 5 --json --keys 7 two --what");
        assert_eq!(args.value("--keys", 1).expect("a number"), 7);
        assert!(args.switch("--json") && !args.switch("--json"));
        assert_eq!(args.words(), ["one", "two"]);
        let refused = args.finish().expect_err("one is left");
        assert_eq!(refused.to_string(), "unknown argument \"--what\"");
    }

    #[test]
    fn a_wrong_or_missing_value_says_which_option_it_is() {
        assert_eq!(
            args("--keys x").value("--keys", 1).expect_err("no number").to_string(),
            "--keys does not take \"x\""
        );
        assert_eq!(args("--keys").value("--keys", 1).expect_err("incomplete").to_string(), "--keys needs a value");
        assert_eq!(args("").required::<u8>("--keys").expect_err("absent").to_string(), "--keys is missing");
    }
}
