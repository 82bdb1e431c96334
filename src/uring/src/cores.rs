//! Which cores the executors run on: `--cores LIST|N`, within what the process may use.
//!
//! Invariant: the result is sorted, has no core twice, is not empty, and lies within the process's affinity.

use std::{collections::BTreeSet, fmt, fs, path::Path};

use rustix::thread::{CpuSet, sched_getaffinity};

use crate::cgroup::{self, Controller};

/// How many executors start when nothing is said.
pub const CORES_DEFAULT_MAX: usize = 4;

/// The value of `--cores`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum CoresSpec {
    /// So many of those available, lowest numbers first.
    Count(usize),
    /// Exactly these.
    List(BTreeSet<usize>),
}

/// Why no cores could be chosen. Its text says what to do.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum CoresError {
    /// The text is neither a number nor a list.
    Syntax(String),
    /// The list names cores that the process may not use.
    NotAllowed {
        /// Those cores.
        cores: Vec<usize>,
        /// What it may use.
        allowed: Vec<usize>,
    },
    /// More executors than the cgroup's CPU quota has cores for.
    Quota {
        /// How many were asked for.
        wanted: usize,
        /// Whole cores that the quota allows, rounded up.
        quota: usize,
    },
    /// More executors than cores.
    TooMany {
        /// How many were asked for.
        wanted: usize,
        /// How many there are.
        available: usize,
    },
    /// The kernel didn't say which cores the process may use.
    Affinity(String),
}

impl fmt::Display for CoresError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Syntax(text) => {
                write!(
                    f,
                    "--cores {text:?}: expected a number of cores like \"2\" or a list with a comma or a dash like \"0,2-3\" (a single core: \"3-3\")"
                )
            }
            Self::NotAllowed { cores, allowed } => {
                write!(
                    f,
                    "--cores: this process may not run on {cores:?}; its affinity allows {allowed:?}: choose from those or change taskset/cpuset"
                )
            }
            Self::Quota { wanted, quota } => {
                write!(
                    f,
                    "--cores: {wanted} executors on a CPU quota of {quota} cores would be throttled: ask for at most {quota} or raise cpu.max"
                )
            }
            Self::TooMany { wanted, available } => {
                write!(f, "--cores: {wanted} cores asked for, {available} available: ask for fewer")
            }
            Self::Affinity(error) => write!(f, "reading this process's CPU affinity failed: {error}"),
        }
    }
}

impl std::error::Error for CoresError {}

impl std::str::FromStr for CoresSpec {
    type Err = CoresError;

    fn from_str(text: &str) -> Result<Self, CoresError> {
        let syntax = || CoresError::Syntax(text.to_owned());
        if let Ok(count) = text.parse::<usize>() {
            return if count == 0 { Err(syntax()) } else { Ok(Self::Count(count)) };
        }
        parse_list(text).filter(|cores| !cores.is_empty()).map(Self::List).ok_or_else(syntax)
    }
}

/// Reads a list as the kernel writes it: `0,2-3`. Nothing if it isn't one.
fn parse_list(text: &str) -> Option<BTreeSet<usize>> {
    let mut cores = BTreeSet::new();
    for part in text.split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last) = (first.trim().parse::<usize>().ok()?, last.trim().parse::<usize>().ok()?);
        if first > last || last >= CpuSet::MAX_CPU {
            return None;
        }
        cores.extend(first..=last);
    }
    Some(cores)
}

/// What the process may use.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Available {
    /// Cores of its affinity.
    pub affinity: Vec<usize>,
    /// Whole cores of the cgroup's quota, rounded up; none if there is no quota.
    pub quota: Option<usize>,
}

impl Available {
    /// Asks the kernel.
    pub fn of_this_process() -> Result<Self, CoresError> {
        let set = sched_getaffinity(None).map_err(|e| CoresError::Affinity(e.to_string()))?;
        let affinity = (0..CpuSet::MAX_CPU).filter(|cpu| set.is_set(*cpu)).collect();
        Ok(Self { affinity, quota: quota_under(Path::new("/")) })
    }
}

/// The cores to run executors on.
pub fn choose(spec: Option<&CoresSpec>, available: &Available) -> Result<Vec<usize>, CoresError> {
    let affinity = &available.affinity;
    let limit = available.quota.map_or(affinity.len(), |quota| quota.min(affinity.len()));
    match spec {
        None => Ok(affinity[..limit.min(CORES_DEFAULT_MAX)].to_vec()),
        Some(CoresSpec::Count(wanted)) if *wanted > affinity.len() => {
            Err(CoresError::TooMany { wanted: *wanted, available: affinity.len() })
        }
        Some(CoresSpec::Count(wanted)) => {
            within_quota(*wanted, available)?;
            Ok(affinity[..*wanted].to_vec())
        }
        Some(CoresSpec::List(list)) => {
            let refused: Vec<usize> = list.iter().copied().filter(|core| !affinity.contains(core)).collect();
            if !refused.is_empty() {
                return Err(CoresError::NotAllowed { cores: refused, allowed: affinity.clone() });
            }
            within_quota(list.len(), available)?;
            Ok(list.iter().copied().collect())
        }
    }
}

