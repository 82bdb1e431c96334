//! Runs scenarios over many seeds on a few threads, and sums up.
//!
//! Each seed runs on one thread from beginning to end; threads only share the counter from which they take seeds. Every tenth
//! seed runs twice, and both runs must have the same trace.

use std::{
    collections::BTreeMap,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use plinth_base::Mark;

use crate::{
    cli::Options,
    scenario::{Floor, Outcome, Scenario, Violation, count_faults},
};

/// From so many seeds on, a mark that was never reached fails the run, and so does a kind of fault that never struck. The rarest
/// mark comes about once in twenty seeds: of a hundred new seeds, one run in a hundred would miss it by chance.
pub const MARK_SEEDS_MIN: u64 = 200;

/// Every so many seeds, one runs twice.
const TWICE_STRIDE: u64 = 10;

/// Violations that are told one by one; more are only counted.
const TOLD_MAX: usize = 10;

thread_local! {
    /// What this thread runs, for a panic that nothing catches: with `panic = "abort"` only its hook gets to speak.
    static RUNNING: std::cell::RefCell<Option<String>> = const { std::cell::RefCell::new(None) };
}

/// What a run over seeds came to.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// Seeds that were run.
    pub seeds: u64,
    /// Virtual time of all of them.
    pub virtual_time: Duration,
    /// Operations of clients.
    pub operations: u64,
    /// Faults by kind.
    pub faults: BTreeMap<&'static str, u64>,
    /// The least that any seed did of each; none if all failed.
    pub least: Option<Floor>,
    /// Seeds that failed, with what they broke.
    pub violations: Vec<(u64, Violation)>,
    /// Marks that had to be reached and weren't.
    pub missed: Vec<Mark>,
    /// Kinds of faults that had to strike and didn't.
    pub missed_faults: Vec<&'static str>,
}

impl Report {
    /// Whether nothing was violated, and no mark or fault missed.
    #[must_use]
    pub fn is_good(&self) -> bool {
        self.violations.is_empty() && self.missed.is_empty() && self.missed_faults.is_empty()
    }

    /// Adds what another scenario came to with the same seeds.
    pub fn add(&mut self, other: Self) {
        self.seeds = self.seeds.max(other.seeds);
        self.virtual_time += other.virtual_time;
        self.operations += other.operations;
        self.least = match (self.least, other.least) {
            (Some(own), Some(other)) => Some(own.min(other)),
            (own, other) => own.or(other),
        };
        for (kind, count) in other.faults {
            *self.faults.entry(kind).or_insert(0) += count;
        }
        self.violations.extend(other.violations);
        self.missed.extend(other.missed);
        self.missed_faults.extend(other.missed_faults);
    }

    fn add_outcome(&mut self, outcome: &Outcome) {
        self.virtual_time += outcome.virtual_time;
        self.operations += outcome.operations;
        for (kind, count) in &outcome.faults {
            *self.faults.entry(kind).or_insert(0) += count;
        }
        self.least = Some(self.least.map_or(outcome.did(), |least| least.min(outcome.did())));
    }

    /// The last line of a run.
    #[must_use]
    pub fn summary(&self) -> String {
        format!("{}, {} violations", self.extent(), self.violations.len())
    }

    /// The same for a scenario that says which faults it needs.
    #[must_use]
    pub fn summary_with_faults(&self) -> String {
        let faults = count_faults(self.faults.iter().map(|(kind, count)| (*kind, *count)));
        format!("{}, {faults} faults, {} violations", self.extent(), self.violations.len())
    }

    /// What every seed did at least.
    #[must_use]
    pub fn floor_told(&self) -> Option<String> {
        let Floor { operations, faults, virtual_time } = self.least?;
        let seconds = virtual_time.as_secs_f64();
        Some(format!("each seed at least {operations} operations, {faults} faults, {seconds:.1} s of virtual time"))
    }

    fn extent(&self) -> String {
        format!("{} seeds, {:.2} simulated hours", self.seeds, self.virtual_time.as_secs_f64() / 3600.0)
    }
}

