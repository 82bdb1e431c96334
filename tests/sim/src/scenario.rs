//! What the runner runs: a scenario is a function of its seed that ends well or with a violation.

use std::{fmt, time::Duration};

use plinth_base::Mark;

/// A simulated workload with its checks.
pub trait Scenario: Sync {
    /// Its name on the command line.
    fn name(&self) -> &'static str;

    /// The marks that a run over many seeds must reach.
    fn marks(&self) -> &'static [Mark];

    /// The kinds of faults that a run over many seeds must have struck with.
    fn faults(&self) -> &'static [&'static str] {
        &[]
    }

    /// The least that every seed does; less is a violation, for a workload that does nothing finds nothing.
    fn floor(&self) -> Floor {
        Floor::default()
    }

    /// Runs one seed. A panic counts as a violation too.
    fn run(&self, seed: u64) -> Result<Outcome, Violation>;
}

/// The least that a seed has to do.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Floor {
    /// Operations of clients.
    pub operations: u64,
    /// Faults that struck.
    pub faults: u64,
    /// Virtual time that passed.
    pub virtual_time: Duration,
}

impl Floor {
    /// The less of each.
    #[must_use]
    pub fn min(self, other: Self) -> Self {
        Self {
            operations: self.operations.min(other.operations),
            faults: self.faults.min(other.faults),
            virtual_time: self.virtual_time.min(other.virtual_time),
        }
    }
}

impl Default for Floor {
    fn default() -> Self {
        Self { operations: 500, faults: 10, virtual_time: Duration::from_secs(60) }
    }
}

/// What a seed did.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Outcome {
    /// Operations of clients.
    pub operations: u64,
    /// How often each kind of fault struck, as [`Sim::faults`](plinth_sim_env::Sim::faults) has it.
    pub faults: Vec<(&'static str, u64)>,
    /// Virtual time that passed.
    pub virtual_time: Duration,
    /// The hash of everything that happened; the same seed must give the same.
    pub trace_hash: u64,
}

impl Outcome {
    /// Faults that struck.
    #[must_use]
    pub fn fault_count(&self) -> u64 {
        count_faults(self.faults.iter().copied())
    }

    /// How much that was.
    #[must_use]
    pub fn did(&self) -> Floor {
        Floor { operations: self.operations, faults: self.fault_count(), virtual_time: self.virtual_time }
    }

    /// What is missing to the floor.
    pub fn check(&self, floor: Floor) -> Result<(), Violation> {
        let faults = self.fault_count();
        if self.operations < floor.operations || faults < floor.faults || self.virtual_time < floor.virtual_time {
            return Err(Violation(format!(
                "too little happened: {} operations, {faults} faults, {:?} of virtual time; the floor is {}, {}, {:?}",
                self.operations, self.virtual_time, floor.operations, floor.faults, floor.virtual_time
            )));
        }
        Ok(())
    }
}

/// How many of these, by their kinds, are faults: a write that a crash spared is none.
#[must_use]
pub fn count_faults(kinds: impl IntoIterator<Item = (&'static str, u64)>) -> u64 {
    kinds.into_iter().filter(|(kind, _)| !kind.ends_with(" kept")).map(|(_, count)| count).sum()
}

/// How much of a list of bytes is shown.
const LIST_SHOWN_MAX: usize = 60;

/// A promise that was broken, in words.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Violation(pub String);

impl fmt::Display for Violation {
    /// Long lists of numbers, which are the bytes of keys and values, are cut short.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut rest = self.0.as_str();
        while let Some((before, list)) = rest.split_once('[') {
            let inside = list.find(|c: char| !c.is_ascii_digit() && c != ',' && c != ' ').unwrap_or(list.len());
            write!(f, "{before}[")?;
            if inside > LIST_SHOWN_MAX && list[inside..].starts_with(']') {
                let count = list[..inside].split(',').count();
                write!(f, "{}... {count} bytes", &list[..LIST_SHOWN_MAX])?;
            } else {
                f.write_str(&list[..inside])?;
            }
            rest = &list[inside..];
        }
        f.write_str(rest)
    }
}

impl std::error::Error for Violation {}
