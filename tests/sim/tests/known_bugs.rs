//! Bugs that a build for tests can switch on are found, each by what it breaks: a check that can't fail is none.
#![cfg(feature = "known-bugs")]

use std::process::Command;

/// Seeds that are run with each bug.
const SEEDS: &str = "16";

/// The bugs, and what at least one violation says.
const BUGS: [(&str, &str); 4] = [
    ("LeaseExpiresEarly", "it had to live until"),
    ("RevokeLeavesKeys", "is not what LeaseRevoke"),
    ("SweepTooFar", "is not what it was"),
    ("SweepLeavesDeletions", "the content's hash is"),
];

/// What the simulator says, and whether it is content.
fn run(bugs: &str) -> (bool, String) {
    let mut simulator = Command::new(env!("CARGO_BIN_EXE_plinth-sim"));
    simulator.args(["--scenario", "node", "--seeds", SEEDS]).env("PLINTH_BUGS", bugs);
    let output = simulator.output().expect("the simulator runs");
    (output.status.success(), String::from_utf8_lossy(&output.stderr).into_owned())
}

#[test]
fn each_known_bug_is_found() {
    let (is_good, told) = run("");
    assert!(is_good, "without a bug: {told}");
    for (bug, says) in BUGS {
        let (is_good, told) = run(bug);
        assert!(!is_good && told.contains(says), "{bug}: {told}");
    }
}
