//! A little of each target, with a fixed seed.

use plinth_fuzz::{
    runner::{Until, fuzz},
    targets::TARGETS,
};

const SEED: u64 = 1;

fn smoke(wanted: &str) {
    let entry = TARGETS.iter().find(|(name, ..)| *name == wanted).expect("the target exists");
    let &(name, iterations, make) = entry;
    let folder = tempfile::Builder::new().prefix("plinth-fuzz-").disable_cleanup(true).tempdir().expect("writable");
    let report = fuzz(name, &mut *make(), SEED, Until::Iterations(iterations), folder.path()).expect("writable");
    // Both kinds are part of the test: what is refused, and what gets through to the layers behind.
    assert!(report.accepted > 0 && report.accepted < report.iterations, "{report:?}");
    std::fs::remove_dir(folder.path()).expect("nothing was left in it");
}

macro_rules! smoke_tests {
    ($($test:ident: $target:literal,)*) => {
        $(#[test]
        fn $test() {
            smoke($target);
        })*

        #[test]
        fn every_target_has_a_smoke_test() {
            assert_eq!([$($target),*].as_slice(), TARGETS.iter().map(|(name, ..)| *name).collect::<Vec<_>>());
        }
    };
}

smoke_tests! {
    frames_of_any_bytes_are_decoded_or_refused: "frames",
    connections_survive_whatever_is_sent: "conn",
    segments_of_any_bytes_are_recovered_or_refused: "log",
    tree_files_of_any_bytes_are_used_or_refused: "tree",
    log_entries_of_any_bytes_are_decoded_or_refused: "commands",
    markers_of_any_bytes_are_read_or_refused: "marker",
}
