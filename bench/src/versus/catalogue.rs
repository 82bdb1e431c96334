//! The scenarios that this program has with it: the files of bench/scenarios.

use std::{fs, path::Path};

use super::{Scenario, is_path};
use crate::failure::Failure;

macro_rules! scenarios {
    ($($name:literal,)*) => { &[$(($name, include_str!(concat!("../../scenarios/", $name, ".toml")))),*] };
}

/// Name and text of each file, in the order in which they are run.
const SCENARIOS: &[(&str, &str)] = scenarios![
    "put-1",
    "put-8x64",
    "put-512x1",
    "put-large-values",
    "put-long-history",
    "put-open-loop",
    "range-1",
    "range-8x64",
    "range-512x1",
    "range-serializable",
    "range-prefix",
    "range-limit",
    "list",
    "count",
    "txn-create",
    "txn-cas",
    "mixed-90-10-zipf",
    "watch-fanout",
    "lease-keepalive",
    "kubernetes",
    "empty-call",
];

/// The scenario of a name, or that in a file.
pub fn find(word: &str) -> Result<Scenario, Failure> {
    if is_path(word) {
        let path = Path::new(word);
        let text = fs::read_to_string(path).map_err(Failure::file(path, "reading"))?;
        let name = path.file_stem().unwrap_or_default().to_string_lossy();
        return Scenario::parse(&name, &text);
    }
    match SCENARIOS.iter().find(|(name, _)| *name == word) {
        Some((name, text)) => Scenario::parse(name, text),
        None => Err(Failure::Usage(format!(
            "there is no scenario {word:?}: `versus --list` tells those that there are, and a file needs a path"
        ))),
    }
}

/// All of them.
pub fn all() -> Result<Vec<Scenario>, Failure> {
    SCENARIOS.iter().map(|(name, text)| Scenario::parse(name, text)).collect()
}

/// A line for each.
pub fn list() -> Result<String, Failure> {
    let all = all()?;
    let width = all.iter().map(|scenario| scenario.name.len()).max().unwrap_or(0);
    Ok(all.iter().map(|Scenario { name, description, .. }| format!("{name:width$}  {description}\n")).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_scenario_can_be_run_and_says_what_it_is() {
        let all = all().expect("all of them are sound");
        assert!(all.len() >= 10);
        for scenario in &all {
            assert!(!scenario.description.is_empty() && !scenario.description.contains('\n'), "{}", scenario.name);
            scenario.clone().with_keys_max(100).expect("a quick look is possible");
        }
        let list = list().expect("sound");
        assert!(list.lines().count() == all.len() && list.starts_with("put-1 "), "{list}");
    }

    #[test]
    fn every_file_of_the_folder_is_known() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("scenarios");
        for entry in fs::read_dir(folder).expect("it is beside the sources") {
            let path = entry.expect("readable").path();
            let name = path.file_stem().expect("a name").to_string_lossy();
            assert!(SCENARIOS.iter().any(|(known, _)| *known == name), "{name}");
        }
    }

    #[test]
    fn every_file_in_the_folder_is_known() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("scenarios");
        let mut files: Vec<String> = fs::read_dir(folder)
            .expect("the folder is there")
            .map(|entry| entry.expect("readable").path().file_stem().expect("a name").to_string_lossy().into_owned())
            .collect();
        let mut known: Vec<&str> = SCENARIOS.iter().map(|(name, _)| *name).collect();
        files.sort_unstable();
        known.sort_unstable();
        assert_eq!(files, known);
    }

    #[test]
    fn a_scenario_is_found_by_its_name_or_in_a_file() {
        assert_eq!(find("put-8x64").expect("known").name, "put-8x64");
        let folder = tempfile::tempdir().expect("a temporary directory");
        let path = folder.path().join("mine.toml");
        fs::write(&path, SCENARIOS[0].1).expect("writable");
        assert_eq!(find(&path.display().to_string()).expect("it is sound").name, "mine");
        let refused = |word: &str| find(word).expect_err("there is none");
        assert!(refused("put-9").to_string().starts_with("there is no scenario \"put-9\": "));
        assert_eq!((refused("put-9").exit_code(), refused("none.toml").exit_code()), (2, 1));
        assert!(refused("none.toml").to_string().starts_with("reading none.toml: "));
    }
}
