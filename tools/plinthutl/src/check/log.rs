//! The log's part of the check, and whether the trees go with it.

use std::path::Path;

use plinth_kv::State;
use plinth_uring::UringEnv;
use plinth_wal::{Recovered, Report, WalError};

use super::{Tree, with_file};

/// What the trees of a member that has seen no entry yet have applied: its first configuration.
const BOOTSTRAP_INDEX: u64 = 1;

/// Proves the log in `dir` and gives what to print.
pub(super) async fn check(env: &UringEnv, dir: &Path, trees: &[Tree]) -> Result<String, String> {
    let checked =
        if dir.exists() { plinth_wal::check(env, dir).await } else { Err(WalError::NoLog { dir: dir.to_path_buf() }) };
    let report = match checked {
        Ok(report) => report,
        // The first start was cut off between the trees and the log.
        Err(WalError::NoLog { .. }) if trees.iter().all(is_new) => {
            return Ok(format!("{}: no log yet: the first start makes it\n", dir.display()));
        }
        Err(WalError::NoLog { .. }) => {
            return Err(format!(
                "{} holds no log, but the trees need one: restore the member from a backup",
                dir.display()
            ));
        }
        Err(error) => return Err(with_file(dir, &error.to_string())),
    };
    for tree in trees {
        check_joins(dir, tree, &report.recovered)?;
    }
    Ok(in_words(dir, &report))
}

fn is_new(tree: &Tree) -> bool {
    tree.state.as_ref().is_none_or(|state| state.applied.0 <= BOOTSTRAP_INDEX)
}

/// The log must go on where the newest checkpoint of the tree ends, or before.
fn check_joins(dir: &Path, tree: &Tree, recovered: &Recovered) -> Result<(), String> {
    let Some(State { applied, .. }) = &tree.state else { return Ok(()) };
    let Some(log) = group_of(&tree.path).and_then(|group| recovered.groups.get(&group)) else {
        if is_new(tree) {
            return Ok(());
        }
        return Err(format!(
            "the log in {} doesn't know the group of {}: tree and log belong to different members",
            dir.display(),
            tree.path.display()
        ));
    };
    if *applied < log.start.index {
        return Err(format!(
            "{} is older than the log: it ends with entry {applied}, the log begins behind entry {}: restore the member from a backup",
            tree.path.display(),
            log.start.index
        ));
    }
    Ok(())
}

/// The group that `group-N.tree` holds.
fn group_of(path: &Path) -> Option<plinth_base::GroupId> {
    let number = path.file_stem()?.to_str()?.strip_prefix("group-")?;
    number.parse().ok().map(plinth_base::GroupId)
}

fn in_words(dir: &Path, report: &Report) -> String {
    let Recovered { groups, cut, sealed, lsn, .. } = &report.recovered;
    let mut text = format!("{}: {} segments\n", dir.display(), report.segments.len());
    for segment in &report.segments {
        let name = segment.file.file_name().unwrap_or_default().to_string_lossy();
        text.push_str(&format!(
            "  {name}: from batch {}, {} of {} bytes\n",
            segment.first.0, segment.end, segment.bytes
        ));
    }
    for (group, state) in groups {
        text.push_str(&format!("  group {group}: entries {} to {}\n", state.start.index.next(), state.last.index));
    }
    match cut {
        None if *sealed => text.push_str(&format!("  sealed by batch {}: nothing can be missing\n", lsn.0)),
        None => text.push_str(&format!("  ends with batch {}\n", lsn.0)),
        Some(cut) => text.push_str(&format!(
            "  torn tail: {} at offset {} of {}, as a crash in the middle of a write leaves it; the next start cuts it\n",
            cut.why,
            cut.offset,
            cut.file.display()
        )),
    }
    text.push_str(
        "  all headers, checksums, sequences and records are right, and each segment follows the one before\n",
    );
    text
}
