//! What must be so: after each start against the model, and between lives in the files themselves.

use std::{collections::BTreeMap, path::Path};

use plinth_env::Env;
use plinth_kv::{AlarmKind, Audit, AuditError, Budget, State, trees};
use plinth_rpc::{Status, errors};
use plinth_sim_env::Sim;

use super::{
    super::clients::{Shared, watching},
    machine::{GROUPS, Node, tree_path},
};
use crate::{
    call::Answer,
    content::content_hash,
    history::{Found, History},
    model::{self, Range, Response},
    scenario::Violation,
    wire,
};

/// Entries that one slice of an audit visits.
const AUDIT_SLICE_ENTRIES: u32 = 200;

/// Everything that a key space holds at a revision (0: the latest one), with that revision.
pub(in crate::scenarios) async fn everything<E: Env>(
    node: &Node<E>,
    at: usize,
    revision: i64,
) -> Result<(i64, model::State), Status> {
    let all = Range { key: vec![0], range_end: vec![0], revision, ..Range::default() };
    match wire::ranged(node.apis[at].range(wire::range(&all, false)).await?) {
        Response::Range { revision, kvs, .. } => Ok((revision, model::state_of(kvs))),
        other => unreachable!("a range is answered as a range, not as {other:?}"),
    }
}

/// Proves that the trees of a group agree with each other and with the state record.
pub(in crate::scenarios) async fn audit<E: Env>(env: &E, node: &Node<E>, at: usize) -> Result<(), String> {
    let root = node.handle.groups[at].root();
    let mut audit = Audit::default();
    loop {
        match audit.step(root.snapshot.view(), &root.state, &mut Budget::new(AUDIT_SLICE_ENTRIES)) {
            Ok(Some(_)) => return Ok(()),
            Ok(None) => env.yield_now().await,
            Err(AuditError::Missing(missing)) => {
                let load = env.load_pages(root.snapshot.pages(), missing.wants);
                load.await.map_err(|error| error.to_string())?;
            }
            Err(AuditError::Contradiction(what)) => return Err(what),
        }
    }
}

/// What a group says of itself, all at one revision.
pub(in crate::scenarios) async fn found<E: Env>(node: &Node<E>, at: usize) -> Result<(Found, model::State), Status> {
    loop {
        let (revision, _) = everything(node, at, 0).await?;
        let compacted = node.handle.groups[at].root().state.compacted;
        let mut leases = BTreeMap::new();
        for lease in node.apis[at].lease_leases().await?.leases {
            let told = wire::told(node.apis[at].lease_time_to_live(wire::time_to_live(lease.id, true)).await?);
            if let Answer::TimeToLive { ttl: 0.., keys, .. } = told {
                leases.insert(lease.id, keys);
            }
        }
        let (now, state) = everything(node, at, 0).await?;
        // Else a lease ended in between.
        if now == revision {
            return Ok((Found { revision, compacted, leases }, state));
        }
    }
}

/// Nothing is said to be rotten: no disk forgets anything here.
pub(super) fn alarms<E: Env>(node: &Node<E>) -> Result<(), Violation> {
    let roots = node.handle.groups.iter().map(|group| group.root());
    let is_corrupt = |alarms: &[(u64, AlarmKind)]| alarms.iter().any(|(_, kind)| *kind == AlarmKind::Corrupt);
    if roots.into_iter().any(|root| is_corrupt(&root.state.alarms)) {
        return Err(Violation("a scrub calls a page rotten that is sound".to_owned()));
    }
    Ok(())
}

/// The node that has just started holds what it promised, in every group.
pub(super) fn after_start<E: Env>(sim: &Sim, env: &E, node: &Node<E>, clients: &[Shared]) -> Result<(), Violation> {
    for (at, clients) in clients.iter().enumerate() {
        let group = GROUPS[at];
        let wrong = |what: String| Violation(format!("group {group}: {what}"));
        let unreadable = |status: Status| wrong(format!("{} after a start", status.message));
        let (found, state) = sim.block_on(found(node, at)).map_err(unreadable)?;
        if found.compacted > 1 {
            let below = sim.block_on(everything(node, at, found.compacted - 1));
            if below.as_ref().err() != Some(&errors::COMPACTED) {
                return Err(wrong(format!("compacted to {}, and what was before reads as {below:?}", found.compacted)));
            }
        }
        let mut failed = None;
        let observe = |revision| match sim.block_on(everything(node, at, revision)) {
            Ok((_, state)) => state,
            Err(status) => {
                failed = Some(status);
                model::State::new()
            }
        };
        let checked = clients.borrow_mut().history.check(&found, observe);
        if let Some(status) = failed {
            return Err(unreadable(status));
        }
        checked.map_err(|violation| wrong(violation.0))?;
        let watched = std::mem::take(&mut clients.borrow_mut().watched);
        watching::check(&watched, &clients.borrow().history).map_err(wrong)?;
        let history = &clients.borrow().history;
        if *history.model().state() != state {
            return Err(wrong(format!("revision {} read as the latest is not what the model has", found.revision)));
        }
        // However far the sweep is, of what is compacted the last revision stays, and all between it and the current one.
        for revision in [found.compacted, found.compacted.midpoint(found.revision)].into_iter().filter(|at| *at > 0) {
            let (_, state) = sim.block_on(everything(node, at, revision)).map_err(unreadable)?;
            if history.model().state_at(revision) != Some(&state) {
                let what = format!("compacted to {}, revision {revision} is not what it was", found.compacted);
                return Err(wrong(what));
            }
        }
        sim.block_on(audit(env, node, at)).map_err(wrong)?;
        content(&node.handle.groups[at].root().state, history).map_err(wrong)?;
    }
    Ok(())
}

/// The hash of all that is stored is the one of what the model has, once nothing is left to be swept.
pub(in crate::scenarios) fn content(state: &State, history: &History) -> Result<(), String> {
    let model = history.model();
    if !state.is_swept() || state.revision != model.revision() {
        return Ok(());
    }
    let want = content_hash(model, state.compacted);
    if state.content_hash == want {
        return Ok(());
    }
    Err(format!(
        "at revision {}, compacted to {}, the content's hash is {:016x}, the model's {want:016x}",
        state.revision, state.compacted, state.content_hash
    ))
}

/// Every tree file that is there is sound, page by page. Nobody has them open.
pub(super) fn files(sim: &Sim) -> Result<Vec<State>, Violation> {
    let mut states = Vec::new();
    let files = sim.files();
    for path in GROUPS.map(tree_path) {
        if !files.iter().any(|(file, _)| *file == path) {
            continue;
        }
        let report = sim.block_on(plinth_tree::check(&sim.env(), &path, trees::TREES));
        let report = report.map_err(|error| Violation(format!("the checker says: {error}")))?;
        let state = State::decode(&report.generations[0].state).map_err(|bad| Violation(bad.0.to_owned()))?;
        states.push(state);
    }
    Ok(states)
}

/// Whether an error of a node or a file names `path`.
pub(in crate::scenarios) fn names(error: &str, path: &Path) -> bool {
    error.contains(&path.display().to_string())
}
