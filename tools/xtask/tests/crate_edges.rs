//! Holds the edges between crates to the direction table of docs/architecture.md: downwards only.

use std::{
    collections::{BTreeMap, BTreeSet},
    process::Command,
};

use serde_json::Value;

/// Each layer, and what it may use. Packages that are not here are tests and tools: they may use anything, no layer uses them.
const LAYERS: &[(&str, &[&str])] = &[
    ("base", &[]),
    ("env", &["base"]),
    ("raft", &["base"]),
    ("rpc", &["base"]),
    ("wal", &["env", "base"]),
    ("tree", &["env", "base"]),
    ("snapshot", &[]),
    ("uring", &["env", "base"]),
    ("kv", &["tree", "base"]),
    ("node", &["rpc", "kv", "raft", "wal", "tree", "snapshot", "env", "base"]),
    ("server", &["node", "uring", "rpc", "env", "base"]),
];
/// What tests of a layer may use besides: the simulated environment, the simulator's model, the client, and raft's messages.
const FOR_TESTS: &[&str] = &["sim-env", "sim", "client", "raft"];
/// What must run without a real machine.
const SIMULATED: &[&str] = &["sim", "sim-env"];

/// An edge between two packages of the workspace, named without `plinth-`.
struct Edge {
    from: String,
    to: String,
    only_for_tests: bool,
}

fn edges() -> Vec<Edge> {
    let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned());
    let output = Command::new(cargo)
        .args(["metadata", "--format-version", "1", "--no-deps", "--offline"])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .expect("cargo runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let metadata: Value = serde_json::from_slice(&output.stdout).expect("cargo prints JSON");
    let short = |name: &Value| name.as_str().and_then(|name| name.strip_prefix("plinth-")).map(str::to_owned);
    let list = |value: &Value| value.as_array().expect("a list").clone();
    let mut edges = Vec::new();
    for package in list(&metadata["packages"]) {
        let from = short(&package["name"]).expect("packages are named plinth-*");
        for dependency in list(&package["dependencies"]) {
            let only_for_tests = dependency["kind"] == "dev";
            edges.extend(short(&dependency["name"]).map(|to| Edge { from: from.clone(), to, only_for_tests }));
        }
    }
    edges
}

#[test]
fn layers_depend_downwards_only() {
    let layers: BTreeMap<&str, &[&str]> = LAYERS.iter().copied().collect();
    let edges = edges();
    for Edge { from, to, only_for_tests } in &edges {
        let Some(allowed) = layers.get(from.as_str()) else { continue };
        let in_table = allowed.contains(&to.as_str());
        let in_tests = *only_for_tests && FOR_TESTS.contains(&to.as_str());
        assert!(in_table || in_tests, "plinth-{from} must not depend on plinth-{to}");
    }
    let used: BTreeSet<&str> = edges.iter().map(|edge| edge.to.as_str()).collect();
    assert!(used.contains("base"), "no edge was read at all");
}

#[test]
fn simulation_never_reaches_the_real_machine() {
    let edges = edges();
    let mut reached: BTreeSet<&str> = SIMULATED.iter().copied().collect();
    loop {
        // A layer's own tests are not linked into the simulator.
        let next = edges.iter().filter(|edge| reached.contains(edge.from.as_str()));
        let next = next.filter(|edge| !edge.only_for_tests || SIMULATED.contains(&edge.from.as_str()));
        let before = reached.len();
        let next: Vec<&str> = next.map(|edge| edge.to.as_str()).collect();
        reached.extend(next);
        if reached.len() == before {
            break;
        }
    }
    assert!(!reached.contains("uring"), "the simulator reaches plinth-uring");
}
