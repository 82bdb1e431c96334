//! The verdict on recorded profiles, one file for each kind of drive. A profile says where its figures are from, and what must be found.

use std::{collections::BTreeMap, fs, path::Path};

use serde::Deserialize;

use super::*;
use crate::fsync::cell::{BLOCK, FileKind, Neighbour};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Profile {
    name: String,
    is_made_up: bool,
    source: String,
    /// Answers by topic; what isn't named may be anything.
    expect: BTreeMap<String, String>,
    facts: Facts,
    first_start: FirstStart,
    cells: Vec<Summary>,
}

fn profiles() -> Vec<(String, Profile)> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/fsync/profiles");
    let mut profiles = Vec::new();
    for entry in fs::read_dir(dir).expect("the profiles are there") {
        let path = entry.expect("readable").path();
        let text = fs::read_to_string(&path).expect("readable");
        let profile = serde_json::from_str(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        profiles.push((path.file_stem().expect("a name").to_string_lossy().into_owned(), profile));
    }
    profiles
}

fn profile(name: &str) -> Profile {
    profiles().into_iter().find(|(known, _)| known == name).expect("there is such a profile").1
}

fn answer(findings: &[Finding], topic: &str) -> String {
    let found = findings.iter().find(|finding| finding.topic == topic);
    found.unwrap_or_else(|| panic!("nothing was found about {topic}")).answer.clone()
}

#[test]
fn each_kind_of_drive_gets_its_verdict() {
    let profiles = profiles();
    assert!(profiles.len() >= 8, "{} profiles", profiles.len());
    let mut wrong = Vec::new();
    for (file, profile) in &profiles {
        let findings = judge(&profile.facts, &profile.cells, &profile.first_start);
        for (topic, expected) in &profile.expect {
            let found = findings.iter().find(|finding| finding.topic == topic);
            let found = found.unwrap_or_else(|| panic!("{file}: nothing was found about {topic}"));
            if found.answer != *expected {
                wrong.push(format!("{file}, {topic}: {:?} instead of {expected:?} ({})", found.answer, found.reason));
            }
        }
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

#[test]
fn every_finding_has_a_reason_and_every_profile_a_source() {
    for (file, profile) in profiles() {
        let is_told = profile.source.starts_with("Made up");
        assert_eq!(is_told, profile.is_made_up, "{file} says whether its figures are made up");
        assert!(!profile.name.is_empty() && !profile.expect.is_empty(), "{file}");
        for Finding { topic, answer, reason, .. } in judge(&profile.facts, &profile.cells, &profile.first_start) {
            assert!(!answer.is_empty() && !reason.is_empty() && !reason.contains('\n'), "{file}: {topic}");
        }
    }
}

#[test]
fn where_nothing_could_be_measured_everything_about_figures_is_unknown() {
    let Profile { facts, mut cells, .. } = profile("nvme-of-a-desktop");
    let trouble = FirstStart::Trouble("no reason".to_owned());
    for cells in [Vec::new(), std::mem::take(&mut cells)] {
        let nothing: Vec<Summary> = cells
            .into_iter()
            .map(|summary| Summary {
                not_possible: Some("no reason".to_owned()),
                p50_us: None,
                p90_us: None,
                p99_us: None,
                max_us: None,
                ..summary
            })
            .collect();
        let findings = judge(&facts, &nothing, &trouble);
        for topic in
            ["sync-method", "plinth-sync-method", "etcd-rule", "plinth-limits", "lies", "recycling", "neighbours"]
        {
            assert_eq!(answer(&findings, topic), UNKNOWN, "{topic}");
        }
    }
}

#[test]
fn a_virtual_machine_hides_even_a_drive_that_looks_real() {
    let Profile { mut facts, cells, first_start, .. } = profile("nvme-with-protection");
    facts.cpu.is_virtual = true;
    let findings = judge(&facts, &cells, &first_start);
    assert_eq!(answer(&findings, "power-loss-protection"), UNKNOWN);
    assert_eq!(answer(&findings, "lies"), UNKNOWN);
}

#[test]
fn etcds_rule_needs_a_p99_unless_less_decides_it() {
    let Profile { facts, mut cells, first_start, .. } = profile("nvme-with-protection");
    let mut judged = |p50, p90, p99| {
        let cell = cells.iter_mut().find(|summary| summary.cell == Cell::plain(Method::BufferedFdatasync));
        let cell = cell.expect("it was measured");
        (cell.p50_us, cell.p90_us, cell.p99_us) = (p50, p90, p99);
        answer(&judge(&facts, &cells, &first_start), "etcd-rule")
    };
    assert_eq!(judged(Some(50.0), Some(9000.0), Some(9999.0)), "met");
    assert_eq!(judged(Some(50.0), Some(60.0), Some(10_000.0)), "not met");
    assert_eq!(judged(Some(50.0), Some(10_000.0), None), "not met");
    assert_eq!(judged(Some(50.0), Some(9999.0), None), UNKNOWN);
}

#[test]
fn a_stall_breaks_plinths_limits_and_small_or_growing_writes_do_not_count() {
    let Profile { facts, cells, first_start, .. } = profile("nvme-with-protection");
    let with = |change: fn(Cell) -> Cell| {
        let mut cells = cells.clone();
        let stalled = Summary { max_us: Some(600_000.0), ..cells[0].clone() };
        cells.push(Summary { cell: change(Cell::plain(Method::RingDsync)), ..stalled });
        answer(&judge(&facts, &cells, &first_start), "plinth-limits")
    };
    assert_eq!(with(|cell| Cell { neighbour: Neighbour::Writes, ..cell }), "broken");
    assert_eq!(with(|cell| Cell { bytes: BLOCK / 8, ..cell }), "kept");
    assert_eq!(with(|cell| Cell { file: FileKind::Growing, ..cell }), "kept");
}

#[test]
fn of_methods_that_are_the_same_the_cheaper_one_is_better() {
    let Profile { cells, .. } = profile("virtio");
    let of = |method, p50, cpu| {
        let any = cells[0].clone();
        Summary { cell: Cell::plain(method), p50_us: Some(p50), cpu_us_per_flush: Some(cpu), ..any }
    };
    let best_of = |cells: &[Summary]| best(cells).expect("there are some").cell.method;
    let (cheap, fast) = (of(Method::RingDsync, 104.0, 5.0), of(Method::DirectDsync, 100.0, 9.0));
    assert_eq!(best_of(&[cheap.clone(), fast.clone()]), Method::RingDsync);
    let slower = Summary { p50_us: Some(106.0), ..cheap.clone() };
    assert_eq!(best_of(&[slower, fast.clone()]), Method::DirectDsync);
    let deep = Summary { cell: Cell { depth: 8, ..cheap.cell }, p50_us: Some(1.0), ..cheap };
    assert_eq!(best_of(&[deep, fast]), Method::DirectDsync, "only like is compared with like");
    assert!(best(&[]).is_none());
}
