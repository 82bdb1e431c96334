//! Which cores the executors run on: `--cores`, held against what the process may use.

use std::fs;

/// What `--cores` asks for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum CoreChoice {
    /// Not given: as many as the process may use, at most [`DEFAULT_CORES_MAX`].
    Default,
    /// This many of those the process may use.
    Count(usize),
    /// Exactly these, ascending.
    List(Vec<usize>),
}

/// Executors without `--cores`. A store rarely gains from more, and its neighbours would miss them.
pub const DEFAULT_CORES_MAX: usize = 4;

/// The highest core number that is believed; Linux's own limit is far below.
const CORE_NUMBER_MAX: usize = 8191;

/// What the process may use.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Allowance {
    /// The cores of its affinity mask, ascending.
    pub affinity: Vec<usize>,
    /// The quota of its cgroup in whole cores, rounded up. None if there is no quota.
    pub quota_cores: Option<usize>,
}

impl CoreChoice {
    /// Reads the value of `--cores`: empty, a number (a count), or a list with a comma or a range (`0,4-5`).
    pub fn parse(text: &str) -> Result<Self, String> {
        if text.is_empty() {
            return Ok(Self::Default);
        }
        let malformed = || {
            format!("invalid value \"{text}\" for --cores: give a count (2) or a list (0,4-5; one core alone is 3-3)")
        };
        if let Ok(count) = text.parse::<usize>() {
            return if count > 0 { Ok(Self::Count(count)) } else { Err(malformed()) };
        }
        let cores = parse_core_list(text).ok_or_else(malformed)?;
        Ok(Self::List(cores))
    }

    /// The cores to run on, at least one. The error is one line that says what to do.
    pub fn resolve(&self, allowance: &Allowance) -> Result<Vec<usize>, String> {
        let affinity = &allowance.affinity;
        let usable = affinity.len().min(allowance.quota_cores.unwrap_or(usize::MAX)).max(1);
        match self {
            Self::Default => Ok(affinity[..usable.min(DEFAULT_CORES_MAX)].to_vec()),
            Self::Count(count) if *count <= affinity.len() => Ok(affinity[..*count].to_vec()),
            Self::Count(count) => Err(format!(
                "--cores={count} asks for more cores than this process may use ({}): give at most {}",
                show_list(affinity),
                affinity.len()
            )),
            Self::List(cores) => match cores.iter().find(|core| !affinity.contains(core)) {
                None => Ok(cores.clone()),
                Some(core) => Err(format!(
                    "--cores names core {core}, but this process may use only {}: choose among these or widen its affinity",
                    show_list(affinity)
                )),
            },
        }
    }
}

impl Allowance {
    /// What this process may use: its affinity from /proc, its quota from cgroup v2 or v1.
    pub fn of_this_process() -> Result<Self, String> {
        let status = fs::read_to_string("/proc/self/status")
            .map_err(|error| format!("cannot read /proc/self/status: {error}; mount /proc or give --cores a list"))?;
        let affinity = status
            .lines()
            .find_map(|line| line.strip_prefix("Cpus_allowed_list:"))
            .and_then(|list| parse_core_list(list.trim()))
            .ok_or("/proc/self/status has no list of allowed cores: is this Linux?")?;
        Ok(Self { affinity, quota_cores: cgroup_quota_cores() })
    }
}

/// The cgroup's CPU quota in whole cores, rounded up. A quota that can't be read is none: it only makes the default
/// smaller.
fn cgroup_quota_cores() -> Option<usize> {
    let own_group = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let path = own_group.lines().find_map(|line| line.strip_prefix("0::")).unwrap_or("/");
    let mut candidates = vec![format!("/sys/fs/cgroup{path}/cpu.max"), "/sys/fs/cgroup/cpu.max".to_owned()];
    candidates.dedup();
    let v2 = candidates.iter().filter_map(|file| fs::read_to_string(file).ok()).find_map(|text| parse_cpu_max(&text));
    v2.or_else(|| {
        let read = |name: &str| fs::read_to_string(format!("/sys/fs/cgroup/cpu/cpu.cfs_{name}_us")).ok();
        parse_cpu_max(&format!("{} {}", read("quota")?.trim(), read("period")?.trim()))
    })
}

/// `QUOTA PERIOD` in microseconds; none for `max` and `-1`.
fn parse_cpu_max(text: &str) -> Option<usize> {
    let mut words = text.split_ascii_whitespace();
    let (quota, period) = (words.next()?.parse::<usize>().ok()?, words.next()?.parse::<usize>().ok()?);
    (period > 0).then(|| quota.div_ceil(period).max(1))
}

/// `0,2,4-5` as ascending numbers without repeats.
fn parse_core_list(text: &str) -> Option<Vec<usize>> {
    let mut cores = Vec::new();
    for part in text.split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last) = (first.trim().parse::<usize>().ok()?, last.trim().parse::<usize>().ok()?);
        if first > last || last > CORE_NUMBER_MAX {
            return None;
        }
        cores.extend(first..=last);
    }
    cores.sort_unstable();
    cores.dedup();
    Some(cores)
}

fn show_list(cores: &[usize]) -> String {
    cores.iter().map(ToString::to_string).collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn allowance(quota_cores: Option<usize>) -> Allowance {
        Allowance { affinity: vec![1, 2, 3, 5, 6, 7], quota_cores }
    }

    #[test]
    fn counts_and_lists_are_told_apart() {
        assert_eq!(CoreChoice::parse(""), Ok(CoreChoice::Default));
        assert_eq!(CoreChoice::parse("2"), Ok(CoreChoice::Count(2)));
        assert_eq!(CoreChoice::parse("3-3"), Ok(CoreChoice::List(vec![3])));
        assert_eq!(CoreChoice::parse("4-5,0,4"), Ok(CoreChoice::List(vec![0, 4, 5])));
        for text in ["0", "x", "1-", "5-4", "1,,2", "-1", "0-99999"] {
            assert!(CoreChoice::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn the_default_stays_within_quota_and_four() {
        assert_eq!(CoreChoice::Default.resolve(&allowance(None)), Ok(vec![1, 2, 3, 5]));
        assert_eq!(CoreChoice::Default.resolve(&allowance(Some(2))), Ok(vec![1, 2]));
    }

    #[test]
    fn what_the_process_may_not_use_is_refused() {
        assert_eq!(CoreChoice::Count(6).resolve(&allowance(Some(1))).map(|cores| cores.len()), Ok(6));
        assert!(CoreChoice::Count(7).resolve(&allowance(None)).expect_err("too many").contains("at most 6"));
        let error = CoreChoice::List(vec![1, 4]).resolve(&allowance(None)).expect_err("not allowed");
        assert!(error.contains("core 4") && error.contains("1,2,3,5,6,7"), "{error}");
    }

    #[test]
    fn quotas_round_up_to_whole_cores() {
        assert_eq!(parse_cpu_max("max 100000"), None);
        assert_eq!(parse_cpu_max("-1 100000"), None);
        assert_eq!(parse_cpu_max("150000 100000\n"), Some(2));
        assert_eq!(parse_cpu_max("1000 100000"), Some(1));
    }

    #[test]
    fn this_process_may_use_something() {
        let allowance = Allowance::of_this_process().expect("tests run on Linux");
        assert!(!CoreChoice::Default.resolve(&allowance).expect("at least one core").is_empty());
    }
}
