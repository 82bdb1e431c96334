//! `plinthutl check`: proves every tree file and the log of a data directory, and that they belong together.

mod log;

use std::{
    fs,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

use plinth_kv::{State, trees::TREES};
use plinth_server::{
    data_dir::{TREE_NAME, WAL_NAME},
    lock::DirLock,
    marker::Marker,
};
use plinth_tree::GenerationReport;
use plinth_uring::{
    UringEnv,
    cores::{self, Available},
};

/// What there is to prove.
struct Files {
    trees: Vec<PathBuf>,
    wal_dir: PathBuf,
}

/// A tree file that was proven.
struct Tree {
    path: PathBuf,
    /// The state of its newest generation; none if that is empty.
    state: Option<State>,
}

/// Checks the data directory `dir`, whose log lies in `wal_dir` if that is given, and prints what was proven. The error is one line.
pub(crate) fn run(dir: &Path, wal_dir: Option<&Path>) -> Result<(), String> {
    let _lock = DirLock::acquire_to_read(dir).map_err(|error| error.to_string())?;
    let marker = Marker::read(dir).map_err(|error| error.to_string())?;
    let Some(marker) = marker else {
        return Err(format!("{} is not a data directory of plinth: it has no marker PLINTH", dir.display()));
    };
    let wal_dir = wal_dir_of(dir, &marker, wal_dir)?;
    let files = Files { trees: tree_files(&dir.join(TREE_NAME))?, wal_dir };
    print!("{}", check_all(files)?);
    Ok(())
}

/// Where the log of the member in `dir` lies.
fn wal_dir_of(dir: &Path, marker: &Marker, given: Option<&Path>) -> Result<PathBuf, String> {
    match given {
        None if marker.separate_wal => Err(format!(
            "the member in {} keeps its log in a directory of its own: name it with --wal-dir",
            dir.display()
        )),
        None => Ok(dir.join(WAL_NAME)),
        Some(_) if !marker.separate_wal => Err(format!(
            "the member in {} keeps its log in {}: leave out --wal-dir",
            dir.display(),
            dir.join(WAL_NAME).display()
        )),
        Some(given) => match Marker::read(given).map_err(|error| error.to_string())? {
            Some(other) if other.instance == marker.instance => Ok(given.to_path_buf()),
            _ => Err(format!("{} is not the log of the member in {}", given.display(), dir.display())),
        },
    }
}

/// The files `group-*.tree`, in order of their names.
fn tree_files(dir: &Path) -> Result<Vec<PathBuf>, String> {
    let entries = fs::read_dir(dir).map_err(|error| format!("cannot read {}: {error}", dir.display()))?;
    let mut files = Vec::new();
    for entry in entries {
        let entry = entry.map_err(|error| format!("cannot read {}: {error}", dir.display()))?;
        let name = entry.file_name();
        if name.to_str().is_some_and(|name| name.starts_with("group-") && name.ends_with(".tree")) {
            files.push(entry.path());
        }
    }
    files.sort();
    if files.is_empty() { Err(format!("{} has no tree files", dir.display())) } else { Ok(files) }
}

/// Checks the files on an executor like the server's, and gives what to print.
fn check_all(files: Files) -> Result<String, String> {
    let cores = Available::of_this_process().and_then(|available| cores::choose(None, &available));
    let cores = cores.map_err(|error| error.to_string())?;
    let (outcome, files) = (Arc::new(Mutex::new(None)), Arc::new(files));
    let shared = Arc::clone(&outcome);
    plinth_uring::run(&cores[..1], move |context| {
        let (shared, files) = (Arc::clone(&shared), Arc::clone(&files));
        async move {
            let checked = check_on(&context.env, &files).await;
            *shared.lock().unwrap_or_else(PoisonError::into_inner) = Some(checked);
        }
    })
    .map_err(|error| error.to_string())?;
    let outcome = outcome.lock().unwrap_or_else(PoisonError::into_inner).take();
    outcome.expect("the executor has returned, and it ends with an outcome")
}

/// Stops at the first file that is unsound.
async fn check_on(env: &UringEnv, files: &Files) -> Result<String, String> {
    let mut text = String::new();
    let mut trees = Vec::new();
    for file in &files.trees {
        let report = plinth_tree::check(env, file, TREES).await;
        let report = report.map_err(|error| with_file(file, &error.to_string()))?;
        text.push_str(&format!("{}: {} pages\n", file.display(), report.file_pages));
        for generation in &report.generations {
            text.push_str(&generation_in_words(file, generation)?);
        }
        let newest = report.generations.first().map(|generation| state_of(file, generation)).transpose()?;
        trees.push(Tree { path: file.clone(), state: newest.flatten() });
    }
    text.push_str(&log::check(env, &files.wal_dir, &trees).await?);
    Ok(text)
}

/// None: one of the generations that a file is made with, which come before its first state.
fn state_of(file: &Path, report: &GenerationReport) -> Result<Option<State>, String> {
    let GenerationReport { generation, state, .. } = report;
    if state.is_empty() {
        return Ok(None);
    }
    let state = State::decode(state)
        .map_err(|what| format!("{}: the state record of generation {generation}: {}", file.display(), what.0))?;
    Ok(Some(state))
}

/// Errors of the system don't say which file they are about.
fn with_file(file: &Path, error: &str) -> String {
    let name = file.display().to_string();
    if error.contains(&name) { error.to_owned() } else { format!("{name}: {error}") }
}

fn generation_in_words(file: &Path, report: &GenerationReport) -> Result<String, String> {
    let GenerationReport { generation, used_pages, hole_pages, trees, .. } = report;
    let holds = match state_of(file, report)? {
        None => "empty".to_owned(),
        Some(state) => format!("applied to entry {}, revision {}", state.applied.0, state.revision),
    };
    let mut text =
        format!("  generation {generation}: {holds}; {used_pages} pages in use, {hole_pages} given back\n   ");
    for (name, totals) in trees {
        text.push_str(&format!(" {name} {}", totals.entries));
    }
    text.push_str(" entries: all pages, checksums, counts and keys are right\n");
    Ok(text)
}
