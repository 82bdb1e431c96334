//! One key written or deleted: `live`, `past` and `log` follow each other, and a missing page in between is a pause, not an end.

use bytes::{BufMut, Bytes, BytesMut};
use plinth_base::{Revision, hash::hash64};
use plinth_tree::{Detached, Env, Missing, NewBody, NewValue, Store};

use super::lease::Reattach;
use crate::{
    Event, KeyValue, Record, RecordMeta, State,
    event::Recording,
    keys::{epoch, log_key, past_key},
    record::{self, Head, sound},
    trees::{LIVE, LOG, PAST},
};

pub(crate) const OP_PUT: u8 = 0;
const OP_DELETE: u8 = 1;

/// The changes of one entry: all have its main revision and are counted by sub.
#[derive(Debug)]
pub(crate) struct Changes {
    next: Revision,
    /// The last main revision that is whole; 0 before the first.
    whole: i64,
    /// The first change has reached a tree.
    have_begun: bool,
    content_hash: u64,
    put_bytes: u64,
    recording: Recording,
}

impl Changes {
    /// `is_watched` says that somebody wants to have their events.
    pub(crate) fn new(first: Revision, is_watched: bool) -> Self {
        let recording = Recording::new(is_watched);
        Self { next: first, whole: 0, have_begun: false, content_hash: 0, put_bytes: 0, recording }
    }

    /// The events of them all, if they were wanted and are not too many.
    pub(crate) fn take_events(&mut self) -> Option<Vec<Event>> {
        self.recording.take()
    }

    /// The revision of the next change.
    pub(crate) fn next(&self) -> Revision {
        self.next
    }

    /// Whether a tree was touched.
    pub(crate) fn have_begun(&self) -> bool {
        self.have_begun
    }

    /// Something that is no change of a key has reached a tree.
    pub(crate) fn begin(&mut self) {
        self.have_begun = true;
    }

    /// What comes next has a revision of its own, if there was any change before it.
    pub(crate) fn end_revision(&mut self) {
        if self.next.sub > 0 {
            self.whole = self.next.main;
            self.next = Revision { main: self.next.main + 1, sub: 0 };
        }
    }

    /// The store's revision as an operation's header shows it: the new one as soon as anything changed.
    pub(crate) fn revision_for_header(&self, state: &State) -> i64 {
        if self.next.sub > 0 { self.next.main } else { self.whole.max(state.revision) }
    }

    /// Brings the state up to date with them.
    pub(crate) fn settle(&self, state: &mut State) {
        state.revision = self.revision_for_header(state);
        state.content_hash = state.content_hash.wrapping_add(self.content_hash);
        state.put_bytes += self.put_bytes;
    }

    fn done(&mut self, hash: u64, put_bytes: usize) {
        self.next.sub += 1;
        self.content_hash = self.content_hash.wrapping_add(hash);
        self.put_bytes += put_bytes as u64;
    }
}

/// A change under way.
#[derive(Debug)]
pub(crate) struct Change {
    key: Bytes,
    revision: Revision,
    /// What is written; `None` deletes.
    new: Option<NewVersion>,
    /// The version before, known once `live` is written.
    previous: Option<Revision>,
    /// Leases before and after, known once `live` is written.
    leases: Reattach,
    stage: Stage,
}

#[derive(Debug)]
struct NewVersion {
    value: Bytes,
    /// `None` keeps the lease of the version before.
    lease: Option<i64>,
    /// Known once `live` is written.
    head: Option<Head>,
    meta: RecordMeta,
}

#[derive(Debug)]
enum Stage {
    Live,
    Past(Detached),
    Log,
    Lease,
    Done,
}

impl Change {
    /// Without a lease, the one of the version before is kept.
    pub(crate) fn put(key: Bytes, revision: Revision, value: Bytes, lease: Option<i64>) -> Self {
        let new = Some(NewVersion { value, lease, head: None, meta: RecordMeta::default() });
        Self { key, revision, new, previous: None, leases: Reattach { old: 0, new: 0 }, stage: Stage::Live }
    }

    pub(crate) fn delete(key: Bytes, revision: Revision, previous: Revision) -> Self {
        let leases = Reattach { old: 0, new: 0 };
        Self { key, revision, new: None, previous: Some(previous), leases, stage: Stage::Live }
    }

    /// Goes on to the end, or to the next missing page.
    pub(crate) fn run<E: Env>(&mut self, store: &mut Store<E>, changes: &mut Changes) -> Result<(), Missing> {
        loop {
            self.stage = match std::mem::replace(&mut self.stage, Stage::Done) {
                Stage::Live => match self.write_live(store) {
                    Ok(old) => {
                        changes.have_begun = true;
                        old.map_or(Stage::Log, Stage::Past)
                    }
                    Err(missing) => return self.pause(Stage::Live, missing),
                },
                Stage::Past(old) => match self.write_past(store, old) {
                    Ok(()) => Stage::Log,
                    Err((old, missing)) => return self.pause(Stage::Past(old), missing),
                },
                Stage::Log => match self.write_log(store) {
                    Ok(()) => Stage::Lease,
                    Err(missing) => return self.pause(Stage::Log, missing),
                },
                Stage::Lease => match self.leases.run(store, &self.key) {
                    Ok(()) => {
                        let put_bytes = self.new.as_ref().map_or(0, |new| self.key.len() + new.value.len());
                        changes.done(self.hash(), put_bytes);
                        changes.recording.push(|| self.event());
                        return Ok(());
                    }
                    Err(missing) => return self.pause(Stage::Lease, missing),
                },
                Stage::Done => unreachable!("a change is run once"),
            }
        }
    }

