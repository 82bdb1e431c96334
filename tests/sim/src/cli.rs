//! The command line of `plinth-sim`.

/// How it is called.
pub const USAGE: &str = "\
usage: plinth-sim [--scenario NAME] [--seeds N] [--from S] [--seed S] [--threads N] [--until-violation]
       plinth-sim --known-bugs [--threads N]
  --scenario NAME  only this scenario (all)
  --seeds N        how many seeds (100)
  --from S         the first seed (0)
  --seed S         exactly this seed, to replay it
  --threads N      seeds that run at the same time (2)
  --until-violation  begin no more seeds when one has failed
  --known-bugs     for each known bug, how many seeds it takes until one finds it";

/// What to run.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Options {
    /// Only this scenario.
    pub scenario: Option<String>,
    /// How many seeds.
    pub seeds: u64,
    /// The first seed.
    pub from: u64,
    /// Seeds that run at the same time, at least 1.
    pub threads: usize,
    /// Begin no more seeds when one has failed.
    pub until_violation: bool,
    /// Look for each known bug instead.
    pub known_bugs: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self { scenario: None, seeds: 100, from: 0, threads: 2, until_violation: false, known_bugs: false }
    }
}

/// Reads the arguments behind the program's name; the error is for the user.
pub fn parse(args: impl IntoIterator<Item = String>) -> Result<Options, String> {
    let mut options = Options::default();
    let mut args = args.into_iter();
    while let Some(flag) = args.next() {
        let mut value = || args.next().ok_or(format!("{flag} needs a value"));
        match flag.as_str() {
            "--scenario" => options.scenario = Some(value()?),
            "--seeds" => options.seeds = number(&flag, &value()?)?,
            "--from" => options.from = number(&flag, &value()?)?,
            "--seed" => (options.from, options.seeds) = (number(&flag, &value()?)?, 1),
            "--threads" => options.threads = usize::try_from(number(&flag, &value()?)?).unwrap_or(1).max(1),
            "--until-violation" => options.until_violation = true,
            "--known-bugs" => options.known_bugs = true,
            _ => return Err(format!("unknown argument {flag}")),
        }
    }
    options.from.checked_add(options.seeds).ok_or("the last seed is beyond 2^64")?;
    Ok(options)
}

fn number(flag: &str, value: &str) -> Result<u64, String> {
    value.parse().map_err(|_| format!("{flag} needs a number, not {value:?}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(line: &str) -> Result<Options, String> {
        parse(line.split_whitespace().map(str::to_owned))
    }

    #[test]
    fn seed_is_a_run_of_one() {
        assert_eq!(parsed("--seed 7"), Ok(Options { from: 7, seeds: 1, ..Options::default() }));
        assert_eq!(
            parsed("--scenario disk --seeds 10 --from 5 --threads 0"),
            Ok(Options { scenario: Some("disk".into()), seeds: 10, from: 5, threads: 1, ..Options::default() })
        );
    }

    #[test]
    fn flags_take_no_value() {
        let options = parsed("--until-violation --known-bugs --seeds 3");
        assert_eq!(options, Ok(Options { until_violation: true, known_bugs: true, seeds: 3, ..Options::default() }));
    }

    #[test]
    fn bad_arguments_are_told() {
        assert_eq!(parsed("--seeds"), Err("--seeds needs a value".into()));
        assert_eq!(parsed("--seeds many"), Err("--seeds needs a number, not \"many\"".into()));
        assert_eq!(parsed("--sedes 3"), Err("unknown argument --sedes".into()));
    }
}
