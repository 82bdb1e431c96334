//! Every row of the contract that concerns a single node has a case, and cases name nothing else.

use std::{collections::BTreeSet, fs, path::Path};

use plinth_conformance::{Action, Case, Schema, load_cases, parse_rows, uncovered_rows};

fn here() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn cases() -> Vec<Case> {
    load_cases(&here().join("cases")).expect("the cases are well formed")
}

#[test]
fn every_row_has_a_case_and_every_name_is_a_row() {
    let text = fs::read_to_string(here().join("rows.txt")).expect("the rows are in the repository");
    let rows = parse_rows(&text).expect("the rows are well formed");
    let (without_case, unknown) = uncovered_rows(&rows, &cases());
    assert!(without_case.is_empty(), "rows without a case: {without_case:?}");
    assert!(unknown.is_empty(), "cases name rows that do not exist: {unknown:?}");
}

#[test]
fn names_of_cases_are_unique_and_each_proves_something() {
    let mut seen = BTreeSet::new();
    for case in cases() {
        assert!(!case.rows.is_empty() && !case.steps.is_empty(), "{} proves nothing", case.name);
        assert!(seen.insert(case.name.clone()), "{} is there twice", case.name);
    }
}

#[test]
fn methods_of_cases_exist_in_the_protos() {
    let protos = here().join("../../src/rpc/proto");
    let schema = Schema::load(&protos).expect("the protos compile");
    for step in cases().iter().flat_map(|case| &case.steps) {
        if let Action::Call { method, .. } = &step.action {
            assert!(schema.method(method).is_ok(), "{}: {method}", step.place);
        }
    }
}
