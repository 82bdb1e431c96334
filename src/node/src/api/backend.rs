//! The contents of a root as etcd's backend would hold them: buckets of pairs, in order. Hash and Snapshot are walks over them.
//!
//! All that is in a root but its changes is taken at once, if it isn't much; the changes up to its revision can be read in any later root that no sweep
//! has taken them from. So a walk moves from root to root, and keeps the pages of an old one only if a compaction overtakes it.
//!
//! The buckets are those that etcd 3.5 makes at its start. etcd 3.4 ignores what it doesn't know of them, later versions take them for a backend of 3.5.

mod stored;

use std::sync::Arc;

use plinth_env::Env;
use plinth_kv::{
    Budget, Export, ExportEntry, ExportSink, ExportSpan, MemberRecord, State, granted_leases, members, query::Progress,
};
use plinth_rpc::Status;

use super::Api;
use crate::{published::Root, readers::Reading};
use stored::{alarms, conf_state_json, lease, member_json};

/// Leases that a walk takes into memory: 2 MiB. A store with more keeps the root.
const LEASES_MAX: usize = 128 << 10;

/// Changes or leases that a slice visits: each may take a search in a tree.
pub(super) const SLICE_ENTRIES: u32 = 128;

/// Bytes that a slice hands on, and at most one pair more.
pub(super) const SLICE_BYTES_MAX: usize = 64 << 10;

/// What authentication's revision is in a cluster that has never used it.
const AUTH_REVISION: u64 = 1;

/// Where the pairs go. After each slice it is asked to [`pause`](BackendSink::pause).
pub(super) trait BackendSink {
    /// Whether it wants values, or only their sizes.
    const WITH_VALUES: bool;

    fn begin_bucket(&mut self, name: &'static str);

    fn begin_pair(&mut self, key: &[u8], value_bytes: usize);

    /// The next part of the pair's value; never called for a sink without values.
    fn value_part(&mut self, part: &[u8]);

    /// Whether enough came since the last pause.
    fn is_full(&self) -> bool;

    /// Lets others run, and gets rid of what it has.
    async fn pause(&mut self) -> Result<(), Status>;
}

fn put_pair(sink: &mut impl BackendSink, key: &[u8], value: &[u8]) {
    put_pair_of(sink, key, value.len(), |sink| sink.value_part(value));
}

fn put_pair_of<S: BackendSink>(sink: &mut S, key: &[u8], value_bytes: usize, value: impl FnOnce(&mut S)) {
    sink.begin_pair(key, value_bytes);
    if S::WITH_VALUES {
        value(sink);
    }
}

/// What a walk is over.
pub(super) struct Origin<E: Env> {
    pub(super) state: State,
    members: Vec<MemberRecord>,
    leases: Leases,
    /// The newest root that has all of its changes.
    root: Arc<Root<E::Pages>>,
    /// Sweeps wait for it, for some time.
    _reading: Reading,
}

enum Leases {
    /// Ids and TTLs.
    Taken(Vec<(i64, i64)>),
    /// They are read in the root, which is kept for that.
    Many,
}

impl<E: Env> Origin<E> {
    /// Goes on in `newest`, if that has what is needed.
    fn move_on(&mut self, newest: Arc<Root<E::Pages>>) {
        if matches!(self.leases, Leases::Taken(_)) && newest.state.holds(self.state.compacted.max(0)) {
            self.root = newest;
        }
    }
}

impl<E: Env> Api<E> {
    /// The newest published root.
    pub(super) async fn backend_origin(&self) -> Result<Origin<E>, Status> {
        let root = self.root();
        let reading = self.group().readers.enter(root.state.compacted.max(0));
        let members = self.members_in(&root).await?;
        let leases = self.leases_in(&root).await?;
        Ok(Origin { state: root.state.clone(), members, leases, root, _reading: reading })
    }

    async fn members_in(&self, root: &Arc<Root<E::Pages>>) -> Result<Vec<MemberRecord>, Status> {
        loop {
            match members(root.snapshot.view()) {
                Ok(members) => return Ok(members),
                Err(missing) => self.load(root, missing).await?,
            }
        }
    }

    async fn leases_in(&self, root: &Arc<Root<E::Pages>>) -> Result<Leases, Status> {
        let (mut after, mut taken) = (None, Vec::new());
        while taken.len() <= LEASES_MAX {
            let mut budget = Budget::new(SLICE_ENTRIES);
            match granted_leases(root.snapshot.view(), &mut after, &mut budget, |id, ttl| taken.push((id, ttl))) {
                Ok(true) => return Ok(Leases::Taken(taken)),
                Ok(false) => self.executor.env().yield_now().await,
                Err(missing) => self.load(root, missing).await?,
            }
        }
        Ok(Leases::Many)
    }

