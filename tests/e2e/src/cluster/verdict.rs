//! What must be so at the end: everything that clients were told is one linearizable history, every acknowledged write is there at its revision, and
//! every member holds the same.

use std::time::Duration;

use plinth_client::Status;
use plinth_sim::{
    history::Found,
    model::{Range, Request, Response, State, state_of},
};

use super::{caller::Caller, load, members::Cluster, recording::Recording};
use crate::outcome::{Ended, Outcome, ensure};

/// A read of everything.
const READ_MAX: Duration = Duration::from_secs(30);
/// The compacted revision of a store that never was.
const NEVER_COMPACTED: i64 = -1;

/// Holds `recording` against what the members of `cluster` have. No client may be left.
pub(crate) fn check(cluster: &Cluster<'_>, recording: &Recording) -> Outcome {
    let strange = recording.strange();
    ensure(strange.is_empty(), || format!("clients were told: {}", strange.join("; ")))?;
    let callers = cluster.all().into_iter().map(|member| cluster.member(member).connect(READ_MAX));
    let callers: Vec<Caller> = callers.collect::<Result<_, _>>()?;
    let (revision, state) = everything(&callers[0], 0).map_err(unreadable(0))?;
    let mut failed = None;
    let observe = |revision| match everything(&callers[0], revision) {
        Ok((_, state)) => state,
        Err(status) => {
            failed = Some(status);
            State::new()
        }
    };
    let found = Found { revision, compacted: NEVER_COMPACTED, ..Found::default() };
    let mut history = recording.history();
    let checked = history.check(&found, observe);
    if let Some(status) = failed {
        return Err(unreadable(0)(status));
    }
    checked.map_err(|violation| Ended::Failed(violation.0))?;
    let is_same = *history.model().state() == state;
    ensure(is_same, || format!("revision {revision} read as the latest is not what the history ends with"))?;
    for (member, caller) in callers.iter().enumerate() {
        // A linearizable read: what was acknowledged is there afterwards.
        let (at, _) = everything(caller, 0).map_err(unreadable(member))?;
        ensure(at >= revision, || format!("m{member} is at revision {at}, m0 is at {revision}"))?;
        let (_, own) = everything(caller, revision).map_err(unreadable(member))?;
        ensure(own == state, || format!("at revision {revision} m{member} holds something else than m0"))?;
    }
    let hash = |member: usize, caller: &Caller| caller.hash_kv(revision).map_err(unreadable(member));
    let wanted = hash(0, &callers[0])?;
    for (member, caller) in callers.iter().enumerate() {
        let own = hash(member, caller)?;
        ensure(own == wanted, || format!("HashKV({revision}) of m{member} is {own}, that of m0 is {wanted}"))?;
    }
    Ok(())
}

/// All keys at a revision, 0 for the newest, and the newest revision.
fn everything(caller: &Caller, revision: i64) -> Result<(i64, State), Status> {
    let all = Range { revision, ..load::everything() };
    match caller.request(&Request::Range(all), false)? {
        Response::Range { revision, kvs, .. } => Ok((revision, state_of(kvs))),
        _ => unreachable!("a range is answered as a range"),
    }
}

fn unreadable(member: usize) -> impl Fn(Status) -> Ended {
    move |status| Ended::Failed(format!("m{member} can't be read at the end: {status}"))
}