fn within_quota(wanted: usize, available: &Available) -> Result<(), CoresError> {
    match available.quota {
        Some(quota) if wanted > quota => Err(CoresError::Quota { wanted, quota }),
        _ => Ok(()),
    }
}

/// The tightest quota on the path from the process's cgroup to the root, of version 2 and of version 1.
fn quota_under(root: &Path) -> Option<usize> {
    let v2 =
        cgroup::values(root, Controller::Unified, |dir| parse_cpu_max(&fs::read_to_string(dir.join("cpu.max")).ok()?));
    let v1 = cgroup::values(root, Controller::V1("cpu"), |dir| {
        let quota = fs::read_to_string(dir.join("cpu.cfs_quota_us")).ok()?;
        let period = fs::read_to_string(dir.join("cpu.cfs_period_us")).ok()?;
        parse_cpu_max(&format!("{} {}", quota.trim(), period.trim()))
    });
    v2.into_iter().chain(v1).min()
}

/// Whole cores, rounded up, of `QUOTA PERIOD` in microseconds; nothing for `max` or -1.
fn parse_cpu_max(text: &str) -> Option<usize> {
    let mut words = text.split_whitespace();
    let quota = words.next()?.parse::<u64>().ok()?;
    let period = words.next().map_or(Some(100_000), |p| p.parse::<u64>().ok()).filter(|p| *p > 0)?;
    usize::try_from(quota.div_ceil(period).max(1)).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cgroup::write_under;

    fn available(affinity: &[usize], quota: Option<usize>) -> Available {
        Available { affinity: affinity.to_vec(), quota }
    }

    #[test]
    fn numbers_are_counts_and_lists_are_lists() {
        assert_eq!("2".parse(), Ok(CoresSpec::Count(2)));
        assert_eq!("0,2-3".parse(), Ok(CoresSpec::List([0, 2, 3].into())));
        assert_eq!("3-3".parse(), Ok(CoresSpec::List([3].into())));
        for bad in ["", "0", "a", "3-1", "1,", "-1", "1-99999999"] {
            assert!(matches!(bad.parse::<CoresSpec>(), Err(CoresError::Syntax(_))), "{bad:?}");
        }
    }

    #[test]
    fn the_default_is_at_most_four_within_affinity_and_quota() {
        assert_eq!(choose(None, &available(&[0, 1, 2, 3, 4, 5], None)), Ok(vec![0, 1, 2, 3]));
        assert_eq!(choose(None, &available(&[4, 7], None)), Ok(vec![4, 7]));
        assert_eq!(choose(None, &available(&[0, 1, 2, 3], Some(1))), Ok(vec![0]));
    }

    #[test]
    fn cores_outside_affinity_or_beyond_the_quota_are_refused() {
        let spec: CoresSpec = "0,5".parse().expect("a list");
        let refused = choose(Some(&spec), &available(&[0, 1], None));
        assert_eq!(refused, Err(CoresError::NotAllowed { cores: vec![5], allowed: vec![0, 1] }));
        let two = CoresSpec::Count(2);
        assert_eq!(choose(Some(&two), &available(&[0], None)), Err(CoresError::TooMany { wanted: 2, available: 1 }));
        let quota = choose(Some(&two), &available(&[0, 1], Some(1)));
        assert_eq!(quota, Err(CoresError::Quota { wanted: 2, quota: 1 }));
    }

    #[test]
    fn quotas_are_whole_cores_rounded_up() {
        assert_eq!(parse_cpu_max("max 100000\n"), None);
        assert_eq!(parse_cpu_max("150000 100000\n"), Some(2));
        assert_eq!(parse_cpu_max("50000 100000"), Some(1));
        assert_eq!(parse_cpu_max("-1 100000"), None);
        assert_eq!(parse_cpu_max("5 0"), None);
        assert_eq!(parse_cpu_max(""), None);
    }

    #[test]
    fn the_tightest_quota_up_the_tree_counts_for_both_cgroup_versions() {
        let root = tempfile::tempdir().expect("a scratch directory");
        let write = |path: &str, text: &str| write_under(root.path(), path, text);
        write("proc/self/cgroup", "0::/a/b\n");
        write("sys/fs/cgroup/a/cpu.max", "200000 100000\n");
        write("sys/fs/cgroup/a/b/cpu.max", "max 100000\n");
        assert_eq!(quota_under(root.path()), Some(2));

        write("proc/self/cgroup", "4:cpu,cpuacct:/x\n0::/a/b\n");
        write("sys/fs/cgroup/cpu/x/cpu.cfs_quota_us", "100000\n");
        write("sys/fs/cgroup/cpu/x/cpu.cfs_period_us", "100000\n");
        assert_eq!(quota_under(root.path()), Some(1));
        assert_eq!(quota_under(Path::new("/nonexistent")), None);
    }
}
