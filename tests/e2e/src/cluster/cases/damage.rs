//! Members whose files have changed.

use std::{path::PathBuf, time::Instant};

use crate::{
    cluster::{
        members::Wiring,
        trial::{self, Trial},
    },
    node::{Bench, contents, flip},
    outcome::{Ended, ensure, ensure_contains},
};

/// In the middle of the log: a batch with others behind it.
const MARKER: &str = "a value that is looked for in the log";

/// Kills a member and flips a bit in its log; from then on it is refused. Gives the place.
pub(super) fn corrupt_log_of(trial: &mut Trial<'_>, member: usize) -> Result<(PathBuf, u64), Ended> {
    trial.write(member, MARKER.as_bytes())?;
    trial.load.await_writes(50)?;
    trial.cluster.member_mut(member).kill()?;
    let wal = trial.cluster.member(member).data_dir().join("wal");
    let place = |(path, bytes): (_, Vec<u8>)| {
        let at = bytes.windows(MARKER.len()).position(|window| window == MARKER.as_bytes())?;
        Some((path, at as u64))
    };
    let found = contents(&wal)?.into_iter().find_map(place);
    let (file, at) = found.ok_or_else(|| Ended::Failed(format!("{MARKER:?} is nowhere in {}", wal.display())))?;
    flip(&file, at)?;
    let before = contents(&wal)?;
    for _ in 0..2 {
        let refused = trial.cluster.refusal(member)?;
        ensure(refused.code == Some(1), || format!("exit code {:?}: {}", refused.code, refused.line))?;
        ensure_contains(&refused.line, &["corrupt", &file.display().to_string(), "offset"])?;
    }
    ensure(contents(&wal)? == before, || "the refused start changed the files".to_owned())?;
    Ok((file, at))
}

pub(super) fn a_member_with_a_corrupt_log_is_refused_and_comes_back_when_it_is_mended(
    bench: &Bench,
) -> Result<String, Ended> {
    trial::run(bench, 3, Wiring::Direct, |trial| {
        let leader = trial.cluster.await_leader(&trial.cluster.all())?;
        let member = (leader + 1) % 3;
        let (file, at) = corrupt_log_of(trial, member)?;
        let pause = trial.load.await_write(&trial.cluster.all_but(&[member]), Instant::now())?;
        flip(&file, at)?;
        trial.cluster.restart(member)?;
        trial.await_own_write(member)?;
        Ok(format!("the others went on, with a write after {pause:.1?}"))
    })
}
