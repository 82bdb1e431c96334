//! Bugs that a build for tests can switch on are found, each by what it breaks: a check that can't fail is none.
#![cfg(feature = "known-bugs")]

use std::process::Command;

/// Seeds that are run at once, and how often with each bug, until one of them finds it.
const SEEDS: u32 = 4;
const BATCHES: u32 = 4;

/// The bugs, and what at least one violation says.
const BUGS: [(&str, &str); 6] = [
    ("LeaseExpiresEarly", "it had to live until"),
    ("RevokeLeavesKeys", "is not what LeaseRevoke"),
    ("SweepTooFar", "is not what it was"),
    ("SweepLeavesDeletions", "the content's hash is"),
    ("WatchDropsWhenFull", "watcher"),
    ("WatchProgressAhead", "it says that all is sent up to"),
];

/// What the simulator says of a batch of seeds, and whether it is content.
fn run(bugs: &str, batch: u32) -> (bool, String) {
    let mut simulator = Command::new(env!("CARGO_BIN_EXE_plinth-sim"));
    let (seeds, from) = (SEEDS.to_string(), (batch * SEEDS).to_string());
    simulator.args(["--scenario", "node", "--seeds", &seeds, "--from", &from]).env("PLINTH_BUGS", bugs);
    let output = simulator.output().expect("the simulator runs");
    (output.status.success(), String::from_utf8_lossy(&output.stderr).into_owned())
}

#[test]
fn each_known_bug_is_found() {
    let (is_good, told) = run("", 0);
    assert!(is_good, "without a bug: {told}");
    for (bug, says) in BUGS {
        let mut all = String::new();
        let finds = |batch| {
            let (is_good, told) = run(bug, batch);
            all.push_str(&told);
            !is_good && told.contains(says)
        };
        assert!((0..BATCHES).any(finds), "{bug}: {all}");
    }
}
