//! What a compaction makes unreachable, removed from the trees.
//!
//! A compaction to C takes effect at once: nothing below C can be read any more. What it leaves behind is removed here, a few changes at a time and
//! outside of the log, by walking the changes since the last compaction: a change that superseded a version takes that version and its own
//! change along; a deletion below C goes itself. A deletion at C survives until the next compaction, which begins there, also
//! when this sweep isn't done by then. So the cost is the number of changes since the last time, not the size of the store.
//!
//! The cursor lies in the state record, atomic with the trees: after a crash the sweep goes on where the checkpoint has it. Members sweep at
//! their own pace, so nothing that clients see may depend on how far it is.

use bytes::Bytes;
use plinth_base::{Revision, bug};
use plinth_tree::{Env, Missing, Store};

use crate::{
    Budget, State,
    apply::{content_hash, discard},
    keys::{REVISION_BYTES, epoch, log_key, past_key},
    logged::{ChangeCursor, LoggedChange},
    trees::{LOG, PAST},
};

/// Changes that are looked at ahead of one whose pages are missing: superseded versions lie anywhere, and one page at a time would make the sweep wait for
/// nearly every one of them.
const AHEAD_CHANGES_MAX: usize = 256;

/// Pages that are asked for at once.
const AHEAD_WANTS_MAX: usize = 64;

/// A change of one key that outlives the pages it was read from.
struct Change {
    revision: Revision,
    is_put: bool,
    previous: Option<Revision>,
    key: Bytes,
}

/// Goes on with the sweep; true when nothing is left of it. A step that misses a page is done again as far as it wasn't done.
pub(crate) fn sweep<E: Env>(store: &mut Store<E>, state: &mut State, budget: &mut Budget) -> Result<bool, Missing> {
    sweep_what_is_here(store, state, budget).map_err(|missing| with_those_ahead(store, state, missing))
}

fn sweep_what_is_here<E: Env>(store: &mut Store<E>, state: &mut State, budget: &mut Budget) -> Result<bool, Missing> {
    while !state.is_swept() {
        if !budget.spend() {
            return Ok(false);
        }
        match next_change(store, state)? {
            Some(change) => {
                remove(store, state, &change)?;
                state.swept = Revision { main: change.revision.main, sub: change.revision.sub + 1 };
            }
            // The next compaction looks at the last revision of this one again.
            None => state.swept = Revision { main: state.compacted, sub: 0 },
        }
    }
    Ok(true)
}

/// The next change up to the compacted revision.
fn next_change<E: Env>(store: &Store<E>, state: &State) -> Result<Option<Change>, Missing> {
    let mut changes = ChangeCursor::new(store.view());
    if !changes.seek(state.swept)? {
        return Ok(None);
    }
    let LoggedChange { revision, is_put, previous, key } = changes.change()?;
    if revision.main > state.compacted + i64::from(bug!(SweepTooFar)) {
        return Ok(None);
    }
    Ok(Some(Change { revision, is_put, previous, key: Bytes::copy_from_slice(key) }))
}

/// What is missing, and what the next changes will miss.
fn with_those_ahead<E: Env>(store: &Store<E>, state: &State, mut missing: Missing) -> Missing {
    let mut changes = ChangeCursor::new(store.view());
    let mut is_at_one = changes.seek(state.swept).unwrap_or(false);
    for _ in 0..AHEAD_CHANGES_MAX {
        let Some(change) = is_at_one.then(|| changes.change().ok()).flatten() else { break };
        if change.revision.main > state.compacted || missing.wants.len() >= AHEAD_WANTS_MAX {
            break;
        }
        if let Err(more) = look_at(store, &change) {
            missing.wants.extend(more.wants);
        }
        is_at_one = changes.advance().unwrap_or(false);
    }
    missing.wants.sort_unstable_by_key(|want| want.run.first);
    missing.wants.dedup_by_key(|want| want.run.first);
    missing
}

/// Reads what removing a change reads.
fn look_at<E: Env>(store: &Store<E>, change: &LoggedChange<'_>) -> Result<(), Missing> {
    let Some(previous) = change.previous else { return Ok(()) };
    let mut place = Vec::new();
    past_key(epoch(change.revision.main), change.key, previous, &mut place);
    if let Some(old) = store.view().get(PAST, &place)? {
        old.body()?;
    }
    store.view().get(LOG, &log_key(previous)).map(drop)
}

fn remove<E: Env>(store: &mut Store<E>, state: &mut State, change: &Change) -> Result<(), Missing> {
    let Change { revision, previous, key, .. } = change;
    if let Some(previous) = *previous {
        let mut place = Vec::new();
        past_key(epoch(revision.main), key, previous, &mut place);
        let old = store.view().get(PAST, &place)?;
        let hash = match old {
            Some(old) => Some(content_hash(previous, key, Some((&old.head()[REVISION_BYTES..], old.body()?)))),
            None => None,
        };
        let removed = store.remove(PAST, &place)?;
        assert_eq!(removed.is_some(), hash.is_some(), "looked at just now");
        discard(store, removed);
        state.content_hash = state.content_hash.wrapping_sub(hash.unwrap_or(0));
        let removed = store.remove(LOG, &log_key(previous))?;
        discard(store, removed);
    }
    if !change.is_put && revision.main < state.compacted && !bug!(SweepLeavesDeletions) {
        let removed = store.remove(LOG, &log_key(*revision))?;
        if removed.is_some() {
            state.content_hash = state.content_hash.wrapping_sub(content_hash(*revision, key, None));
        }
        discard(store, removed);
    }
    Ok(())
}