    fn pause(&mut self, stage: Stage, missing: Missing) -> Result<(), Missing> {
        self.stage = stage;
        Err(missing)
    }

    fn write_live<E: Env>(&mut self, store: &mut Store<E>) -> Result<Option<Detached>, Missing> {
        let Some(new) = &mut self.new else {
            let old = store.remove(LIVE, &self.key)?;
            self.leases.old = old.as_ref().map_or(0, |old| sound(record::lease_of(&old.head)));
            return Ok(old);
        };
        let (revision, previous, leases) = (self.revision, &mut self.previous, &mut self.leases);
        let (head, written) = (&mut new.head, &mut new.meta);
        store.put_with(LIVE, &self.key, NewBody::Bytes(&new.value), |old| {
            let old = old.map(|value| sound(Record::parse(value, 0)).meta());
            *previous = old.map(|old| old.modified);
            let meta = RecordMeta {
                create: old.map_or(revision.main, |old| old.create),
                modified: revision,
                version: old.map_or(1, |old| old.version + 1),
                lease: new.lease.unwrap_or(old.map_or(0, |old| old.lease)),
            };
            *leases = Reattach { old: old.map_or(0, |old| old.lease), new: meta.lease };
            *written = meta;
            *head.insert(Head::new(&meta, new.value.len()))
        })
    }

    /// The superseded version keeps its value's pages; only their owner changes.
    fn write_past<E: Env>(&self, store: &mut Store<E>, old: Detached) -> Result<(), (Detached, Missing)> {
        let written = self.previous.expect("what was superseded had a revision");
        let mut key = Vec::new();
        past_key(epoch(self.revision.main), &self.key, written, &mut key);
        let mut head = BytesMut::with_capacity(12 + record::HEAD_BYTES_MAX);
        head.put_slice(&log_key(self.revision));
        head.put_slice(&old.head);
        match store.put(PAST, &key, NewValue { head: &head, body: NewBody::Moved(old.body.clone()) }) {
            Ok(none) => {
                assert!(none.is_none(), "a version is superseded once");
                Ok(())
            }
            Err(missing) => Err((old, missing)),
        }
    }

    fn write_log<E: Env>(&self, store: &mut Store<E>) -> Result<(), Missing> {
        let mut head = BytesMut::with_capacity(24);
        head.put_u8(if self.new.is_some() { OP_PUT } else { OP_DELETE });
        head.put_slice(&log_key(self.previous.unwrap_or_default()));
        let bytes = match self.written() {
            Some((head, value)) => record::message_bytes(self.key.len(), head.len(), value.len()),
            None => record::key_field_bytes(self.key.len()),
        };
        head.put_u32_le(u32::try_from(bytes).expect("a request is far below 4 GiB"));
        let value = NewValue { head: &head, body: NewBody::Bytes(&self.key) };
        let none = store.put(LOG, &log_key(self.revision), value)?;
        assert!(none.is_none(), "a revision is used once");
        Ok(())
    }

    /// Head and value of what `live` got.
    fn written(&self) -> Option<(&[u8], &[u8])> {
        let new = self.new.as_ref()?;
        let head = new.head.as_ref().expect("`live` is written first");
        Some((head.as_slice(), &new.value))
    }

    fn event(&self) -> Event {
        let deleted = RecordMeta { modified: self.revision, ..RecordMeta::default() };
        let (meta, value) = match &self.new {
            Some(new) => (new.meta, new.value.clone()),
            None => (deleted, Bytes::new()),
        };
        let kv = KeyValue { key: self.key.clone(), meta, value };
        Event { revision: self.revision, is_put: self.new.is_some(), previous: self.previous, kv }
    }

    fn hash(&self) -> u64 {
        content_hash(self.revision, &self.key, self.written())
    }
}

/// A hash of everything that a change stores: `stored` is the head and the value of what it put.
pub(crate) fn content_hash(revision: Revision, key: &[u8], stored: Option<(&[u8], &[u8])>) -> u64 {
    let revision = log_key(revision);
    match stored {
        Some((head, value)) => hash64(&[&revision, key, head, value]),
        None => hash64(&[&revision, key]),
    }
}

/// A value without a head.
pub(crate) fn body_value(bytes: &Bytes) -> NewValue<'_> {
    NewValue { head: &[], body: NewBody::Bytes(bytes) }
}

/// Gives back what an overwritten or removed entry leaves.
pub(crate) fn discard<E: Env>(store: &mut Store<E>, old: Option<Detached>) {
    if let Some(old) = old {
        store.discard(old);
    }
}