/// The command that runs one seed again.
#[must_use]
pub fn replay_command(scenario: &str, seed: u64) -> String {
    format!("cargo run --profile sim --package plinth-sim -- --scenario {scenario} --seed {seed}")
}

/// Runs the seeds that `options` names; violations are told as they come.
#[must_use]
pub fn run(scenario: &dyn Scenario, options: &Options) -> Report {
    let before: Vec<u64> = Mark::ALL.iter().map(|mark| mark.count()).collect();
    let next = AtomicU64::new(0);
    let has_failed = AtomicBool::new(false);
    let report = Mutex::new(Report { seeds: options.seeds, ..Report::default() });
    std::thread::scope(|scope| {
        for _ in 0..options.threads {
            scope.spawn(|| {
                while !(options.until_violation && has_failed.load(Ordering::Relaxed)) {
                    let index = next.fetch_add(1, Ordering::Relaxed);
                    if index >= options.seeds {
                        break;
                    }
                    let seed = options.from + index;
                    let result = run_seed(scenario, seed, index.is_multiple_of(TWICE_STRIDE));
                    has_failed.fetch_or(result.is_err(), Ordering::Relaxed);
                    note(&mut report.lock().expect("nothing panics while it is held"), scenario, seed, result);
                }
            });
        }
    });
    let mut report = report.into_inner().expect("nothing panics while it is held");
    if options.seeds >= MARK_SEEDS_MIN {
        let reached = |mark: &Mark| mark.count() > before[*mark as usize];
        report.missed = scenario.marks().iter().copied().filter(|mark| !reached(mark)).collect();
        let struck = |kind: &&str| report.faults.get(kind).is_some_and(|count| *count > 0);
        report.missed_faults = scenario.faults().iter().copied().filter(|kind| !struck(kind)).collect();
    }
    report.violations.sort_by_key(|(seed, _)| *seed);
    report
}

fn note(report: &mut Report, scenario: &dyn Scenario, seed: u64, result: Result<Outcome, Violation>) {
    match result {
        Ok(outcome) => report.add_outcome(&outcome),
        Err(violation) => {
            if report.violations.len() < TOLD_MAX {
                eprintln!("seed {seed}: {violation}\n  replay: {}", replay_command(scenario.name(), seed));
            }
            report.violations.push((seed, violation));
        }
    }
}

fn run_seed(scenario: &dyn Scenario, seed: u64, twice: bool) -> Result<Outcome, Violation> {
    let outcome = run_once(scenario, seed)?;
    outcome.check(scenario.floor())?;
    if twice && run_once(scenario, seed)? != outcome {
        return Err(Violation("two runs of this seed differ".to_owned()));
    }
    Ok(outcome)
}

fn run_once(scenario: &dyn Scenario, seed: u64) -> Result<Outcome, Violation> {
    RUNNING.set(Some(format!("seed {seed} panicked\n  replay: {}", replay_command(scenario.name(), seed))));
    let result = catch_unwind(AssertUnwindSafe(|| scenario.run(seed)));
    RUNNING.set(None);
    result.unwrap_or_else(|payload| {
        let text = payload.downcast_ref::<String>().map(String::as_str);
        let text = text.or_else(|| payload.downcast_ref::<&str>().copied()).unwrap_or("no message");
        Err(Violation(format!("panicked: {text}")))
    })
}