    /// Walks over everything in a root.
    pub(super) async fn walk_backend(&self, origin: &mut Origin<E>, sink: &mut impl BackendSink) -> Result<(), Status> {
        let state = origin.state.clone();
        let state = &state;
        sink.begin_bucket("alarm");
        alarms(state).iter().for_each(|key| put_pair(sink, key, &[]));
        sink.begin_bucket("auth");
        put_pair(sink, b"authRevision", &AUTH_REVISION.to_be_bytes());
        sink.begin_bucket("authRoles");
        sink.begin_bucket("authUsers");
        sink.begin_bucket("cluster");
        put_pair(sink, b"clusterVersion", super::maintenance::storage_version(self.options.version).as_bytes());
        sink.begin_bucket("key");
        self.walk_changes(origin, sink).await?;
        sink.begin_bucket("lease");
        self.walk_leases(origin, sink).await?;
        sink.begin_bucket("members");
        put_members(&origin.members, sink);
        sink.begin_bucket("members_removed");
        sink.begin_bucket("meta");
        meta(state, sink);
        sink.pause().await
    }

    async fn walk_changes(&self, origin: &mut Origin<E>, sink: &mut impl BackendSink) -> Result<(), Status> {
        let mut export = Export::new(ExportSpan::whole(&origin.state), &origin.state);
        loop {
            origin.move_on(self.root());
            match export.run(origin.root.snapshot.view(), &mut Budget::new(SLICE_ENTRIES), &mut Changes(sink)) {
                Ok(Progress::Done) => return Ok(()),
                Ok(Progress::More | Progress::Full) => sink.pause().await?,
                Err(missing) => {
                    // What is ready goes before the wait.
                    sink.pause().await?;
                    self.load(&origin.root, missing).await?;
                }
            }
        }
    }

    async fn walk_leases(&self, origin: &Origin<E>, sink: &mut impl BackendSink) -> Result<(), Status> {
        if let Leases::Taken(leases) = &origin.leases {
            for slice in leases.chunks(SLICE_ENTRIES as usize) {
                slice.iter().for_each(|(id, ttl)| put_lease(sink, *id, *ttl));
                sink.pause().await?;
            }
            return Ok(());
        }
        let mut after = None;
        loop {
            let (view, mut budget) = (origin.root.snapshot.view(), Budget::new(SLICE_ENTRIES));
            match granted_leases(view, &mut after, &mut budget, |id, ttl| put_lease(sink, id, ttl)) {
                Ok(true) => return Ok(()),
                Ok(false) => sink.pause().await?,
                Err(missing) => self.load(&origin.root, missing).await?,
            }
        }
    }
}

fn put_lease(sink: &mut impl BackendSink, id: i64, ttl: i64) {
    put_pair(sink, &id.to_be_bytes(), &lease(id, ttl));
}

fn put_members(members: &[MemberRecord], sink: &mut impl BackendSink) {
    let mut pairs: Vec<_> = members.iter().map(|member| (format!("{:x}", member.id.0), member_json(member))).collect();
    pairs.sort_unstable();
    pairs.iter().for_each(|(key, value)| put_pair(sink, key.as_bytes(), value.as_bytes()));
}

/// The changes of an export as pairs of the bucket `key`.
struct Changes<'a, S>(&'a mut S);

impl<S: BackendSink> ExportSink for Changes<'_, S> {
    const WITH_VERSIONS: bool = S::WITH_VALUES;

    fn is_full(&self) -> bool {
        self.0.is_full()
    }

    fn push(&mut self, entry: &ExportEntry<'_>) {
        entry.with_backend_key(|key| {
            put_pair_of(self.0, key, entry.message_bytes, |sink| entry.write_message(|part| sink.value_part(part)));
        });
    }
}

/// The bucket `meta`. `term` and no `storageVersion` is how a backend of 3.5 is known.
fn meta(state: &State, sink: &mut impl BackendSink) {
    put_pair(sink, b"confState", conf_state_json(state).as_bytes());
    put_pair(sink, b"consistent_index", &state.applied.0.to_be_bytes());
    if state.compacted >= 0 {
        let mut revision = [b'_'; 17];
        revision[..8].copy_from_slice(&state.compacted.to_be_bytes());
        revision[9..].fill(0);
        put_pair(sink, b"finishedCompactRev", &revision);
        put_pair(sink, b"scheduledCompactRev", &revision);
    }
    put_pair(sink, b"term", &state.applied_term.0.to_be_bytes());
}
