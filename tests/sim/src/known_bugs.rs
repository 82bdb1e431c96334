//! Which workload finds which known bug, and how many seeds that takes. No workload is made for a bug alone.
//!
//! A process has one set of bugs for its whole life, so each is looked for by a process of its own.

use std::{
    io,
    process::{Command, Output},
};

use plinth_base::bug::{BUGS_VAR, Bug};

/// Within so many seeds each bug must be found.
pub const SEEDS_MAX: u64 = 300;

/// The bugs, and the scenarios that look for them.
pub const KNOWN_BUGS: &[(Bug, &str)] = &[
    (Bug::LeaseExpiresEarly, "node"),
    (Bug::RevokeLeavesKeys, "node"),
    (Bug::SweepTooFar, "node"),
    (Bug::SweepLeavesDeletions, "node"),
    (Bug::WatchDropsWhenFull, "node"),
    (Bug::WatchProgressAhead, "node"),
    (Bug::WatchLosesAtResync, "node"),
    (Bug::AppliedNotInRoot, "node"),
    (Bug::PageReusedEarly, "node"),
    (Bug::TailCutTooFar, "node"),
    (Bug::FlushRetried, "cluster"),
    (Bug::CheckpointAheadOfLog, "cluster"),
    (Bug::AnswerBeforeFlush, "cluster"),
    (Bug::VoteNotDurable, "cluster"),
    (Bug::OwnVoteNotDurable, "cluster"),
    (Bug::CommitEarlierTerm, "cluster"),
    (Bug::MissingPreVote, "cluster"),
    (Bug::MembershipLate, "cluster"),
    (Bug::StaleRead, "cluster"),
    (Bug::ReadJoinsRound, "cluster"),
    (Bug::RevisionGoesBack, "cluster"),
    (Bug::DeposedLeaderRevokes, "cluster"),
    (Bug::OldSnapshotInstalled, "cluster"),
    (Bug::InstallRecordEarly, "cluster"),
    (Bug::HardStallIgnored, "stalls"),
    (Bug::StallFleesEarly, "stalls"),
    (Bug::SnapshotNotRepeated, "stalls"),
];

/// Looks for every bug. One line for each, and one that counts them; true if all were found.
///
/// # Errors
/// This program can't be started again.
pub fn find_all(threads: usize) -> io::Result<bool> {
    let mut found = 0;
    for (bug, scenario) in KNOWN_BUGS {
        let name = format!("{bug:?}");
        let told = match find(&name, scenario, threads)? {
            Some(Found { seed, .. }) if !is_good(scenario, seed)? => format!("seed {seed} fails without it, too"),
            Some(Found { seed, violation }) => {
                found += 1;
                format!("{:>3} seeds: {violation}", seed + 1)
            }
            None => format!("not found within {SEEDS_MAX} seeds"),
        };
        println!("{name:<22}{scenario:<9}{told}");
    }
    println!("{found} of {} found", KNOWN_BUGS.len());
    Ok(found == KNOWN_BUGS.len())
}

/// A seed that fails, the first one.
#[derive(PartialEq, Eq, Debug)]
struct Found {
    seed: u64,
    violation: String,
}

fn find(bug: &str, scenario: &str, threads: usize) -> io::Result<Option<Found>> {
    let (seeds, threads) = (SEEDS_MAX.to_string(), threads.to_string());
    let args = ["--scenario", scenario, "--seeds", &seeds, "--threads", &threads, "--until-violation"];
    Ok(first_found(&String::from_utf8_lossy(&simulator(bug, &args)?.stderr)))
}

fn is_good(scenario: &str, seed: u64) -> io::Result<bool> {
    let output = simulator("", &["--scenario", scenario, "--seed", &seed.to_string()])?;
    Ok(output.status.success())
}

fn simulator(bugs: &str, args: &[&str]) -> io::Result<Output> {
    Command::new(std::env::current_exe()?).args(args).env(BUGS_VAR, bugs).output()
}

/// What the simulator told of the first seed that failed.
fn first_found(told: &str) -> Option<Found> {
    // A panic tells its seed twice, the second time with the reason.
    let failed = told.lines().rev().filter_map(|line| {
        let (seed, violation) = line.strip_prefix("seed ")?.split_once([':', ' '])?;
        Some(Found { seed: seed.parse().ok()?, violation: violation.trim().chars().take(100).collect() })
    });
    failed.min_by_key(|found| found.seed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn first_seed_is_the_lowest_that_failed() {
        let told = "seed 12: lost\n  replay: it --seed 12\nthread panicked\nseed 7 panicked\nseeds 3: none\n";
        assert_eq!(first_found(told), Some(Found { seed: 7, violation: "panicked".to_owned() }));
        assert_eq!(first_found("nothing\n"), None);
    }

    #[test]
    fn scenarios_are_there_and_bugs_are_named_once() {
        let names: Vec<_> = crate::scenarios::all().iter().map(|scenario| scenario.name()).collect();
        assert!(KNOWN_BUGS.iter().all(|(_, scenario)| names.contains(scenario)));
        let is_first = |at: usize| KNOWN_BUGS[..at].iter().all(|(bug, _)| *bug != KNOWN_BUGS[at].0);
        assert!((0..KNOWN_BUGS.len()).all(is_first));
    }
}