/// Lets a panic name the seed under which it happened, also where a panic ends the process at once.
pub fn name_seeds_in_panics() {
    let default = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        default(info);
        RUNNING.with_borrow(|running| {
            if let Some(running) = running {
                eprintln!("{running}");
            }
        });
    }));
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Does what its fields say.
    #[derive(Default)]
    struct Fake {
        bad_seed: Option<u64>,
        panics: bool,
        marks: &'static [Mark],
        faults: &'static [&'static str],
        runs: AtomicU64,
        unsteady: bool,
        operations: u64,
    }

    impl Scenario for Fake {
        fn name(&self) -> &'static str {
            "fake"
        }

        fn marks(&self) -> &'static [Mark] {
            self.marks
        }

        fn faults(&self) -> &'static [&'static str] {
            self.faults
        }

        fn floor(&self) -> Floor {
            Floor { operations: 1, ..Floor::default() }
        }

        fn run(&self, seed: u64) -> Result<Outcome, Violation> {
            let runs = self.runs.fetch_add(1, Ordering::Relaxed);
            assert!(!(self.panics && self.bad_seed == Some(seed)), "a bad seed");
            if self.bad_seed == Some(seed) {
                return Err(Violation("lost".into()));
            }
            Ok(Outcome {
                operations: self.operations,
                faults: vec![("power cut", 10), ("unsynced write kept", 5)],
                virtual_time: Duration::from_secs(3600),
                trace_hash: if self.unsteady { runs } else { seed },
            })
        }
    }

    fn fake() -> Fake {
        Fake { operations: 5, ..Fake::default() }
    }

    fn options(seeds: u64) -> Options {
        Options { seeds, from: 100, ..Options::default() }
    }

    #[test]
    fn good_run_sums_up() {
        let report = run(&fake(), &options(20));
        assert!(report.is_good());
        assert_eq!(
            report.floor_told().as_deref(),
            Some("each seed at least 5 operations, 10 faults, 3600.0 s of virtual time")
        );
        assert_eq!(report.summary(), "20 seeds, 20.00 simulated hours, 0 violations");
        assert_eq!(report.summary_with_faults(), "20 seeds, 20.00 simulated hours, 200 faults, 0 violations");
        assert_eq!((report.operations, report.faults["power cut"]), (100, 200));
    }

    #[test]
    fn violations_and_panics_name_their_seed() {
        for panics in [false, true] {
            let report = run(&Fake { bad_seed: Some(103), panics, ..fake() }, &options(10));
            assert_eq!(report.violations.len(), 1);
            assert_eq!(report.violations[0].0, 103);
            assert_eq!(report.violations[0].1.0, if panics { "panicked: a bad seed" } else { "lost" });
            assert_eq!(report.summary(), "10 seeds, 9.00 simulated hours, 1 violations");
        }
    }

    #[test]
    fn run_that_does_too_little_is_a_violation() {
        let report = run(&Fake { operations: 0, ..fake() }, &options(1));
        assert!(report.violations[0].1.0.starts_with("too little happened"));
    }

    #[test]
    fn run_that_depends_on_more_than_its_seed_is_a_violation() {
        let report = run(&Fake { unsteady: true, ..fake() }, &options(1));
        assert_eq!(report.violations[0].1.0, "two runs of this seed differ");
    }

    #[test]
    fn no_seed_begins_after_a_violation_if_one_is_enough() {
        let scenario = Fake { bad_seed: Some(103), ..fake() };
        let report = run(&scenario, &Options { threads: 1, until_violation: true, ..options(1_000) });
        assert_eq!(report.violations[0].0, 103);
        // The first one runs twice.
        assert_eq!(scenario.runs.load(Ordering::Relaxed), 5);
    }

    #[test]
    fn fault_that_never_struck_fails_a_long_run_only() {
        let scenario = || Fake { faults: &["power cut", "earthquake"], ..fake() };
        assert!(run(&scenario(), &options(MARK_SEEDS_MIN - 1)).is_good());
        let report = run(&scenario(), &options(MARK_SEEDS_MIN));
        assert_eq!(report.missed_faults, ["earthquake"]);
        assert!(!report.is_good());
    }

    #[test]
    fn mark_never_reached_fails_a_long_run_only() {
        let scenario = || Fake { marks: &[Mark::TornTailCut], ..fake() };
        assert!(run(&scenario(), &options(MARK_SEEDS_MIN - 1)).is_good());
        let report = run(&scenario(), &options(MARK_SEEDS_MIN));
        assert_eq!(report.missed, [Mark::TornTailCut]);
        assert!(!report.is_good());
    }
}
